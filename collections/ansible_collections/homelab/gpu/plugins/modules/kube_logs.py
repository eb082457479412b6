#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_logs
short_description: Read or follow the logs of containers
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Reads the logs of one or several pods, of a selection of pods, or of all pods of a workload, and puts their lines into one order
    by time.
  - With O(follow_seconds) it stays and reads what comes, until the time is over, O(until_pattern) is found, or nothing more can come.
    Pods and containers that start meanwhile are read as well. An API server that does not answer is sat out, and a log
    that is cut goes on where it was cut.
  - Containers that have no log to give are named with the reason in RV(without_logs). If there is no log at all, the module fails.
  - The options that C(kubernetes.core.k8s_log) has too mean the same. That module reads one pod where O(kind) or O(label_selectors) mean
    several, this one reads all.
extends_documentation_fragment:
  - homelab.gpu._kubeconfig
  - homelab.gpu._attributes
  - homelab.gpu._attributes.actiongroup_gpu
  - homelab.gpu._attributes.info
options:
  kind:
    description:
      - V(Pod), or the kind of a workload that selects pods, for example V(Deployment), V(DaemonSet) or V(Job).
    type: str
    default: Pod
  api_version:
    description:
      - API version of the O(kind). Needed only for kinds that several API groups serve.
    type: str
  namespace:
    description:
      - Namespace of the pods. Without it, what is given by name is looked for in V(default), and others in all namespaces.
    type: str
  name:
    description:
      - Name of the pod or of the workload.
    type: str
  names:
    description:
      - Names of several pods. Excludes O(name).
    type: list
    elements: str
  label_selectors:
    description:
      - Selectors on the labels of the pods, for example V(app=web) or V(tier in (front, back\)). All of them have to match.
    type: list
    elements: str
  container:
    description:
      - Name of the container. Not needed for pods that have only one, or that name their default one in the annotation
        C(kubectl.kubernetes.io/default-container).
    type: str
  all_containers:
    description:
      - Whether to read the logs of all containers, those of init containers included. Excludes O(container).
    type: bool
    default: false
  previous:
    description:
      - Whether to read the log of the run before the present one, for example of a container that has crashed and was started anew.
    type: bool
    default: false
  tail_lines:
    description:
      - How many lines of each log to read from its end. When following, V(0) leaves out all that was written before.
    type: int
  since_seconds:
    description:
      - Leaves out lines that are older than this.
    type: int
  since_time:
    description:
      - Leaves out lines that are older than this moment, for example V(2026-01-31T15:04:05Z). Excludes O(since_seconds).
    type: str
  timestamps:
    description:
      - Whether lines begin with the time at which they were written.
    type: bool
    default: false
  prefix:
    description:
      - Whether the lines of RV(log_lines) begin with C([pod/container]), and with the namespace as well where O(namespace) does not say it.
      - Without it, they do if logs of more than one container were read.
    type: bool
  limit_bytes:
    description:
      - How much of each log is kept, without timestamps. What is over it is left out from the end, in whole lines, and RV(truncated)
        says so. O(until_pattern) is looked for there too.
    type: int
    default: 1048576
  follow_seconds:
    description:
      - For how long to read what comes.
    type: int
  until_pattern:
    description:
      - Regular expression that ends the reading as soon as a line matches it at any place. Needs O(follow_seconds), which is the
        deadline then. Lines from before count as well, unless O(tail_lines=0).
      - If it is not found, the module fails.
    type: str
  require_pattern:
    description:
      - Whether it is a failure if O(until_pattern) is not found.
    type: bool
    default: true
seealso:
  - module: homelab.gpu.kube_events
  - module: homelab.gpu.kube_wait
"""

EXAMPLES = r"""
- name: Read the last lines of the DNS server
  homelab.gpu.kube_logs:
    kubeconfig: ~/.kube/lab
    kind: Deployment
    namespace: kube-system
    name: coredns
    tail_lines: 20
  delegate_to: localhost
  register: dns

- name: Show them
  ansible.builtin.debug:
    var: dns.log_lines

- name: Read the logs of all containers of some pods, in the order of time
  homelab.gpu.kube_logs:
    kubeconfig: ~/.kube/lab
    namespace: models
    label_selectors: [app=new-model]
    all_containers: true
    timestamps: true
    since_seconds: 600
  delegate_to: localhost

- name: Wait until the model is loaded
  homelab.gpu.kube_logs:
    kubeconfig: ~/.kube/lab
    kind: Deployment
    namespace: models
    name: new-model
    container: server
    until_pattern: 'model loaded in [0-9.]+ s'
    follow_seconds: 300
  delegate_to: localhost
  register: loading

- name: Show how long that took
  ansible.builtin.debug:
    msg: "{{ loading.match.pod }}: {{ loading.match.line }} (after {{ loading.waited_seconds }} s)"

- name: Find out why the container crashed
  homelab.gpu.kube_logs:
    kubeconfig: ~/.kube/lab
    namespace: models
    name: crashed
    previous: true
    limit_bytes: 65536
  delegate_to: localhost
"""

RETURN = r"""
log_lines:
  description: The lines of all logs in the order of time.
  type: list
  elements: str
  returned: when logs were looked for
  sample: ['[web-7d4b9-x2x9k/web] ready', '[web-7d4b9-jz8dq/web] ready']
log:
  description: RV(log_lines) as one text.
  type: str
  returned: when logs were looked for
logs:
  description: The log of each container, by namespace, pod and container.
  type: list
  elements: dict
  returned: when logs were looked for
  contains:
    namespace:
      description: Namespace of the pod.
      type: str
      returned: always
    pod:
      description: Name of the pod.
      type: str
      returned: always
    container:
      description: Name of the container.
      type: str
      returned: always
    log_lines:
      description: The lines, without prefix. What is not UTF-8 is replaced by C(U+FFFD).
      type: list
      elements: str
      returned: always
    log:
      description: The lines as one text.
      type: str
      returned: always
    truncated:
      description: Whether lines are left out because of O(limit_bytes).
      type: bool
      returned: always
without_logs:
  description: The containers and pods that were meant, but have no log to give.
  type: list
  elements: dict
  returned: when logs were looked for
  contains:
    namespace:
      description: Namespace of the pod.
      type: str
      returned: always
    pod:
      description: Name of the pod.
      type: str
      returned: always
    container:
      description: Name of the container. Empty if the pod itself was not found.
      type: str
      returned: always
    reason:
      description: Why there is none.
      type: str
      returned: always
      sample: 'not started: ContainerCreating'
truncated:
  description: Whether lines of any log are left out because of O(limit_bytes).
  type: bool
  returned: when logs were looked for
match:
  description: The line that O(until_pattern) matched.
  type: dict
  returned: when it was found
  contains:
    namespace:
      description: Namespace of the pod.
      type: str
      returned: always
    pod:
      description: Name of the pod.
      type: str
      returned: always
    container:
      description: Name of the container.
      type: str
      returned: always
    line:
      description: The line, without its timestamp.
      type: str
      returned: always
      sample: model loaded in 12.4 s
    time:
      description: When it was written, by the clock of the node.
      type: str
      returned: always
      sample: '2026-01-31T15:04:05.123456789Z'
    at_seconds:
      description: When it was read, in seconds since the module began to follow.
      type: float
      returned: always
      sample: 3.214
pattern_found:
  description: Whether O(until_pattern) was found.
  type: bool
  returned: with O(until_pattern)
waited_seconds:
  description: How long it followed.
  type: float
  returned: with O(follow_seconds)
  sample: 12.417
transitions:
  description: What was seen when, other than lines, in order. There are at most 1000.
  type: list
  elements: dict
  returned: with O(follow_seconds)
  contains:
    at_seconds:
      description: Seconds since the module began to follow.
      type: float
      returned: always
      sample: 3.214
    what:
      description: What was seen.
      type: str
      returned: always
      sample: 'web-7d4b9-x2x9k/web: waiting to start (ContainerCreating)'
timed_out:
  description: Whether the deadline passed, and not something else went wrong.
  type: bool
  returned: when following failed
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

import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._cluster_module import Call, ClusterModule
from ansible_collections.homelab.gpu.plugins.module_utils._errors import KubeError, WaitFailed
from ansible_collections.homelab.gpu.plugins.module_utils._log_options import names_of, pattern_of, query_of
from ansible_collections.homelab.gpu.plugins.module_utils._logs import Follower, LeftOut, Log, LogQuery, merge, presented, read_logs, workload_selector
from ansible_collections.homelab.gpu.plugins.module_utils._resources import BUILTIN
from ansible_collections.homelab.gpu.plugins.module_utils._wait import Selection

if t.TYPE_CHECKING:
    from ansible_collections.homelab.gpu.plugins.module_utils._client import Client
    from ansible_collections.homelab.gpu.plugins.module_utils._resources import Resource

Params = dict[str, t.Any]

_PODS = BUILTIN["Pod"]


def selection_of(client: Client, params: Params, names: tuple[str, ...]) -> tuple[Selection, tuple[Resource, str, str] | None]:
    """The pods, and the Job that they belong to, if it is one."""
    if params["kind"] == "Pod":
        selectors = ",".join(params["label_selectors"] or []) or None
        namespace = params["namespace"] or ("default" if names else None)
        return Selection(kind="Pod", judge=None, namespace=namespace, names=names, label_selector=selectors), None
    resource = client.resource(params["kind"], params["api_version"])
    namespace, name = params["namespace"] or "default", names[0]
    workload = client.get(resource, name, namespace if resource.namespaced else None)
    if workload is None:
        raise KubeError(f"{params['kind']} {namespace}/{name} not found; check kind, namespace and name")
    selection = Selection(kind="Pod", judge=None, namespace=namespace, label_selector=workload_selector(workload))
    return selection, (resource, namespace, name) if params["kind"] == "Job" else None


def pods_of(client: Client, selection: Selection) -> list[dict[str, t.Any]]:
    if not selection.names:
        found = client.list_all(_PODS, selection.namespace, label_selector=selection.label_selector).items
        if not found:
            raise KubeError(f"no {selection.describe()} found; check namespace and what selects the pods")
        return found
    by_name = {name: client.get(_PODS, name, selection.namespace) for name in selection.names}
    missing = [name for name, pod in by_name.items() if pod is None]
    if missing:
        raise KubeError(f"Pod {', '.join(missing)} not found in namespace {selection.namespace}; check namespace and name")
    return [pod for pod in by_name.values() if pod is not None]


def result_of(params: Params, logs: list[Log], left_out: list[LeftOut]) -> dict[str, t.Any]:
    logs = sorted(logs, key=lambda log: (log.namespace, log.pod, log.container))
    prefix = len(logs) > 1 if params["prefix"] is None else params["prefix"]
    several = params["namespace"] is None and len({log.namespace for log in logs}) > 1
    merged = [presented(log, line, timestamps=params["timestamps"], prefix=prefix, namespaces=several) for log, line in merge(logs)]
    each = []
    for log in logs:
        lines = [presented(log, line, timestamps=params["timestamps"], prefix=False) for line in log.lines]
        named = {"namespace": log.namespace, "pod": log.pod, "container": log.container}
        each.append({**named, "log_lines": lines, "log": "\n".join(lines), "truncated": log.truncated})
    return {
        "log_lines": merged,
        "log": "\n".join(merged),
        "logs": each,
        "without_logs": [{"namespace": entry.namespace, "pod": entry.pod, "container": entry.container, "reason": entry.reason} for entry in left_out],
        "truncated": any(log.truncated for log in logs),
    }


def follow(call: Call, client: Client, names: tuple[str, ...], query: LogQuery, pattern: re.Pattern[str] | None) -> None:
    params = call.params
    selection, job = selection_of(client, params, names)
    seconds = params["follow_seconds"]
    follower = Follower(client, selection, query, follow_seconds=seconds, pattern=pattern, job=job, cluster_uid=params["cluster_uid"])
    try:
        follower.run()
    finally:
        logs, left_out = follower.logs()
        call.result.update(result_of(params, logs, left_out), waited_seconds=follower.waited_seconds, transitions=follower.transitions)
        if pattern is not None:
            call.result["pattern_found"] = follower.match is not None
    match = follower.match
    if match is not None:
        named = {"namespace": match.log.namespace, "pod": match.log.pod, "container": match.log.container}
        call.result["match"] = {**named, "line": match.line.text, "time": match.line.stamp, "at_seconds": match.at_seconds}
        return
    ended = "nothing more can come" if follower.over else f"timed out after {seconds} s"
    if pattern is not None and params["require_pattern"]:
        raise WaitFailed(f"{ended}, and no line matched {pattern.pattern!r}: {follower.describe()}", timed_out=not follower.over)
    if not logs or any(not entry.container for entry in left_out):
        raise WaitFailed(f"{ended}, and not all pods that were meant gave a log: {follower.describe()}", timed_out=not follower.over)


def logs(call: Call) -> None:
    params = call.params
    names, query, pattern = names_of(params), query_of(params), pattern_of(params)
    client = call.cluster()
    if params["follow_seconds"] is not None:
        follow(call, client, names, query, pattern)
        return
    found, left_out = read_logs(client, pods_of(client, selection_of(client, params, names)[0]), query)
    call.result.update(result_of(params, found, left_out))
    if not found:
        raise KubeError(f"there is no log to read: {'; '.join(str(entry) for entry in left_out)}")


MODULE = ClusterModule(
    logs,
    {
        "kind": {"type": "str", "default": "Pod"},
        "api_version": {"type": "str"},
        "namespace": {"type": "str"},
        "name": {"type": "str"},
        "names": {"type": "list", "elements": "str"},
        "label_selectors": {"type": "list", "elements": "str"},
        "container": {"type": "str"},
        "all_containers": {"type": "bool", "default": False},
        "previous": {"type": "bool", "default": False},
        "tail_lines": {"type": "int"},
        "since_seconds": {"type": "int"},
        "since_time": {"type": "str"},
        "timestamps": {"type": "bool", "default": False},
        "prefix": {"type": "bool"},
        "limit_bytes": {"type": "int", "default": 1048576},
        "follow_seconds": {"type": "int"},
        "until_pattern": {"type": "str"},
        "require_pattern": {"type": "bool", "default": True},
    },
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
