# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._scale import Concern, autoscaler_concern, claim_concern, claims_of, has_scaled, pod_after
from ansible_collections.homelab.gpu.plugins.module_utils._workloads import Place

Object = dict[str, t.Any]

PLACE = Place("workloads[0]", "Deployment", "web", "default")
HOST = "kubernetes.io/hostname"


def autoscaler(api_version: str | None = "apps/v1", kind: str = "Deployment", name: str = "web") -> Object:
    target = {"kind": kind, "name": name, **({"apiVersion": api_version} if api_version else {})}
    return {"metadata": {"name": "hpa"}, "spec": {"scaleTargetRef": target, "maxReplicas": 4}}


@pytest.mark.parametrize(
    ("found", "current", "wanted", "hopeless", "words"),
    [
        (autoscaler(), 1, 3, True, "holds the replicas between 1 and 4"),
        (autoscaler(None), 3, 1, True, "holds the replicas"),
        (autoscaler("apps/v1beta2"), 1, 3, True, "holds the replicas"),
        (autoscaler(), 3, 0, False, "rests until there are replicas again"),
        (autoscaler(), 0, 3, False, "takes over from here"),
        (autoscaler("example.com/v1"), 1, 3, None, ""),
        (autoscaler(kind="StatefulSet"), 1, 3, None, ""),
        (autoscaler(name="other"), 1, 3, None, ""),
    ],
)
def test_autoscalers(found: Object, current: int, wanted: int, hopeless: bool | None, words: str) -> None:
    concern = autoscaler_concern([found], PLACE, current, wanted)
    assert (concern and concern.hopeless) is hopeless
    assert words in (concern.what if concern else "")


def test_only_claims_that_pods_share() -> None:
    volumes = [
        {"name": "a", "persistentVolumeClaim": {"claimName": "shared"}},
        {"name": "b", "persistentVolumeClaim": {"claimName": "shared", "readOnly": True}},
        {"name": "c", "ephemeral": {"volumeClaimTemplate": {}}},
        {"name": "d", "emptyDir": {}},
    ]
    assert claims_of({"spec": {"volumes": volumes}}) == ["shared"]
    assert claims_of({}) == []


def claim(*modes: str) -> Object:
    return {"spec": {"accessModes": list(modes)}}


def volume(*nodes: str, **source: t.Any) -> Object:
    terms = [{"matchExpressions": [{"key": HOST, "operator": "In", "values": list(nodes)}]}]
    return {"spec": {**source, **({"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}} if nodes else {})}}


def template(selector: Object | None = None, topology: str = HOST) -> Object:
    terms = [{"labelSelector": selector, "topologyKey": topology}] if selector else []
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return {"metadata": {"labels": {"app": "web", "tier": "front"}}, "spec": {"affinity": affinity}}


APART = template({"matchLabels": {"app": "web"}})
RWO = claim("ReadWriteOnce")


@pytest.mark.parametrize(
    ("claim", "volume", "template", "wanted", "hopeless", "words"),
    [
        (None, None, template(), 1, True, "does not exist, so no pod could be scheduled"),
        (claim("ReadWriteOncePod"), None, template(), 2, True, "only one of 2 pods could ever start"),
        (claim("ReadWriteOncePod"), None, template(), 1, None, ""),
        (claim("ReadWriteMany"), None, APART, 2, None, ""),
        (claim("ReadOnlyMany", "ReadWriteOnce"), None, APART, 2, None, ""),
        (claim("ReadWriteOnce", "ReadWriteOncePod"), None, template(), 2, False, "attached to one node at a time"),
        (RWO, None, template(), 2, False, "others would hang in ContainerCreating"),
        (RWO, volume(csi={"driver": "block.example.com"}), template(), 2, False, "attached to one node at a time"),
        (RWO, volume(csi={"driver": "block.example.com"}), APART, 2, True, "their podAntiAffinity keeps them on different nodes"),
        (RWO, volume("n1"), template(), 2, False, "local to n1, so all 2 pods have to run there"),
        (RWO, volume("n1"), APART, 2, True, "local to n1"),
        (RWO, volume("n1", "n2"), APART, 2, False, "local to n1, n2"),
        (RWO, volume(nfs={"server": "s"}), APART, 2, False, "does not enforce"),
        (RWO, volume(csi={"driver": "nfs.csi.k8s.io"}), APART, 2, False, "does not enforce"),
        (RWO, None, template({"matchLabels": {"app": "other"}}), 2, False, ""),
        (RWO, None, template({"matchLabels": {"app": "web"}}, "topology.kubernetes.io/zone"), 2, False, ""),
        (RWO, None, template({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}), 2, True, ""),
        (RWO, None, template({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}), 2, False, ""),
        (RWO, None, template({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}), 2, True, ""),
        (RWO, None, template({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}), 2, False, ""),
    ],
)
def test_claims(claim: Object | None, volume: Object | None, template: Object, wanted: int, hopeless: bool | None, words: str) -> None:
    concern: Concern | None = claim_concern("weights", claim, volume, template, wanted)
    assert (concern and concern.hopeless) is hopeless
    assert words in (concern.what if concern else "")


def deployment(observed: int = 2, **status: t.Any) -> Object:
    return {"kind": "Deployment", "metadata": {"name": "web", "generation": 2}, "status": {"observedGeneration": observed, **status}}


QUOTA = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}


@pytest.mark.parametrize(
    ("workload", "path", "ok", "failed", "what"),
    [
        (deployment(replicas=2, readyReplicas=2), "", True, False, "replicas: 2"),
        (deployment(replicas=2, readyReplicas=1), "", False, False, "replicas: 2, ready: 1, not 2"),
        (deployment(1, replicas=2, readyReplicas=2), "", False, False, "the controller has seen generation 1 of 2"),
        (deployment(replicas=1, readyReplicas=1, conditions=[QUOTA]), "", False, True, "not 2, ReplicaFailure (FailedCreate: exceeded quota)"),
        (deployment(replicas=2, readyReplicas=2, conditions=[QUOTA]), "", True, False, "replicas: 2"),
        ({"kind": "Widget", "metadata": {}, "status": {"size": 2}}, ".status.size", True, False, "replicas: 2"),
        ({"kind": "Widget", "metadata": {}}, ".status.size", False, False, "replicas: 0, not 2"),
        ({"kind": "Widget", "metadata": {"deletionTimestamp": "x"}}, ".status.size", False, True, "is being deleted"),
    ],
)
def test_has_scaled(workload: Object, path: str, ok: bool, failed: bool, what: str) -> None:
    verdict = has_scaled(2, path)(workload)
    assert (verdict.ok, verdict.failed) == (ok, failed)
    assert what in verdict.what


READY = {"metadata": {}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
ENDING = {"metadata": {"deletionTimestamp": "then"}, "status": READY["status"]}
BROKEN = {"metadata": {}, "status": {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "InvalidImageName"}}}]}}


@pytest.mark.parametrize(
    ("pod", "before", "wanted", "ok", "failed", "patience"),
    [
        (READY, 1, 2, True, False, 0),
        (READY, 2, 1, True, False, 0),
        (READY, 1, 0, False, False, 0),
        (ENDING, 1, 2, True, False, 0),
        (ENDING, 2, 1, False, False, 0),
        (ENDING, 0, 0, False, False, 0),
        (BROKEN, 1, 2, False, True, 0),
        (BROKEN, 2, 1, False, True, 5),
        (BROKEN, 1, 0, False, False, 0),
    ],
)
def test_pods(pod: Object, before: int, wanted: int, ok: bool, failed: bool, patience: float) -> None:
    verdict = pod_after(before, wanted)(pod)
    assert (verdict.ok, verdict.failed, verdict.patience) == (ok, failed, patience)
