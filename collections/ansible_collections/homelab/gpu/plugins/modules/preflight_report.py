#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The work is done on the controller, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: Judge settings and facts of all hosts and report every problem at once
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Compares every variable that begins like an option of this collection's roles with their argument specs, judges settings, lock file and the facts from
    M(homelab.gpu.host_info), and fails with one message that names for each problem the host, the option or fact with its value, and the fix.
  - Runs on the controller for all hosts of the play; use it with C(run_once).
attributes:
  check_mode:
    support: full
    description: The action only reads.
  diff_mode:
    support: none
    description: The action only reads.
options:
  facts_variable:
    description: Name of the variable in which each host's result of M(homelab.gpu.host_info) was registered.
    type: str
    required: true
  gpus_variable:
    description: Name of the variable in which each host has the result of M(homelab.gpu.gpu_info).
    type: str
  server_variable:
    description: Name of the variable with the answer of the first server, if that does not take part in the play.
    type: str
"""

EXAMPLES = r"""
- name: Look at the host
  homelab.gpu.host_info:
  register: host_preflight_result

- name: Report all problems
  homelab.gpu.preflight_report:
    facts_variable: host_preflight_result
  run_once: true
"""

RETURN = r"""
findings:
  description: Problems and warnings.
  returned: always
  type: list
  elements: dict
  contains:
    host:
      description: Host or hosts.
      type: str
    check:
      description: Name of the check.
      type: str
    fact:
      description: What was found.
      type: str
    fix:
      description: What to do.
      type: str
    severity:
      description: V(error) or V(warning).
      type: str
"""
