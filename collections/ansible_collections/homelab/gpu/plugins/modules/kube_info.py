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
  - Reads objects of one kind, or with O(queries) of any number of kinds over one connection, with results in the same order.
  - Returns objects as they are, the values of Secrets included, as C(kubernetes.core.k8s_info) does. Use C(no_log) on tasks that
    read them, or a O(query) that leaves the values out.
  - The options that C(kubernetes.core.k8s_info) has too mean the same, and so do RV(resources) and RV(api_found). For waiting there is
    M(homelab.gpu.kube_wait).
extends_documentation_fragment:
  - homelab.gpu._kubeconfig
  - homelab.gpu._attributes
  - homelab.gpu._attributes.actiongroup_gpu
  - homelab.gpu._attributes.info
options:
  kind:
    description:
      - Kind of the objects. Without it and without O(queries), only RV(cluster_uid) is found out.
    type: str
  api_version:
    description:
      - API version of the kind. Needed only for kinds that several API groups serve.
    type: str
  namespace:
    description:
      - Namespace of the objects. Without it, an object given by name is looked for in V(default), and others in all namespaces.
      - Ignored for kinds that have no namespace.
    type: str
  name:
    description:
      - Name of one object.
    type: str
  label_selectors:
    description:
      - Selectors on labels, for example V(app=web) or V(tier in (front, back\)). All of them have to match.
    type: list
    elements: str
  field_selectors:
    description:
      - Selectors on fields, for example V(spec.nodeName=worker-1). All of them have to match.
    type: list
    elements: str
  query:
    description:
      - JMESPath expression over all that was read. That is the list of the objects with O(kind), and the list of the results with
        O(queries). Its value is returned as RV(value), instead of what it was made from.
      - Texts stand in single quotes, for example V([?status.phase=='Running'].metadata.name). In double quotes stand the names of
        fields.
      - Needs the Python package C(jmespath).
    type: str
  queries:
    description:
      - What to read, if it is more than one kind. Excludes O(kind) and what belongs to it.
    type: list
    elements: dict
    default: []
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
      query:
        description:
          - JMESPath expression over the list of the objects of this query. Its value stands in RV(results), instead of the list.
        type: str
seealso:
  - module: homelab.gpu.kube_wait
"""

EXAMPLES = r"""
- name: Read the pods of the DNS server
  homelab.gpu.kube_info:
    kubeconfig: ~/.kube/lab
    kind: Pod
    namespace: kube-system
    label_selectors: [k8s-app=kube-dns]
  delegate_to: localhost
  register: dns

- name: Show where they run
  ansible.builtin.debug:
    msg: "{{ dns.resources | map(attribute='spec.nodeName') }}"

- name: Read how many GPU slots each node has
  homelab.gpu.kube_info:
    kubeconfig: ~/.kube/lab
    kind: Node
    query: '[].{name: metadata.name, slots: status.allocatable."nvidia.com/gpu"}'
  delegate_to: localhost
  register: gpus

- name: Read objects of several kinds in one call
  homelab.gpu.kube_info:
    kubeconfig: ~/.kube/lab
    queries:
      - kind: Node
      - kind: Pod
        field_selectors: [status.phase=Pending]
      - kind: Secret
        namespace: models
        query: '[].metadata.name'
  delegate_to: localhost
  register: cluster

- name: Show the names of the nodes and of the Secrets
  ansible.builtin.debug:
    msg: "{{ [cluster.results[0] | map(attribute='metadata.name'), cluster.results[2]] }}"
"""

RETURN = r"""
resources:
  description: The objects found, without managed fields. Empty if there are none.
  type: list
  elements: dict
  returned: success, with O(kind) and without O(query)
results:
  description:
    - For each of the O(queries) the list of the objects found, without managed fields. Empty if there are none.
    - With O(queries[].query), the value of that expression instead.
  type: list
  elements: raw
  returned: success, without O(kind) and without O(query)
value:
  description: The value of the O(query).
  type: raw
  returned: success, with O(query)
  sample: [{name: k3s-gpu-worker, slots: '4'}]
cluster_uid:
  description: The UID of the namespace C(kube-system), which tells clusters apart.
  type: str
  returned: success
  sample: 8a3ff3b0-5a8a-4d1e-a2cb-0f6c0a8a2a3e
api_found:
  description: Whether the API server serves all kinds that were asked for.
  type: bool
  returned: success
not_served:
  description: The queries, by their position from 0, whose kind the API server does not serve. Nothing is found for them.
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

from ansible_collections.homelab.gpu.plugins.module_utils._client import KindNotServed
from ansible_collections.homelab.gpu.plugins.module_utils._cluster_module import Call, ClusterModule
from ansible_collections.homelab.gpu.plugins.module_utils._expressions import Expression
from ansible_collections.homelab.gpu.plugins.module_utils._queries import QUERY, queries_of, read


def info(call: Call) -> None:
    params = call.params
    queries = queries_of(params)
    projection = None if params["query"] is None else Expression("query", params["query"])
    client = call.cluster()
    results: list[t.Any] = []
    not_served: list[int] = []
    for index, query in enumerate(queries):
        try:
            found = read(client, query)
        except KindNotServed:
            found = []
            not_served.append(index)
        results.append(query.projection.value(found) if query.projection else found)
    name, read_objects = ("resources", results[0]) if params["kind"] else ("results", results)
    call.result.update(api_found=not not_served, not_served=not_served, cluster_uid=client.cluster_uid())
    if projection is None:
        call.result[name] = read_objects
    else:
        call.result["value"] = projection.value(read_objects)


MODULE = ClusterModule(
    info,
    {
        **QUERY,
        "query": {"type": "str"},
        "queries": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {**QUERY, "kind": {"type": "str", "required": True}, "query": {"type": "str"}},
        },
    },
)


def main() -> None:
    MODULE.main()


if __name__ == "__main__":
    main()
