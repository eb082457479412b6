#!/bin/sh
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Brings the models of models.txt into the store, before the server starts. What is there already stays, and what was broken off is done again.
# A line has: origin, name, manifest in a store, path of the import or name of the model that is copied.
set -eu
list=${1:-/scripts/models.txt}
imports=${IMPORTS:-/import}
export OLLAMA_HOST=127.0.0.1:11434
log=$(mktemp)

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# Under another name until it is whole
copy() {
  mkdir -p "$(dirname "$2")"
  cp "$1" "$2.part" || fail "$1 cannot be copied into the volume"
  mv "$2.part" "$2"
}

from_store() {
  store=$imports/$2
  [ -f "$store/manifests/$1" ] || fail "there is no $store/manifests/$1: ollama_import and the model's 'store' name a folder with manifests/ and blobs/"
  for blob in $(grep -o 'sha256:[0-9a-f]\{64\}' "$store/manifests/$1" | tr ':' '-'); do
    [ -f "$OLLAMA_MODELS/blobs/$blob" ] || copy "$store/blobs/$blob" "$OLLAMA_MODELS/blobs/$blob"
  done
  cmp -s "$store/manifests/$1" "$OLLAMA_MODELS/manifests/$1" || copy "$store/manifests/$1" "$OLLAMA_MODELS/manifests/$1"
}

run() {
  "$@" >"$log" 2>&1 || fail "$*: $(tail -n 3 "$log")"
}

from_file() {
  file=$imports/$2
  [ -f "$file" ] || fail "there is no $file: ollama_import and the model's 'gguf' name a file"
  # To hash it takes long, so it is left alone while it looks the same
  seen=$OLLAMA_MODELS/.imported-$(printf %s "$1" | tr '/:' '__')
  looks=$(stat -c '%s %Y' "$file")
  if ollama show "$1" >"$log" 2>&1 && [ "$(cat "$seen" 2>/dev/null)" = "$looks" ]; then
    return
  fi
  printf 'FROM %s\n' "$file" >"$log.modelfile"
  run ollama create "$1" -f "$log.modelfile"
  printf %s "$looks" >"$seen"
}

while read -r origin name manifest of; do
  [ "$origin" != store ] || from_store "$manifest" "$of"
done <"$list"

ollama serve >"$log.server" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
tries=0
until ollama list >/dev/null 2>&1; do
  kill -0 "$server" 2>/dev/null || fail "the server ended: $(tail -n 5 "$log.server")"
  tries=$((tries + 1))
  [ "$tries" -lt 120 ] || fail "the server does not answer: $(tail -n 5 "$log.server")"
  sleep 0.5
done

while read -r origin name manifest of; do
  case $origin in
    pull) ollama show "$name" >/dev/null 2>&1 || run ollama pull "$name" ;;
    gguf) from_file "$name" "$of" ;;
    copy_of) run ollama cp "$of" "$name" ;;
    store) run ollama show "$name" ;;
    *) fail "$origin is no origin of a model" ;;
  esac
  echo "$name is there"
done <"$list"
