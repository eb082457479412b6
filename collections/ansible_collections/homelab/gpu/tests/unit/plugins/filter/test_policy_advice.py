# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.policy_advice import policy_advice
from ansible_collections.homelab.gpu.plugins.filter.policy_objects import policy_objects

Object = dict[str, t.Any]

HOST = "kubernetes.io/hostname"
GPU = "nvidia.com/gpu"


def node(name: str, gpus: int = 0, labels: Object | None = None, taints: list[Object] | None = None) -> Object:
    status = {"allocatable": {"cpu": "4", GPU: str(gpus)}}
    return {"kind": "Node", "metadata": {"name": name, "labels": {HOST: name, **(labels or {})}}, "spec": {"taints": taints or []}, "status": status}


def workload(name: str, kind: str = "Deployment", replicas: int = 1, resources: Object | None = None, namespace: str = "ml", **content: t.Any) -> Object:
    """C(content): C(spec) of the pods, C(strategy), C(labels)."""
    template = {
        "metadata": {"labels": content.get("labels", {"app": name})},
        "spec": {"containers": [{"name": "main", "resources": resources or {}}], **content.get("spec", {})},
    }
    spec = {"replicas": replicas, "template": template, **({"strategy": content["strategy"]} if "strategy" in content else {})}
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def pod(name: str, where: str, gpus: int, namespace: str = "other", **labels: str) -> Object:
    containers = [{"name": "main", "resources": {"limits": {GPU: str(gpus)}}}]
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": where, "containers": containers},
        "status": {"phase": "Running"},
    }


def foreign(kind: str, name: str, spec: Object, namespace: str = "ml", **content: t.Any) -> Object:
    return {"kind": kind, "metadata": {"name": name, **({"namespace": namespace} if namespace else {})}, "spec": spec, **content}


def row(name: str = "vllm", **content: t.Any) -> Object:
    return {"services": [{"name": name, **content}]}


def advice(found: list[Object], replace: bool = False, **settings: t.Any) -> list[dict[str, str]]:
    whole = {"namespace": "ml", **settings}
    return policy_advice(found, whole, policy_objects(whole)["objects"], replace)


NODES = [node("one"), node("two"), node("gpu", gpus=4)]
SLICE = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {GPU: 1}}
APART = {
    "affinity": {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": "vllm"}}}]}
    }
}
CPU = {"requests": {"cpu": "100m"}}
HPA = {"max_replicas": 3, "cpu_percent": 70}
CLAIM = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "models"}}]}
BY_HAND = foreign("PodDisruptionBudget", "by-hand", {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "vllm"}}})
METRICS = [{"kind": "APIService", "metadata": {"name": "v1beta1.metrics.k8s.io"}}]


def claim(mode: str) -> Object:
    return foreign("PersistentVolumeClaim", "models", {"accessModes": [mode]})


def priority_class(name: str, value: int, **content: t.Any) -> Object:
    return {"kind": "PriorityClass", "metadata": {"name": name}, "value": value, **content}


# Name, objects, settings, severity, what is said; None where nothing may be said but notes
CASES: list[tuple[str, list[Object], Object, str | None, str]] = [
    # Budgets
    ("budget of one of one", [workload("vllm")], row(pdb={"min_available": 1}), "error", "minAvailable 1 of 1 pod (Deployment vllm) lets none go"),
    ("budget of all in percent", [workload("vllm", replicas=3)], row(pdb={"min_available": "90%"}), "error", "minAvailable 90% of 3 pods"),
    ("budget that lets none go", [workload("vllm", replicas=3)], row(pdb={"max_unavailable": 0}), "error", "maxUnavailable 0 of 3 pods"),
    ("budget of a planned service", [], row(replicas=2, pdb={"min_available": 2}), "error", "or min_available of at most 1"),
    ("budget below the autoscaler's least", [workload("vllm", resources=CPU)], row(pdb={"min_available": 1}, hpa=HPA), "warning", "no more than 1 pods"),
    ("budget above the autoscaler's most", [workload("vllm", resources=CPU)], row(pdb={"min_available": 3}, hpa=HPA), "error", "minAvailable 3 of 3 pods"),
    ("budget of one of two", [workload("vllm", replicas=2)], row(pdb={"min_available": 1}), None, ""),
    ("budget of none", [workload("vllm")], row(pdb={"min_available": 0}), None, ""),
    ("safe budget of one", [workload("vllm")], row(), None, ""),
    ("budget of what is scaled to none", [workload("vllm", replicas=0)], row(pdb={"min_available": 1}), None, ""),
    ("budget of who knows how many", [], row(pdb={"min_available": 1}), None, ""),
    ("two budgets", [workload("vllm"), BY_HAND], row(), "error", "PodDisruptionBudget by-hand and inference_policies_services[vllm].pdb both select"),
    ("two budgets of a bare pod", [pod("vllm-0", "one", 0, "ml", app="vllm"), BY_HAND], row(), "error", "both select the pods of"),
    # Autoscalers
    ("autoscaler without requests", [workload("vllm"), *METRICS], row(hpa=HPA), "error", "the container main of the Deployment vllm has no request of cpu"),
    ("autoscaler of a planned service without requests", METRICS, row(hpa=HPA, resources={"limits": {"memory": "1Gi"}}), "error", "has no request of cpu"),
    ("autoscaler with a limit range", [workload("vllm"), *METRICS], {**row(hpa=HPA), "limits": {"default_request": {"cpu": "1"}}}, None, ""),
    ("autoscaler with a limit, which is a request, too", [workload("vllm", resources={"limits": {"cpu": "1"}}), *METRICS], row(hpa=HPA), None, ""),
    (
        "autoscaler without metrics",
        [workload("vllm", resources=CPU), {**METRICS[0], "metadata": {"name": "v1.apps"}}],
        row(hpa=HPA),
        "warning",
        "serves metrics.k8s.io",
    ),
    (
        "autoscaler by a queue that nobody counts",
        [workload("vllm", resources=CPU), *METRICS],
        row(hpa={**HPA, "queue_depth": 10}),
        "warning",
        "nothing serves custom.metrics.k8s.io, so inference_queue_depth is unknown",
    ),
    (
        "two autoscalers",
        [
            workload("vllm", resources=CPU),
            foreign("HorizontalPodAutoscaler", "old", {"scaleTargetRef": {"kind": "Deployment", "name": "vllm"}, "maxReplicas": 2}),
        ],
        row(hpa=HPA),
        "error",
        "scales the Deployment vllm, too",
    ),
    (
        "autoscaler of nothing",
        [foreign("HorizontalPodAutoscaler", "old", {"scaleTargetRef": {"kind": "Deployment", "name": "gone"}, "maxReplicas": 2})],
        {},
        "warning",
        "there is no Deployment gone",
    ),
    # GPUs
    ("more pods than slices", [*NODES, workload("vllm", replicas=5, resources=SLICE)], row(), "error", "have devices for 4"),
    ("autoscaler beyond the slices", [*NODES, workload("vllm", resources=SLICE), *METRICS], row(hpa={**HPA, "max_replicas": 5}), "warning", "stay Pending"),
    (
        "autoscaler beyond the free slices",
        [*NODES, workload("vllm", resources=SLICE), pod("x", "gpu", 2), *METRICS],
        row(hpa=HPA),
        "warning",
        "others leave devices for 2",
    ),
    ("its own pods hold the slices", [*NODES, workload("vllm", replicas=3, resources=SLICE), pod("x", "gpu", 3, "ml", app="vllm")], row(), None, ""),
    ("no GPU now", [node("gpu"), workload("vllm", resources=SLICE)], row(), "warning", "offers 1 nvidia.com/gpu now"),
    (
        "a GPU behind a taint",
        [node("gpu", 1, taints=[{"key": "gpu", "value": "true", "effect": "NoSchedule"}]), workload("vllm", resources=SLICE)],
        row(),
        "warning",
        "no node on which the Deployment vllm may run offers",
    ),
    (
        "a GPU behind a taint that is tolerated",
        [
            node("gpu", 2, taints=[{"key": "gpu", "value": "true", "effect": "NoSchedule"}, {"key": "homelab.gpu/leaving", "effect": "NoSchedule"}]),
            workload("vllm", resources=SLICE, spec={"tolerations": [{"key": "gpu", "value": "true", "operator": "Equal"}]}),
        ],
        row(),
        None,
        "",
    ),
    (
        "a GPU on another node",
        [node("gpu", 1), workload("vllm", resources=SLICE, spec={"nodeSelector": {"gpu-type": "p40"}})],
        row(),
        "warning",
        "no node on which",
    ),
    (
        "rolling update of the only GPU",
        [node("gpu", 1), workload("vllm", resources=SLICE)],
        row(),
        "error",
        "a new version of the Deployment vllm begins with one more",
    ),
    ("recreate on the only GPU", [node("gpu", 1), workload("vllm", resources=SLICE, strategy={"type": "Recreate"})], row(), None, ""),
    (
        "rolling update that lets go first",
        [node("gpu", 1), workload("vllm", resources=SLICE, strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}})],
        row(),
        None,
        "",
    ),
    ("rolling update with room", [node("gpu", 2), workload("vllm", resources=SLICE)], row(), None, ""),
    # Anti-affinity
    ("more pods than nodes", [*NODES, workload("vllm", replicas=4, spec=APART)], row(), "error", "no node may have two of the 4 pods"),
    ("more planned pods than nodes", NODES, row(replicas=4, affinity="required-host"), "error", "they may run on 3 nodes"),
    ("autoscaler beyond the nodes", NODES, row(affinity="required-host", hpa={**HPA, "max_replicas": 4}), "warning", "no node may have two of up to 4"),
    (
        "no node for a new version that lets go first",
        [*NODES, workload("vllm", replicas=3, spec=APART, strategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}})],
        row(),
        None,
        "",
    ),
    (
        "no node for a new version that begins with one more",
        [*NODES, workload("vllm", replicas=3, spec=APART, strategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})],
        row(),
        "error",
        "a new version begins with one more",
    ),
    ("preferred only", NODES, row(replicas=9, affinity="preferred-host"), None, ""),
    # Volumes
    ("one volume, two pods", [claim("ReadWriteOnce"), workload("vllm", replicas=2, spec=CLAIM)], row(), "warning", "it is ReadWriteOnce: up to 2 pods"),
    (
        "one volume, two pods that may not meet",
        [*NODES, claim("ReadWriteOnce"), workload("vllm", replicas=2, spec={**CLAIM, **APART})],
        row(),
        "error",
        "but no node may have two of them",
    ),
    ("a volume for one pod", [claim("ReadWriteOncePod"), workload("vllm", replicas=2, spec=CLAIM)], row(), "error", "one pod at a time may use it"),
    ("a volume for all", [claim("ReadWriteMany"), workload("vllm", replicas=2, spec=CLAIM)], row(), None, ""),
    ("one volume, one pod", [claim("ReadWriteOnce"), workload("vllm", spec=CLAIM)], row(), None, ""),
    # Quotas
    (
        "quota of no pod",
        [workload("vllm", resources={"limits": {"memory": "8Gi"}})],
        {**row(), "quota": {"hard": {"limits.memory": "4Gi"}}},
        "error",
        "takes 8Gi: none",
    ),
    ("quota below the replicas", [workload("vllm", replicas=11)], {**row(), "quota": {"hard": {"pods": 10}}}, "error", "it allows 10, and 11 pods of"),
    (
        "quota of GPUs",
        [workload("vllm", replicas=5, resources=SLICE)],
        {**row(), "quota": {"hard": {f"requests.{GPU}": 4}}},
        "error",
        "it allows 4, and 5 pods",
    ),
    ("quota below the autoscaler's most", METRICS, {**row(hpa=HPA), "quota": {"hard": {"pods": 2}}}, "warning", "up to 3 pods of the Deployment vllm take 3"),
    ("quota below all together", [workload("vllm"), workload("x", replicas=2)], {**row(), "quota": {"hard": {"pods": 2}}}, "warning", "together take 3"),
    ("quota without requests", [workload("vllm")], {**row(), "quota": {"hard": {"requests.memory": "4Gi"}}}, "error", "main of the Deployment vllm does not"),
    ("quota of cpu by its short name", [workload("vllm")], {**row(), "quota": {"hard": {"cpu": "4"}}}, "error", "has to say requests.cpu; main"),
    (
        "quota with a limit range",
        [workload("vllm")],
        {**row(), "quota": {"hard": {"requests.memory": "4Gi", "limits.memory": "4Gi"}}, "limits": {"default": {"memory": "1Gi"}}},
        None,
        "",
    ),
    ("quota of another scope", [workload("vllm"), foreign("ResourceQuota", "q", {"hard": {"pods": "0"}, "scopes": ["BestEffort"]})], row(), None, ""),
    ("somebody's quota", [workload("vllm"), foreign("ResourceQuota", "q", {"hard": {"pods": "0"}})], row(), "error", "one pod of the Deployment vllm takes 1"),
    ("quota of what pods do not count for", [workload("vllm")], {**row(), "quota": {"hard": {"services": 1, "count/jobs.batch": 1}}}, None, ""),
    # Priority classes
    ("class that is not there", [], row(priority_class="high"), "error", "name the priority class high, which is not there"),
    ("class of a workload that is not there", [workload("vllm", spec={"priorityClassName": "high"})], row(), "error", "name the priority class high"),
    ("class that is made", [], {**row(priority_class="high"), "priority_classes": [{"name": "high", "value": 1}]}, None, ""),
    ("Kubernetes' own class", [], row(priority_class="system-node-critical"), None, ""),
    (
        "class with another value",
        [priority_class("high", 2)],
        {"priority_classes": [{"name": "high", "value": 1}]},
        "error",
        "it is 2 in the cluster and 1 here",
    ),
    (
        "class with another preemption policy",
        [priority_class("high", 1, preemptionPolicy="Never")],
        {"priority_classes": [{"name": "high", "value": 1}]},
        "error",
        "it is Never in the cluster and PreemptLowerPriority here",
    ),
    ("class as it is", [priority_class("high", 1)], {"priority_classes": [{"name": "high", "value": 1, "description": "new"}]}, None, ""),
    (
        "two default classes",
        [priority_class("theirs", 1, globalDefault=True)],
        {"priority_classes": [{"name": "ours", "value": 2, "global_default": True}]},
        "error",
        "ours, theirs are all the default",
    ),
    # Selectors
    (
        "selector that fits no pod",
        [workload("vllm", labels={"app": "vllm-server"})],
        row(),
        "error",
        "it is app=vllm, and the pods of the Deployment vllm have app=vllm-server",
    ),
    ("selector of a budget that fits none", [BY_HAND], {}, "warning", "its selector matches no workload"),
    # Network policies
    (
        "names that nobody resolves",
        [],
        {"services": [{"name": "a", "network": {"to": [{"service": "b"}]}}, {"name": "b"}], "network": {"dns": False}},
        "error",
        "the pods of Deployment a may reach others, but not the DNS",
    ),
    ("nobody at all", [], {**row(network={"to": []}), "network": {"dns": False}}, "warning", "may reach nobody, not even the DNS"),
    ("the DNS and nobody else", [], row(network={"to": []}), None, ""),
    ("default deny with the DNS", [], {**row(), "network": {"default_deny": ["ingress", "egress"]}}, None, ""),
    ("default deny without the DNS", [], {**row(), "network": {"default_deny": ["egress"], "dns": False}}, "warning", "not even the DNS"),
    (
        "the DNS by UDP only",
        [
            workload("vllm"),
            foreign("NetworkPolicy", "n", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"protocol": "UDP", "port": 53}]}]}),
        ],
        row(),
        "warning",
        "may ask the DNS by UDP only",
    ),
    (
        "the DNS within a range of ports",
        [
            workload("vllm"),
            foreign("NetworkPolicy", "n", {"podSelector": {}, "egress": [{"ports": [{"port": 1, "endPort": 99, "protocol": p} for p in ("UDP", "TCP")]}]}),
        ],
        row(),
        None,
        "",
    ),
    (
        "everything is allowed",
        [workload("vllm"), foreign("NetworkPolicy", "n", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]})],
        row(),
        None,
        "",
    ),
]


@pytest.mark.parametrize(("found", "settings", "severity", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_advice(found: list[Object], settings: Object, severity: str | None, words: str) -> None:
    told = [one for one in advice(found, **settings) if one["severity"] != "note"]
    if severity is None:
        assert told == []
        return
    assert [one["severity"] for one in told if words in one["why"] or words in one["fix"]] == [severity], told
    assert all(one["setting"] and one["fix"] for one in told)


def test_errors_come_first_and_name_service_setting_and_fix() -> None:
    told = advice([workload("vllm")], **row(priority_class="high", pdb={"min_available": 1}), network={"default_deny": ["ingress"]})
    assert [(one["severity"], one["service"], one["setting"]) for one in told] == [
        ("error", "vllm", "inference_policies_services[vllm].pdb"),
        ("error", "vllm", "inference_policies_services[vllm].priority_class"),
        ("note", "vllm", "inference_policies_network"),
    ]
    assert told[0]["fix"] == "use max_unavailable 1, or min_available 0, or more replicas"


def test_what_is_no_longer_wanted_counts_as_removed() -> None:
    before = policy_objects({"namespace": "ml", **row(pdb={"name": "old", "min_available": 1}), "quota": {"hard": {"pods": 0}}})["objects"]
    assert {one["severity"] for one in policy_advice([*before, workload("vllm")], {"namespace": "ml"})} == {"error"}
    assert [one for one in advice([*before, workload("vllm")], **row()) if one["severity"] != "note"] == []


def test_a_class_that_others_still_name_is_not_removed() -> None:
    before = policy_objects({"namespace": "ml", "priority_classes": [{"name": "high", "value": 1}]})["objects"]
    (told,) = advice([*before, workload("x", namespace="other", spec={"priorityClassName": "high"})])
    assert told["severity"] == "error"
    assert "the Deployment other/x names it" in told["why"]


def test_classes_may_be_replaced_on_demand() -> None:
    settings = {"priority_classes": [{"name": "high", "value": 1}]}
    assert [one["severity"] for one in advice([priority_class("high", 2)], **settings)] == ["error"]
    assert advice([priority_class("high", 2)], replace=True, **settings) == []


def test_other_namespaces_are_nobody_s_business() -> None:
    others = [workload("vllm", namespace="other"), foreign("PodDisruptionBudget", "x", {"minAvailable": 1, "selector": {}}, "other")]
    assert policy_advice(others, {"namespace": "ml"}) == []


def test_what_no_object_is() -> None:
    with pytest.raises(AnsibleFilterError, match="policy_advice: KeyError"):
        policy_advice([{"kind": "Node"}], {"namespace": "ml"})
