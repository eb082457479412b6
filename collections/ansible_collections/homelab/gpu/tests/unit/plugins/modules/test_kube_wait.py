# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi

Object = dict[str, t.Any]
Run = t.Callable[..., Object]


def node(name: str, ready: str = "True", version: str = "v1.34.1+lab1") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"role": "agent"}, "managedFields": [{}]},
        "status": {"conditions": [{"type": "Ready", "status": ready}], "nodeInfo": {"kubeletVersion": version}, "allocatable": {"example.com/gpu": "4"}},
    }


@pytest.mark.parametrize(
    "options",
    [
        {"name": "a"},
        {"names": ["a"]},
        {"name": "a", "kubelet_version": "v1.34.1+lab1"},
        {"name": "a", "namespace": "ignored"},
        {"label_selectors": ["role=agent"]},
        {"field_selectors": ["metadata.name=a"]},
        {},
        {"name": "a", "until": "exists"},
        {"name": "b", "until": "gone"},
        {"label_selectors": ["role=server"], "until": "gone"},
        {"name": "a", "until": "expression", "expression": "status.allocatable.\"example.com/gpu\" == '4'"},
    ],
)
def test_what_is_so_already_costs_one_request(api: FakeApi, run_module: Run, options: Object) -> None:
    api.put(node("a"))
    result = run_module("kube_wait", kind="Node", **options)
    assert not result.get("failed"), result["msg"]
    assert result["changed"] is False
    assert len(api.requests) == 1
    assert all("managedFields" not in obj["metadata"] for obj in result["resources"])


def test_cluster_uid_costs_one_more(api: FakeApi, run_module: Run) -> None:
    api.put(node("a"))
    run_module("kube_wait", kind="Node", name="a", cluster_uid=api.cluster_uid)
    assert len(api.requests) == 2


def test_check_mode_waits_too(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_wait", check_mode=True, kind="Node", name="a", timeout_seconds=0)
    assert result["failed"] is True


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "c"}, "timed out after 0 s waiting for Node c to be ready: c: not found"),
        ({"names": ["a", "b"]}, "timed out after 0 s waiting for Node a, b to be ready: b: Ready=False"),
        (
            {"name": "a", "kubelet_version": "v1.35.0+lab1"},
            "a: Ready=True, kubelet reports v1.34.1+lab1, not v1.35.0+lab1",
        ),
        ({"name": "a", "until": "gone"}, "waiting for Node a to be gone: a: still there"),
        ({"label_selectors": ["role=server"]}, "no Node with labels role=server found"),
        ({"name": "a", "until": "expression", "expression": "status.x"}, "to satisfy status.x: a: expression gives None"),
    ],
)
def test_the_message_says_what_was_seen_last(api: FakeApi, run_module: Run, options: Object, words: str) -> None:
    api.put(node("a"))
    api.put(node("b", "False"))
    result = run_module("kube_wait", kind="Node", timeout_seconds=0, **options)
    assert (result["failed"], result["timed_out"]) == (True, True)
    assert words in result["msg"]
    assert result["transitions"] or "no Node" in words


def test_namespaced_names_are_in_default(api: FakeApi, run_module: Run) -> None:
    api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}})
    run_module("kube_wait", kind="ConfigMap", name="c")
    assert api.requests[0][1].startswith("/api/v1/namespaces/default/configmaps?")


def test_selectors_search_all_namespaces(api: FakeApi, run_module: Run) -> None:
    api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "kube-system", "labels": {"a": "b"}}})
    result = run_module("kube_wait", kind="ConfigMap", label_selectors=["a=b"], until="exists")
    assert [obj["metadata"]["namespace"] for obj in result["resources"]] == ["kube-system"]


def test_a_failed_job_ends_the_wait(api: FakeApi, run_module: Run) -> None:
    api.put(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "j"},
            "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]},
        }
    )
    result = run_module("kube_wait", kind="Job", name="j", timeout_seconds=600)
    assert (result["failed"], result["timed_out"]) == (True, False)
    assert result["msg"] == "waiting for Job j in namespace default to be ready is of no use any more: j: Failed (BackoffLimitExceeded)"


def test_heartbeats_are_judged_but_not_returned(api: FakeApi, run_module: Run) -> None:
    import datetime

    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    api.put(node("a"))
    api.put({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a", "namespace": "kube-node-lease"}, "spec": {"renewTime": now}})
    result = run_module("kube_wait", kind="Node", name="a", heartbeat_seconds=15)
    assert [obj["kind"] for obj in result["resources"]] == ["Node"]
    assert len(api.requests) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "Node", "name": "a", "names": ["b"]}, "mutually exclusive"),
        ({"kind": "Node", "names": ["a", ""]}, "names contains an empty name"),
        ({"kind": "Node", "until": "reddy"}, "value of until must be one of"),
        ({"kind": "Node", "until": "expression"}, "add expression"),
        ({"kind": "Node", "expression": "a"}, "set until=expression or leave expression out"),
        ({"kind": "Node", "until": "expression", "expression": "a =="}, "is not JMESPath"),
        ({"kind": "Pod", "kubelet_version": "v1"}, "kubelet_version is for kind=Node with until=ready"),
        ({"kind": "Node", "until": "gone", "kubelet_version": "v1"}, "kubelet_version is for kind=Node with until=ready"),
        ({"kind": "Node", "heartbeat_seconds": 15}, "heartbeat_seconds needs name or names"),
        ({"kind": "Node", "timeout_seconds": -1}, "timeout_seconds is -1"),
        ({"kind": "Node", "timeout_seconds": "soon"}, "timeout_seconds"),
        ({"kind": "Node", "stable_seconds": -1}, "stable_seconds is -1"),
        ({"kind": "Node", "stable_seconds": 10, "timeout_seconds": 5}, "stable_seconds=10 can never pass within timeout_seconds=5"),
        ({"kind": "Node", "nmae": "a"}, "Unsupported parameters"),
        ({}, "missing required arguments: kind"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(api: FakeApi, run_module: Run, options: Object, words: str) -> None:
    result = run_module("kube_wait", **options)
    assert result["failed"] is True
    assert words in result["msg"]
    assert api.requests == []
