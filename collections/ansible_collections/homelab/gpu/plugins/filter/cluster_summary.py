# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_summary
short_description: Sum up a cluster's objects into its state
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Takes objects as M(homelab.gpu.kube_info) returns them, and tells for each node and workload what an operator wants to know, and whether the
    cluster is healthy.
  - A cluster is healthy if it has a node, all its nodes are ready and without pressure, and the given workloads are available. A cordoned node, pending
    pods and missing metrics are reported, but no problem.
positional: _input
options:
  _input:
    description:
      - Lists of objects by what they are.
    type: dict
    required: true
    suboptions:
      nodes:
        description: The nodes.
        type: list
        elements: dict
        required: true
      pods:
        description: The pods, to be counted by node.
        type: list
        elements: dict
        default: []
      workloads:
        description: Deployments, DaemonSets and StatefulSets.
        type: list
        elements: dict
        default: []
      metrics:
        description: NodeMetrics. Leave it out where metrics.k8s.io is not served.
        type: list
        elements: dict
  cluster_uid:
    description:
      - The UID of the cluster, to be part of the summary.
    type: str
  now:
    description:
      - The moment from which ages are counted, in ISO 8601 with a time zone. The current time by default.
    type: str
seealso:
  - plugin: homelab.gpu.cluster_table
    plugin_type: filter
  - module: homelab.gpu.kube_info
"""

EXAMPLES = r"""
- name: Read the cluster
  homelab.gpu.kube_info:
    kubeconfig: ~/.kube/lab
    queries:
      - kind: Node
      - kind: Deployment
        namespace: kube-system
  delegate_to: localhost
  register: cluster

- name: Show whether it is healthy
  ansible.builtin.debug:
    msg: "{{ ({'nodes': cluster.results[0], 'workloads': cluster.results[1]} | homelab.gpu.cluster_summary).healthy }}"
"""

RETURN = r"""
_value:
  description:
    - The state of the cluster.
    - Sizes are in bytes, CPU in cores, ages in seconds. What is not known is null.
  type: dict
  contains:
    schema:
      description: Version of this structure.
      type: int
      sample: 1
    cluster_uid:
      description: UID of the cluster.
      type: str
    taken_at:
      description: The moment from which ages are counted.
      type: str
      sample: '2026-11-22T10:00:00Z'
    versions:
      description: Versions of the kubelets.
      type: list
      elements: str
    healthy:
      description: Whether there are no problems.
      type: bool
    problems:
      description: What is wrong, one sentence for each.
      type: list
      elements: str
    pending_pods:
      description: Pods that no node has taken, each with C(namespace), C(name), C(age_seconds) and C(why), the scheduler's words.
      type: list
      elements: dict
    metrics:
      description: Whether usage is known.
      type: bool
    nodes:
      description:
        - One entry for each node, servers first, with C(name), C(ready), C(status), C(roles), C(version), C(age_seconds), C(address), C(pods)
          (C(running), C(allocatable)), C(cpu_cores) and C(memory_bytes) (C(allocatable), C(used)), C(gpus) (by resource, C(allocatable), C(capacity)),
          C(labels) and C(taints) that were set for this site, and C(problems).
      type: list
      elements: dict
    workloads:
      description:
        - One entry for each workload, with C(namespace), C(kind), C(name), C(wanted), C(available), C(ready), C(age_seconds) and C(problems).
      type: list
      elements: dict
"""

import typing as t
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.module_utils._quantity import QuantityError
from ansible_collections.homelab.gpu.plugins.plugin_utils._cluster_summary import moment, summarise

_KNOWN = ("nodes", "pods", "workloads", "metrics")


def _objects(resources: Mapping[str, t.Any], name: str) -> list[Mapping[str, t.Any]]:
    value = resources[name]
    if isinstance(value, (str, Mapping)) or not isinstance(value, Sequence):
        raise AnsibleFilterError(f"cluster_summary: {name} is {type(value).__name__}, not a list; give it the objects that homelab.gpu.kube_info returned")
    for index, entry in enumerate(value):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("metadata"), Mapping) or not entry["metadata"].get("name"):
            raise AnsibleFilterError(f"cluster_summary: {name}[{index}] is no Kubernetes object: it has no metadata.name")
        if name == "workloads" and entry.get("kind") not in ("Deployment", "DaemonSet", "StatefulSet"):
            raise AnsibleFilterError(f"cluster_summary: {name}[{index}] has kind {entry.get('kind')!r}; only Deployment, DaemonSet and StatefulSet count")
    return list(value)


def _now(now: t.Any) -> datetime:
    if now is None:
        return datetime.now(timezone.utc)
    try:
        when = moment(now)
    except (TypeError, ValueError, AttributeError) as error:
        raise AnsibleFilterError(f"cluster_summary: now is {now!r}; write it as 2026-11-22T10:00:00Z") from error
    return when


def cluster_summary(resources: t.Any, cluster_uid: str | None = None, now: t.Any = None) -> dict[str, t.Any]:
    if not isinstance(resources, Mapping):
        raise AnsibleFilterError(f"cluster_summary: the input is {type(resources).__name__}; give it a mapping with nodes, pods, workloads and metrics")
    if unknown := sorted(set(resources) - set(_KNOWN)):
        raise AnsibleFilterError(f"cluster_summary: unknown key {unknown[0]!r}; known are {', '.join(_KNOWN)}")
    if "nodes" not in resources:
        raise AnsibleFilterError("cluster_summary: nodes is missing; give it the list of nodes, empty if there are none")
    lists = {name: _objects(resources, name) if resources.get(name) is not None else [] for name in _KNOWN}
    try:
        return summarise(
            lists["nodes"],
            lists["pods"],
            lists["workloads"],
            lists["metrics"] if resources.get("metrics") is not None else None,
            cluster_uid=cluster_uid,
            now=_now(now),
        )
    except QuantityError as error:
        raise AnsibleFilterError(f"cluster_summary: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise AnsibleFilterError(f"cluster_summary: an object is not as the Kubernetes API writes it: {type(error).__name__}: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"cluster_summary": cluster_summary}
