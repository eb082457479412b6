# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: pod_affinity
short_description: How pods of one service keep away from each other
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Makes the part of a pod's spec that spreads the pods of a service over hosts and zones.
options:
  _input:
    description:
      - V(preferred-host) puts them on different hosts if it can (weight 100).
      - V(zone-then-host) puts them in different zones if it can (weight 100), and there on different hosts (weight 50).
      - V(required-host) never puts two of them on one host. A pod for which there is no host stays Pending.
      - V(none) says nothing.
    type: str
    choices: [none, preferred-host, zone-then-host, required-host]
    required: true
  labels:
    description: The labels by which the service's own pods are known, and no others.
    type: dict
    required: true
  spread:
    description: Add topology spread constraints, which keep the numbers even where there are more pods than hosts. They are never a must.
    type: bool
    default: false
"""

EXAMPLES = r"""
pod_spec: "{{ pod_spec | combine('preferred-host' | homelab.gpu.pod_affinity({'app': 'max-serve-llama'})) }}"
"""

RETURN = r"""
_value:
  description: With C(affinity), with C(topologySpreadConstraints), or with nothing in it.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.plugin_utils._pod_affinity import placement


def pod_affinity(preset: str, labels: dict[str, str], spread: bool = False) -> dict[str, Any]:
    try:
        return placement(preset, labels, spread)
    except InputError as error:
        raise AnsibleFilterError(f"pod_affinity: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"pod_affinity": pod_affinity}
