# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: node_plan
short_description: What must be changed on nodes to hold their settings
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Makes the O(homelab.gpu.kube_node#module:nodes) of M(homelab.gpu.kube_node) from settings. Labels and taints that came from former settings, and are in none
    now, are removed; those of anybody else are left alone. An annotation on the node remembers which is which.
options:
  _input:
    description: The Node objects.
    type: list
    elements: dict
    required: true
  settings:
    description: For each node its C(name), C(labels) and C(taints).
    type: list
    elements: dict
    required: true
  owner:
    description: Whose settings they are, where several roles hold settings of one node. Each removes only its own.
    type: str
    default: ''
"""

EXAMPLES = r"""
nodes: "{{ found.resources | homelab.gpu.node_plan([{'name': 'worker', 'labels': {'disk': 'ssd'}, 'taints': []}]) }}"
"""

RETURN = r"""
_value:
  description: The nodes.
  type: list
  elements: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.module_utils._node_settings import SettingError, plan


def node_plan(nodes: list[dict[str, Any]], settings: list[dict[str, Any]], owner: str = "") -> list[dict[str, Any]]:
    try:
        return plan(list(nodes), list(settings), owner)
    except (SettingError, KeyError, TypeError) as error:
        raise AnsibleFilterError(f"node_plan: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"node_plan": node_plan}
