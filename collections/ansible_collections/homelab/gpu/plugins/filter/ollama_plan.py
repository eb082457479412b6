# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: ollama_plan
short_description: What an Ollama of these settings is on the nodes of a cluster
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Judges the settings of the role P(homelab.gpu.ollama#role), all at once, and works out what belongs together - where models come from, which of them
    are kept warm, the environment that keeps the GPU out of reach or lets it in, volumes, and times.
options:
  _input:
    description: The options of the role, without C(ollama_) before their names.
    type: dict
    required: true
  nodes:
    description: All Node objects of the cluster.
    type: list
    elements: dict
    required: true
  tell_problems:
    description: Return what is wrong, as C(problem), instead of failing.
    type: bool
    default: false
"""

EXAMPLES = r"""
plan: "{{ settings | homelab.gpu.ollama_plan(nodes=found.results[0]) }}"
"""

RETURN = r"""
_value:
  description:
    - What the role's template needs, among it C(models) with their C(origin), C(warm), the names of those that are kept loaded, C(environment), and
      C(messages), what a person should know.
    - With O(tell_problems=true), either all of these and an empty C(problem), or C(problem) alone, with a line for each.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.plugin_utils._ollama_plan import plan


def ollama_plan(settings: dict[str, Any], nodes: list[dict[str, Any]], *, tell_problems: bool = False) -> dict[str, Any]:
    try:
        return {**plan(settings, list(nodes)), **({"problem": ""} if tell_problems else {})}
    except InputError as error:
        if tell_problems:
            return {"problem": str(error)}
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"ollama_plan": ollama_plan}
