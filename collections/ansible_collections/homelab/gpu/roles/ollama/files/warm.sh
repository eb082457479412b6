#!/bin/sh
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Loads each model of warm.txt to stay: an empty question, or a word for models that only embed.
set -u
log=$(mktemp)
while read -r name; do
  if ! ollama run --keepalive=-1s "$name" '' </dev/null >"$log" 2>&1 && ! ollama run --keepalive=-1s "$name" warm </dev/null >"$log" 2>&1; then
    echo "$name cannot be loaded: $(tail -n 2 "$log")" >&2
    rm -f "$log"
    exit 1
  fi
done <"${1:-/scripts/warm.txt}"
rm -f "$log"
