# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: gpu_chain
short_description: Why a node does not offer the slices that it should
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - From the GPU in its slot to what its node offers there is a chain of links, driver, container runtime, label, DaemonSet, MPS daemon, plugin, kubelet. Names
    the first one that is broken. Where nothing shall be offered, because there was no GPU, only what the node offers is judged.
options:
  _input:
    description: What P(homelab.gpu.gpu_slicing#filter) told of the node.
    type: dict
    required: true
  gpu:
    description: What M(homelab.gpu.gpu_info) told.
    type: dict
    required: true
  runtime:
    description: What M(homelab.gpu.k3s_runtime_info) told.
    type: dict
    required: true
  node:
    description: The Node object.
    type: dict
    required: true
  daemon_sets:
    description: DaemonSet objects of the plugin's namespace.
    type: list
    elements: dict
    default: []
  pods:
    description: Pod objects of the plugin on this node.
    type: list
    elements: dict
    default: []
  mps_pods:
    description: Pod objects of MPS daemons on this node.
    type: list
    elements: dict
    default: []
  logs:
    description: The logs of both, by the pod's name.
    type: dict
    default: {}
  runtime_class:
    description: The runtime class of the plugin's pods.
    type: str
    default: nvidia
  runtime_classes:
    description: Names of the runtime classes that the cluster has. Without them they are not judged.
    type: list
    elements: str
"""

EXAMPLES = r"""
verdict: "{{ gpu.gpus | homelab.gpu.gpu_slicing | homelab.gpu.gpu_chain(gpu=gpu, runtime=runtime, node=node) }}"
"""

RETURN = r"""
_value:
  description:
    - C(link), the broken one, V(gpu), V(driver), V(runtime), V(runtime_class), V(node), V(label), V(daemon_set), V(mps), V(pod), V(idle),
      V(unhealthy), V(allocatable), or an empty string; C(text), what is wrong with it; and C(restart), whether a new pod of the plugin, and of the MPS
      daemon if that is the link, could mend it.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.plugin_utils._gpu_chain import Evidence, judge


def gpu_chain(slices: dict[str, Any], gpu: dict[str, Any], runtime: dict[str, Any], node: dict[str, Any], **more: Any) -> dict[str, Any]:
    try:
        return vars(judge(Evidence(slices=slices, gpus=gpu["gpus"], driver=gpu["driver"], runtime=runtime, node=node, **more)))
    except (KeyError, TypeError) as error:
        raise AnsibleFilterError(f"gpu_chain: {error!r}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"gpu_chain": gpu_chain}
