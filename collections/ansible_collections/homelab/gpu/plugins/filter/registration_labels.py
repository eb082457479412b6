# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: registration_labels
short_description: Those labels that a kubelet may give its own node
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - A kubelet that wants a label such as C(node-role.kubernetes.io/gpu) at registration does not start. Such labels are left out here and come through the API.
options:
  _input:
    description: The labels.
    type: dict
    required: true
"""

EXAMPLES = r"""
node-label: "{{ k3s_agent_node_labels | homelab.gpu.registration_labels }}"
"""

RETURN = r"""
_value:
  description: The labels as C(key=value).
  type: list
  elements: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.module_utils import _node_settings


def registration_labels(labels: Mapping[str, str]) -> list[str]:
    if not isinstance(labels, Mapping):
        raise AnsibleFilterError(f"registration_labels needs a dictionary, not {type(labels).__name__}")
    return _node_settings.registration_labels(labels)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"registration_labels": registration_labels}
