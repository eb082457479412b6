# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._ready import is_leftover, readiness, trouble
from ansible_collections.homelab.gpu.plugins.module_utils._times import NANO, nanoseconds

Object = dict[str, t.Any]


def thing(kind: str, status: Object | None = None, spec: Object | None = None, **metadata: t.Any) -> Object:
    return {"kind": kind, "metadata": {"name": "x", **metadata}, "spec": spec or {}, "status": status or {}}


def having(**conditions: str) -> Object:
    return {"conditions": [{"type": kind, "status": value} for kind, value in conditions.items()]}


NOT_READY = {
    "type": "Ready",
    "status": "False",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
    "reason": "KubeletNotReady",
    "message": "NetworkPluginNotReady cni",
}

# object, ok, failed, words
QUOTA = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}

TABLE: list[tuple[str, Object, bool, bool, str]] = [
    ("node ready", thing("Node", having(Ready="True")), True, False, "Ready=True"),
    (
        "node not ready",
        thing("Node", {"conditions": [NOT_READY]}),
        False,
        False,
        "Ready=False since 2026-01-01T00:00:00Z (KubeletNotReady NetworkPluginNotReady cni)",
    ),
    ("node unknown", thing("Node", having(Ready="Unknown")), False, False, "Ready=Unknown"),
    ("node without status", thing("Node"), False, False, "no condition Ready yet"),
    (
        "node ready but tainted",
        thing("Node", having(Ready="True"), {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}, {"key": "mine"}]}),
        False,
        False,
        "Ready=True, tainted node.kubernetes.io/not-ready",
    ),
    (
        "node cordoned is ready",
        thing("Node", having(Ready="True"), {"unschedulable": True, "taints": [{"key": "node.kubernetes.io/unschedulable"}]}),
        True,
        False,
        "Ready=True",
    ),
    ("being deleted", thing("Node", having(Ready="True"), deletionTimestamp="2026-01-01T00:00:00Z"), False, False, "is being deleted"),
    (
        "deployment rolled out",
        thing("Deployment", {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, {"replicas": 2}, generation=2),
        True,
        False,
        "2 of 2 updated, 2 available",
    ),
    (
        "deployment of an older generation",
        thing("Deployment", {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, {"replicas": 2}, generation=2),
        False,
        False,
        "the controller has seen generation 1 of 2",
    ),
    (
        "deployment with an old pod left",
        thing("Deployment", {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3}, {"replicas": 2}),
        False,
        False,
        "2 of 2 updated, 3 available, 1 old still there",
    ),
    (
        "deployment not available",
        thing("Deployment", {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}, {"replicas": 1}),
        False,
        False,
        "1 of 1 updated, 0 available",
    ),
    ("deployment scaled to zero", thing("Deployment", {"observedGeneration": 1}, {"replicas": 0}), True, False, "0 of 0 updated, 0 available"),
    ("deployment unseen", thing("Deployment", {}, {"replicas": 0}), False, False, "not seen by its controller yet"),
    (
        "deployment past its deadline",
        thing("Deployment", {"observedGeneration": 1, "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}),
        False,
        True,
        "Progressing=False (ProgressDeadlineExceeded)",
    ),
    (
        "deployment that a quota stops",
        thing("Deployment", {"observedGeneration": 1, "updatedReplicas": 1, "conditions": [QUOTA]}),
        False,
        True,
        "1 of 1 updated, 0 available, ReplicaFailure (FailedCreate: exceeded quota)",
    ),
    (
        "replica set that a quota stops",
        thing("ReplicaSet", {"observedGeneration": 1, "conditions": [QUOTA]}),
        False,
        True,
        "0 of 1 ready, ReplicaFailure (FailedCreate: exceeded quota)",
    ),
    (
        "replica set that a quota stopped",
        thing("ReplicaSet", {"observedGeneration": 1, "readyReplicas": 1, "conditions": [QUOTA]}),
        True,
        False,
        "1 of 1 ready",
    ),
    (
        "stateful set",
        thing(
            "StatefulSet",
            {"observedGeneration": 1, "readyReplicas": 2, "updatedReplicas": 2, "currentRevision": "a", "updateRevision": "a"},
            {"replicas": 2},
        ),
        True,
        False,
        "2 of 2 updated, 2 of 2 ready",
    ),
    (
        "stateful set on its way",
        thing(
            "StatefulSet",
            {"observedGeneration": 1, "readyReplicas": 2, "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "b"},
            {"replicas": 2},
        ),
        False,
        False,
        "1 of 2 updated, 2 of 2 ready",
    ),
    (
        "stateful set with a partition",
        thing(
            "StatefulSet",
            {"observedGeneration": 1, "readyReplicas": 2, "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "b"},
            {"replicas": 2, "updateStrategy": {"rollingUpdate": {"partition": 1}}},
        ),
        True,
        False,
        "1 of 1 updated, 2 of 2 ready",
    ),
    (
        "daemon set",
        thing("DaemonSet", {"observedGeneration": 1, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3}),
        True,
        False,
        "3 of 3 updated, 3 available",
    ),
    (
        "daemon set on its way",
        thing("DaemonSet", {"observedGeneration": 1, "desiredNumberScheduled": 3, "updatedNumberScheduled": 2, "numberAvailable": 3}),
        False,
        False,
        "2 of 3 updated, 3 available",
    ),
    (
        "daemon set updated by hand",
        thing("DaemonSet", {"observedGeneration": 1, "desiredNumberScheduled": 3, "numberAvailable": 3}, {"updateStrategy": {"type": "OnDelete"}}),
        True,
        False,
        "3 of 3 available",
    ),
    ("pod ready", thing("Pod", {"phase": "Running", **having(Ready="True")}), True, False, "Ready=True"),
    ("pod done", thing("Pod", {"phase": "Succeeded", **having(Ready="False")}), True, False, "Succeeded"),
    (
        "pod failed",
        thing("Pod", {"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}),
        False,
        True,
        "Failed (c: exit code 3, Error)",
    ),
    ("pod evicted", thing("Pod", {"phase": "Failed", "reason": "Evicted", "message": "disk"}), False, True, "Failed (Evicted disk)"),
    (
        "pod without a node",
        thing("Pod", {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]}),
        False,
        False,
        "Pending, PodScheduled=False (Unschedulable 0/3 nodes)",
    ),
    (
        "pod without its image",
        thing("Pod", {"phase": "Pending", "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}]}),
        False,
        False,
        "Pending, c: ErrImagePull (no)",
    ),
    ("pod not scheduled", thing("Pod", {"phase": "Pending"}), False, False, "Pending, not looked at by the scheduler yet"),
    ("pod on a node", thing("Pod", {"phase": "Pending"}, {"nodeName": "a"}), False, False, "Pending, not ready"),
    ("pod starting", thing("Pod", {"phase": "Running", **having(Ready="False")}), False, False, "Running, not ready"),
    ("job complete", thing("Job", having(Complete="True")), True, False, "Complete"),
    (
        "job failed",
        thing("Job", {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}]}),
        False,
        True,
        "Failed (BackoffLimitExceeded too often)",
    ),
    ("job at work", thing("Job", {"active": 1, "failed": 2}), False, False, "1 active, 0 succeeded, 2 failed"),
    ("API service", thing("APIService", having(Available="True")), True, False, "Available=True"),
    ("API service missing", thing("APIService", having(Available="False")), False, False, "Available=False"),
    ("definition", thing("CustomResourceDefinition", having(Established="True", NamesAccepted="True")), True, False, "Established=True"),
    ("definition in conflict", thing("CustomResourceDefinition", having(NamesAccepted="False")), False, True, "NamesAccepted=False"),
    ("namespace", thing("Namespace", {"phase": "Active"}), True, False, "Active"),
    ("claim", thing("PersistentVolumeClaim", {"phase": "Pending"}), False, False, "Pending"),
    ("service", thing("Service", {}, {"type": "ClusterIP"}), True, False, "exists"),
    ("load balancer", thing("Service", {"loadBalancer": {}}, {"type": "LoadBalancer"}), False, False, "no load balancer address yet"),
    ("load balancer up", thing("Service", {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}, {"type": "LoadBalancer"}), True, False, "exists"),
    ("config map", thing("ConfigMap"), True, False, "exists"),
    ("unknown kind", thing("Widget", having(Ready="True")), True, False, "Ready=True"),
    ("unknown kind without a condition", thing("Widget"), False, False, "no condition Ready yet"),
]


@pytest.mark.parametrize(("obj", "ok", "failed", "words"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_readiness(obj: Object, ok: bool, failed: bool, words: str) -> None:
    verdict = readiness(obj)
    assert (verdict.ok, verdict.failed, verdict.what) == (ok, failed, words)


def timed_out(at: str, *written: tuple[str, Object], **status: t.Any) -> Object:
    """A Deployment whose controller gave up at C(at), and the times at which managers wrote their fields."""
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "lastUpdateTime": at}
    entries = [{"manager": f"m{number}", "time": time, **entry} for number, (time, entry) in enumerate(written)]
    spec = {"progressDeadlineSeconds": 60}
    return thing("Deployment", {"observedGeneration": 2, "conditions": [condition], **status}, spec, generation=2, managedFields=entries)


SPEC: Object = {"fieldsV1": {"f:spec": {"f:template": {}}}}
LABELS: Object = {"fieldsV1": {"f:metadata": {"f:labels": {}}}}
STATUS: Object = {"fieldsV1": {"f:status": {}}, "subresource": "status"}
COMPLETE: Object = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
OF_BEFORE = "Progressing=False (ProgressDeadlineExceeded) from before the last change of its spec"


@pytest.mark.parametrize(
    ("obj", "changed", "failed", "patience"),
    [
        (timed_out("2026-01-01T00:05:00Z", ("2026-01-01T00:00:00Z", SPEC)), None, True, 0.0),
        (timed_out("2026-01-01T00:05:00Z", ("2026-01-01T00:04:00Z", SPEC)), None, True, 0.0),
        (timed_out("2026-01-01T00:05:00Z", ("2026-01-01T00:09:00Z", SPEC)), None, True, 60.0),
        (timed_out("2026-01-01T00:05:00Z", ("2026-01-01T00:00:00Z", SPEC), ("2026-01-01T00:09:00Z", SPEC)), None, True, 60.0),
        # A template that came a moment before the deadline of the one before it
        (timed_out("2026-01-01T00:05:00Z", ("2026-01-01T00:04:50Z", SPEC)), None, True, 60.0),
        (timed_out("2026-01-01T00:05:00Z", ("2026-01-01T00:09:00Z", LABELS)), None, True, 0.0),
        (timed_out("2026-01-01T00:05:00Z", ("2026-01-01T00:09:00Z", STATUS)), None, True, 0.0),
        (timed_out("2026-01-01T00:05:00Z", ("", SPEC)), None, True, 0.0),
        (timed_out("", ("2026-01-01T00:09:00Z", SPEC)), None, True, 0.0),
        # Whoever only removes fields leaves no time, but may know it
        (timed_out("2026-01-01T00:05:00Z", ("2026-01-01T00:00:00Z", SPEC)), "2026-01-01T00:09:00Z", True, 60.0),
        (timed_out("2026-01-01T00:05:00Z", ("2026-01-01T00:09:00Z", SPEC)), "2026-01-01T00:00:00Z", True, 60.0),
        (timed_out("2026-01-01T00:05:00Z", ("2026-01-01T00:00:00Z", SPEC), **COMPLETE), None, False, 0.0),
    ],
)
def test_a_deadline_that_a_former_template_missed_says_nothing_of_the_present(obj: Object, changed: str | None, failed: bool, patience: float) -> None:
    moment = nanoseconds(changed)
    verdict = readiness(obj, changed_at=None if moment is None else moment / NANO)
    assert (verdict.ok, verdict.failed, verdict.patience) == (not failed, failed, patience)
    assert (OF_BEFORE in verdict.what) is (patience > 0)


def test_a_quota_is_told_beside_a_deadline_of_before() -> None:
    obj = timed_out("2026-01-01T00:05:00Z", ("2026-01-01T00:09:00Z", SPEC))
    obj["status"]["conditions"].append(QUOTA)
    verdict = readiness(obj)
    assert (verdict.failed, verdict.patience) == (True, 30.0)
    assert "exceeded quota" in verdict.what


@pytest.mark.parametrize(
    ("reported", "ok", "words"),
    [("v1.34.1+lab1", True, "Ready=True"), ("v1.33.0+lab1", False, "Ready=True, kubelet reports v1.33.0+lab1, not v1.34.1+lab1")],
)
def test_the_kubelet_itself_has_to_report_the_version(reported: str, ok: bool, words: str) -> None:
    verdict = readiness(thing("Node", {**having(Ready="True"), "nodeInfo": {"kubeletVersion": reported}}), kubelet_version="v1.34.1+lab1")
    assert (verdict.ok, verdict.what) == (ok, words)


@pytest.mark.parametrize(
    ("phase", "owner", "leftover"),
    [("Failed", "ReplicaSet", True), ("Failed", "Job", False), ("Failed", None, False), ("Running", "ReplicaSet", False)],
)
def test_failed_pods_of_replacing_controllers_are_leftovers(phase: str, owner: str | None, leftover: bool) -> None:
    owners = [{"kind": owner, "controller": True}] if owner else []
    assert is_leftover(thing("Pod", {"phase": phase}, ownerReferences=owners)) is leftover


def waiting(reason: str, restarts: int = 0, **more: t.Any) -> Object:
    return {"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": restarts, "state": {"waiting": {"reason": reason}}, **more}]}


@pytest.mark.parametrize(
    ("status", "failed", "patience", "words"),
    [
        ({"phase": "Running", **having(Ready="True")}, False, 0.0, "Ready=True"),
        (waiting("ContainerCreating"), False, 0.0, "Running, c: ContainerCreating"),
        (waiting("CrashLoopBackOff", 2), False, 0.0, "Running, c: CrashLoopBackOff"),
        (waiting("CrashLoopBackOff", 3), True, 0.0, "c crashed 3 times"),
        (waiting("CrashLoopBackOff", 3, lastState={"terminated": {"exitCode": 9}}), True, 0.0, "c crashed 3 times, the last one with exit code 9"),
        (waiting("InvalidImageName"), True, 0.0, "Running, c: InvalidImageName"),
        (waiting("ImagePullBackOff"), True, 30.0, "Running, c: ImagePullBackOff"),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]},
            True,
            30.0,
            "Pending, PodScheduled=False (Unschedulable)",
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]},
            False,
            0.0,
            "Pending, PodScheduled=False (SchedulingGated)",
        ),
        ({"phase": "Failed", "reason": "Evicted"}, False, 0.0, "Failed (Evicted)"),
    ],
)
def test_trouble_of_pods(status: Object, failed: bool, patience: float, words: str) -> None:
    verdict = trouble(thing("Pod", status))
    assert (verdict.failed, verdict.patience, verdict.what) == (failed, patience, words)
    assert verdict.ok is (words == "Ready=True")
