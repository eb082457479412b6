# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: taint_tolerations
short_description: Tolerations of a pod for taints of nodes
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Makes the tolerations with which a pod may run on nodes that have the given taints.
options:
  _input:
    description: Taints as C(key=value:Effect) or C(key:Effect).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
tolerations: "{{ ['gpu=true:NoSchedule'] | homelab.gpu.taint_tolerations }}"
"""

RETURN = r"""
_value:
  description: Tolerations with C(key), C(operator), C(value) if there is one, and C(effect).
  type: list
  elements: dict
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.module_utils._node_settings import SettingError, parse_taint


def taint_tolerations(taints: Iterable[str]) -> list[dict[str, str]]:
    if isinstance(taints, (str, Mapping)) or not isinstance(taints, Iterable):
        raise AnsibleFilterError(f"taint_tolerations: needs a list of taints, not {taints!r}")
    found = []
    for text in taints:
        try:
            taint = parse_taint(text)
        except SettingError as error:
            raise AnsibleFilterError(f"taint_tolerations: {error}") from error
        value = {"operator": "Equal", "value": taint["value"]} if taint["value"] else {"operator": "Exists"}
        found.append({"key": taint["key"], **value, "effect": taint["effect"]})
    return found


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"taint_tolerations": taint_tolerations}
