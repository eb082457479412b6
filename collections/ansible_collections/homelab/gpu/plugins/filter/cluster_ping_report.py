# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_ping_report
short_description: Render who answered and who did not
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Takes what hosts answered and the result of M(homelab.gpu.kube_ping), and makes one table of them.
positional: _input
options:
  _input:
    description:
      - One entry for each host.
      - Each of C(ssh), C(root) and C(python) is a dictionary with C(ok) and, if that is false, C(problem). What was not asked is left out.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the host.
        type: str
        required: true
      ssh:
        description: Whether it can be reached.
        type: dict
      root:
        description: Whether tasks can become root.
        type: dict
      python:
        description: Whether modules can run.
        type: dict
  cluster:
    description:
      - The registered result of M(homelab.gpu.kube_ping), also if that failed. Its C(msg) alone is enough if the API server was not asked.
    type: dict
    required: true
seealso:
  - module: homelab.gpu.kube_ping
"""

EXAMPLES = r"""
- name: Show who answers
  ansible.builtin.debug:
    msg: "{{ [{'name': 'k3s-server', 'ssh': {'ok': true}}] | homelab.gpu.cluster_ping_report(cluster=answer) }}"
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    ok:
      description: Whether everybody answered.
      type: bool
    silent:
      description: Who did not, with the reason.
      type: dict
      sample: {"host k3s-worker": "Failed to connect to the host via ssh"}
    text:
      description: The table. Its last line is the verdict.
      type: str
"""

import typing as t
from collections.abc import Mapping, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.plugin_utils._ping_report import report


def cluster_ping_report(hosts: t.Any, cluster: t.Any = None) -> dict[str, t.Any]:
    if isinstance(hosts, (str, Mapping)) or not isinstance(hosts, Sequence):
        raise AnsibleFilterError(f"cluster_ping_report: the input is {type(hosts).__name__}; give it a list with one entry for each host")
    for index, host in enumerate(hosts):
        if not isinstance(host, Mapping) or not host.get("name"):
            raise AnsibleFilterError(f"cluster_ping_report: entry {index} has no name")
    if not isinstance(cluster, Mapping) or not ("nodes" in cluster or "msg" in cluster):
        raise AnsibleFilterError("cluster_ping_report: cluster is no result of homelab.gpu.kube_ping; register that task and give its result")
    try:
        return report(hosts, cluster)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise AnsibleFilterError(f"cluster_ping_report: the input is not as documented: {type(error).__name__}: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"cluster_ping_report": cluster_ping_report}
