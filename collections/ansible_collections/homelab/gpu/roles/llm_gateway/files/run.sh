# shellcheck shell=sh
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs HAProxy with the config given. If it was killed it is started again at once: a new container would take a second, in which connections are refused.
# Each stop is a soft one, whatever signal the image names. An end of its own, a wrong config for example, is the container's end.
stop=
child=
trap 'stop=yes; [ -z "$child" ] || kill -USR1 "$child" 2>/dev/null' USR1 TERM INT
while :; do
  haproxy -db -f "$1" &
  child=$!
  [ -z "$stop" ] || kill -USR1 "$child"
  while :; do
    wait "$child"
    code=$?
    # A signal ends the wait, not HAProxy
    kill -0 "$child" 2>/dev/null || break
  done
  if [ -n "$stop" ] || [ "$code" -lt 128 ]; then
    exit "$code"
  fi
  echo "HAProxy was killed (status $code) and is started again"
done
