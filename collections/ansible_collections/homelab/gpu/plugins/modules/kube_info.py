#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_info
short_description: Read many kinds of objects from a cluster in one call
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Runs any number of queries over one connection and returns their results in the same order.
  - Returns objects as they are, the values of Secrets included; use C(no_log) on tasks that read them.
extends_documentation_fragment:
  - homelab.gpu._kubeconfig
  - homelab.gpu._attributes
  - homelab.gpu._attributes.actiongroup_gpu
  - homelab.gpu._attributes.info
options:
  queries:
    description:
      - What to read. Without any query only RV(cluster_uid) is returned.
    type: list
    elements: dict
    default: []
    suboptions:
      kind:
        description:
          - Kind of the objects.
        type: str
        required: true
      api_version:
        description:
          - API version of the kind. Needed only for kinds that several API groups serve.
        type: str
      namespace:
        description:
          - Namespace of the objects. Without it, an object given by name is looked for in V(default), and others in all namespaces.
        type: str
      name:
        description:
          - Name of one object.
        type: str
      label_selectors:
        description:
          - Selectors on labels. All of them have to match.
        type: list
        elements: str
      field_selectors:
        description:
          - Selectors on fields. All of them have to match.
        type: list
        elements: str
seealso:
  - module: homelab.gpu.kube_wait
"""

EXAMPLES = r"""
- name: Read nodes and the pods of the system
  homelab.gpu.kube_info:
    kubeconfig: ~/.kube/lab
    queries:
      - kind: Node
      - kind: Pod
        namespace: kube-system
        label_selectors: [k8s-app=kube-dns]
  delegate_to: localhost
  register: cluster

- name: Show the names of the nodes
  ansible.builtin.debug:
    msg: "{{ cluster.results[0] | map(attribute='metadata.name') }}"
"""

RETURN = r"""
results:
  description: For each query the list of the objects found, without managed fields. Empty if there are none.
  type: list
  elements: list
  returned: success
cluster_uid:
  description: The UID of the namespace C(kube-system), which tells clusters apart.
  type: str
  returned: success
  sample: 8a3ff3b0-5a8a-4d1e-a2cb-0f6c0a8a2a3e
not_served:
  description: The queries, by their position from 0, whose kind the API server does not serve. Their results are empty.
  type: list
  elements: int
  returned: success
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

from ansible_collections.homelab.gpu.plugins.module_utils._client import Client, KindNotServed
from ansible_collections.homelab.gpu.plugins.module_utils._cluster_module import Call, ClusterModule
from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, InputError


def read(client: Client, query: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    resource = client.resource(query["kind"], query["api_version"])
    namespace = query["namespace"] if resource.namespaced else None
    if query["name"]:
        found = client.get(resource, query["name"], (namespace or "default") if resource.namespaced else None)
        objects = [found] if found else []
    else:
        try:
            objects = client.list_all(
                resource,
                namespace,
                label_selector=",".join(query["label_selectors"] or []),
                field_selector=",".join(query["field_selectors"] or []),
            ).items
        except ApiError as error:
            if error.status == 404:
                raise KindNotServed(query["kind"], resource.api_version) from error
            raise
    for obj in objects:
        obj["metadata"].pop("managedFields", None)
    return objects


def check(queries: list[dict[str, t.Any]]) -> None:
    for index, query in enumerate(queries):
        if query["name"] and (query["label_selectors"] or query["field_selectors"]):
            raise InputError(f"queries[{index}]: name excludes label_selectors and field_selectors; give one of them")


def info(call: Call) -> None:
    results: list[list[dict[str, t.Any]]] = []
    not_served: list[int] = []
    queries = call.params["queries"]
    check(queries)
    client = call.cluster()
    for index, query in enumerate(queries):
        try:
            results.append(read(client, query))
        except KindNotServed:
            results.append([])
            not_served.append(index)
    call.result.update(results=results, cluster_uid=client.cluster_uid(), not_served=not_served)


MODULE = ClusterModule(
    info,
    {
        "queries": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "kind": {"type": "str", "required": True},
                "api_version": {"type": "str"},
                "namespace": {"type": "str"},
                "name": {"type": "str"},
                "label_selectors": {"type": "list", "elements": "str"},
                "field_selectors": {"type": "list", "elements": "str"},
            },
        },
    },
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
