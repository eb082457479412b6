#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_events
short_description: Read the events of a cluster in the order of time
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Reads what the parts of a cluster have told of objects, the oldest first, in one form, however it was recorded.
  - API servers forget events, usually one hour after they were last seen.
  - Events are told from memory and may be dropped under load. They explain; what the state is, M(homelab.gpu.kube_wait) knows.
extends_documentation_fragment:
  - homelab.gpu._kubeconfig
  - homelab.gpu._attributes
  - homelab.gpu._attributes.actiongroup_gpu
  - homelab.gpu._attributes.info
options:
  kind:
    description:
      - Kind of the objects that the events are about.
    type: str
  api_version:
    description:
      - API version of the O(kind). With it, only events about objects of that API group are taken.
    type: str
  namespace:
    description:
      - Namespace of the objects. Without it, an object given by name is looked for in V(default), and others in all namespaces.
      - Ignored with an O(kind) that has no namespace.
    type: str
  name:
    description:
      - Name of the object. Needs O(kind).
    type: str
  uid:
    description:
      - UID of the object, which tells it from others that had its name before.
    type: str
  related:
    description:
      - Whether to take the events of what belongs to the workload as well, for example of the ReplicaSets and pods of a Deployment.
      - What is there is known by its C(ownerReferences). What is gone already is known by the events in which the controllers tell
        what they made and removed.
      - Needs O(kind) and O(name) of a CronJob, DaemonSet, Deployment, Job, ReplicaSet, ReplicationController or StatefulSet.
    type: bool
    default: false
  types:
    description:
      - Types of the events. Without it, all.
    type: list
    elements: str
    choices: [Normal, Warning]
  reasons:
    description:
      - Reasons of the events, for example V(FailedScheduling). Without it, all.
    type: list
    elements: str
  since_seconds:
    description:
      - Leaves out events that were last seen longer ago than this, by the API server's clock.
    type: int
  since_time:
    description:
      - Leaves out events that were last seen before this moment, for example V(2026-01-31T15:04:05Z). Excludes O(since_seconds).
    type: str
  aggregate:
    description:
      - Whether events of one object that have the same type, reason and message become one, with their number and the first and last
        time.
    type: bool
    default: false
  events_api:
    description:
      - API version by which events are read. Both have the same events, a role may allow only one.
    type: str
    choices: [v1, events.k8s.io/v1]
    default: v1
seealso:
  - module: homelab.gpu.kube_logs
  - module: homelab.gpu.kube_wait
"""

EXAMPLES = r"""
- name: Read the warnings of the last ten minutes in the whole cluster
  homelab.gpu.kube_events:
    kubeconfig: ~/.kube/lab
    types: [Warning]
    since_seconds: 600
    aggregate: true
  delegate_to: localhost
  register: warnings

- name: Show them, a line each
  ansible.builtin.debug:
    var: warnings.lines

- name: Find out why the model is not scheduled
  homelab.gpu.kube_events:
    kubeconfig: ~/.kube/lab
    kind: Deployment
    namespace: models
    name: new-model
    related: true
    reasons: [FailedScheduling, FailedCreate, ScalingReplicaSet]
  delegate_to: localhost

- name: Read what was told of a node
  homelab.gpu.kube_events:
    kubeconfig: ~/.kube/lab
    kind: Node
    name: k3s-gpu-worker
    since_time: '2026-01-31T15:04:05Z'
  delegate_to: localhost
"""

RETURN = r"""
events:
  description: The events, by the time at which they were last seen.
  type: list
  elements: dict
  returned: success
  contains:
    type:
      description: Type of the event.
      type: str
      returned: always
      sample: Warning
    reason:
      description: Why it was told, in one word.
      type: str
      returned: always
      sample: FailedScheduling
    message:
      description: What was told.
      type: str
      returned: always
      sample: '0/3 nodes are available: 3 Insufficient nvidia.com/gpu.'
    count:
      description: How often it was seen.
      type: int
      returned: always
      sample: 3
    first_time:
      description: When it was first seen.
      type: str
      returned: always
      sample: '2026-01-31T15:04:05.123456Z'
    last_time:
      description: When it was last seen.
      type: str
      returned: always
      sample: '2026-01-31T15:09:05.123456Z'
    source:
      description: Who told it.
      type: str
      returned: always
      sample: default-scheduler
    node:
      description: The node from which it was told. Empty if it was not a node.
      type: str
      returned: always
    object:
      description: What it is about.
      type: dict
      returned: always
      contains:
        api_version:
          description: API version of the object.
          type: str
          returned: always
        kind:
          description: Kind of the object.
          type: str
          returned: always
          sample: Pod
        namespace:
          description: Namespace of the object. Empty if it has none.
          type: str
          returned: always
        name:
          description: Name of the object.
          type: str
          returned: always
        uid:
          description: UID of the object.
          type: str
          returned: always
        field_path:
          description: The part of the object that is meant. Often empty.
          type: str
          returned: always
          sample: spec.containers{server}
lines:
  description: The events as lines for people.
  type: list
  elements: str
  returned: success
  sample: ['2026-01-31T15:09:05Z Warning BackOff Pod models/new-model-7d4b9-x2x9k: Back-off restarting failed container server (3 times)']
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

from ansible_collections.homelab.gpu.plugins.module_utils._cluster_module import Call, ClusterModule
from ansible_collections.homelab.gpu.plugins.module_utils._events import CORE, EVENTS_GROUP, aggregated, query_of, read_events


def events(call: Call) -> None:
    query = query_of(call.params)
    found = read_events(call.cluster(), query)
    if call.params["aggregate"]:
        found = aggregated(found)
    call.result.update(events=[event.as_result() for event in found], lines=[event.as_line() for event in found])


MODULE = ClusterModule(
    events,
    {
        "kind": {"type": "str"},
        "api_version": {"type": "str"},
        "namespace": {"type": "str"},
        "name": {"type": "str"},
        "uid": {"type": "str"},
        "related": {"type": "bool", "default": False},
        "types": {"type": "list", "elements": "str", "choices": ["Normal", "Warning"]},
        "reasons": {"type": "list", "elements": "str"},
        "since_seconds": {"type": "int"},
        "since_time": {"type": "str"},
        "aggregate": {"type": "bool", "default": False},
        "events_api": {"type": "str", "choices": [CORE, EVENTS_GROUP], "default": CORE},
    },
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
