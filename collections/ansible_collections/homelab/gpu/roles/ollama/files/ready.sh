#!/bin/sh
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Whether each model of warm.txt is loaded. One that is not, because a request had it unloaded, is loaded again meanwhile.
# The server lists a loaded model by one of its names only, so they are compared by their digests.
set -u
list=${1:-/scripts/warm.txt}
busy=${TMPDIR:-/tmp}/loading
loaded=$(ollama ps 2>&1) || { echo "$loaded" >&2; exit 1; }
known=$(ollama list 2>&1) || { echo "$known" >&2; exit 1; }

id_of() {
  printf '%s\n' "$known" | while read -r name id _; do
    [ "$name" != "$1" ] || printf %s "$id"
  done
}

missing=
while read -r name; do
  id=$(id_of "$name")
  case $loaded in
    *" ${id:-none} "*) ;;
    *) missing="$missing $name" ;;
  esac
done <"$list"
[ -n "$missing" ] || exit 0
if ! kill -0 "$(cat "$busy" 2>/dev/null || echo 0x)" 2>/dev/null; then
  sh "$(dirname "$0")/warm.sh" "$list" </dev/null >/dev/null 2>&1 &
  echo $! >"$busy"
fi
echo "not loaded:$missing" >&2
exit 1
