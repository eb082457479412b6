#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_ping
short_description: Ask the API server and the nodes of a cluster for a sign of life
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Asks the API server once whether it is ready, and tells of each node whether it is ready and how old its last heartbeat is.
  - Neither retries nor waits. If the API server does not answer, or refuses the credentials, the module fails and says why.
  - A node that does not answer is a result and no failure, see RV(nodes[].answers).
extends_documentation_fragment:
  - homelab.gpu._kubeconfig
  - homelab.gpu._attributes
  - homelab.gpu._attributes.actiongroup_gpu
  - homelab.gpu._attributes.info
options:
  heartbeat_seconds:
    description:
      - How old a node's last heartbeat may be, by the API server's clock. Kubelets renew their lease every 10 seconds.
    type: int
    default: 40
seealso:
  - module: homelab.gpu.kube_wait
"""

EXAMPLES = r"""
- name: Ask the cluster for a sign of life
  homelab.gpu.kube_ping:
    kubeconfig: ~/.kube/lab
  delegate_to: localhost
  register: ping

- name: Check that all nodes answer
  ansible.builtin.assert:
    that: ping.nodes | rejectattr('answers') | length == 0
"""

RETURN = r"""
server:
  description: URL of the API server.
  type: str
  returned: success
  sample: https://10.0.0.11:6443
version:
  description: Version of the API server.
  type: str
  returned: success
  sample: v1.36.4+k3s1
ready:
  description: Whether the API server calls itself ready.
  type: bool
  returned: success
failing_checks:
  description: The API server's own checks that failed.
  type: list
  elements: str
  returned: success
  sample: [etcd]
answered_seconds:
  description: How long the first answer took, with everything that a new connection needs.
  type: float
  returned: success
cluster_uid:
  description: The UID of the namespace C(kube-system), which tells clusters apart.
  type: str
  returned: success
nodes:
  description: The nodes, by name.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name of the node.
      type: str
    answers:
      description: Whether the node is ready and its last heartbeat young enough.
      type: bool
    heartbeat_age_seconds:
      description: Age of the last heartbeat, null if there never was one.
      type: float
    problem:
      description: Why the node counts as not answering, else null.
      type: str
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
from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, InputError
from ansible_collections.homelab.gpu.plugins.module_utils._ping import failing_checks, node_answers

_TIMEOUT_SECONDS = 10.0


def ask(client: Client, cluster_uid: str | None, heartbeat_seconds: int) -> dict[str, t.Any]:
    def get(path: str, **options: t.Any) -> t.Any:
        return client.request("GET", path, timeout=_TIMEOUT_SECONDS, retry=False, **options)

    start = time.monotonic()
    version = get("/version")
    answered = time.monotonic() - start
    client.require_cluster(cluster_uid, timeout=_TIMEOUT_SECONDS, retry=False)
    try:
        failing = failing_checks(str(get("/readyz", query={"verbose": "true"}, accept="*/*")))
        ready = True
    except ApiError as error:
        if error.status != 500:
            raise
        failing, ready = failing_checks(error.message), False
    nodes = client.list_all(client.resource("Node"), timeout=_TIMEOUT_SECONDS, retry=False).items
    leases = client.list_all(client.resource("Lease"), "kube-node-lease", timeout=_TIMEOUT_SECONDS, retry=False).items
    return {
        "server": client.server,
        "version": version.get("gitVersion"),
        "ready": ready,
        "failing_checks": failing,
        "answered_seconds": round(answered, 3),
        "cluster_uid": client.cluster_uid(timeout=_TIMEOUT_SECONDS, retry=False),
        "nodes": node_answers(nodes, leases, client.server_time(), heartbeat_seconds),
    }


def ping(call: Call) -> None:
    heartbeat_seconds = call.params["heartbeat_seconds"]
    if heartbeat_seconds <= 0:
        raise InputError(f"heartbeat_seconds is {heartbeat_seconds}; set it to more than 10, the seconds between two heartbeats")
    call.result.update(ask(call.client(), call.params["cluster_uid"], heartbeat_seconds))


MODULE = ClusterModule(ping, {"heartbeat_seconds": {"type": "int", "default": 40}})


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
