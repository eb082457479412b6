# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: gateway_plan
short_description: Judge what the role llm_gateway is told
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Judges the backends and options of the role C(llm_gateway) before anything is changed, and completes them for its templates.
  - Fails with the option, its value and the fix where one of them cannot be right. No message has an API key or a private key in it.
options:
  _input:
    description: The role's C(llm_gateway_backends).
    type: list
    elements: dict
    required: true
  options:
    description: The role's other variables, without their prefix C(llm_gateway_).
    type: dict
    required: true
"""

EXAMPLES = r"""
plan: "{{ llm_gateway_backends | homelab.gpu.gateway_plan(options) }}"
"""

RETURN = r"""
_value:
  description:
    - C(backends), with all that was left out, and C(native), those with Ollama's own API; C(sharp_checks) and C(patient_checks),
      HAProxy's words for how often it checks those that others stand in for, and those that stand last;
      C(ms), all durations in milliseconds; C(buffer_bytes); C(needs_key) and C(tls), whether clients need a key and speak TLS.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.plugin_utils._gateway import plan


def gateway_plan(backends: Any, options: dict[str, Any]) -> dict[str, Any]:
    try:
        return plan(backends, options)
    except (InputError, KeyError, TypeError) as error:
        raise AnsibleFilterError(f"gateway_plan: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"gateway_plan": gateway_plan}
