# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: device_plugin_plan
short_description: How nodes come from one config of the device plugin to another
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Each config of NVIDIA's device plugin has a DaemonSet of its own, and the label C(homelab.gpu/device-plugin-config) of a node chooses one.
  - Tells for each node which one it has to get, how much it has to offer then, and whether pods that use a GPU have to leave before, because the
    devices that they hold would no longer be there, or because their MPS daemon goes or a new one needs the GPUs for itself.
options:
  _input:
    description: For each node of this run, by name, what P(homelab.gpu.gpu_slicing#filter) told.
    type: dict
    required: true
  nodes:
    description: All Node objects of the cluster.
    type: list
    elements: dict
    required: true
  daemon_sets:
    description: The DaemonSet objects of the device plugin's namespace.
    type: list
    elements: dict
    required: true
  pods:
    description: Pods that use a GPU, with C(namespace), C(name) and C(node).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
plan: "{{ {'worker': gpus | homelab.gpu.gpu_slicing} | homelab.gpu.device_plugin_plan(nodes=found[0], daemon_sets=found[1], pods=found[2]) }}"
"""

RETURN = r"""
_value:
  description:
    - C(nodes), for each its C(name), C(before) and C(key), the values of the label, null for none, C(allocatable) by resource,
      C(drain), why pods have to leave before, or an empty string, and C(pods), which ones; C(close) and C(open), what M(homelab.gpu.kube_node) has to be
      given before and after that, null for nothing; C(configs), each once, with C(key), C(config) and C(mps), whether it needs an MPS daemon; and C(stale),
      names of DaemonSets, of MPS daemons too, that no node will choose.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.plugin_utils._device_plugin import plan


def device_plugin_plan(wanted: dict[str, Any], nodes: list[dict[str, Any]], daemon_sets: list[dict[str, Any]], pods: list[dict[str, Any]]) -> dict[str, Any]:
    try:
        return plan(wanted, list(nodes), list(daemon_sets), list(pods))
    except (InputError, KeyError, TypeError) as error:
        raise AnsibleFilterError(f"device_plugin_plan: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"device_plugin_plan": device_plugin_plan}
