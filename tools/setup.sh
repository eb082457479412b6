#!/usr/bin/env bash
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Installs what the checkout needs: Debian packages that are missing, and the Python environment of constraints.txt.
# The environment lives in the cache under a name made from its content, so that checkouts share it; `.venv` points to it.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

cache=${HOMELAB_GPU_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/homelab-gpu}
package_lists=(tools/packages.txt)
[ ! -f lab/hosts/packages.txt ] || package_lists+=(lab/hosts/packages.txt)

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

install_packages() {
  local wanted missing
  wanted=$(sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "${package_lists[@]}" | sort -u)
  if ! command -v dpkg-query >/dev/null; then
    say "this is no Debian or Ubuntu host: taking these as installed: $(tr '\n' ' ' <<<"$wanted")"
    return
  fi
  missing=$(comm -23 <(printf '%s\n' "$wanted") <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort -u))
  if [ -z "$missing" ]; then
    say 'Debian packages: all there'
    return
  fi
  local -a packages
  mapfile -t packages <<<"$missing"
  [ "$(id -u)" -eq 0 ] || die "these packages are missing: ${packages[*]}. Run as root, or install them: sudo apt-get install ${packages[*]}"
  say "installing Debian packages: ${packages[*]}"
  export DEBIAN_FRONTEND=noninteractive
  local -a options=(-q -o DPkg::Lock::Timeout=300)
  apt-get "${options[@]}" update || die 'apt-get update failed: are the package sources of this host reachable?'
  apt-get "${options[@]}" install -y --no-install-recommends "${packages[@]}" </dev/null
}

find_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  die "Python 3.11 or newer with its venv module is needed; python3 here is $(python3 --version 2>&1 || true). Debian 12 and Ubuntu 24.04 bring it: apt-get install python3 python3-venv"
}

make_environment() {
  local python key venv started
  python=$(find_python)
  key=$( { cat constraints.txt; sed -n '/^\[dependency-groups\]/,/^\[tool/p' pyproject.toml; "$python" -c 'import sys; print(sys.version, sys.base_prefix)'; } | sha256sum | cut -c1-16)
  venv=$cache/venv/$key
  mkdir -p "$cache/venv"
  exec 9>"$cache/venv/$key.lock"
  if ! flock -n 9; then
    say 'another checkout is making the same environment: waiting for it'
    flock 9
  fi
  if [ -f "$venv/.complete" ]; then
    say "Python environment: there ($venv)"
  else
    started=$SECONDS
    say "making the Python environment $venv (about 80 s)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group dev --group docs
    "$venv/bin/python" -m pip check
    touch "$venv/.complete"
    say "Python environment: made in $((SECONDS - started)) s"
  fi
  exec 9>&-
  ln -sfnT "$venv" .venv
}

install_packages
make_environment
