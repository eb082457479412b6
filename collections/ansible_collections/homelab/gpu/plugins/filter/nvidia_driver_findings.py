# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: nvidia_driver_findings
short_description: What is wrong with NVIDIA's driver of a host
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Judges what M(homelab.gpu.nvidia_driver_info) and M(homelab.gpu.gpu_info) told of one host, by the table of known GPUs. A GPU whose name the driver does not
    tell is known by its PCI ID.
options:
  _input:
    description: What M(homelab.gpu.nvidia_driver_info) returned.
    type: dict
    required: true
  gpus:
    description: What M(homelab.gpu.gpu_info) returned.
    type: dict
    required: true
  skus:
    description: What the inventory adds to the table of known GPUs; as O(homelab.gpu.gpu_info#module:skus).
    type: list
    elements: dict
  cuda:
    description: The newest release of CUDA that programs on this host were made with; V(11), V(12) or V(13).
    type: int
    default: 13
  ignore:
    description: Names of checks whose errors are warnings.
    type: list
    elements: str
    default: []
  today:
    description: The day to compare ends of life with, as V(2026-12-31). By default today.
    type: str
"""

EXAMPLES = r"""
- name: Expect a driver that drives the GPUs
  ansible.builtin.assert:
    that: driver | homelab.gpu.nvidia_driver_findings(gpus=gpu) | selectattr('severity', 'equalto', 'error') | length == 0
"""

RETURN = r"""
_value:
  description:
    - The findings, errors first, each with C(check) (its name), C(severity) (V(error) or V(warning)), C(fact) and C(fix).
  type: list
  elements: dict
"""

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.plugin_utils._driver_findings import findings, settled, sight_of


def nvidia_driver_findings(
    info: Mapping[str, Any],
    gpus: Mapping[str, Any],
    skus: Sequence[Mapping[str, Any]] | None = None,
    cuda: int = 13,
    ignore: Sequence[str] = (),
    today: str | None = None,
) -> list[dict[str, str]]:
    try:
        day = datetime.date.fromisoformat(today) if today else datetime.date.today()
        return settled(findings(sight_of(info, gpus, skus, int(cuda), day)), ignore)
    except KeyError as error:
        raise AnsibleFilterError(f"nvidia_driver_findings: what nvidia_driver_info or gpu_info returned lacks {error}; pass the whole of it") from error
    except (InputError, TypeError, ValueError) as error:
        raise AnsibleFilterError(f"nvidia_driver_findings: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"nvidia_driver_findings": nvidia_driver_findings}
