#!/usr/bin/env bash
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# gofmt, go vet and go test over the lab's Go modules, with the Go that the lab itself builds with.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

mapfile -t modules < <(git ls-files --cached --others --exclude-standard -- 'lab/**/go.mod')
go=$(python - "${modules[@]}" <<'PYTHON'
import sys
from pathlib import Path

from lab.distribution.build import toolchain

cache = toolchain.cache_directory()
cache.mkdir(parents=True, exist_ok=True)
print(toolchain.find_go(cache, toolchain.go_needed(map(Path, sys.argv[1:])), cache / "go-test.log"))
PYTHON
)
# As the lab's build has them, so that Kubernetes is compiled once
export GOTOOLCHAIN=local CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"
printf 'go-test: %s\n' "$("$go" version)"

for module in "${modules[@]}"; do
  directory=$(dirname "$module")
  # Modules without a program of their own only pin what is built from them
  [ -n "$(git ls-files --cached --others --exclude-standard -- "$directory/**/*.go" "$directory/*.go")" ] || continue
  printf 'go-test: %s\n' "$directory"
  (
    cd "$directory"
    unformatted=$("$(dirname "$go")/gofmt" -l .)
    if [ -n "$unformatted" ]; then
      printf 'go-test: not formatted by gofmt:\n%s\n' "$unformatted" >&2
      exit 1
    fi
    nice "$go" vet ./...
    nice "$go" test -vet=off ./...
  )
done
