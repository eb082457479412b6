# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's objects number for number, from nothing but inventory variables; its defaults and specifications."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml

from ansible_collections.homelab.gpu.plugins.filter.policy_objects import policy_objects
from ansible_collections.homelab.gpu.plugins.plugin_utils._policy_settings import DEFAULTS
from ansible_collections.homelab.gpu.tests.unit.rendered import COLLECTION, expect_valid, find, rendered

Object = dict[str, t.Any]

ROLE = "inference_policies"
OBJECTS = "{{ __inference_policies_plan.objects }}"
EXAMPLES = pathlib.Path(__file__).parent / "policies"


def variables(name: str) -> Object:
    return yaml.safe_load((EXAMPLES / f"{name}.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made() -> dict[str, list[Object]]:
    """Objects by example; a problem would be among them, and no object."""
    return {name: rendered(ROLE, "{{ __inference_policies_problems }}", OBJECTS, **variables(name)) for name in ("s0", "s1", "s3")}


@pytest.mark.parametrize("name", ["s0", "s1", "s3"])
def test_examples_are_free_of_problems_and_valid_by_kubernetes_schemas(made: dict[str, list[Object]], name: str) -> None:
    assert [one for one in made[name] if isinstance(one, str)] == []
    expect_valid(made[name])
    namespace, *others = made[name]
    assert namespace == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace["metadata"]["name"]}}
    assert all(one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "homelab-gpu" for one in others)


def test_nothing_but_a_namespace_by_default() -> None:
    (namespace,) = rendered(ROLE, OBJECTS)
    assert (namespace["kind"], namespace["metadata"]["name"]) == ("Namespace", "ml")


def test_s0_never_blocks_a_drain(made: dict[str, list[Object]]) -> None:
    budget = find(made["s0"], "PodDisruptionBudget", "vllm-pdb")
    assert budget["metadata"]["namespace"] == "ml"
    assert budget["spec"] == {"minAvailable": 0, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": {"matchLabels": {"app": "vllm-server"}}}
    # Of services whose row says nothing of it, the safe default
    assert find(made["s0"], "PodDisruptionBudget", "ollama-pdb")["spec"] == {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": {"app": "ollama"}},
    }


def test_s1_numbers(made: dict[str, list[Object]]) -> None:
    classes = {one["metadata"]["name"]: one for one in made["s1"] if one["kind"] == "PriorityClass"}
    values = {"forge-llm-critical": 1_000_000, "forge-high": 100_000, "forge-normal": 10_000, "forge-low": 1_000}
    assert {name: one["value"] for name, one in classes.items()} == values
    assert {(one["globalDefault"], one["preemptionPolicy"]) for one in classes.values()} == {(False, "PreemptLowerPriority")}
    quota = find(made["s1"], "ResourceQuota", "inference-quota")
    assert quota["metadata"]["namespace"] == "forge-cognition"
    assert quota["spec"] == {"hard": {"requests.nvidia.com/gpu": "4", "requests.memory": "32Gi", "limits.memory": "64Gi", "pods": "10"}}
    (limits,) = find(made["s1"], "LimitRange", "inference-limits")["spec"]["limits"]
    assert limits == {"type": "Container", "default": {"memory": "1Gi"}, "defaultRequest": {"memory": "256Mi"}}
    spec = find(made["s1"], "HorizontalPodAutoscaler", "inference-server-hpa")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 4)
    assert spec["metrics"] == [
        {"type": "Pods", "pods": {"metric": {"name": "gpu_utilization"}, "target": {"type": "AverageValue", "averageValue": "80"}}},
    ]


@pytest.mark.parametrize("name", ["max-serve-llama", "max-serve-qwen", "max-serve-deepseek"])
def test_s3_autoscalers(made: dict[str, list[Object]], name: str) -> None:
    scaler = find(made["s3"], "HorizontalPodAutoscaler", f"{name}-hpa")
    assert scaler["apiVersion"] == "autoscaling/v2"
    assert scaler["metadata"]["namespace"] == "ai-platform"
    assert scaler["spec"] == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": 1,
        "maxReplicas": 5,
        "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
            {"type": "Pods", "pods": {"metric": {"name": "inference_queue_depth"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
        ],
        "behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": 60,
                "selectPolicy": "Max",
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 30}, {"type": "Pods", "value": 2, "periodSeconds": 30}],
            },
            "scaleDown": {
                "stabilizationWindowSeconds": 300,
                "selectPolicy": "Min",
                "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}, {"type": "Pods", "value": 1, "periodSeconds": 60}],
            },
        },
    }


def test_s3_budgets(made: dict[str, list[Object]]) -> None:
    budgets = {one["metadata"]["name"]: one["spec"] for one in made["s3"] if one["kind"] == "PodDisruptionBudget"}
    scaled = ("max-serve-llama", "max-serve-qwen", "max-serve-deepseek", "agent-router", "gateway")
    stores = ("postgres", "redis", "qdrant")
    assert {name for name, spec in budgets.items() if spec.get("minAvailable") == 1} == {f"{name}-pdb" for name in scaled}
    assert {name for name, spec in budgets.items() if spec.get("maxUnavailable") == 1} == {f"{name}-pdb" for name in stores}


def test_network_policies_open_both_ends_and_nothing_else(made: dict[str, list[Object]]) -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in made["s3"] if one["kind"] == "NetworkPolicy"}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    dns = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    assert policies["allow-dns"] == {
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [{"to": [dns], "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}],
    }

    def pods(name: str) -> Object:
        return {"podSelector": {"matchLabels": {"app": name}}}

    def tcp(*ports: int) -> list[Object]:
        return [{"protocol": "TCP", "port": port} for port in ports]

    prometheus = {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}], "ports": tcp(8080)}
    assert policies["agent-router"] == {
        **pods("agent-router"),
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [pods("gateway")], "ports": tcp(8080)}, prometheus],
        "egress": [
            *({"to": [pods(name)], "ports": tcp(8080)} for name in ("max-serve-llama", "max-serve-qwen", "max-serve-deepseek")),
            {"to": [pods("redis")], "ports": tcp(6379)},
            {"to": [pods("qdrant")], "ports": tcp(6333, 6334)},
            {"to": [pods("postgres")], "ports": tcp(5432)},
        ],
    }
    assert policies["gateway"]["ingress"] == [{"ports": tcp(8080)}, prometheus]
    assert policies["gateway"]["egress"] == [{"to": [pods("agent-router")], "ports": tcp(8080)}]
    assert policies["qdrant"] == {**pods("qdrant"), "policyTypes": ["Ingress"], "ingress": [{"from": [pods("agent-router")], "ports": tcp(6333, 6334)}]}


ONE = {"name": "one", "network": {"ports": [80]}}


@pytest.mark.parametrize(
    ("services", "network", "policies"),
    [
        # Nothing keeps anybody from anything
        ([{"name": "one"}], {}, {}),
        ([{"name": "one", "network": {"ports": [80], "enabled": False}}], {}, {}),
        # Only what reaches it is said, and nobody does
        ([ONE], {}, {"one": {"ingress": []}}),
        # A service without a row for its network stays open, although another says that it speaks to it
        (
            [{"name": "one", "network": {"to": [{"service": "two"}]}}, {"name": "two"}],
            {"dns": False},
            {"one": {"ingress": [], "egress": [{"to": ["app=two"]}]}},
        ),
        ([{"name": "one", "network": {"to": []}}], {"dns": False}, {"one": {"ingress": [], "egress": []}}),
        ([{"name": "one", "network": {"to": []}}], {}, {"one": {"ingress": [], "egress": [{"to": ["DNS"], "ports": [53, 53]}]}}),
        # With a default, it is said for those who have no row, too
        (
            [{"name": "one", "network": {"ports": [80], "from": [{"service": "two"}]}}, {"name": "two"}],
            {"default_deny": ["egress"], "dns": False},
            {"default-deny": {}, "one": {"ingress": [{"from": ["app=two"], "ports": [80]}]}, "two": {"egress": [{"to": ["app=one"], "ports": [80]}]}},
        ),
        (
            [{"name": "one", "network": {"ports": [80], "metrics_port": 90, "from": [{"cidr": "192.0.2.0/24", "except": ["192.0.2.8/29"]}]}}],
            {"node_cidrs": ["198.51.100.0/24"], "prometheus": {"namespace": "m", "labels": {"app": "prometheus"}}},
            {
                "one": {
                    "ingress": [
                        {"from": ["192.0.2.0/24-192.0.2.8/29"], "ports": [80]},
                        {"from": ["m/app=prometheus"], "ports": [90]},
                        {"from": ["198.51.100.0/24"], "ports": [80, 90]},
                    ]
                }
            },
        ),
        (
            [
                {
                    "name": "one",
                    "network": {"ports": [80], "from": [{"anyone": True, "ports": [81]}, {"labels": {"a": "b"}}], "to": [{"anyone": True, "ports": [443]}]},
                }
            ],
            {"dns": False},
            {"one": {"ingress": [{"from": ["a=b"], "ports": [80]}, {"ports": [81]}], "egress": [{"ports": [443]}]}},
        ),
    ],
)
def test_network_policies(services: list[Object], network: Object, policies: Object) -> None:
    made = policy_objects({"namespace": "ml", "services": services, "network": network})["objects"]
    expect_valid(made, ["1.34"])
    found = {one["metadata"]["name"]: one["spec"] for one in made if one["kind"] == "NetworkPolicy"}
    assert {name: {part: [short(rule) for rule in spec[part]] for part in ("ingress", "egress") if part in spec} for name, spec in found.items()} == policies
    for name, spec in found.items():
        assert name == "default-deny" or spec["policyTypes"] == [part.capitalize() for part in ("ingress", "egress") if part in spec]


def short(rule: Object) -> Object:
    """A rule in few words."""

    def labels(selector: Object) -> str:
        return ",".join(f"{key}={value}" for key, value in selector["matchLabels"].items())

    def peer(one: Object) -> str:
        if "ipBlock" in one:
            return "-".join([one["ipBlock"]["cidr"], *one["ipBlock"].get("except", [])])
        namespace = one.get("namespaceSelector", {"matchLabels": {}})["matchLabels"].get("kubernetes.io/metadata.name", "")
        text = "/".join(filter(None, [namespace, labels(one["podSelector"]) if "podSelector" in one else ""]))
        return "DNS" if text == "kube-system/k8s-app=kube-dns" else text

    return {key: [port["port"] for port in value] if key == "ports" else [peer(one) for one in value] for key, value in rule.items()}


def test_numbers_given_as_text_and_parts_switched_off() -> None:
    given = {
        "inference_policies_services": [
            {
                "name": "one",
                "kind": "StatefulSet",
                "workload": "one-sts",
                "pdb": {"name": "mine", "min_available": "50%", "unhealthy_pod_eviction_policy": "IfHealthyBudget"},
                "hpa": {"min_replicas": "2", "max_replicas": "4", "memory_percent": "80", "vllm_waiting": "500m"},
            },
            {"name": "two", "pdb": {"enabled": False}, "hpa": {"enabled": "false", "max_replicas": 3, "cpu_percent": 50}},
        ],
        "inference_policies_priority_classes": [{"name": "low", "value": "-10", "preemption_policy": "Never", "global_default": "true"}],
    }
    made = rendered(ROLE, "{{ __inference_policies_problems }}", OBJECTS, **given)
    expect_valid(made)
    assert sorted(one["kind"] for one in made) == ["HorizontalPodAutoscaler", "Namespace", "PodDisruptionBudget", "PriorityClass"]
    budget = find(made, "PodDisruptionBudget", "mine")["spec"]
    assert (budget["minAvailable"], budget["unhealthyPodEvictionPolicy"]) == ("50%", "IfHealthyBudget")
    scaler = find(made, "HorizontalPodAutoscaler", "one-hpa")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "one-sts"}
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 4)
    assert scaler["metrics"][0]["resource"] == {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 80}}
    assert scaler["metrics"][1]["pods"] == {"metric": {"name": "vllm_num_requests_waiting"}, "target": {"type": "AverageValue", "averageValue": "500m"}}
    low = find(made, "PriorityClass", "low")
    assert (low["value"], low["preemptionPolicy"], low["globalDefault"]) == (-10, "Never", True)


def test_defaults_of_parts_are_those_which_the_specification_names() -> None:
    options = yaml.safe_load((COLLECTION / "roles" / ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    for path, defaults in DEFAULTS.items():
        first, *rest = path.split(".")
        spec = options[f"{ROLE}_{first}"]
        for part in rest:
            spec = spec["options"][part]
        assert {name: one["default"] for name, one in spec["options"].items() if "default" in one} == defaults, path
