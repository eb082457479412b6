# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two runs of kube_node and a third writer change the taints of one node at the same time, again and again.

Against the fake API server all three have always read the node before the first of them writes. Against a real one
(E(HOMELAB_GPU_TEST_KUBECONFIG)) they race as they come, on a Node object made for it.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
import typing as t
import uuid

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._client import Client
from ansible_collections.homelab.gpu.plugins.module_utils._cluster_module import Call
from ansible_collections.homelab.gpu.plugins.module_utils._connection import connection_settings, open_client
from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError
from ansible_collections.homelab.gpu.plugins.module_utils._resources import BUILTIN
from ansible_collections.homelab.gpu.plugins.modules import kube_node
from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi

Object = dict[str, t.Any]

KUBECONFIG = os.environ.get("HOMELAB_GPU_TEST_KUBECONFIG")
NODES = BUILTIN["Node"]
ROUNDS = 200
WRITERS = 3
CAMEL = "example.com/camelCase"


def theirs(number: int) -> Object:
    return {"key": "controller.example.com/state", "value": f"s{number}", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}


class Gate:
    """Holds the first patch of every writer of a round until all have arrived."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(WRITERS)
        self._lock = threading.Lock()
        self._arrivals = 0

    def open_round(self) -> None:
        self._arrivals = 0

    def __call__(self, method: str, _path: str) -> None:
        if method != "PATCH":
            return
        with self._lock:
            self._arrivals += 1
            first = self._arrivals <= WRITERS
        if first:
            self._barrier.wait(30)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.skipif(not KUBECONFIG, reason="HOMELAB_GPU_TEST_KUBECONFIG is not set"))])
def cluster(request: pytest.FixtureRequest) -> t.Iterator[tuple[t.Any, Gate]]:
    """A kubeconfig, and what makes the writers meet."""
    if request.param == "real":
        yield KUBECONFIG, Gate()
        return
    with FakeApi() as api:
        gate = Gate()
        api.before = gate
        yield api.kubeconfig(), gate


@pytest.fixture
def client(cluster: tuple[t.Any, Gate]) -> Client:
    return open_client(connection_settings({"kubeconfig": cluster[0]}, {}))


@pytest.fixture
def node(client: Client) -> t.Iterator[str]:
    name = f"race-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "annotations": {CAMEL: "keepMe"}}, "spec": {"taints": [theirs(0)]}}
    client.request("POST", NODES.path(), body=body)
    yield name
    client.request("DELETE", NODES.path(name=name))


def run_kube_node(kubeconfig: t.Any, name: str, *taints: Object, **settings: t.Any) -> Object:
    wish = {"name": name, "taints": [{"value": None, "effect": "NoSchedule", "state": "present", **taint} for taint in taints], **settings}
    options = {name: None for name in kube_node.MODULE.argument_spec}
    return kube_node.MODULE.run(Call({**options, "kubeconfig": kubeconfig, "nodes": [wish]}, check_mode=False, environ={}))


def third_writer(client: Client, name: str, number: int) -> Object:
    """Reads, changes its own taint, writes, and tries again: what a controller does."""
    while True:
        current = client.get(NODES, name)
        assert current is not None
        taints = [theirs(number) if taint["key"] == theirs(0)["key"] else taint for taint in current["spec"]["taints"]]
        patch = {"metadata": {"resourceVersion": current["metadata"]["resourceVersion"]}, "spec": {"taints": taints}}
        try:
            return t.cast("Object", client.request("PATCH", NODES.path(name=name), body=patch, content_type="application/merge-patch+json"))
        except ApiError as error:
            if error.status != 409:
                raise


def test_no_taint_is_lost(cluster: tuple[t.Any, Gate], client: Client, node: str) -> None:
    kubeconfig, gate = cluster
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        for number in range(1, ROUNDS + 1):
            gate.open_round()
            here, gone = ("odd", "even") if number % 2 else ("even", "odd")
            runs = [
                pool.submit(run_kube_node, kubeconfig, node, {"key": CAMEL, "value": f"v{number}"}, labels={"example.com/roundNumber": str(number)}),
                pool.submit(run_kube_node, kubeconfig, node, {"key": f"example.com/{here}"}, {"key": f"example.com/{gone}", "state": "absent"}),
                pool.submit(third_writer, client, node, number),
            ]
            results = [run.result() for run in runs]
            assert not [result for result in results if result.get("failed")], number
            assert results[0]["changed"] is True
            assert results[1]["changed"] is True

            found = client.get(NODES, node)
            assert found is not None
            taints = {taint["key"]: taint for taint in found["spec"]["taints"] if "example.com/" in taint["key"]}
            assert taints == {
                theirs(0)["key"]: theirs(number),
                CAMEL: {"key": CAMEL, "value": f"v{number}", "effect": "NoSchedule"},
                f"example.com/{here}": {"key": f"example.com/{here}", "effect": "NoSchedule"},
            }, number
            assert found["metadata"]["labels"]["example.com/roundNumber"] == str(number)
            assert found["metadata"]["annotations"][CAMEL] == "keepMe"
