#!/usr/bin/env bash
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Builds the collection into dist/ and lets Galaxy's importer judge the archive.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

rm -rf dist
ansible-galaxy collection build --output-path dist --force collections/ansible_collections/homelab/gpu
archive=$(ls "$PWD"/dist/homelab-gpu-*.tar.gz)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The importer unpacks into a directory of its own and writes its result where it is started.
cat >"$work/importer.cfg" <<CONFIG
[galaxy-importer]
check_changelog = true
check_required_tags = true
run_ansible_lint = true
offline_ansible_lint = true
run_ansible_test = false
run_ansible_doc = true
CONFIG
cd "$work"
GALAXY_IMPORTER_CONFIG=$work/importer.cfg python -m galaxy_importer.main "$archive" 2>&1 | tee importer.log
if grep -E "^(ERROR|WARNING|CRITICAL):" importer.log | grep -vE "found ignore-[0-9.]+\.txt with 0 statement" >&2; then
  echo 'build: the importer found the lines above' >&2
  exit 1
fi
