# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: policy_advice
short_description: Which budgets, autoscalers, quotas and the like can never work on a cluster, and why
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Looks at a cluster as it would be after objects were applied, and tells what cannot work. Budgets that no drain gets by, two budgets for one pod;
    autoscalers without requests, or beyond the GPUs; required anti-affinity with more pods than nodes; rollouts that wait for a GPU which the old pod
    holds; one volume for pods on several nodes; quotas that one pod exceeds, or that refuse containers without requests; missing priority classes, and
    changes of those that cannot be changed; selectors that match nothing; network policies that forget the DNS.
options:
  _input:
    description: The objects of the cluster. What is missing is not judged.
    type: list
    elements: dict
    required: true
  wanted:
    description: The objects that shall be applied. If there are any, ours that are not among them count as removed.
    type: list
    elements: dict
    default: []
  settings:
    description: The options of the role inference_policies, without their prefix. Its C(namespace) is the one that is looked at.
    type: dict
    required: true
  replace_priority_classes:
    description: Whether priority classes may be deleted and made anew.
    type: bool
    default: false
"""

EXAMPLES = r"""
advice: "{{ found.results | flatten(1) | homelab.gpu.policy_advice(settings={'namespace': 'ml'}) }}"
"""

RETURN = r"""
_value:
  description:
    - Errors first. For each C(severity), C(service) as far as it is known, C(setting), C(why) and C(fix).
    - An V(error) cannot work as long as nothing else is changed. A V(warning) works in part, or not now. A V(note) may well be meant.
  type: list
  elements: dict
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.plugin_utils._policy_advice import advise
from ansible_collections.homelab.gpu.plugins.plugin_utils._policy_settings import plain


def policy_advice(
    found: list[dict[str, Any]], settings: dict[str, Any], wanted: list[dict[str, Any]] | None = None, replace_priority_classes: bool = False
) -> list[dict[str, str]]:
    try:
        return [dataclasses.asdict(one) for one in advise(plain(found), plain(wanted or []), plain(settings), replace_priority_classes)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AnsibleFilterError(f"policy_advice: {error!r}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"policy_advice": policy_advice}
