# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils import _wait
from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi, Fault

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
        {"name": "a", "allocatable": {"example.com/gpu": 4}},
        {"name": "a", "until": "exists", "allocatable": {"example.com/gpu": "4000m", "example.com/none": 0}},
        {"name": "a", "until": "condition", "condition": {"type": "Ready"}},
        {"at_least": 1},
        {"label_selectors": ["role=agent"], "at_least": 1},
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
        (
            {"name": "a", "allocatable": {"example.com/gpu": 8}},
            "waiting for Node a to be ready and to offer example.com/gpu: 8: a: Ready=True, example.com/gpu: 4, not 8",
        ),
        (
            {"name": "b", "until": "condition", "condition": {"type": "Ready"}},
            "waiting for Node b to have the condition Ready=True: b: Ready=False",
        ),
        (
            {"name": "a", "until": "condition", "condition": {"type": "Ready", "reason": "KubeletReady"}},
            "Ready=True with the reason KubeletReady: a: Ready=True, but with the reason (none), not KubeletReady",
        ),
        ({"until": "exists", "at_least": 3}, "waiting for Node (all) to exist: only 2 of at least 3 Node (all) found"),
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


@pytest.mark.parametrize("expression", ["data.token", "data.none || data.other"])
def test_values_of_secrets_are_not_shown(api: FakeApi, run_module: Run, expression: str) -> None:
    api.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"token": "aG9yc2U="}})
    result = run_module("kube_wait", kind="Secret", name="s", until="expression", expression=expression, timeout_seconds=0)
    assert result.get("failed", False) is (expression != "data.token")
    assert result["resources"][0]["data"] == {"token": "(hidden)"}
    assert "aG9yc2U=" not in str(result)


# Several targets


def workload(kind: str, name: str, namespace: str = "default", replicas: int = 1) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
    }


@pytest.mark.parametrize(("written", "waits"), [("2026-01-01T00:00:00Z", False), ("2026-01-01T02:00:00Z", True)])
def test_only_the_deadline_of_the_present_template_ends_the_wait(api: FakeApi, run_module: Run, written: str, waits: bool) -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "lastUpdateTime": "2026-01-01T01:00:00Z"}
    found = workload("Deployment", "web")
    found["metadata"]["managedFields"] = [{"manager": "m", "time": written, "fieldsV1": {"f:spec": {}}}]
    api.put({**found, "status": {**found["status"], "replicas": 2, "conditions": [late]}})
    api.on_watch = lambda _path: api.change("Deployment", "web", status={"replicas": 1})
    result = run_module("kube_wait", kind="Deployment", name="web", timeout_seconds=20)
    assert bool(result.get("failed")) is not waits
    assert "timed_out" not in result or not result["timed_out"]


def refused(api: FakeApi, owner: Object, reason: str = "FailedCreate", name: str = "e", at: str = "2026-01-01T00:00:01Z", **about: str) -> None:
    about = {"kind": owner["kind"], "name": owner["metadata"]["name"], "namespace": "default", "uid": owner["metadata"]["uid"], **about}
    text = "Error creating: pods is forbidden: exceeded quota" if reason == "FailedCreate" else "Created pod: x"
    event = {"reason": reason, "involvedObject": about, "lastTimestamp": at, "count": 5, "message": text}
    api.put({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, **event})


REFUSED = "{} default/web: Error creating: pods is forbidden: exceeded quota (FailedCreate, 5 times, last at 2026-01-01T00:00:01Z)"


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "Job"])
@pytest.mark.parametrize("until", ["ready", "expression"])
def test_pods_that_could_not_be_made_are_named_at_the_deadline(api: FakeApi, run_module: Run, kind: str, until: str) -> None:
    body = {**workload(kind, "web"), "status": {"observedGeneration": 1, "desiredNumberScheduled": 1, "updateRevision": "a"}}
    refused(api, api.put({**body, "apiVersion": "batch/v1" if kind == "Job" else "apps/v1"}))
    options = {"until": until, "expression": "status.x"} if until == "expression" else {}
    result = run_module("kube_wait", kind=kind, name="web", timeout_seconds=0, **options)
    assert (result["failed"], result["timed_out"]) == (True, True)
    assert result["msg"].endswith(f"; {REFUSED.format(kind)}"), result["msg"]
    assert api.count(path="/events") == 1


@pytest.mark.parametrize("other", [{"uid": "another"}, {"reason": "SuccessfulCreate"}])
def test_pods_that_were_made_or_are_of_another_are_not_named(api: FakeApi, run_module: Run, other: dict[str, str]) -> None:
    owner = api.put({**workload("StatefulSet", "web"), "status": {"observedGeneration": 1}})
    if "reason" in other:
        refused(api, owner)
    refused(api, owner, name="other", at="2026-01-01T00:00:02Z", **other)
    result = run_module("kube_wait", kind="StatefulSet", name="web", timeout_seconds=0)
    assert result["timed_out"] is True
    assert "FailedCreate" not in result["msg"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="/events", status=403, reason="Forbidden", message="events is forbidden", times=9),
        Fault(path="/events", drop=True, times=9),
        Fault(path="/events", delay=0.3, times=9),
    ],
    ids=["403", "dropped", "slow"],
)
def test_events_that_cannot_be_read_are_left_out_and_not_asked_for_again(api: FakeApi, run_module: Run, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    monkeypatch.setattr(_wait, "_AFTERWARDS_SECONDS", 0.1)
    api.faults.append(fault)
    for name in ("web", "db"):
        refused(api, api.put({**workload("StatefulSet", name), "status": {"observedGeneration": 1}}), name=name)
    result = run_module("kube_wait", kind="StatefulSet", names=["web", "db"], timeout_seconds=0)
    assert (result["timed_out"], api.count(path="/events")) == (True, 1)
    assert result["msg"].endswith("web: 0 of 1 updated, 0 of 1 ready")


def test_events_are_no_matter_of_waits_that_succeed_or_are_for_a_deletion(api: FakeApi, run_module: Run) -> None:
    ready = {**workload("StatefulSet", "web"), "status": {"observedGeneration": 1}}
    refused(api, api.put(ready))
    assert "FailedCreate" not in run_module("kube_wait", kind="StatefulSet", name="web", until="gone", timeout_seconds=0)["msg"]
    api.on_watch = lambda _path: api.change("StatefulSet", "web", status={"readyReplicas": 1, "updatedReplicas": 1})
    assert not run_module("kube_wait", kind="StatefulSet", name="web").get("failed")
    assert api.count(path="/events") == 0


def test_targets_are_waited_for_together(api: FakeApi, run_module: Run) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "old", "namespace": "models", "labels": {"app": "old"}}}
    api.put(pod)
    api.put(workload("Deployment", "new", "models"))
    api.put(node("a"))
    opened: list[str] = []

    def act(path: str) -> None:
        opened.append(path)
        if len(opened) == 3:
            api.drop("Pod", "old")

    api.on_watch = act
    result = run_module(
        "kube_wait",
        targets=[
            {"kind": "Deployment", "namespace": "models", "name": "new", "replicas": 1},
            {"kind": "Pod", "namespace": "models", "label_selectors": ["app=old"], "until": "gone"},
            {"kind": "Node", "name": "a", "allocatable": {"example.com/gpu": 4}},
        ],
    )
    assert not result.get("failed"), result["msg"]
    assert [entry["what"] for entry in result["transitions"]] == [
        "Deployment new: 1 of 1 updated, 1 available, replicas: 1",
        "Pod old: still there",
        "Node a: Ready=True, example.com/gpu: 4",
        "Pod old: gone",
    ]
    assert [obj["kind"] for obj in result["resources"]] == ["Deployment", "Node"]


def test_targets_cost_one_request_each_on_one_connection(api: FakeApi, run_module: Run) -> None:
    api.put(node("a"))
    api.put(workload("Deployment", "w"))
    run_module("kube_wait", targets=[{"kind": "Deployment", "name": "w"}, {"kind": "Node"}, {"kind": "Node", "until": "exists"}])
    assert (len(api.requests), api.connections) == (3, 1)


def test_objects_of_the_same_name_are_told_apart(api: FakeApi, run_module: Run) -> None:
    for namespace in ("one", "two"):
        api.put(workload("Deployment", "w", namespace))
    result = run_module("kube_wait", targets=[{"kind": "Deployment", "namespace": namespace, "name": "w"} for namespace in ("one", "two")])
    assert [entry["what"].split(":")[0] for entry in result["transitions"]] == ["Deployment one/w", "Deployment two/w"]


def test_the_message_names_every_target(api: FakeApi, run_module: Run) -> None:
    api.put(node("a"))
    result = run_module(
        "kube_wait", timeout_seconds=0, targets=[{"kind": "Node", "name": "a"}, {"kind": "Deployment", "name": "w"}, {"kind": "Pod", "until": "gone"}]
    )
    assert result["msg"] == (
        "timed out after 0 s waiting for Node a to be ready, and for Deployment w in namespace default to be ready, and for Pod (all) to be gone: "
        "Deployment w: not found"
    )


def test_a_failed_job_ends_the_wait_for_a_condition(api: FakeApi, run_module: Run) -> None:
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    api.put({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "status": {"conditions": [failed]}})
    result = run_module("kube_wait", kind="Job", name="j", until="condition", condition={"type": "Complete"}, timeout_seconds=600)
    assert (result["failed"], result["timed_out"]) == (True, False)
    assert "j: no condition Complete yet, Failed (BackoffLimitExceeded)" in result["msg"]


# Faults


def seen(result: Object) -> list[str]:
    assert not result.get("failed"), result["msg"]
    return [entry["what"] for entry in result["transitions"]]


def states(api: FakeApi, *values: str) -> None:
    """The n-th watch that is opened sees the n-th state."""
    left = list(values)
    api.on_watch = lambda _path: left and api.put(node("a", left.pop(0)))


def test_ten_cut_watches_lose_no_change(api: FakeApi, run_module: Run) -> None:
    """Each watch is cut before it tells the change that comes while it is opened; the next one tells it."""
    api.put(node("a", "False"))
    api.faults.append(Fault(method="WATCH", cut_after=0, times=10))
    flips = ["Unknown", "False"] * 5
    states(api, *flips, "True")
    assert seen(run_module("kube_wait", kind="Node", name="a")) == [f"a: Ready={value}" for value in ("False", *flips, "True")]
    assert (api.count("WATCH"), api.count("GET")) == (11, 1)


def test_after_a_410_between_cuts_the_outcome_is_seen(api: FakeApi, run_module: Run) -> None:
    """What the server has forgotten is seen by its outcome; every change before and after is seen itself."""
    api.put(node("a", "0"))
    api.faults += [Fault(method="WATCH", cut_after=1, times=2), Fault(method="WATCH", cut_after=0, times=9)]
    opened: list[str] = []

    def act(path: str) -> None:
        opened.append(path)
        if len(opened) == 3:
            for value in ("3a", "3b", "3c"):
                api.put(node("a", value))
            api.compact()
        elif any(fault.times for fault in api.faults):
            api.put(node("a", str(len(opened))))
        else:
            api.put(node("a"))

    api.on_watch = act
    told = seen(run_module("kube_wait", kind="Node", name="a"))
    assert told == [f"a: Ready={value}" for value in ("0", "1", "2", "3c", "4", "5", "6", "7", "8", "9", "True")]
    assert (api.count("WATCH"), api.count("GET")) == (12, 2)


def test_bookmarks_spare_a_new_list(api: FakeApi, run_module: Run) -> None:
    """The version that a bookmark tells is still known when that of the last event is forgotten."""
    api.put(node("a", "False"))
    api.faults.append(Fault(method="WATCH", cut_after=1))
    opened: list[str] = []

    def act(_path: str) -> None:
        opened.append("")
        if len(opened) == 1:
            for number in range(3):
                api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}"}})
            api.bookmark()
            api.compact()
        else:
            api.put(node("a"))

    api.on_watch = act
    assert seen(run_module("kube_wait", kind="Node", name="a")) == ["a: Ready=False", "a: Ready=True"]
    assert (api.count("WATCH"), api.count("GET")) == (2, 1)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(method="WATCH", status=500, reason="InternalError"),
        Fault(method="WATCH", status=429, reason="TooManyRequests", retry_after=0),
        Fault(method="WATCH", status=410, reason="Expired"),
        Fault(method="WATCH", drop=True),
        Fault(method="WATCH", cut_after=0),
        Fault(method="WATCH", gone_after=0),
        Fault(method="WATCH", delay=0.05),
        Fault(method="GET", status=500, reason="InternalError"),
        Fault(method="GET", status=429, reason="TooManyRequests", retry_after=0),
        Fault(method="GET", drop=True),
        Fault(method="GET", delay=0.05),
    ],
    ids=lambda fault: (
        f"{fault.method} {fault.status or ('drop' if fault.drop else 'slow' if fault.delay else 'event 410' if fault.gone_after == 0 else 'cut')}"
    ),
)
def test_no_single_fault_ends_a_wait(api: FakeApi, run_module: Run, fault: Fault) -> None:
    api.put(node("a", "False"))
    fault.times = 2
    api.faults.append(fault)
    api.on_watch = lambda _path: api.put(node("a"))
    assert seen(run_module("kube_wait", kind="Node", name="a"))[-1] == "a: Ready=True"
