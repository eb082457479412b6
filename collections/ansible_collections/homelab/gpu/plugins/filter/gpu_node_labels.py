# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: gpu_node_labels
short_description: Labels that tell which GPUs a node has
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Makes the labels C(homelab.gpu/sku), C(homelab.gpu/memory-mib) (of the smallest GPU), C(homelab.gpu/external), C(homelab.gpu/count), C(gpu-type) (the SKU
    without its memory and without dashes) and C(nvidia.com/gpu.present).
  - They do not depend on how GPUs are shared, unlike those of NVIDIA's feature discovery. While a GPU is unplugged or does not answer, the labels stay as
    they are.
options:
  _input:
    description: RV(homelab.gpu.gpu_info#module:gpus) of the node.
    type: list
    elements: dict
    required: true
  present:
    description: The labels that the node has.
    type: dict
    default: {}
"""

EXAMPLES = r"""
labels: "{{ gpu.gpus | homelab.gpu.gpu_node_labels(present=node.metadata.labels) }}"
"""

RETURN = r"""
_value:
  description: Values by label.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.plugin_utils._gpu_labels import labels


def gpu_node_labels(gpus: list[dict[str, Any]], present: dict[str, str] | None = None) -> dict[str, str]:
    try:
        return labels(list(gpus), present or {})
    except (KeyError, TypeError) as error:
        raise AnsibleFilterError(f"gpu_node_labels: the input is not the list gpus of homelab.gpu.gpu_info: {error!r}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"gpu_node_labels": gpu_node_labels}
