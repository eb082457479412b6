#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_packages
short_description: Install packages whose versions belong together, in one transaction
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Brings a set of packages to exactly the given versions, from files or from the host's repositories, with C(apt-get) or C(dnf). If one of them is missing or
    has another version, all of them go into one transaction, for packages that depend on each other's exact version cannot be changed one by one.
  - Nothing else is removed, no recommended package is added, and configuration files of the host stay as they are.
extends_documentation_fragment:
  - homelab.gpu._attributes
attributes:
  check_mode:
    support: full
    details:
      - Tells what would be installed; files need not be there yet.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  packages:
    description:
      - The packages.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the package.
        type: str
        required: true
      version:
        description:
          - Its version, with the revision, such as V(1.20.1-1). Without it, any version will do.
        type: str
      file:
        description:
          - The package on the host. By default it comes from the host's repositories.
        type: path
  manager:
    description:
      - Which package manager is used; V(auto) takes C(apt-get) if it is there, else C(dnf).
    type: str
    choices: [auto, apt, dnf]
    default: auto
  refresh:
    description:
      - Whether lists of packages are fetched from the host's repositories before something is installed.
    type: bool
    default: false
  hold:
    description:
      - Keep upgrades of the whole system, such as unattended ones, from changing these packages. With C(dnf) that takes its plugin C(versionlock).
    type: bool
    default: false
  allow_downgrade:
    description:
      - Whether an older version may take the place of a newer one.
    type: bool
    default: false
  timeout_seconds:
    description:
      - How long the transaction may take.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Install two packages of one version from files
  homelab.gpu.host_packages:
    packages:
      - name: nvidia-container-toolkit-base
        version: 1.20.1-1
        file: /var/cache/homelab-gpu/packages/nvidia-container-toolkit-base_1.20.1-1_amd64.deb
      - name: nvidia-container-toolkit
        version: 1.20.1-1
        file: /var/cache/homelab-gpu/packages/nvidia-container-toolkit_1.20.1-1_amd64.deb

- name: Keep the driver of the host's repositories from being upgraded
  homelab.gpu.host_packages:
    packages:
      - name: nvidia-driver-580-server
    hold: true
"""

RETURN = r"""
before:
  description: Versions of those that were installed.
  returned: always
  type: dict
  sample: {nvidia-container-toolkit: 1.19.1-1}
installed:
  description: Names of what was, or in check mode would be, installed.
  returned: success
  type: list
  elements: str
held:
  description: Names of what was newly held, or in check mode would be.
  returned: success
  type: list
  elements: str
"""

import os
import subprocess
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._packages import MANAGERS, Manager, Package, locks, parsed, pending

_TOLD_LINES = 12


class Host:
    """The package manager of this host."""

    def __init__(self, manager: Manager, timeout_seconds: int) -> None:
        self._manager = manager
        self._timeout = timeout_seconds

    def run(self, *command: str) -> tuple[int, str, str]:
        environment = {**os.environ, "LC_ALL": "C", **self._manager.environment}
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=self._timeout, check=False, env=environment
            )
        except FileNotFoundError as error:
            raise InputError(f"{command[0]} is not on this host; correct the option manager") from error
        except subprocess.TimeoutExpired as error:
            raise InputError(
                f"{' '.join(command[:2])} did not end within timeout_seconds={self._timeout}; look what it waits for, or raise the option"
            ) from error
        return done.returncode, done.stdout, done.stderr

    def versions(self, packages: t.Sequence[Package]) -> dict[str, str]:
        _code, output, _error = self.run(*self._manager.query, *(package.name for package in packages))
        return parsed(output)

    def refresh(self) -> None:
        code, output, error = self.run(*self._manager.refresh)
        if code:
            told = "\n".join((error.strip() or output.strip()).splitlines()[-_TOLD_LINES:])
            raise InputError(f"{' '.join(self._manager.refresh)} failed; nothing was installed:\n{told}")

    def install(self, packages: t.Sequence[Package], *, allow_downgrade: bool) -> None:
        missing = [package.file for package in packages if package.file and not os.path.isfile(package.file)]
        if missing:
            raise InputError(f"the file {missing[0]} is not on this host; bring it there before, or leave out file to use the repositories")
        options = self._manager.allow_downgrade if allow_downgrade else ()
        code, output, error = self.run(*self._manager.install, *options, *self._manager.targets(packages))
        if code:
            told = "\n".join((error.strip() or output.strip()).splitlines()[-_TOLD_LINES:])
            hint = " Set allow_downgrade if an older version shall take its place." if "downgrade" in (output + error).lower() else ""
            raise InputError(f"{self._manager.name} could not install {', '.join(package.name for package in packages)}; nothing was changed:\n{told}{hint}")

    def refuse_older(self, packages: t.Sequence[Package], before: t.Mapping[str, str]) -> None:
        """Where the package manager itself would let it pass."""
        for package in packages if self._manager.older else ():
            installed = before.get(package.name, "")
            if not installed or not package.version or installed == package.version:
                continue
            code, output, error = self.run(*self._manager.comparison(package.version, installed))
            if code:
                raise InputError(f"rpm could not compare {package.version} with {installed}: {error.strip()}")
            if output.strip() == "-1":
                raise InputError(f"{package.name} is installed as {installed}, and {package.version} is older. Set allow_downgrade if it shall take its place.")

    def locks(self) -> dict[str, str]:
        code, output, error = self.run(*self._manager.held)
        if code:
            raise InputError(f"hold is true, but {' '.join(self._manager.held)} failed: {error.strip()}; install what it needs, or set hold to false")
        return locks(output)

    def not_held(self, packages: t.Sequence[Package], installed: t.Mapping[str, str]) -> list[str]:
        held = self.locks()
        return [package.name for package in packages if held.get(package.name, "none") not in ("", installed.get(package.name))]

    def hold(self, names: t.Sequence[str]) -> None:
        code, _output, error = self.run(*self._manager.hold, *names)
        if code:
            raise InputError(f"{' '.join(self._manager.hold)} failed: {error.strip()}")

    def unhold(self, names: t.Collection[str]) -> list[str]:
        """Those of them that would be kept from changing. A run that is cut off before they are held again is made up for by the next."""
        if not self._manager.unhold:
            return []
        code, output, _error = self.run(*self._manager.held)
        # Without the plugin nothing is held
        held = [name for name in names if name in locks(output)] if code == 0 else []
        if held:
            code, _output, error = self.run(*self._manager.unhold, *held)
            if code:
                raise InputError(f"{' '.join(self._manager.unhold)} failed: {error.strip()}")
        return held


def chosen_manager(wanted: str, find: t.Callable[[str], str | None]) -> Manager:
    if wanted != "auto":
        return MANAGERS[wanted]
    for name, program in (("apt", "apt-get"), ("dnf", "dnf")):
        if find(program):
            return MANAGERS[name]
    raise InputError("this host has neither apt-get nor dnf; other package managers are not supported")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "packages": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"name": {"type": "str", "required": True}, "version": {"type": "str"}, "file": {"type": "path"}},
            },
            "manager": {"type": "str", "choices": ["auto", *MANAGERS], "default": "auto"},
            "refresh": {"type": "bool", "default": False},
            "hold": {"type": "bool", "default": False},
            "allow_downgrade": {"type": "bool", "default": False},
            "timeout_seconds": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params = module.params
    packages = [Package(entry["name"], entry["version"] or "", entry["file"] or "") for entry in params["packages"]]
    try:
        host = Host(chosen_manager(params["manager"], module.get_bin_path), params["timeout_seconds"])
        before = host.versions(packages)
        needed = pending(packages, before)
        if needed and not params["allow_downgrade"]:
            host.refuse_older(needed, before)
        if needed and not module.check_mode:
            if params["refresh"]:
                host.refresh()
            held = host.unhold([package.name for package in needed])
            try:
                host.install(needed, allow_downgrade=params["allow_downgrade"])
            except InputError:
                if held:
                    host.hold(held)
                raise
            installed = host.versions(packages)
            left = pending(packages, installed)
            if left:
                raise InputError(f"{left[0].name} still has not the version {left[0].version or 'of any kind'} after the transaction")
        else:
            installed = {**before, **{package.name: package.version for package in needed}}
        loose = host.not_held(packages, installed) if params["hold"] else []
        if loose and not module.check_mode:
            host.unhold(loose)
            host.hold(loose)
    except InputError as error:
        module.fail_json(msg=str(error))
    wanted = {package.name: package.version or before.get(package.name, "any") for package in packages}
    module.exit_json(
        changed=bool(needed or loose),
        before=before,
        installed=[package.name for package in needed],
        held=loose,
        diff={"before": _lines(before), "after": _lines({**before, **(wanted if needed else {})}) + "".join(f"hold {name}\n" for name in loose)},
    )


def _lines(versions: t.Mapping[str, str]) -> str:
    return "".join(f"{name} {version}\n" for name, version in sorted(versions.items()))


if __name__ == "__main__":
    main()
