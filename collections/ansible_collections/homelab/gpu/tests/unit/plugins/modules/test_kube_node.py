# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.tests.unit.fake_api import ApiFailure, FakeApi, Fault

Object = dict[str, t.Any]
Run = t.Callable[..., Object]

OTHERS = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}
MINE = {"key": "example.com/gpu", "effect": "NoSchedule"}


@pytest.fixture(autouse=True)
def _nodes(api: FakeApi) -> None:
    for name in ("a", "b"):
        api.put(
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kept": "yes"}}, "spec": {"taints": [OTHERS], "podCIDR": "10.0.0.0/24"}}
        )


def test_all_nodes_in_one_call(api: FakeApi, run_module: Run) -> None:
    wished = [
        {"name": "a", "labels": {"x": "y"}, "taints": [MINE], "unschedulable": True},
        {"name": "b", "annotations": {"n": "v"}},
    ]
    result = run_module("kube_node", nodes=wished)
    assert result["changed"] is True
    a, b = api.find("Node", "a"), api.find("Node", "b")
    assert a["metadata"]["labels"] == {"kept": "yes", "x": "y"}
    assert a["spec"] == {"taints": [OTHERS, MINE], "podCIDR": "10.0.0.0/24", "unschedulable": True}
    assert b["metadata"]["annotations"] == {"n": "v"}
    assert [(found["name"], found["changed"]) for found in result["nodes"]] == [("a", True), ("b", True)]
    assert result["nodes"][0]["taints"] == [OTHERS, MINE]
    assert (api.count("GET"), api.count("PATCH"), api.connections) == (1, 2, 1)

    again = run_module("kube_node", nodes=wished)
    assert (again["changed"], again["diff"], api.count("PATCH")) == (False, {"before": {}, "after": {}}, 2)


def test_check_mode_asks_the_server_and_changes_nothing(api: FakeApi, run_module: Run) -> None:
    before = api.find("Node", "a")
    result = run_module("kube_node", check_mode=True, nodes=[{"name": "a", "taints": [MINE]}])
    assert result["changed"] is True
    assert result["diff"]["after"]["a"]["taints"] == [OTHERS, MINE]
    assert api.find("Node", "a") == before
    assert api.count("PATCH", "dryRun=All") == 1


def test_check_mode_reports_what_the_server_would_refuse(api: FakeApi, run_module: Run) -> None:
    def refuse(_verb: str, _obj: Object) -> t.NoReturn:
        raise ApiFailure(403, "Forbidden", "not this node")

    api.hooks.append(refuse)
    result = run_module("kube_node", check_mode=True, nodes=[{"name": "a", "taints": [MINE]}])
    assert (result["failed"], result["status"], result["reason"]) == (True, 403, "Forbidden")
    assert "not this node" in result["msg"]


def test_a_writer_in_between_loses_nothing(api: FakeApi, run_module: Run) -> None:
    """Right before each of the first three patches arrives, a controller adds a taint of its own."""
    theirs = [{"key": f"controller/{number}", "effect": "NoSchedule"} for number in range(3)]
    left = list(theirs)

    def interfere(method: str, _path: str) -> None:
        if method == "PATCH" and left:
            current = api.find("Node", "a")
            api.put({**current, "spec": {**current["spec"], "taints": [*current["spec"]["taints"], left.pop(0)]}})

    api.before = interfere
    result = run_module("kube_node", nodes=[{"name": "a", "taints": [MINE]}])
    assert result["changed"] is True
    assert api.find("Node", "a")["spec"]["taints"] == [OTHERS, *theirs, MINE]
    assert api.count("PATCH") == 4


def test_a_node_that_vanishes_meanwhile_is_named(api: FakeApi, run_module: Run) -> None:
    def interfere(method: str, _path: str) -> None:
        if method == "PATCH":
            api.change("Node", "a", spec={"podCIDR": "10.0.1.0/24"})
        elif api.count("PATCH"):
            api.drop("Node", "a")

    api.before = interfere
    result = run_module("kube_node", nodes=[{"name": "a", "taints": [MINE]}])
    assert result["msg"] == "node a was removed from the cluster while it was being changed"


@pytest.mark.parametrize("conflicts", [1, 2, 19])
def test_a_storm_of_conflicts_is_sat_out(api: FakeApi, run_module: Run, conflicts: int) -> None:
    api.faults.append(Fault(method="PATCH", status=409, reason="Conflict", message="the object has been modified", times=conflicts))
    result = run_module("kube_node", nodes=[{"name": "a", "taints": [MINE]}])
    assert result["changed"] is True
    assert api.find("Node", "a")["spec"]["taints"] == [OTHERS, MINE]
    assert api.count("PATCH") == conflicts + 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, reason="TooManyRequests", retry_after=0, times=2),
        Fault(status=500, reason="InternalError", times=2),
        Fault(drop=True, times=2),
        Fault(delay=0.05, times=2),
        Fault(method="PATCH", lose_answer=True),
    ],
    ids=["429", "500", "dropped", "slow", "answer lost"],
)
def test_passing_faults_are_sat_out(api: FakeApi, run_module: Run, fault: Fault) -> None:
    """A patch may have been done although its answer never came: that is a change all the same."""
    api.faults.append(fault)
    result = run_module("kube_node", nodes=[{"name": "a", "taints": [MINE]}])
    assert result["changed"] is True
    assert (result["diff"]["before"]["a"]["taints"], result["diff"]["after"]["a"]["taints"]) == ([OTHERS], [OTHERS, MINE])
    assert api.find("Node", "a")["spec"]["taints"] == [OTHERS, MINE]


def test_fields_of_others_and_upper_case_are_kept(api: FakeApi, run_module: Run) -> None:
    theirs = {"key": "example.com/upperCase", "value": "someValue", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z", "addedLater": "x"}
    api.change("Node", "a", spec={"taints": [theirs]}, metadata={"annotations": {"example.com/keepMe": "camelCase"}})
    run_module(
        "kube_node",
        nodes=[{"name": "a", "labels": {"example.com/someLabel": "aValue"}, "taints": [{**MINE, "key": "example.com/Mine"}], "unschedulable": True}],
    )
    found = api.find("Node", "a")
    assert found["spec"]["taints"] == [theirs, {**MINE, "key": "example.com/Mine"}]
    assert found["metadata"]["annotations"] == {"example.com/keepMe": "camelCase"}
    assert found["metadata"]["labels"] == {"kept": "yes", "example.com/someLabel": "aValue"}
    run_module("kube_node", nodes=[{"name": "a", "taints": [{"key": "example.com/upperCase", "value": "other", "effect": "NoExecute"}]}])
    assert api.find("Node", "a")["spec"]["taints"][0] == {**theirs, "value": "other"}


def test_endless_conflicts_are_an_error(api: FakeApi, run_module: Run) -> None:
    api.faults.append(Fault(method="PATCH", status=409, reason="Conflict", message="the object has been modified", times=999))
    result = run_module("kube_node", nodes=[{"name": "a", "taints": [MINE]}])
    assert (result["failed"], result["status"], result["changed"]) == (True, 409, False)


def test_a_missing_node_is_named_and_nothing_is_changed(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_node", nodes=[{"name": "a", "labels": {"x": "y"}}, {"name": "c", "labels": {"x": "y"}}])
    assert result["failed"] is True
    assert result["msg"] == "no node named c in the cluster; it has a, b. Wait for it to register, or correct the name."
    assert result["missing"] == ["c"]
    assert api.count("PATCH") == 0


def test_a_single_missing_node_is_named(api: FakeApi, run_module: Run) -> None:
    assert "no node named c in the cluster; it has a, b" in run_module("kube_node", nodes=[{"name": "c"}])["msg"]


def test_what_was_done_before_an_error_is_told(api: FakeApi, run_module: Run) -> None:
    api.faults.append(Fault(method="PATCH", path="/nodes/b", status=422, reason="Invalid", message="no"))
    result = run_module("kube_node", nodes=[{"name": name, "labels": {"x": "y"}} for name in "ab"])
    assert (result["failed"], result["changed"]) == (True, True)
    assert [node["name"] for node in result["nodes"]] == ["a"]


def test_the_wrong_cluster_is_left_alone(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_node", cluster_uid="another", nodes=[{"name": "a", "labels": {"x": "y"}}])
    assert "wrong cluster" in result["msg"]
    assert api.count("PATCH") == 0


def test_bad_input_is_refused_before_anything_is_sent(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_node", nodes=[{"name": "a", "labels": {"a b": "c"}}])
    assert "nodes[0].labels['a b']" in result["msg"]
    assert api.requests == []
