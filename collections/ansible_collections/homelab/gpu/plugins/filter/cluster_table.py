# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_table
short_description: Render the state of a cluster as a table
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Takes what P(homelab.gpu.cluster_summary#filter) returns. The result has aligned columns, no colours, no trailing blanks, and ends with the verdict.
positional: _input
options:
  _input:
    description:
      - The summary.
    type: dict
    required: true
seealso:
  - plugin: homelab.gpu.cluster_summary
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the state of the cluster
  ansible.builtin.debug:
    msg: "{{ {'nodes': cluster.results[0]} | homelab.gpu.cluster_summary | homelab.gpu.cluster_table }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: str
"""

import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.plugin_utils._cluster_summary import SCHEMA
from ansible_collections.homelab.gpu.plugins.plugin_utils._cluster_table import render


def cluster_table(summary: t.Any) -> str:
    if not isinstance(summary, Mapping) or summary.get("schema") != SCHEMA:
        raise AnsibleFilterError(f"cluster_table: the input is no summary of schema {SCHEMA}; give it the result of homelab.gpu.cluster_summary")
    try:
        return render(dict(summary))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise AnsibleFilterError(f"cluster_table: the summary is damaged: {type(error).__name__}: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"cluster_table": cluster_table}
