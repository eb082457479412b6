# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from ansible_collections.homelab.gpu.tests.unit.fake_api import Fault


def put_node(api, name, *, heartbeat_age: float, ready: str = "True"):
    api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}})
    renewed = datetime.now(timezone.utc) - timedelta(seconds=heartbeat_age)
    api.put(
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {"renewTime": renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ")},
        }
    )


def test_everything_answers(api, run_module):
    put_node(api, "a", heartbeat_age=1)
    put_node(api, "b", heartbeat_age=20)
    result = run_module("kube_ping")
    assert (result["changed"], result["ready"], result["failing_checks"], result["version"]) == (False, True, [], "v1.34.1+k3s1")
    assert result["cluster_uid"] == api.cluster_uid
    assert [(node["name"], node["answers"], node["problem"]) for node in result["nodes"]] == [("a", True, None), ("b", True, None)]
    assert api.connections == 1


def test_a_silent_node_is_a_result(api, run_module):
    put_node(api, "a", heartbeat_age=3600)
    put_node(api, "b", heartbeat_age=1, ready="False")
    result = run_module("kube_ping")
    assert not result.get("failed")
    assert [(node["name"], node["answers"]) for node in result["nodes"]] == [("a", False), ("b", False)]


def test_the_age_that_counts_is_an_option(api, run_module):
    put_node(api, "a", heartbeat_age=100)
    assert run_module("kube_ping", heartbeat_seconds=600)["nodes"][0]["answers"]
    assert not run_module("kube_ping", heartbeat_seconds=50)["nodes"][0]["answers"]


def test_an_api_server_that_is_not_ready_says_which_check_fails(api, run_module):
    api.faults.append(Fault(path="/readyz", status=500, message="[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed"))
    result = run_module("kube_ping")
    assert not result.get("failed")
    assert (result["ready"], result["failing_checks"]) == (False, ["etcd"])


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(path="/version", status=401, reason="Unauthorized", message="who are you"), "401 Unauthorized"),
        (Fault(path="/version", status=503, message="busy", times=10), "503"),
        (Fault(path="/version", drop=True, times=10), "broke"),
        (Fault(path="/readyz", status=403, reason="Forbidden", message="not you"), "403 Forbidden"),
    ],
    ids=["unauthorized", "unavailable", "dropped", "forbidden"],
)
def test_no_answer_is_a_failure_at_once(api, run_module, fault, expected):
    api.faults.append(fault)
    result = run_module("kube_ping")
    assert result["failed"]
    assert expected in result["msg"] or "cannot reach" in result["msg"]
    assert len([path for _method, path in api.requests if path.startswith(fault.path)]) <= 1


def test_another_cluster_is_refused(api, run_module):
    result = run_module("kube_ping", cluster_uid="other")
    assert result["failed"]
    assert "wrong cluster" in result["msg"]


def test_a_useless_age_is_refused(run_module):
    result = run_module("kube_ping", heartbeat_seconds=0)
    assert result["failed"]
    assert "heartbeat_seconds is 0; set it to more than 10" in result["msg"]
