# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: policy_problems
short_description: What cannot be right about the settings of the role inference_policies
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Judges the settings before anything is asked or changed. P(homelab.gpu.policy_advice#filter) tells what cannot work on a certain cluster.
options:
  _input:
    description: The options of the role, without their prefix.
    type: dict
    required: true
  spec:
    description: The role's argument specs of these options, by which types, choices and unknown keys are judged.
    type: dict
    required: true
"""

EXAMPLES = r"""
problems: "{{ {'namespace': 'ml', 'services': services} | homelab.gpu.policy_problems(spec) }}"
"""

RETURN = r"""
_value:
  description: For each problem a line with the option, its value, and the fix. Empty if there is none.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.plugin_utils._policy_settings import plain, problems


def policy_problems(settings: dict[str, Any], spec: dict[str, Any]) -> list[str]:
    try:
        return [f"{what}. Fix: {fix}." for what, fix in problems(plain(settings), plain(spec))]
    except (AttributeError, KeyError, TypeError) as error:
        raise AnsibleFilterError(f"policy_problems: {error!r}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"policy_problems": policy_problems}
