#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_node
short_description: Hold labels, annotations, taints and schedulability of nodes
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Makes nodes have the given labels, annotations and taints, and be schedulable or not, all nodes in one call.
  - What is not mentioned is left alone. Taints of other writers keep all their fields, and a writer in between is never overwritten.
extends_documentation_fragment:
  - homelab.gpu._kubeconfig
  - homelab.gpu._attributes
  - homelab.gpu._attributes.actiongroup_gpu
attributes:
  check_mode:
    support: full
    details:
      - Changes are sent to the API server as a dry run, so that it refuses what it would refuse.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  nodes:
    description:
      - The nodes, and what they shall be like.
      - If one of them does not exist, nothing is changed.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the node.
        type: str
        required: true
      labels:
        description:
          - Labels by key. A value of null removes the label.
        type: dict
      annotations:
        description:
          - Annotations by key. A value of null removes the annotation.
        type: dict
      taints:
        description:
          - Taints that have to be there, or must not be. Others are left alone.
        type: list
        elements: dict
        suboptions:
          key:
            description:
              - Key of the taint.
            type: str
            required: true
          value:
            description:
              - Value of the taint.
            type: str
          effect:
            description:
              - Effect of the taint. Only O(nodes[].taints[].state=absent) may leave it out, which then means every effect.
            type: str
            choices: [NoSchedule, PreferNoSchedule, NoExecute]
          state:
            description:
              - Whether the taint has to be there.
            type: str
            choices: [present, absent]
            default: present
      unschedulable:
        description:
          - Whether the node takes no new pods, as after C(kubectl cordon). Left alone if not given.
        type: bool
seealso:
  - module: homelab.gpu.kube_wait
"""

EXAMPLES = r"""
- name: Label the nodes that have a GPU, and keep other pods away
  homelab.gpu.kube_node:
    kubeconfig: ~/.kube/lab
    nodes:
      - name: k3s-gpu-worker
        labels:
          example.com/gpu: 'true'
          example.com/old: null
        taints:
          - key: example.com/gpu
            value: present
            effect: NoSchedule
      - name: k3s-worker
        taints:
          - key: example.com/gpu
            state: absent
  delegate_to: localhost

- name: Let no new pods onto a node
  homelab.gpu.kube_node:
    kubeconfig: ~/.kube/lab
    nodes:
      - name: k3s-worker
        unschedulable: true
  delegate_to: localhost
"""

RETURN = r"""
nodes:
  description: The nodes in the order of the option, as they are now, or in check mode as they would be.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name of the node.
      type: str
      returned: always
      sample: k3s-worker
    changed:
      description: Whether this node was changed.
      type: bool
      returned: always
    labels:
      description: Those of the given labels that the node has.
      type: dict
      returned: always
    annotations:
      description: Those of the given annotations that the node has.
      type: dict
      returned: always
    taints:
      description: All taints of the node.
      type: list
      elements: dict
      returned: always
    unschedulable:
      description: Whether the node takes no new pods.
      type: bool
      returned: always
missing:
  description: The nodes that do not exist.
  type: list
  elements: str
  returned: when a node does not exist
status:
  description: HTTP status of the API server's answer.
  type: int
  returned: when the API server refused a request
reason:
  description: The reason that the API server gave.
  type: str
  returned: when the API server refused a request
causes:
  description: Details that the API server gave.
  type: list
  elements: dict
  returned: when the API server refused a request
"""

import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._cluster_module import Call, ClusterModule
from ansible_collections.homelab.gpu.plugins.module_utils._node import check_wishes, hold_nodes


def hold(call: Call) -> None:
    nodes: list[dict[str, t.Any]] = []
    before: dict[str, t.Any] = {}
    after: dict[str, t.Any] = {}
    call.result.update(nodes=nodes, diff={"before": before, "after": after})
    wishes = check_wishes(call.params["nodes"])
    for wish, (old, new) in zip(wishes, hold_nodes(call.cluster(), wishes, dry_run=call.check_mode)):
        nodes.append({"name": wish["name"], "changed": old != new, **new})
        if old != new:
            call.result["changed"] = True
            before[wish["name"]], after[wish["name"]] = old, new


MODULE = ClusterModule(
    hold,
    {
        "nodes": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "labels": {"type": "dict"},
                "annotations": {"type": "dict"},
                "taints": {
                    "type": "list",
                    "elements": "dict",
                    "options": {
                        "key": {"type": "str", "required": True, "no_log": False},
                        "value": {"type": "str"},
                        "effect": {"type": "str", "choices": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
                        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                    },
                },
                "unschedulable": {"type": "bool"},
            },
        },
    },
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
