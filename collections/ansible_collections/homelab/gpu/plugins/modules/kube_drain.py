#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_drain
short_description: Take the pods of a node away, all of them or those that hold a GPU
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Makes a node unschedulable, evicts its pods, all at the same time, and ends when the last one is gone. Pods are known by their UID, so one
    that is made anew under the same name is not mistaken for the old one.
  - An eviction that a PodDisruptionBudget refuses is tried again until O(timeout_seconds) are over, as soon as the budget allows a
    disruption again, or after the time that the API server asks for.
  - A deadline that passes is a failure, which names the pods that are left, and the budgets that hold them back.
  - Static pods cannot be taken away, and pods of DaemonSets only on demand, for their controller makes them anew.
extends_documentation_fragment:
  - homelab.gpu._kubeconfig
  - homelab.gpu._attributes
  - homelab.gpu._attributes.actiongroup_gpu
attributes:
  check_mode:
    support: full
    details:
      - Says what would become of each pod, and in RV(blockers) which budget would hold one back now.
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - A node that is drained and unschedulable is left alone.
options:
  name:
    description:
      - Name of the node.
    type: str
    required: true
  mode:
    description:
      - V(all) takes all pods away, V(gpu) only those with a container that requests one of O(resource_names).
    type: str
    choices: [all, gpu]
    default: all
  resource_names:
    description:
      - With O(mode=gpu), the extended resources, as shell patterns.
    type: list
    elements: str
    default: [nvidia.com/gpu, nvidia.com/gpu.shared, nvidia.com/mig-*]
  pod_selectors:
    description:
      - Take only pods away whose labels fit, for example V(app=web) or V(tier in (front, back\)). All selectors have to match.
    type: list
    elements: str
  daemon_sets:
    description:
      - What becomes of pods of DaemonSets. V(ignore) leaves them. V(delete) deletes those that O(mode) and O(pod_selectors) choose. Their
        DaemonSet makes them anew at once unless a taint that they do not tolerate keeps them away, see M(homelab.gpu.kube_node).
    type: str
    choices: [ignore, delete]
    default: ignore
  force:
    description:
      - Take pods away, too, that no controller would make anew. They are lost. Without it such a pod is an error, and nothing is changed.
    type: bool
    default: false
  delete_emptydir_data:
    description:
      - Take pods away, too, that have C(emptyDir) volumes. Their data is lost. Without it such a pod is an error, and nothing is changed.
    type: bool
    default: false
  disable_eviction:
    description:
      - Delete pods without regard to any PodDisruptionBudget.
    type: bool
    default: false
  grace_period_seconds:
    description:
      - How long a pod may take to end, instead of its own C(terminationGracePeriodSeconds). V(0) means at once, without waiting for the
        kubelet to confirm it.
    type: int
  cordon:
    description:
      - Make the node unschedulable first, and leave it so. Without it, pods that are made anew can come back.
    type: bool
    default: true
  uncordon_on_failure:
    description:
      - Make the node schedulable again if the drain fails, provided that it was so before. Pods that are gone stay gone.
      - This is tried for up to 15 seconds, which may end after O(timeout_seconds).
    type: bool
    default: false
  timeout_seconds:
    description:
      - The deadline for everything.
    type: int
    default: 300
seealso:
  - module: homelab.gpu.kube_node
    description: Makes a node schedulable again.
"""

EXAMPLES = r"""
- name: Drain a node for maintenance
  homelab.gpu.kube_drain:
    kubeconfig: ~/.kube/lab
    name: k3s-worker
    delete_emptydir_data: true
  delegate_to: localhost

- name: Take away what holds the GPU, the device plugin included
  homelab.gpu.kube_drain:
    kubeconfig: ~/.kube/lab
    name: k3s-gpu-worker
    mode: gpu
    daemon_sets: delete
    delete_emptydir_data: true
    timeout_seconds: 60
    uncordon_on_failure: true
  delegate_to: localhost

- name: Let the node take pods again
  homelab.gpu.kube_node:
    kubeconfig: ~/.kube/lab
    nodes:
      - name: k3s-worker
        unschedulable: false
  delegate_to: localhost
"""

RETURN = r"""
pods:
  description: What became of each pod of the node, or in check mode what would become of it.
  type: list
  elements: dict
  returned: always, if the node exists
  contains:
    namespace:
      description: Its namespace.
      type: str
      returned: always
    name:
      description: Its name.
      type: str
      returned: always
      sample: web-5d4f8c7b9-x2x7p
    uid:
      description: Its UID.
      type: str
      returned: always
    action:
      description:
        - V(evict), V(delete), V(wait) if it was being deleted already, V(skip), or V(refuse).
      type: str
      returned: always
      sample: evict
    reason:
      description: Why, where it is not evident.
      type: str
      returned: always
      sample: requests nvidia.com/gpu
    gone:
      description: Whether it is gone.
      type: bool
      returned: if it had to go, outside check mode
    requested_at_seconds:
      description: When the API server accepted the eviction or deletion, in seconds since the start; null if it did not.
      type: float
      returned: if it had to go, outside check mode
    gone_at_seconds:
      description: When it was gone, in seconds since the start; null if it is still there.
      type: float
      returned: if it had to go, outside check mode
blockers:
  description: The pods that a budget holds back, or in check mode would hold back.
  type: list
  elements: dict
  returned: always, if the node exists
  contains:
    namespace:
      description: Namespace of pod and budget.
      type: str
      returned: always
    pod:
      description: Name of the pod.
      type: str
      returned: always
    budget:
      description: Name of the PodDisruptionBudget, empty if the API server did not tell it.
      type: str
      returned: always
    message:
      description: What the API server said of it.
      type: str
      returned: always
      sample: The disruption budget web needs 2 healthy pods and has 2 currently
cordoned:
  description: Whether the node is unschedulable now, or in check mode would be.
  type: bool
  returned: always, if the node exists
waited_seconds:
  description: How long it took.
  type: float
  returned: always, if the node exists
transitions:
  description: What was seen when, in order.
  type: list
  elements: dict
  returned: always, if the node exists
  contains:
    at_seconds:
      description: Seconds since the start.
      type: float
      returned: always
    what:
      description: What was seen.
      type: str
      returned: always
      sample: 'default/web-5d4f8c7b9-x2x7p: gone'
timed_out:
  description: Whether the deadline passed, and not something else went wrong.
  type: bool
  returned: when the deadline passed
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

import time
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._client import Client
from ansible_collections.homelab.gpu.plugins.module_utils._cluster_module import Call, ClusterModule
from ansible_collections.homelab.gpu.plugins.module_utils._drain import Drain, Plan, Rules, forecast, refuse
from ansible_collections.homelab.gpu.plugins.module_utils._errors import DeadlinePassed, InputError, KubeError, WaitFailed
from ansible_collections.homelab.gpu.plugins.module_utils._node import check_wishes, hold_nodes

UNCORDON_SECONDS = 15.0


def rules_of(params: dict[str, t.Any]) -> Rules:
    """The options as rules; refuses what cannot be meant."""
    if not params["name"]:
        raise InputError("name is empty; give the name of a node")
    for option, least in (("timeout_seconds", 1), ("grace_period_seconds", 0)):
        if params[option] is not None and params[option] < least:
            raise InputError(f"{option} is {params[option]}; it cannot be less than {least}")
    for option in ("resource_names", "pod_selectors"):
        if any(not value.strip() for value in params[option] or []):
            raise InputError(f"{option} has an empty item; remove it")
    if params["mode"] == "gpu" and not params["resource_names"]:
        raise InputError("resource_names is empty, so mode=gpu would choose no pod; name a resource, or set mode=all")
    if params["uncordon_on_failure"] and not params["cordon"]:
        raise InputError("uncordon_on_failure=true makes no sense with cordon=false; leave one of them out")
    return Rules(
        resource_names=tuple(params["resource_names"]) if params["mode"] == "gpu" else (),
        daemon_sets=params["daemon_sets"] == "delete",
        force=params["force"],
        delete_emptydir_data=params["delete_emptydir_data"],
        disable_eviction=params["disable_eviction"],
    )


def set_unschedulable(client: Client, name: str, wanted: bool | None, deadline: float) -> tuple[bool, bool]:
    """Whether the node was unschedulable before, and whether it is so now; None only looks."""
    ((before, after),) = hold_nodes(client, check_wishes([{"name": name, "unschedulable": wanted}]), dry_run=False, deadline=deadline)
    return before["unschedulable"], after["unschedulable"]


def drain(call: Call) -> None:
    params = call.params
    rules = rules_of(params)
    client = call.client()
    work = Drain(
        client,
        params["name"],
        rules,
        label_selector=",".join(params["pod_selectors"] or []) or None,
        grace_period_seconds=params["grace_period_seconds"],
        timeout_seconds=params["timeout_seconds"],
    )
    try:
        client.require_cluster(params["cluster_uid"], deadline=work.deadline)
        take_away(call, client, work)
    except DeadlinePassed as error:
        raise WaitFailed(f"timed out after {params['timeout_seconds']} s: {error}", **error.data, timed_out=True) from error


def take_away(call: Call, client: Client, work: Drain) -> None:
    params, name = call.params, call.params["name"]
    was_cordoned, _same = set_unschedulable(client, name, None, work.deadline)
    plans = work.plans()
    call.result.update(work.result(), cordoned=was_cordoned)
    refuse(plans)
    if call.check_mode:
        predict(call, work, plans, was_cordoned)
        return
    cordoned, in_doubt = was_cordoned, False
    try:
        if params["cordon"]:
            in_doubt = not was_cordoned
            _before, cordoned = set_unschedulable(client, name, True, work.deadline)
            in_doubt = False
            call.result.update(changed=cordoned != was_cordoned, cordoned=cordoned)
        work.run()
    except KubeError as error:
        # A refusal leaves no doubt, only an answer that did not come
        in_doubt = in_doubt and (error.transient or isinstance(error, DeadlinePassed))
        if cordoned != was_cordoned or in_doubt:
            error.args = (f"{error}. {after_failure(call, client, in_doubt)}",)
        raise
    finally:
        call.result.update(work.result(), changed=call.result["changed"] or work.changed)


def predict(call: Call, work: Drain, plans: list[Plan], was_cordoned: bool) -> None:
    blocked = forecast(plans, work.budgets()) if any(plan.action == "evict" for plan in plans) else []
    call.result.update(
        changed=(call.params["cordon"] and not was_cordoned) or any(plan.action in ("evict", "delete") for plan in plans),
        cordoned=was_cordoned or call.params["cordon"],
        blockers=[
            {"namespace": found.plan.namespace, "pod": found.plan.name, "budget": ", ".join(found.budgets), "message": found.message} for found in blocked
        ],
    )


def after_failure(call: Call, client: Client, in_doubt: bool) -> str:
    """What becomes of the cordon; the result and the message say it."""
    name = call.params["name"]
    state = "may be unschedulable now" if in_doubt else "stays unschedulable"
    if not call.params["uncordon_on_failure"]:
        return f"Node {name} {state}"
    try:
        _before, call.result["cordoned"] = set_unschedulable(client, name, False, time.monotonic() + UNCORDON_SECONDS)
    except KubeError as error:
        return f"Node {name} {state}, because it could not be changed back: {error}"
    return f"Node {name} was made schedulable again"


MODULE = ClusterModule(
    drain,
    {
        "name": {"type": "str", "required": True},
        "mode": {"type": "str", "choices": ["all", "gpu"], "default": "all"},
        "resource_names": {"type": "list", "elements": "str", "default": ["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-*"]},
        "pod_selectors": {"type": "list", "elements": "str"},
        "daemon_sets": {"type": "str", "choices": ["ignore", "delete"], "default": "ignore"},
        "force": {"type": "bool", "default": False},
        "delete_emptydir_data": {"type": "bool", "default": False},
        "disable_eviction": {"type": "bool", "default": False},
        "grace_period_seconds": {"type": "int"},
        "cordon": {"type": "bool", "default": True},
        "uncordon_on_failure": {"type": "bool", "default": False},
        "timeout_seconds": {"type": "int", "default": 300},
    },
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
