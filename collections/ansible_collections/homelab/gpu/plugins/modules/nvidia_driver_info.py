#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver_info
short_description: Tell how NVIDIA's driver is installed on a host
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Reads packages and their holds, the module on disk and its signature, kernels, DKMS, Secure Boot, nouveau, and who uses the driver.
  - Which GPUs there are, and what the running driver says, is told by M(homelab.gpu.gpu_info). The driver is not asked here, so a hung one does no harm.
  - The filter P(homelab.gpu.nvidia_driver_findings#filter) judges both.
extends_documentation_fragment:
  - homelab.gpu._attributes
  - homelab.gpu._attributes.info
options:
  packages:
    description:
      - Packages of which RV(available) tells the versions that the package manager knows. No list is fetched for that.
    type: list
    elements: str
    default: []
  timeout_seconds:
    description:
      - How long each of C(modinfo), C(rpm), C(apt-cache) and C(dnf) may take.
    type: float
    default: 30
"""

EXAMPLES = r"""
- name: Look for GPUs
  homelab.gpu.gpu_info:
  register: gpu

- name: Look how their driver is installed
  homelab.gpu.nvidia_driver_info:
  register: driver

- name: Show what is wrong with it
  ansible.builtin.debug:
    msg: "{{ driver | homelab.gpu.nvidia_driver_findings(gpus=gpu) }}"
"""

RETURN = r"""
system:
  description: C(distribution), C(distribution_like) and C(distribution_version) as in C(/etc/os-release), and C(kernel), the running one.
  returned: always
  type: dict
manager:
  description: V(apt), V(dnf), or an empty string.
  returned: always
  type: str
module:
  description: What C(modinfo) tells of the module for the running kernel. All empty if there is none.
  returned: always
  type: dict
  contains:
    path:
      description: Its file.
      type: str
    version:
      description: Its version.
      type: str
    flavour:
      description: V(open) or V(proprietary), by its licence.
      type: str
    signer:
      description: Who signed it; empty if nobody did.
      type: str
    signer_known:
      description: Whether the kernel has a key of that name; null if that cannot be told.
      type: bool
loaded:
  description: C(references) to the loaded module, and the names of the modules among them as C(used_by).
  returned: always
  type: dict
holders:
  description: Processes that have a device of NVIDIA open, by C(pid), with C(command), C(devices), and how many C(references) they hold.
  returned: always
  type: list
  elements: dict
kernels:
  description: Kernels that can be started, by C(release); whether each is C(running), and whether NVIDIA's C(module) was built for it.
  returned: always
  type: list
  elements: dict
dkms:
  description: C(name) and C(version) of what DKMS has of NVIDIA, and the C(kernels) that it was built for.
  returned: always
  type: list
  elements: dict
libraries:
  description: Versions of the driver's libraries.
  returned: always
  type: list
  elements: str
packages:
  description: The driver's packages, each with its C(version) and whether it is C(held).
  returned: always
  type: dict
available:
  description: For each of O(packages), the versions that the package manager knows.
  returned: always
  type: dict
unattended:
  description: Whether unattended upgrades are C(enabled), and the patterns of packages in their C(blacklist).
  returned: always
  type: dict
free_driver:
  description: Which free driver is C(loaded), or an empty string, and whether it is C(blacklisted).
  returned: always
  type: dict
secure_boot:
  description: V(enabled), V(disabled), or V(none), if the firmware has no such thing.
  returned: always
  type: str
runfile:
  description: Whether NVIDIA's own installer, the C(.run) file, put the driver there.
  returned: always
  type: bool
"""

import os
import subprocess
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.homelab.gpu.plugins.module_utils import _nvidia_host as host
from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError

_ROOT = "/"
_SBIN = ["/sbin", "/usr/sbin"]
_RPM = ("--query", "--all", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE}\\n")
_REPOQUERY = ("--quiet", "--cacheonly", "repoquery", "--showduplicates", "--queryformat", "%{name} %{version}-%{release}\\n")


def run(program: str | None, arguments: t.Sequence[str], timeout_seconds: float) -> str:
    """What it printed; nothing if it is not there, fails, or takes too long: what it would tell is then not known."""
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def available(names: t.Sequence[str], madison: str, repoquery: str) -> dict[str, list[str]]:
    rows = [[field.strip() for field in line.split("|")] for line in madison.splitlines()]
    pairs = [(row[0], row[1]) for row in rows if len(row) == 3]
    pairs += [(name, version) for name, _space, version in (line.partition(" ") for line in repoquery.splitlines())]
    return {name: list(dict.fromkeys(version for found, version in pairs if found == name and version)) for name in names}


def facts(params: t.Mapping[str, t.Any], find: t.Callable[[str], str | None], root: str) -> dict[str, t.Any]:
    timeout, names = params["timeout_seconds"], params["packages"]
    if not 0.1 <= timeout <= 600:
        raise InputError(f"timeout_seconds is {timeout:g}; it has to be from 0.1 to 600")
    manager = "apt" if find("apt-get") else "dnf" if find("dnf") else ""
    about = host.system(root)
    module = host.parsed_modinfo(run(find("modinfo"), ["-k", about["kernel"], "nvidia"], timeout))
    # modinfo may print the name of what it has not found
    module = module if module["path"].startswith("/") else host.parsed_modinfo("")
    return {
        "system": about,
        "manager": manager,
        "module": {**module, "signer_known": host.signer_known(root, module["signer"])},
        "loaded": host.loaded_module(root),
        "holders": host.holders(root),
        "kernels": host.kernels(root, about["kernel"]),
        "dkms": host.dkms_builds(root),
        "libraries": host.libraries(root),
        "packages": host.packages(root, run(find("rpm"), _RPM, timeout).splitlines() if manager == "dnf" else ()),
        "available": available(
            names,
            run(find("apt-cache"), ["madison", *names], timeout) if names and manager == "apt" else "",
            run(find("dnf"), [*_REPOQUERY, *names], timeout) if names and manager == "dnf" else "",
        ),
        "unattended": host.unattended(root),
        "free_driver": host.free_driver(root),
        "secure_boot": host.secure_boot(root),
        "runfile": os.path.exists(os.path.join(root, "usr/bin/nvidia-uninstall")),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={"packages": {"type": "list", "elements": "str", "default": []}, "timeout_seconds": {"type": "float", "default": 30}},
        supports_check_mode=True,
    )
    try:
        found = facts(module.params, lambda name: module.get_bin_path(name, opt_dirs=_SBIN), _ROOT)
    except InputError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
