# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: gpu_slicing
short_description: Into how many slices the GPUs of a node are shared, and the device plugin's config for it
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Takes the GPUs that M(homelab.gpu.gpu_info) found on one node and gives the one config that NVIDIA's device plugin gets there.
  - The device plugin shares all GPUs of a node alike. A GPU that is not in the table of known ones is not shared, and neither is any other of its node.
  - A GPU that does not answer is refused, for which one it is cannot be told.
  - Sharing by turns isolates neither memory nor faults; MPS limits memory, and isolates no faults.
options:
  _input:
    description: RV(homelab.gpu.gpu_info#module:gpus) of one node.
    type: list
    elements: dict
    required: true
  replicas:
    description: Slices of each GPU; within the range of its SKU. By default that of the SKU.
    type: int
  sharing:
    description:
      - How slices share a GPU. V(mps) is experimental in the device plugin. It limits each slice to its part of memory and threads.
      - V(mps) is refused for a Tegra, below compute capability 7.0, with one replica, and with more than 48 replicas (16 below compute capability 7.5).
    type: str
    choices: [time-slicing, mps, none]
    default: time-slicing
  mixed:
    description: For a node with GPUs of several SKUs, either V(refuse), or take the V(smallest) default that the ranges of all of them allow.
    type: str
    choices: [refuse, smallest]
    default: refuse
  skus:
    description: What the inventory adds to the table of known GPUs; as O(homelab.gpu.gpu_info#module:skus).
    type: list
    elements: dict
  rename:
    description: Whether slices are offered as C(nvidia.com/gpu.shared) instead of C(nvidia.com/gpu).
    type: bool
    default: false
  refuse_more_than_one:
    description: With time-slicing, whether a container that asks for two slices or more is refused. More slices give it no more of the GPU.
    type: bool
    default: true
  fail_on_init_error:
    description: Whether the device plugin ends, instead of idling, if it finds no driver.
    type: bool
    default: true
  tell_problems:
    description: Whether what is wrong is returned as C(problem) instead of being raised.
    type: bool
    default: false
  device_list_strategy:
    description: How the device plugin tells the container runtime which devices a container gets.
    type: str
    choices: [envvar, volume-mounts, cdi-cri, cdi-annotations]
    default: envvar
"""

EXAMPLES = r"""
- name: Look for GPUs
  homelab.gpu.gpu_info:
  register: gpu

- name: Show what the device plugin would be told
  ansible.builtin.debug:
    msg: "{{ gpu.gpus | homelab.gpu.gpu_slicing(replicas=2) }}"
"""

RETURN = r"""
_value:
  description:
    - C(sku), the SKU, C(mixed) or C(unknown); C(replicas), 1 if nothing is shared; C(sharing), V(none) then; C(resource), the name of the extended resource;
      C(allocatable), how much of it the node should have; C(config), for the device plugin; C(key), a name for it that tells its content;
      C(messages), what a person should know.
    - With O(tell_problems=true), either all of these and an empty C(problem), or C(problem) alone.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._slicing import slicing


def gpu_slicing(gpus: Any, *, tell_problems: bool = False, **options: Any) -> dict[str, Any]:
    try:
        return {**slicing(gpus, **options), **({"problem": ""} if tell_problems else {})}
    except (InputError, TypeError) as error:
        if tell_problems and isinstance(error, InputError):
            return {"problem": str(error)}
        raise AnsibleFilterError(f"gpu_slicing: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"gpu_slicing": gpu_slicing}
