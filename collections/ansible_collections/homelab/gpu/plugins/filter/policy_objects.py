# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: policy_objects
short_description: The objects that hold the settings of the role inference_policies
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Makes the namespace, priority classes, quota, limit range, network policies, disruption budgets and autoscalers that the settings ask for.
options:
  _input:
    description: The options of the role, without their prefix, in which P(homelab.gpu.policy_problems#filter) finds no problem.
    type: dict
    required: true
"""

EXAMPLES = r"""
objects: "{{ {'namespace': 'ml', 'services': services} | homelab.gpu.policy_objects }}"
"""

RETURN = r"""
_value:
  description:
    - C(objects), the objects as M(homelab.gpu.kube_apply) takes them, and C(prune), its option O(homelab.gpu.kube_apply#module:prune), by which goes what
      former settings asked for.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.plugin_utils._policy_objects import PRUNED_KINDS, objects, selector
from ansible_collections.homelab.gpu.plugins.plugin_utils._policy_settings import plain


def policy_objects(settings: dict[str, Any]) -> dict[str, Any]:
    try:
        return {
            "objects": objects(plain(settings)),
            "prune": {"kinds": list(PRUNED_KINDS), "label_selectors": [selector(settings["namespace"])]},
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AnsibleFilterError(f"policy_objects: {error!r}; homelab.gpu.policy_problems tells what is wrong with the settings") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"policy_objects": policy_objects}
