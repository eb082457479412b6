#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_rollout
short_description: Restart, undo, pause, resume and await rollouts
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Restarts the pods of Deployments, StatefulSets and DaemonSets, brings an earlier revision of them back, or holds the rollouts of
    Deployments, several in one call. Then waits until the rollouts are complete.
  - Returns the revisions of each workload, as C(kubectl rollout history) lists them.
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
    details:
      - Shows the template of the pods, and whether a Deployment is paused.
  idempotent:
    support: partial
    details:
      - O(state=restarted) restarts every time, unless O(trigger) is given. O(state=undone) goes to another revision every time, unless
        O(workloads[].to_revision) is given. All else is idempotent.
options:
  workloads:
    description:
      - The workloads.
      - If one of them does not exist, is paused, or lacks the revision, nothing is changed.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description:
          - Kind of the workload. V(Deployment), V(StatefulSet) or V(DaemonSet).
        type: str
        required: true
      name:
        description:
          - Name of the workload.
        type: str
        required: true
      namespace:
        description:
          - Namespace of the workload. Without it, O(namespace).
        type: str
      to_revision:
        description:
          - With O(state=undone), the number of the revision to go back to. Without it, the one before the current.
          - Going back gives a revision a new number. Deployments remember the former ones, so that the same O(workloads[].to_revision) is
            found again, and nothing is changed. StatefulSets and DaemonSets forget them.
        type: int
  namespace:
    description:
      - Namespace of workloads that name none.
    type: str
    default: default
  state:
    description:
      - V(complete) changes nothing, and waits until the rollout is complete.
      - V(restarted) replaces all pods by new ones, as the strategy of the workload says.
      - V(undone) brings the template of an earlier revision back, and the cause that was noted for it. All else of the workload stays as
        it is.
      - V(paused) holds the rollout of a Deployment. What is changed of it has no effect until it is V(resumed).
      - A Deployment that is paused can be neither restarted nor undone.
    type: str
    choices: [complete, restarted, undone, paused, resumed]
    default: complete
  trigger:
    description:
      - With O(state=restarted), restart only workloads whose last restart by this module had another trigger. It is meant for what the
        pods read only when they start, for example the checksum of a ConfigMap.
      - Only a hash of it is kept, in an annotation of the template.
    type: str
  wait:
    description:
      - Wait until the rollouts are complete. Nothing is waited for with O(state=paused).
      - A wait that cannot succeed ends early and says why. That is when a rollout has passed its progress deadline, a container of a new
        pod has crashed three times, or for 30 seconds a new pod finds no node, its image cannot be pulled, or a quota forbids it.
      - A StatefulSet replaces its pods one after the other, and does not get past one that is not ready, not even by O(state=undone). If
        that is so for 30 seconds, the wait ends and names the pod, which has to be deleted.
      - That a quota forbids a pod of a StatefulSet or DaemonSet does not end the wait, for only events tell it. The message at the deadline
        names it.
    type: bool
    default: true
  timeout_seconds:
    description:
      - The deadline of O(wait), for all workloads together.
    type: int
    default: 120
notes:
  - Pods of a workload whose update strategy is OnDelete are not replaced until somebody deletes them. RV(workloads[].advice) says so.
seealso:
  - module: homelab.gpu.kube_scale
  - module: homelab.gpu.kube_wait
"""

EXAMPLES = r"""
- name: Restart a Deployment, and wait until the new pods are ready
  homelab.gpu.kube_rollout:
    kubeconfig: ~/.kube/lab
    state: restarted
    workloads:
      - kind: Deployment
        name: coredns
        namespace: kube-system
  delegate_to: localhost

- name: Restart only if the settings are others than at the last restart
  homelab.gpu.kube_rollout:
    kubeconfig: ~/.kube/lab
    namespace: models
    state: restarted
    trigger: "{{ lookup('ansible.builtin.file', 'settings.yml') | hash('sha256') }}"
    workloads:
      - kind: Deployment
        name: new-model
  delegate_to: localhost

- name: Go back to the first revision
  homelab.gpu.kube_rollout:
    kubeconfig: ~/.kube/lab
    namespace: models
    state: undone
    workloads:
      - kind: Deployment
        name: new-model
        to_revision: 1
    timeout_seconds: 600
  delegate_to: localhost

- name: Wait until two rollouts are complete
  homelab.gpu.kube_rollout:
    kubeconfig: ~/.kube/lab
    workloads:
      - kind: Deployment
        name: new-model
        namespace: models
      - kind: Deployment
        name: coredns
        namespace: kube-system
  delegate_to: localhost
"""

RETURN = r"""
workloads:
  description: The workloads in the order of the option.
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
      description: Whether it was changed, or in check mode would be.
      type: bool
      returned: always
    revision_before:
      description: Its revision before. 0 if its controller had not made one yet.
      type: int
      returned: always
      sample: 2
    revision:
      description:
        - Its revision now. 0 if its controller has not made one yet, which is so after a restart in check mode and without O(wait).
      type: int
      returned: always
      sample: 3
    history:
      description: Its revisions, the oldest first.
      type: list
      elements: dict
      returned: always
      contains:
        revision:
          description: Number of the revision.
          type: int
          returned: always
          sample: 3
        current:
          description: Whether its template is that of the workload.
          type: bool
          returned: always
        created:
          description: When it was made first.
          type: str
          returned: always
          sample: '2026-01-01T00:00:00Z'
        change_cause:
          description: The annotation C(kubernetes.io/change-cause). Empty if there is none.
          type: str
          returned: always
        images:
          description: The images of its containers.
          type: list
          elements: str
          returned: always
          sample: [registry.example.com/model:2]
        former_revisions:
          description: Numbers that it had before something went back to it. Known for Deployments only.
          type: list
          elements: int
          returned: always
          sample: [1]
    advice:
      description: What its update strategy leaves to the user.
      type: list
      elements: str
      returned: always
revisions:
  description: The revisions that there are.
  type: list
  elements: int
  returned: when a revision to go back to does not exist
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
from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._rollout import Rollout, advice_for, check_wishes, open_rollouts
from ansible_collections.homelab.gpu.plugins.module_utils._wait import wait_for
from ansible_collections.homelab.gpu.plugins.module_utils._workloads import check_timeout, template_of


def outcome(rollout: Rollout) -> dict[str, t.Any]:
    place = rollout.wish.place
    return {
        "kind": place.kind,
        "namespace": place.namespace,
        "name": place.name,
        "changed": rollout.changed,
        "revision_before": rollout.revision_before,
        "revision": rollout.revision,
        "history": [revision.shown() for revision in rollout.history],
        "advice": advice_for(rollout.after),
    }


def side(workload: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"paused": bool(workload["spec"].get("paused")), "template": template_of(workload)}


def roll_out(call: Call) -> None:
    params = call.params
    state, trigger = params["state"], params["trigger"]
    check_timeout(params["timeout_seconds"])
    if trigger is not None and state != "restarted":
        raise InputError(f"trigger is for state=restarted, not for state={state}; leave it out, or set state=restarted")
    if trigger is not None and not trigger.strip():
        raise InputError("trigger is empty, so it would never change; give a text that changes with what the pods read, or leave it out")
    wishes = check_wishes(params["workloads"], params["namespace"], state)
    client = call.cluster()
    rollouts = open_rollouts(client, wishes)
    for rollout in rollouts:
        rollout.check(state)
    before: dict[str, t.Any] = {}
    after: dict[str, t.Any] = {}
    call.result.update(diff={"before": before, "after": after})
    try:
        for rollout in rollouts:
            rollout.carry_out(state, trigger, dry_run=call.check_mode)
            if rollout.changed:
                name = rollout.wish.place.describe()
                before[name], after[name] = side(rollout.before), side(rollout.after)
        if params["wait"] and state != "paused" and not call.check_mode:
            what = f"the rollout of {', '.join(rollout.wish.place.describe() for rollout in rollouts)} to be complete"
            selections = [selection for rollout in rollouts for selection in rollout.selections()]
            waited = wait_for(client, selections, timeout_seconds=params["timeout_seconds"], what=what)
            call.result.update(waited_seconds=waited.waited_seconds, transitions=waited.transitions)
            for rollout in rollouts:
                rollout.renew_history()
    finally:
        call.result.update(changed=any(rollout.changed for rollout in rollouts), workloads=[outcome(rollout) for rollout in rollouts])


MODULE = ClusterModule(
    roll_out,
    {
        "workloads": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "kind": {"type": "str", "required": True},
                "name": {"type": "str", "required": True},
                "namespace": {"type": "str"},
                "to_revision": {"type": "int"},
            },
        },
        "namespace": {"type": "str", "default": "default"},
        "state": {"type": "str", "choices": ["complete", "restarted", "undone", "paused", "resumed"], "default": "complete"},
        "trigger": {"type": "str"},
        "wait": {"type": "bool", "default": True},
        "timeout_seconds": {"type": "int", "default": 120},
    },
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
