#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_scale
short_description: Set how many replicas workloads have
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Sets the number of replicas of Deployments, StatefulSets, ReplicaSets, ReplicationControllers, and of objects of any other kind
    that has the subresource C(scale), all of them in one call. Nothing else of them is touched.
  - Says beforehand what the volumes of the pods and autoscalers mean for it, and refuses what could only hang or would be undone.
  - Then waits until the pods are ready, or really gone. A pod that is still ending keeps its GPU and its volumes.
extends_documentation_fragment:
  - homelab.gpu._kubeconfig
  - homelab.gpu._attributes
  - homelab.gpu._attributes.actiongroup_gpu
attributes:
  check_mode:
    support: full
    details:
      - Changes are sent to the API server as a dry run, so that it refuses what it would refuse. Nothing is waited for.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  workloads:
    description:
      - The workloads, and how many replicas each shall have.
      - If one of them does not exist or is refused, nothing is changed.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description:
          - Kind of the workload, for example V(Deployment).
        type: str
        required: true
      api_version:
        description:
          - API version of the kind. Needed only for kinds that several API groups serve.
        type: str
      name:
        description:
          - Name of the workload.
        type: str
        required: true
      namespace:
        description:
          - Namespace of the workload. Without it, O(namespace).
        type: str
      replicas:
        description:
          - How many replicas it shall have.
        type: int
        required: true
      current_replicas:
        description:
          - Change it only if it has so many replicas now. If not, it is left alone, and RV(workloads[].skipped) says so.
        type: int
      resource_version:
        description:
          - Change it only if this is its resource version. If not, it is left alone, and RV(workloads[].skipped) says so.
        type: str
  namespace:
    description:
      - Namespace of workloads that name none.
    type: str
    default: default
  force:
    description:
      - Scale nevertheless what would be refused. That is a workload that a HorizontalPodAutoscaler holds within its bounds, more than one
        pod on a claim that is ReadWriteOncePod, pods that must not but would have to share a node for their ReadWriteOnce volume, and
        pods whose claim does not exist.
      - An autoscaler rests while its workload has no replicas. Scaling to 0, and from there, is therefore not refused.
    type: bool
    default: false
  wait:
    description:
      - Wait until there are as many replicas as wanted, all of them ready, and until pods that are too many are gone.
      - A wait that cannot succeed ends early and says why. That is when a container has crashed three times, or for 30 seconds a pod finds
        no node, an image cannot be pulled, or a quota forbids a pod.
      - That a quota forbids a pod of a StatefulSet does not end the wait, for only events tell it. The message at the deadline names it.
    type: bool
    default: true
  timeout_seconds:
    description:
      - The deadline of O(wait), for all workloads together.
    type: int
    default: 120
seealso:
  - module: homelab.gpu.kube_rollout
  - module: homelab.gpu.kube_wait
"""

EXAMPLES = r"""
- name: Free the GPU, and go on when the last pod is gone
  homelab.gpu.kube_scale:
    kubeconfig: ~/.kube/lab
    namespace: models
    workloads:
      - kind: Deployment
        name: new-model
        replicas: 0
  delegate_to: localhost

- name: Move the replicas from one model to another
  homelab.gpu.kube_scale:
    kubeconfig: ~/.kube/lab
    namespace: models
    workloads:
      - kind: Deployment
        name: old-model
        replicas: 0
      - kind: Deployment
        name: new-model
        replicas: 2
    timeout_seconds: 600
  delegate_to: localhost

- name: Scale up only if nobody else has done so
  homelab.gpu.kube_scale:
    kubeconfig: ~/.kube/lab
    workloads:
      - kind: StatefulSet
        name: queue
        namespace: models
        replicas: 3
        current_replicas: 1
  delegate_to: localhost
"""

RETURN = r"""
workloads:
  description: The workloads in the order of the option, as they are now, or in check mode as they would be.
  type: list
  elements: dict
  returned: when the workloads were read
  contains:
    kind:
      description: Kind of the workload.
      type: str
      returned: always
      sample: Deployment
    namespace:
      description: Its namespace.
      type: str
      returned: always
      sample: models
    name:
      description: Its name.
      type: str
      returned: always
      sample: new-model
    changed:
      description: Whether its number of replicas was changed.
      type: bool
      returned: always
    replicas_before:
      description: How many replicas it had, or was to have.
      type: int
      returned: always
      sample: 1
    replicas:
      description: How many replicas it is to have now.
      type: int
      returned: always
      sample: 2
    advice:
      description: What its volumes and autoscalers mean for the change. Also shown as warnings.
      type: list
      elements: str
      returned: always
      sample: ['PersistentVolumeClaim weights is ReadWriteOnce: its volume is local to k3s-worker, so all 2 pods have to run there']
    skipped:
      description: Why it was left alone. Empty if it was not.
      type: str
      returned: always
refused:
  description: What would be hopeless, and why.
  type: list
  elements: str
  returned: when something was refused
missing:
  description: The workloads that do not exist.
  type: list
  elements: str
  returned: when a workload does not exist
waited_seconds:
  description: How long the wait took.
  type: float
  returned: with O(wait=true), outside check mode
  sample: 4.127
transitions:
  description: What was seen when during the wait.
  type: list
  elements: dict
  returned: with O(wait=true), outside check mode
  contains:
    at_seconds:
      description: Seconds since the wait began.
      type: float
      returned: always
    what:
      description: What was seen.
      type: str
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
from ansible_collections.homelab.gpu.plugins.module_utils._scale import Plan, check_wishes, make_plans, refuse
from ansible_collections.homelab.gpu.plugins.module_utils._wait import wait_for
from ansible_collections.homelab.gpu.plugins.module_utils._workloads import check_timeout


def outcome(plan: Plan, replicas: int) -> dict[str, t.Any]:
    place = plan.wish.place
    return {
        "kind": place.kind,
        "namespace": place.namespace,
        "name": place.name,
        "changed": replicas != plan.before and not plan.skipped,
        "replicas_before": plan.before,
        "replicas": replicas,
        "advice": [concern.what for concern in plan.concerns],
        "skipped": plan.skipped,
    }


def scale(call: Call) -> None:
    params = call.params
    check_timeout(params["timeout_seconds"])
    wishes = check_wishes(params["workloads"], params["namespace"])
    client = call.cluster()
    plans = make_plans(client, wishes)
    if not params["force"]:
        refuse(plans)
    workloads: list[dict[str, t.Any]] = []
    call.warnings += [f"{plan.wish.place.describe()}: {concern.what}" for plan in plans for concern in plan.concerns]
    before: dict[str, t.Any] = {}
    after: dict[str, t.Any] = {}
    call.result.update(workloads=workloads, diff={"before": before, "after": after})
    for plan in plans:
        done = outcome(plan, plan.carry_out(client, dry_run=call.check_mode))
        workloads.append(done)
        name = plan.wish.place.describe()
        if done["skipped"]:
            call.warnings.append(f"{name} was left alone: {done['skipped']}")
        if done["changed"]:
            call.result["changed"] = True
            before[name], after[name] = {"replicas": done["replicas_before"]}, {"replicas": done["replicas"]}
    selections = [selection for plan in plans for selection in plan.selections(client)] if params["wait"] and not call.check_mode else []
    if selections:
        what = ", ".join(f"{plan.wish.place.describe()} to have {plan.wish.replicas} replicas" for plan in plans if not plan.skipped)
        waited = wait_for(client, selections, timeout_seconds=params["timeout_seconds"], what=what)
        call.result.update(waited_seconds=waited.waited_seconds, transitions=waited.transitions)


MODULE = ClusterModule(
    scale,
    {
        "workloads": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "kind": {"type": "str", "required": True},
                "api_version": {"type": "str"},
                "name": {"type": "str", "required": True},
                "namespace": {"type": "str"},
                "replicas": {"type": "int", "required": True},
                "current_replicas": {"type": "int"},
                "resource_version": {"type": "str"},
            },
        },
        "namespace": {"type": "str", "default": "default"},
        "force": {"type": "bool", "default": False},
        "wait": {"type": "bool", "default": True},
        "timeout_seconds": {"type": "int", "default": 120},
    },
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
