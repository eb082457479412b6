#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_apply
short_description: Bring a list of objects into a cluster, or out of it
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Applies any number of definitions by server-side apply, over one connection and with at most two requests for each.
  - What the API server's own notes on fields and their owners show to be as defined is not sent at all.
  - Namespaces and CustomResourceDefinitions come first, and their establishment is waited for. Webhooks and APIServices come last.
    Otherwise the order is as given. O(state=absent) goes the other way round.
  - All definitions are read and checked before the first one is sent. An error of the API server ends the run; what was done until then
    is in RV(results).
extends_documentation_fragment:
  - homelab.gpu._kubeconfig
  - homelab.gpu._attributes
  - homelab.gpu._attributes.actiongroup_gpu
attributes:
  check_mode:
    support: full
    details:
      - Changes are sent to the API server as a dry run. What depends on a namespace or CustomResourceDefinition that does not exist yet is
        predicted without the server.
  diff_mode:
    support: full
    details:
      - Leaves out what the API server keeps for itself, and the values of Secrets.
  idempotent:
    support: full
options:
  definitions:
    description:
      - The objects, as a list of mappings. A list item, or the whole, can also be YAML text with one or more documents.
    type: raw
    default: []
  src:
    description:
      - Files with objects, or directories, which are searched for C(*.yml), C(*.yaml) and C(*.json) in alphabetical order.
      - A file can hold several documents. Paths are on the host that runs the module. On the control machine, relative ones are
        looked for as M(ansible.builtin.copy) looks for its files.
    type: list
    elements: path
    default: []
  template:
    description:
      - Jinja2 templates of YAML with one or more documents, on the control machine, found and rendered as by
        M(ansible.builtin.template).
    type: list
    elements: raw
    default: []
  namespace:
    description:
      - Namespace of objects whose definition names none.
    type: str
    default: default
  state:
    description:
      - Whether the objects have to be there. V(absent) deletes them by kind and name, whatever else their definitions say.
    type: str
    choices: [present, absent]
    default: present
  field_manager:
    description:
      - The name under which the API server notes who owns the fields.
    type: str
    default: homelab.gpu
  force_conflicts:
    description:
      - Take over fields that other field managers own, instead of failing.
    type: bool
    default: false
  recreate:
    description:
      - Delete an object and make it anew where a field has to change that the API server lets nobody change. Its pods go first.
      - Namespaces, CustomResourceDefinitions, PersistentVolumes and PersistentVolumeClaims are never recreated, for what they hold
        would be lost.
    type: bool
    default: false
  prune:
    description:
      - Remove what an earlier run applied and the definitions no longer hold, after everything else was applied.
      - Only objects of the given kinds that carry the labels and were applied by O(field_manager) are removed. They are looked for in
        the namespaces of the definitions and in O(namespace), those of kinds without namespace in the whole cluster.
    type: dict
    suboptions:
      kinds:
        description:
          - Kinds, for example V(ConfigMap), or V(example.com/v1/Widget) for one that several API groups serve.
        type: list
        elements: str
        required: true
      label_selectors:
        description:
          - Selectors on labels, for example V(app.kubernetes.io/part-of=models). All of them have to match.
        type: list
        elements: str
        required: true
  wait:
    description:
      - Wait until all objects are ready, as M(homelab.gpu.kube_wait) means it, or gone with O(state=absent).
      - An object that is being deleted while it shall be applied is waited for, too. Without O(wait) it is an error.
      - A wait that cannot succeed ends early and says why. That is when a Job has failed, a rollout has passed its progress deadline, a
        container has crashed three times, or for 30 seconds a pod finds no node, an image cannot be pulled, a quota forbids a pod, or an
        old pod of a StatefulSet that is not ready is in the way of the new one.
      - That a quota forbids a pod of a StatefulSet, DaemonSet or Job does not end the wait, for only events tell it. The message at the
        deadline names it.
      - Volumes and their claims are not waited for, as many are bound only when a pod uses them.
    type: bool
    default: false
  timeout_seconds:
    description:
      - The deadline of O(wait), and of the deletion that O(recreate=true) waits for.
    type: int
    default: 120
seealso:
  - module: homelab.gpu.kube_wait
  - module: homelab.gpu.kube_info
"""

EXAMPLES = r"""
- name: Apply a namespace and what is in it
  homelab.gpu.kube_apply:
    kubeconfig: ~/.kube/lab
    definitions:
      - apiVersion: v1
        kind: Namespace
        metadata:
          name: models
      - apiVersion: v1
        kind: ConfigMap
        metadata:
          name: settings
          namespace: models
        data:
          threads: '2'
  delegate_to: localhost

- name: Apply a directory of manifests and wait until all is ready
  homelab.gpu.kube_apply:
    kubeconfig: ~/.kube/lab
    src: ["{{ playbook_dir }}/manifests"]
    namespace: models
    wait: true
    timeout_seconds: 300
  delegate_to: localhost

- name: Apply a template, and remove what an earlier version of it had
  homelab.gpu.kube_apply:
    kubeconfig: ~/.kube/lab
    template: ["{{ playbook_dir }}/models.yml.j2"]
    namespace: models
    prune:
      kinds: [ConfigMap, Deployment]
      label_selectors: [app.kubernetes.io/part-of=models]
  delegate_to: localhost

- name: Remove the namespace, and wait until it is gone
  homelab.gpu.kube_apply:
    kubeconfig: ~/.kube/lab
    definitions:
      - apiVersion: v1
        kind: Namespace
        metadata:
          name: models
    state: absent
    wait: true
  delegate_to: localhost
"""

RETURN = r"""
results:
  description: What became of each definition, in the order of the work.
  type: list
  elements: dict
  returned: always
  contains:
    kind:
      description: Kind of the object.
      type: str
      returned: always
      sample: ConfigMap
    namespace:
      description: Its namespace, empty for kinds that have none.
      type: str
      returned: always
      sample: models
    name:
      description: Its name.
      type: str
      returned: always
      sample: settings
    result:
      description:
        - V(created), V(changed), V(unchanged), V(recreated), V(pruned) or V(deleted); V(absent) if there was nothing to delete.
      type: str
      returned: always
      sample: created
waited_seconds:
  description: How long the wait took.
  type: float
  returned: with O(wait=true), outside check mode
transitions:
  description: What was seen when during the wait.
  type: list
  elements: dict
  returned: with O(wait=true), outside check mode
conflicts:
  description: The field managers that own fields of a definition, and these fields.
  type: list
  elements: dict
  returned: when an apply met a conflict
  sample:
    - manager: kubectl
      fields: [.spec.replicas]
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

from ansible_collections.homelab.gpu.plugins.module_utils._apply import Applier, Change, Prune, diff_of
from ansible_collections.homelab.gpu.plugins.module_utils._cluster_module import Call, ClusterModule
from ansible_collections.homelab.gpu.plugins.module_utils._definitions import as_list, collect, in_order, secret_values, without_secrets
from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError


def outcome(change: Change) -> dict[str, t.Any]:
    metadata = (change.after or change.before or change.definition.body)["metadata"]
    return {
        "kind": change.definition.kind,
        "namespace": metadata.get("namespace") or "",
        "name": change.definition.name,
        "result": change.result,
    }


def pruning(params: dict[str, t.Any]) -> Prune | None:
    """The option O(prune); refuses what would remove too much."""
    wanted = params["prune"]
    if wanted is None:
        return None
    if params["state"] == "absent":
        raise InputError("prune is for state=present; leave it out, state=absent deletes what the definitions name")
    for option, example in (("kinds", "ConfigMap"), ("label_selectors", "app.kubernetes.io/part-of=models")):
        if not wanted[option] or not all(value.strip() for value in wanted[option]):
            raise InputError(f"prune.{option} is empty or has an empty item; name what may be removed, for example {example}")
    kinds = []
    for kind in wanted["kinds"]:
        api_version, _slash, name = kind.rpartition("/")
        kinds.append((name, api_version or None))
    return Prune(tuple(kinds), ",".join(wanted["label_selectors"]))


def apply(call: Call) -> None:
    params = call.params
    given = as_list(params["definitions"])
    call.secrets.update(value for value in secret_values(given) if len(value) > 3)
    call.shown_params = {**params, "definitions": [without_secrets(body) if isinstance(body, dict) else "(text)" for body in given]}
    call.shown_params["template"] = [entry.get("path") if isinstance(entry, dict) else entry for entry in params["template"]]
    if params["timeout_seconds"] < 1:
        raise InputError(f"timeout_seconds is {params['timeout_seconds']}; it cannot be less than 1")
    if not params["field_manager"] or len(params["field_manager"]) > 128:
        raise InputError(f"field_manager is {params['field_manager']!r}; it has to be 1 to 128 characters long")
    if not params["namespace"]:
        raise InputError("namespace is empty; give a namespace, or leave it out for default")
    prune = pruning(params)
    definitions = in_order(collect(given, params["src"], params["template"]))
    call.secrets.update(value for value in secret_values(definition.body for definition in definitions) if len(value) > 3)
    applier = Applier(
        call.cluster(),
        namespace=params["namespace"],
        field_manager=params["field_manager"],
        force_conflicts=params["force_conflicts"],
        dry_run=call.check_mode,
        recreate=params["recreate"],
        deletion_seconds=params["timeout_seconds"] if params["wait"] or params["recreate"] else 0.0,
    )
    work = applier.present if params["state"] == "present" else applier.absent
    changes: list[Change] = []
    try:
        for change in work(definitions):
            changes.append(change)
        if prune is not None:
            for change in applier.prune(definitions, prune):
                changes.append(change)
    finally:
        call.result.update(changed=any(change.changed for change in changes), results=[outcome(change) for change in changes], diff=diff_of(changes))
    if params["wait"] and not call.check_mode:
        done = applier.wait(changes, "ready" if params["state"] == "present" else "gone", params["timeout_seconds"])
        call.result.update(waited_seconds=done.waited_seconds, transitions=done.transitions)


MODULE = ClusterModule(
    apply,
    {
        "definitions": {"type": "raw", "default": []},
        "src": {"type": "list", "elements": "path", "default": []},
        "template": {"type": "list", "elements": "raw", "default": []},
        "namespace": {"type": "str", "default": "default"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "field_manager": {"type": "str", "default": "homelab.gpu"},
        "force_conflicts": {"type": "bool", "default": False},
        "recreate": {"type": "bool", "default": False},
        "prune": {
            "type": "dict",
            "options": {
                "kinds": {"type": "list", "elements": "str", "required": True},
                "label_selectors": {"type": "list", "elements": "str", "required": True},
            },
        },
        "wait": {"type": "bool", "default": False},
        "timeout_seconds": {"type": "int", "default": 120},
    },
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
