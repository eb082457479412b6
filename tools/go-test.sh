#!/usr/bin/env bash
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# go vet and go test over the lab's Go programs.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../lab/distribution"

unformatted=$(gofmt -l cmd internal)
if [ -n "$unformatted" ]; then
  printf 'go-test: not formatted by gofmt:\n%s\n' "$unformatted" >&2
  exit 1
fi
nice go vet ./...
nice go test ./...
