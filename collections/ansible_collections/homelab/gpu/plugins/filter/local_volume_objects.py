# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: local_volume_objects
short_description: Folders of nodes as volumes of the cluster
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Judges the table of the role P(homelab.gpu.local_storage#role), all rows at once, and makes a storage class and a PersistentVolume for each folder, and the
    claim that is to have it.
options:
  _input:
    description: The rows, as O(homelab.gpu.local_storage#role:main:local_storage_volumes).
    type: list
    elements: dict
    required: true
  nodes:
    description: The node's name of each host.
    type: dict
    required: true
  storage_class:
    description: Name of the storage class.
    type: str
    required: true
  tell_problems:
    description: Return what is wrong, as C(problem), instead of failing.
    type: bool
    default: false
"""

EXAMPLES = r"""
objects: >-
  {{ [{'name': 'models', 'host': 'gpu-worker', 'path': '/srv/models', 'size': '200Gi'}]
  | homelab.gpu.local_volume_objects(nodes={'gpu-worker': 'gpu-worker'}, storage_class='local') }}
"""

RETURN = r"""
_value:
  description:
    - The objects. With O(tell_problems=true) a dictionary, with C(objects) and an empty C(problem), or with C(problem), a line for each.
  type: raw
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.plugin_utils._local_storage import objects


def local_volume_objects(volumes: list[dict[str, Any]], nodes: dict[str, str], storage_class: str, *, tell_problems: bool = False) -> Any:
    try:
        found = objects(volumes, nodes, storage_class)
    except InputError as error:
        if tell_problems:
            return {"objects": [], "problem": str(error)}
        raise AnsibleFilterError(str(error)) from error
    return {"objects": found, "problem": ""} if tell_problems else found


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"local_volume_objects": local_volume_objects}
