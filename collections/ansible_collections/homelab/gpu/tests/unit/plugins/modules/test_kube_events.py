# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi, Fault

Object = dict[str, t.Any]
Run = t.Callable[..., Object]

ISO = "2026-01-01T00:{:02d}:00Z"


def event(api: FakeApi, minute: int, about: str, reason: str = "Told", message: str = "text", **fields: t.Any) -> None:
    """C(about): kind/name."""
    kind, name = about.split("/")
    namespace = fields.pop("namespace", "default")
    told = {"type": "Normal", "count": 1, "firstTimestamp": ISO.format(minute), "lastTimestamp": ISO.format(minute), "source": {"component": "kubelet"}}
    subject = {"apiVersion": "v1", "kind": kind, "name": name, "uid": f"uid-{name}"}
    if kind != "Node":
        subject["namespace"] = namespace
    subject |= fields.pop("subject", {})
    metadata = {"name": f"{name}.{len(api.objects)}", "namespace": namespace}
    api.put({"apiVersion": "v1", "kind": "Event", "metadata": metadata, "involvedObject": subject, "reason": reason, "message": message, **told, **fields})


def fill(api: FakeApi) -> None:
    event(api, 5, "Pod/a", "BackOff", type="Warning", count=3, firstTimestamp=ISO.format(1))
    event(api, 2, "Pod/b", "Scheduled")
    event(api, 3, "Deployment/a", "ScalingReplicaSet")
    event(api, 4, "Node/n", "NodeReady")
    event(api, 1, "Pod/a", "Scheduled", namespace="kube-system")
    event(api, 6, "Pod/a", "Killing", subject={"uid": "uid-older"})


def reasons(result: Object) -> list[str]:
    assert not result.get("failed"), result["msg"]
    return [f"{entry['object']['name']}:{entry['reason']}" for entry in result["events"]]


@pytest.mark.parametrize("events_api", ["v1", "events.k8s.io/v1"])
@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, ["a:Scheduled", "b:Scheduled", "a:ScalingReplicaSet", "n:NodeReady", "a:BackOff", "a:Killing"]),
        ({"namespace": "kube-system"}, ["a:Scheduled"]),
        ({"kind": "Pod"}, ["a:Scheduled", "b:Scheduled", "a:BackOff", "a:Killing"]),
        ({"kind": "Pod", "name": "a"}, ["a:BackOff", "a:Killing"]),
        ({"kind": "Pod", "name": "a", "namespace": "kube-system"}, ["a:Scheduled"]),
        ({"kind": "Pod", "name": "a", "uid": "uid-older"}, ["a:Killing"]),
        ({"uid": "uid-older"}, ["a:Killing"]),
        ({"kind": "Node", "name": "n"}, ["n:NodeReady"]),
        ({"kind": "Node", "name": "n", "namespace": "ignored"}, ["n:NodeReady"]),
        ({"kind": "Deployment", "api_version": "apps/v1"}, []),
        ({"kind": "Pod", "api_version": "v1", "namespace": "kube-system"}, ["a:Scheduled"]),
        ({"types": ["Warning"]}, ["a:BackOff"]),
        ({"types": ["Warning", "Normal"], "kind": "Node"}, ["n:NodeReady"]),
        ({"reasons": ["BackOff"]}, ["a:BackOff"]),
        ({"reasons": ["BackOff", "NodeReady"]}, ["n:NodeReady", "a:BackOff"]),
        ({"reasons": ["none"]}, []),
        ({"since_time": "2026-01-01T00:05:00Z"}, ["a:BackOff", "a:Killing"]),
        ({"since_time": "2026-01-01T01:05:01+01:00"}, ["a:Killing"]),
        ({"since_seconds": 60}, []),
    ],
)
def test_which_events(api: FakeApi, run_module: Run, events_api: str, options: Object, found: list[str]) -> None:
    fill(api)
    assert reasons(run_module("kube_events", events_api=events_api, **options)) == found
    assert len(api.requests) == 1
    assert ("/apis/events.k8s.io/v1/" in api.requests[0][1]) == (events_api != "v1")


def test_what_the_server_chooses(api: FakeApi, run_module: Run) -> None:
    fill(api)
    run_module("kube_events", kind="Pod", name="a", types=["Warning"], reasons=["BackOff"])
    asked = api.requests[0][1]
    for selector in ("involvedObject.kind%3DPod", "involvedObject.name%3Da", "type%3DWarning", "reason%3DBackOff", "/namespaces/default/"):
        assert selector in asked


@pytest.mark.parametrize("events_api", ["v1", "events.k8s.io/v1"])
def test_one_event(api: FakeApi, run_module: Run, events_api: str) -> None:
    fill(api)
    result = run_module("kube_events", types=["Warning"], events_api=events_api)
    assert result["changed"] is False
    assert result["events"] == [
        {
            "type": "Warning",
            "reason": "BackOff",
            "message": "text",
            "count": 3,
            "source": "kubelet",
            "node": "",
            "first_time": ISO.format(1),
            "last_time": ISO.format(5),
            "object": {"api_version": "v1", "kind": "Pod", "namespace": "default", "name": "a", "uid": "uid-a", "field_path": ""},
        }
    ]
    assert result["lines"] == ["2026-01-01T00:05:00Z Warning BackOff Pod default/a: text (3 times)"]


def test_since_seconds_goes_by_the_servers_clock(api: FakeApi, run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(api)
    monkeypatch.setattr("email.utils.formatdate", lambda **_options: "Thu, 01 Jan 2026 00:06:10 GMT")
    assert reasons(run_module("kube_events", since_seconds=120)) == ["a:BackOff", "a:Killing"]


def test_alike_events_become_one(api: FakeApi, run_module: Run) -> None:
    for minute in (3, 1, 2):
        event(api, minute, "Pod/a", "Unhealthy", count=2)
    event(api, 4, "Pod/a", "Unhealthy", "another text")
    event(api, 0, "Pod/b", "Unhealthy")
    assert [entry["count"] for entry in run_module("kube_events")["events"]] == [1, 2, 2, 2, 1], "only where it is asked for"
    result = run_module("kube_events", aggregate=True)
    assert [(entry["object"]["name"], entry["count"], entry["first_time"], entry["last_time"]) for entry in result["events"]] == [
        ("b", 1, ISO.format(0), ISO.format(0)),
        ("a", 6, ISO.format(1), ISO.format(3)),
        ("a", 1, ISO.format(4), ISO.format(4)),
    ]


def workload(api: FakeApi) -> None:
    """A Deployment web with a ReplicaSet and a pod, others that look alike, and traces of what is gone."""
    made = api.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}})
    owner = {"ownerReferences": [{"kind": "Deployment", "name": "web", "uid": made["metadata"]["uid"]}]}
    made = api.put({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web-2", **owner}})
    owner = {"ownerReferences": [{"kind": "ReplicaSet", "name": "web-2", "uid": made["metadata"]["uid"]}]}
    api.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-2-x", **owner}})
    api.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-other-x"}})
    event(api, 1, "Deployment/web", "ScalingReplicaSet", "Scaled up replica set web-1 from 0 to 1")
    event(api, 2, "ReplicaSet/web-1", "SuccessfulCreate", "Created pod: web-1-y")
    event(api, 3, "Pod/web-1-y", "FailedScheduling", "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", type="Warning")
    event(api, 4, "Deployment/web-other", "ScalingReplicaSet", "Scaled up replica set web-other-1 from 0 to 1")
    event(api, 5, "Pod/web-other-x", "FailedScheduling")
    event(api, 6, "Pod/web-2-x", "Scheduled")
    event(api, 7, "ReplicaSet/web-2", "FailedCreate", 'pods "web-2-z" is forbidden: exceeded quota', type="Warning")
    event(api, 8, "Pod/web-2-x", "Scheduled", namespace="kube-system")


RELATED = ["web:ScalingReplicaSet", "web-1:SuccessfulCreate", "web-1-y:FailedScheduling", "web-2-x:Scheduled", "web-2:FailedCreate"]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, RELATED),
        ({"types": ["Warning"]}, ["web-1-y:FailedScheduling", "web-2:FailedCreate"]),
        ({"reasons": ["FailedScheduling"]}, ["web-1-y:FailedScheduling"]),
        ({"since_time": ISO.format(6)}, ["web-2-x:Scheduled", "web-2:FailedCreate"]),
        ({"related": False}, ["web:ScalingReplicaSet"]),
        ({"uid": "another"}, RELATED[1:]),
        ({"events_api": "events.k8s.io/v1"}, RELATED),
        ({"namespace": "kube-system"}, []),
    ],
)
def test_what_belongs_to_a_workload(api: FakeApi, run_module: Run, options: Object, found: list[str]) -> None:
    workload(api)
    assert reasons(run_module("kube_events", **{"kind": "Deployment", "name": "web", "related": True, **options})) == found


def test_a_workload_that_is_gone_has_left_its_traces(api: FakeApi, run_module: Run) -> None:
    workload(api)
    api.drop("Deployment", "web")
    assert reasons(run_module("kube_events", kind="Deployment", name="web", related=True)) == RELATED[:3]


def test_rights_that_are_missing(api: FakeApi, run_module: Run) -> None:
    api.faults.append(Fault("GET", "/events", status=403, reason="Forbidden", message="events is forbidden"))
    result = run_module("kube_events")
    assert (result["failed"], result["status"], result["reason"]) == (True, 403, "Forbidden")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "Widget"}, "the API server does not serve kind Widget"),
        ({"cluster_uid": "another"}, "wrong cluster"),
    ],
)
def test_failures(api: FakeApi, run_module: Run, options: Object, words: str) -> None:
    result = run_module("kube_events", **options)
    assert result["failed"] is True
    assert words in result["msg"]
