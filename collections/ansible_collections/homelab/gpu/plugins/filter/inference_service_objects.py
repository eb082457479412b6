# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: inference_service_objects
short_description: The objects of services, from a table
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Judges the table of the role P(homelab.gpu.inference_service#role), all rows at once, and makes of each a Deployment, its Services, and a ConfigMap and a
    PersistentVolumeClaim if it has configuration and storage.
options:
  _input:
    description: The rows, as O(homelab.gpu.inference_service#role:main:inference_service_services).
    type: list
    elements: dict
    required: true
  namespace:
    description: Namespace of all objects.
    type: str
    required: true
  tell_problems:
    description: Return what is wrong, as C(problem), instead of failing.
    type: bool
    default: false
"""

EXAMPLES = r"""
objects: "{{ [{'name': 'embeddings', 'image': 'ghcr.io/example/embeddings:1.2.0'}] | homelab.gpu.inference_service_objects(namespace='ml') }}"
"""

RETURN = r"""
_value:
  description:
    - The objects, the namespace first. With O(tell_problems=true) a dictionary, with C(objects) and an empty C(problem), or with C(problem), a line for each.
  type: raw
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.plugin_utils._inference_service import objects


def inference_service_objects(rows: list[dict[str, Any]], namespace: str, *, tell_problems: bool = False) -> Any:
    try:
        found = objects(rows, namespace)
    except InputError as error:
        if tell_problems:
            return {"objects": [], "problem": str(error)}
        raise AnsibleFilterError(str(error)) from error
    return {"objects": found, "problem": ""} if tell_problems else found


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"inference_service_objects": inference_service_objects}
