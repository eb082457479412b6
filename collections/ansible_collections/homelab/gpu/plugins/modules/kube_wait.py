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
  - Waits until objects of one kind are ready, exist, are gone, or satisfy an expression, all of them at the same time.
  - Asks once, and then watches. What already is as wanted costs one request; what becomes so is seen at once.
  - Sits out an API server that does not answer yet, restarts, or drops its watches, until O(timeout_seconds) are over.
  - A deadline that passes is a failure whose message says what was seen last. A wait that can no longer succeed ends early,
    for example one for a Job that has failed.
extends_documentation_fragment:
  - homelab.gpu._kubeconfig
  - homelab.gpu._attributes
  - homelab.gpu._attributes.actiongroup_gpu
  - homelab.gpu._attributes.info
options:
  kind:
    description:
      - Kind of the objects.
    type: str
    required: true
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
      - Names of the objects.
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
  until:
    description:
      - V(ready) depends on the kind. Nodes have the condition Ready, no taint that says otherwise, and the O(kubelet_version).
        The rollout of Deployments, StatefulSets and DaemonSets is complete. Pods have the condition Ready or have succeeded.
        Jobs are complete, APIServices available, CustomResourceDefinitions established, PersistentVolumeClaims bound.
        Kinds that have no such state exist. All others have the condition Ready.
      - V(exists) means that all named objects, or at least one that is selected, are there.
      - V(gone) means that none of the objects is there. An object made anew under the same name counts as gone.
      - V(expression) means that O(expression) is true for each object.
    type: str
    choices: [ready, exists, gone, expression]
    default: ready
  expression:
    description:
      - JMESPath expression, evaluated on each object. Anything that JMESPath calls true will do.
      - Needs the Python package C(jmespath).
    type: str
  kubelet_version:
    description:
      - With O(kind=Node), the version that the kubelet itself has to report, for example V(v1.34.1+k3s1).
    type: str
  heartbeat_seconds:
    description:
      - With O(kind=Node), how old the last renewal of the node's lease may be, by the API server's clock.
      - A node that has just vanished is called ready by the API until its grace period ends. Kubelets renew their lease every 10 seconds.
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

- name: Wait until DNS answers
  homelab.gpu.kube_wait:
    kubeconfig: ~/.kube/lab
    kind: Deployment
    namespace: kube-system
    name: coredns
    timeout_seconds: 180
  delegate_to: localhost

- name: Wait until the pods of the old model are gone
  homelab.gpu.kube_wait:
    kubeconfig: ~/.kube/lab
    kind: Pod
    namespace: models
    label_selectors: [app=old-model]
    until: gone
  delegate_to: localhost

- name: Wait until the node offers four GPU slots, for ten seconds
  homelab.gpu.kube_wait:
    kubeconfig: ~/.kube/lab
    kind: Node
    name: k3s-gpu-worker
    until: expression
    expression: status.allocatable."nvidia.com/gpu" == '4'
    stable_seconds: 10
  delegate_to: localhost
"""

RETURN = r"""
waited_seconds:
  description: How long it took.
  type: float
  returned: always
  sample: 12.417
transitions:
  description: What was seen when, in order. The first entries are what was found.
  type: list
  elements: dict
  returned: always
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
  description: The objects as last seen, without managed fields and image lists.
  type: list
  elements: dict
  returned: always
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
from ansible_collections.homelab.gpu.plugins.module_utils._resources import builtin
from ansible_collections.homelab.gpu.plugins.module_utils._wait import Selection, heartbeats, judge_for, trim, wait_for


def selection_of(params: dict[str, t.Any]) -> Selection:
    """The options as one selection; refuses what contradicts itself."""
    kind, until = params["kind"], params["until"]
    names = tuple(dict.fromkeys(params["names"] or ([params["name"]] if params["name"] else [])))
    if any(not name for name in names):
        raise InputError("names contains an empty name; give the name of each object")
    if (until == "expression") != bool(params["expression"]):
        fix = "add expression" if until == "expression" else "set until=expression or leave expression out"
        raise InputError(f"until={until} and expression do not fit together: {fix}")
    for option in ("kubelet_version", "heartbeat_seconds"):
        if params[option] and (kind, until) != ("Node", "ready"):
            raise InputError(f"{option} is for kind=Node with until=ready, not for kind={kind} with until={until}")
    if params["heartbeat_seconds"] and not names:
        raise InputError("heartbeat_seconds needs name or names: leases are known by the names of their nodes")
    for option, least in (("timeout_seconds", 0), ("stable_seconds", 0), ("heartbeat_seconds", 1)):
        if params[option] is not None and params[option] < least:
            raise InputError(f"{option} is {params[option]}; it cannot be less than {least}")
    if params["stable_seconds"] > params["timeout_seconds"]:
        raise InputError(f"stable_seconds={params['stable_seconds']} can never pass within timeout_seconds={params['timeout_seconds']}; raise the latter")
    namespace = params["namespace"]
    known = builtin(kind, params["api_version"])
    if known is not None and not known.namespaced:
        namespace = None
    elif namespace is None and names:
        namespace = "default"
    return Selection(
        kind=kind,
        judge=judge_for(until, kubelet_version=params["kubelet_version"], expression=params["expression"]),
        api_version=params["api_version"],
        namespace=namespace,
        names=names,
        label_selector=",".join(params["label_selectors"] or []) or None,
        field_selector=",".join(params["field_selectors"] or []) or None,
    )


def wait(call: Call) -> None:
    params = call.params
    selection = selection_of(params)
    client = call.client()
    selections = [selection]
    if params["heartbeat_seconds"]:
        selections.append(heartbeats(client, selection.names, params["heartbeat_seconds"]))
    words = {"ready": "to be ready", "exists": "to exist", "gone": "to be gone", "expression": f"to satisfy {params['expression']}"}
    done = wait_for(
        client,
        selections,
        timeout_seconds=params["timeout_seconds"],
        what=f"{selection.describe()} {words[params['until']]}",
        stable_seconds=params["stable_seconds"],
        cluster_uid=params["cluster_uid"],
    )
    call.result.update(
        waited_seconds=done.waited_seconds,
        transitions=done.transitions,
        resources=[trim(obj) for obj in done.objects if obj["kind"] == params["kind"]],
    )


MODULE = ClusterModule(
    wait,
    {
        "kind": {"type": "str", "required": True},
        "api_version": {"type": "str"},
        "namespace": {"type": "str"},
        "name": {"type": "str"},
        "names": {"type": "list", "elements": "str"},
        "label_selectors": {"type": "list", "elements": "str"},
        "field_selectors": {"type": "list", "elements": "str"},
        "until": {"type": "str", "choices": ["ready", "exists", "gone", "expression"], "default": "ready"},
        "expression": {"type": "str"},
        "kubelet_version": {"type": "str"},
        "heartbeat_seconds": {"type": "int"},
        "timeout_seconds": {"type": "int", "default": 120},
        "stable_seconds": {"type": "int", "default": 0},
    },
    {"mutually_exclusive": [("name", "names")]},
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
