# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_plan
short_description: What a vLLM of these settings is on the nodes of a cluster
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Judges the settings of the role P(homelab.gpu.vllm#role), all at once, and works out what belongs together - the fraction of the GPU's memory, from the
    nodes' GPUs and into how many slices they are shared; probes; and the times in which a pod ends.
  - Fails if the model does not fit into a slice, and shows the sum, or if vLLM does not run on any GPU that it may use.
options:
  _input:
    description: The options of the role, without C(vllm_) before their names.
    type: dict
    required: true
  nodes:
    description: All Node objects of the cluster.
    type: list
    elements: dict
    required: true
  skus:
    description: GPUs beside those that the collection knows, and changes to them, as for M(homelab.gpu.gpu_info).
    type: list
    elements: dict
  tell_problems:
    description: Return what is wrong, as C(problem), instead of failing.
    type: bool
    default: false
"""

EXAMPLES = r"""
plan: "{{ settings | homelab.gpu.vllm_plan(nodes=found.results[0]) }}"
"""

RETURN = r"""
_value:
  description:
    - What the role's template needs, among it C(arguments) and C(environment) of the container, C(gpu_memory_utilization), C(strategy), C(affinity), and
      C(messages), what a person should know.
    - With O(tell_problems=true), either all of these and an empty C(problem), or C(problem), with a line for each, and C(of_nodes), whether the settings are
      right and only the nodes, as they are, cannot run it.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.plugin_utils._vllm_plan import NodesProblem, plan


def vllm_plan(
    settings: dict[str, Any], nodes: list[dict[str, Any]], skus: list[dict[str, Any]] | None = None, *, tell_problems: bool = False
) -> dict[str, Any]:
    try:
        return {**plan(settings, list(nodes), skus), **({"problem": ""} if tell_problems else {})}
    except InputError as error:
        if tell_problems:
            return {"problem": str(error), "of_nodes": isinstance(error, NodesProblem)}
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"vllm_plan": vllm_plan}
