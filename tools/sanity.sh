#!/usr/bin/env bash
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# ansible-test sanity on the collection, without the get-pip script that it would download.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../collections/ansible_collections/homelab/gpu"

requirements=$(python -c 'import importlib.util; print(importlib.util.find_spec("ansible_test").submodule_search_locations[0])')/_internal/python_requirements.py
mapfile -t pip_versions < <(sed -n "s/^ *pip='\([0-9.]*\)',$/\1/p" "$requirements" | sort -u)
if [ "${#pip_versions[@]}" -eq 0 ]; then
  echo "sanity: $requirements no longer says which pip ansible-test wants: adapt $0" >&2
  exit 1
fi
mkdir -p ~/.ansible/test/cache
for pip_version in "${pip_versions[@]}"; do
  install -m 0644 tests/utils/bootstrap_get_pip.py ~/.ansible/test/cache/"get_pip_${pip_version//./_}.py"
done

ansible-test sanity --color no --python "$(python -c 'import sys; print("{}.{}".format(*sys.version_info))')" "$@"
