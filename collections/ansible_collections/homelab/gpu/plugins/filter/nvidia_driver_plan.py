# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: nvidia_driver_plan
short_description: Which versions of the driver's packages are to be installed on a host, or why none may be
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Chooses one version of a branch for all packages. An installed one of that branch stays.
  - Packages of a kernel, such as C(linux-modules-nvidia-580-server-generic), and those with versions of their own are not pinned.
  - Refuses what cannot drive the GPUs of the host, and to change a driver that is in use.
options:
  _input:
    description: What M(homelab.gpu.nvidia_driver_info) returned, called with these packages.
    type: dict
    required: true
  gpus:
    description: What M(homelab.gpu.gpu_info) returned.
    type: dict
    required: true
  packages:
    description: Names of the packages.
    type: list
    elements: str
    required: true
  version:
    description: A branch, such as V(580), or an exact version of the packages. By default the branch in their names.
    type: str
    default: ''
  kernel_modules:
    description: Which kernel modules they have; V(auto) goes by their names.
    type: str
    choices: [auto, open, proprietary]
    default: auto
  replace_running:
    description: Whether a driver that is in use may be changed.
    type: bool
    default: false
  skus:
    description: What the inventory adds to the table of known GPUs; as O(homelab.gpu.gpu_info#module:skus).
    type: list
    elements: dict
  ignore:
    description: Names of checks whose errors are warnings.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Look which drivers there are
  homelab.gpu.nvidia_driver_info:
    packages: [nvidia-headless-580-server, nvidia-utils-580-server]
  register: driver

- name: Show what would be installed
  ansible.builtin.debug:
    msg: "{{ driver | homelab.gpu.nvidia_driver_plan(gpus=gpu, packages=['nvidia-headless-580-server', 'nvidia-utils-580-server'], version='580') }}"
"""

RETURN = r"""
_value:
  description:
    - C(packages), as O(homelab.gpu.host_packages#module:packages); C(pending), names of those that are not installed so; C(unlisted), names that the
      package manager does not know; C(branch) and C(kernel_modules) that they have, null and empty if that is not known.
    - C(reboot), whether the driver on disk is right and only a reboot is missing; C(users), who uses the driver; C(findings), as
      P(homelab.gpu.nvidia_driver_findings#filter) gives them.
  type: dict
"""

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.plugin_utils._driver_findings import reboot_helps, settled, sight_of, users
from ansible_collections.homelab.gpu.plugins.plugin_utils._driver_plan import plan


def nvidia_driver_plan(
    info: Mapping[str, Any],
    gpus: Mapping[str, Any],
    packages: Sequence[str],
    version: str = "",
    kernel_modules: str = "auto",
    *,
    replace_running: bool = False,
    skus: Sequence[Mapping[str, Any]] | None = None,
    ignore: Sequence[str] = (),
) -> dict[str, Any]:
    try:
        sight = sight_of(info, gpus, skus, 13, datetime.date.today())
        found = plan(sight, list(packages), str(version), kernel_modules, replace_running=replace_running)
        return {
            "packages": found.packages,
            "pending": found.pending,
            "unlisted": found.unlisted,
            "branch": found.branch,
            "kernel_modules": found.flavour,
            "reboot": reboot_helps(sight),
            "users": users(info),
            "findings": settled(found.findings, ignore),
        }
    except KeyError as error:
        raise AnsibleFilterError(f"nvidia_driver_plan: what nvidia_driver_info or gpu_info returned lacks {error}; pass the whole of it") from error
    except (InputError, TypeError, ValueError) as error:
        raise AnsibleFilterError(f"nvidia_driver_plan: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"nvidia_driver_plan": nvidia_driver_plan}
