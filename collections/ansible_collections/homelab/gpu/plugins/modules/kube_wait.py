#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_wait
short_description: Wait until objects in a cluster are as wanted
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Waits until objects are ready, exist, are gone, have a condition, or satisfy an expression, all of them at the same time.
    O(targets) takes objects of several kinds.
  - Asks once, and then watches. What already is as wanted costs one request for each target; what becomes so is seen at once.
  - Sits out an API server that does not answer yet, restarts, or drops its watches, until O(timeout_seconds) are over.
  - A watch that is cut goes on where it was cut. Every change in between is seen, as long as the API server remembers it. If it
    does not (410), the present state is read anew. Of the changes in between only their outcome is seen then, and nothing counts
    as stable before that moment.
  - A deadline that passes is a failure whose message says what was seen last. A wait that can no longer succeed ends early,
    for example one for a Job that has failed.
  - The message also names what keeps the controller of a StatefulSet, DaemonSet or Job from making pods, a quota for example. That is told
    by events alone, which are read once, after the wait has failed.
extends_documentation_fragment:
  - homelab.gpu._kubeconfig
  - homelab.gpu._attributes
  - homelab.gpu._attributes.actiongroup_gpu
  - homelab.gpu._attributes.info
options:
  kind:
    description:
      - Kind of the objects. Either this or O(targets) is needed.
    type: str
  api_version:
    description:
      - API version of the kind, for example V(apps/v1). Needed only for kinds that several API groups serve.
    type: str
  namespace:
    description:
      - Namespace of the objects. Without it, objects given by name are looked for in V(default), and others in all namespaces.
      - Ignored for kinds that have no namespace.
    type: str
  name:
    description:
      - Name of the object.
    type: str
  names:
    description:
      - Names of the objects. Excludes O(name).
    type: list
    elements: str
  label_selectors:
    description:
      - Selectors on labels, for example V(app=web) or V(tier in (front, back\)). All of them have to match.
      - Unless O(until=gone), at least one object has to match.
    type: list
    elements: str
  field_selectors:
    description:
      - Selectors on fields, for example V(spec.nodeName=worker-1). All of them have to match.
    type: list
    elements: str
  at_least:
    description:
      - How many objects have to be there at least, where no names are given. Without it, one.
    type: int
  until:
    description:
      - V(ready), which is meant if nothing is given, depends on the kind. Nodes have the condition Ready, no taint that says
        otherwise, and the O(kubelet_version). The rollout of Deployments, StatefulSets and DaemonSets is complete. Pods have the
        condition Ready or have succeeded. Jobs are complete, APIServices available, CustomResourceDefinitions established,
        PersistentVolumeClaims bound. Kinds that have no such state exist. All others have the condition Ready.
      - V(exists) means that all named objects, or at least one that is selected, are there.
      - V(gone) means that none of the objects is there. An object made anew under the same name counts as gone.
      - V(condition) means that each object has the O(condition).
      - V(expression) means that O(expression) is true for each object.
    type: str
    choices: [ready, exists, gone, condition, expression]
  condition:
    description:
      - A condition from the status of the objects. Conditions of an older generation of the object do not count.
      - A Job or Pod that has failed without it ends the wait.
    type: dict
    suboptions:
      type:
        description:
          - Type of the condition, for example V(Available).
        type: str
        required: true
      status:
        description:
          - Status that the condition has to have.
        type: str
        choices: ['True', 'False', Unknown]
        default: 'True'
      reason:
        description:
          - Reason that the condition has to have. Without it any will do.
        type: str
  expression:
    description:
      - JMESPath expression, evaluated on each object. Anything that JMESPath calls true will do.
      - Texts stand in single quotes, for example V(status.phase == 'Bound'). In double quotes stand the names of fields.
      - Needs the Python package C(jmespath).
    type: str
  allocatable:
    description:
      - With O(kind=Node), how much of which resource each node has to offer, in addition to O(until).
      - Quantities are compared as numbers, so that V(4) is V(4000m), and V(1Gi) is V(1024Mi). A resource that a node does not
        have counts as 0.
    type: dict
  replicas:
    description:
      - How many replicas each object has to have, no more and no less and all of them ready, in addition to O(until). For
        Deployments, ReplicaSets, ReplicationControllers, StatefulSets and DaemonSets. It is meant for objects that something
        else scales.
    type: int
  kubelet_version:
    description:
      - With O(kind=Node), the version that the kubelet itself has to report, for example V(v1.34.1+k3s1).
    type: str
  heartbeat_seconds:
    description:
      - With O(kind=Node), how old the last renewal of the node's lease may be, by the API server's clock.
      - A node that has just vanished is called ready by the API until its grace period ends. Kubelets renew their lease every 10 seconds.
    type: int
  targets:
    description:
      - Objects of several kinds, or in several states, that are waited for together. Excludes all options above.
    type: list
    elements: dict
    suboptions:
      kind:
        description:
          - Like O(kind).
        type: str
        required: true
      api_version:
        description:
          - Like O(api_version).
        type: str
      namespace:
        description:
          - Like O(namespace).
        type: str
      name:
        description:
          - Like O(name).
        type: str
      names:
        description:
          - Like O(names).
        type: list
        elements: str
      label_selectors:
        description:
          - Like O(label_selectors).
        type: list
        elements: str
      field_selectors:
        description:
          - Like O(field_selectors).
        type: list
        elements: str
      at_least:
        description:
          - Like O(at_least).
        type: int
      until:
        description:
          - Like O(until).
        type: str
        choices: [ready, exists, gone, condition, expression]
      condition:
        description:
          - Like O(condition).
        type: dict
        suboptions:
          type:
            description:
              - Type of the condition, for example V(Available).
            type: str
            required: true
          status:
            description:
              - Status that the condition has to have.
            type: str
            choices: ['True', 'False', Unknown]
            default: 'True'
          reason:
            description:
              - Reason that the condition has to have. Without it any will do.
            type: str
      expression:
        description:
          - Like O(expression).
        type: str
      allocatable:
        description:
          - Like O(allocatable).
        type: dict
      replicas:
        description:
          - Like O(replicas).
        type: int
      kubelet_version:
        description:
          - Like O(kubelet_version).
        type: str
      heartbeat_seconds:
        description:
          - Like O(heartbeat_seconds).
        type: int
  timeout_seconds:
    description:
      - The deadline.
    type: int
    default: 120
  stable_seconds:
    description:
      - For how long all objects must have been as wanted, without a break. An outage of the API server is a break.
    type: int
    default: 0
seealso:
  - module: homelab.gpu.kube_info
"""

EXAMPLES = r"""
- name: Wait until the nodes run the wanted version
  homelab.gpu.kube_wait:
    kubeconfig: ~/.kube/lab
    kind: Node
    names: [k3s-server, k3s-worker]
    kubelet_version: v1.34.1+k3s1
  delegate_to: localhost

- name: Wait until three nodes are ready
  homelab.gpu.kube_wait:
    kubeconfig: ~/.kube/lab
    kind: Node
    at_least: 3
  delegate_to: localhost

- name: Wait until the node has offered four GPU slots for ten seconds
  homelab.gpu.kube_wait:
    kubeconfig: ~/.kube/lab
    kind: Node
    name: k3s-gpu-worker
    allocatable:
      nvidia.com/gpu: 4
    stable_seconds: 10
  delegate_to: localhost

- name: Wait until DNS answers
  homelab.gpu.kube_wait:
    kubeconfig: ~/.kube/lab
    kind: Deployment
    namespace: kube-system
    name: coredns
    timeout_seconds: 180
  delegate_to: localhost

- name: Wait for the reason of a condition
  homelab.gpu.kube_wait:
    kubeconfig: ~/.kube/lab
    kind: Deployment
    namespace: kube-system
    name: coredns
    until: condition
    condition:
      type: Progressing
      reason: NewReplicaSetAvailable
  delegate_to: localhost

- name: Wait until the new model serves and the pods of the old one are gone
  homelab.gpu.kube_wait:
    kubeconfig: ~/.kube/lab
    targets:
      - kind: Deployment
        namespace: models
        name: new-model
      - kind: Pod
        namespace: models
        label_selectors: [app=old-model]
        until: gone
  delegate_to: localhost

- name: Wait until the claim is bound to a volume
  homelab.gpu.kube_wait:
    kubeconfig: ~/.kube/lab
    kind: PersistentVolumeClaim
    namespace: models
    name: weights
    until: expression
    expression: status.phase == 'Bound' && spec.volumeName
  delegate_to: localhost
"""

RETURN = r"""
waited_seconds:
  description: How long it took.
  type: float
  returned: when it began to wait
  sample: 12.417
transitions:
  description: What was seen when, in order. The first entries are what was found, and there are at most 1000.
  type: list
  elements: dict
  returned: when it began to wait
  contains:
    at_seconds:
      description: Seconds since the module began to wait.
      type: float
      returned: always
      sample: 3.214
    what:
      description: What was seen.
      type: str
      returned: always
      sample: 'k3s-worker: Ready=True'
resources:
  description: The objects as last seen, without managed fields, image lists and the values of Secrets, which M(homelab.gpu.kube_info) reads.
  type: list
  elements: dict
  returned: when it began to wait
timed_out:
  description: Whether the deadline passed, and not something else went wrong.
  type: bool
  returned: when the wait failed
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
from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._targets import TARGET, targets_of
from ansible_collections.homelab.gpu.plugins.module_utils._wait import heartbeats, trim, wait_for


def check_deadline(params: dict[str, t.Any]) -> None:
    for option in ("timeout_seconds", "stable_seconds"):
        if params[option] < 0:
            raise InputError(f"{option} is {params[option]}; it cannot be less than 0")
    if params["stable_seconds"] > params["timeout_seconds"]:
        raise InputError(f"stable_seconds={params['stable_seconds']} can never pass within timeout_seconds={params['timeout_seconds']}; raise the latter")


def wait(call: Call) -> None:
    params = call.params
    check_deadline(params)
    targets = targets_of(params)
    client = call.client()
    beats = [heartbeats(client, target.selection.names, target.heartbeat_seconds) for target in targets if target.heartbeat_seconds]
    done = wait_for(
        client,
        [*(target.selection for target in targets), *beats],
        timeout_seconds=params["timeout_seconds"],
        what=", and for ".join(target.wanted for target in targets),
        stable_seconds=params["stable_seconds"],
        cluster_uid=params["cluster_uid"],
    )
    kinds = {target.selection.kind for target in targets}
    call.result.update(
        waited_seconds=done.waited_seconds,
        transitions=done.transitions,
        resources=[trim(obj) for obj in done.objects if obj["kind"] in kinds],
    )


MODULE = ClusterModule(
    wait,
    {
        **TARGET,
        "targets": {"type": "list", "elements": "dict", "options": {**TARGET, "kind": {"type": "str", "required": True}}},
        "timeout_seconds": {"type": "int", "default": 120},
        "stable_seconds": {"type": "int", "default": 0},
    },
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
