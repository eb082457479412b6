#!/usr/bin/env bash
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# gofmt, go vet and go test over the lab's Go modules, with the Go that the lab itself builds with.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

mapfile -t modules < <(git ls-files --cached --others --exclude-standard -- 'lab/**/go.mod')
mapfile -t tools < <(python - "${modules[@]}" <<'PYTHON'
import sys
from pathlib import Path

from lab.distribution.build import toolchain
from lab.gpu import build

cache = toolchain.cache_directory()
cache.mkdir(parents=True, exist_ok=True)
log = cache / "go-test.log"
print(toolchain.find_dynamic_c_compiler(cache, log))
print(build.build())
for module in sys.argv[1:]:
    print(toolchain.find_go(cache, toolchain.go_needed([Path(module)]), log))
PYTHON
)
if [ "${#tools[@]}" -ne $((2 + ${#modules[@]})) ]; then
  printf 'go-test: Go, a C compiler or the mock library is missing\n' >&2
  exit 1
fi
# By the library's path, which tells its content, Go knows whether a result from before still holds
export CC=${tools[0]} MOCK_NVML_LIBRARY=${tools[1]}
# As the lab's build has them, so that Kubernetes is compiled once
export GOTOOLCHAIN=local CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"

for number in "${!modules[@]}"; do
  module=${modules[number]} go=${tools[number + 2]}
  directory=$(dirname "$module")
  # Modules without a program of their own only pin what is built from them
  [ -n "$(git ls-files --cached --others --exclude-standard -- "$directory/**/*.go" "$directory/*.go")" ] || continue
  printf 'go-test: %s, %s\n' "$directory" "$("$go" version)"
  (
    cd "$directory"
    flags=()
    if grep -q 'github.com/NVIDIA/go-nvml ' go.mod; then
      # It loads NVML's library at run time: whoever links or starts a program must not look for its functions before
      export CGO_ENABLED=1 CGO_CFLAGS="-O2 -g -Wno-deprecated-declarations"
      flags=(-ldflags '-extldflags=-Wl,-z,lazy')
    fi
    unformatted=$("$(dirname "$go")/gofmt" -l .)
    if [ -n "$unformatted" ]; then
      printf 'go-test: not formatted by gofmt:\n%s\n' "$unformatted" >&2
      exit 1
    fi
    nice "$go" vet ./...
    nice "$go" test -vet=off "${flags[@]}" ./...
  )
done
