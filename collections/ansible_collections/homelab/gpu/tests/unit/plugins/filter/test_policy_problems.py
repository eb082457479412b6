# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.policy_objects import policy_objects
from ansible_collections.homelab.gpu.plugins.filter.policy_problems import policy_problems

Object = dict[str, t.Any]

ROLE = pathlib.Path(__file__).parents[4] / "roles" / "inference_policies"
SPEC = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]


def problems(**settings: t.Any) -> list[str]:
    return policy_problems({"namespace": "ml", **settings}, SPEC)


def row(**content: t.Any) -> Object:
    return {"services": [{"name": "vllm", **content}]}


HPA = {"max_replicas": 3, "cpu_percent": 70}
POLICY = {"type": "Pods", "value": 1, "period_seconds": 60}
CLASS = {"name": "high", "value": 10}

CASES: list[tuple[Object, str, str]] = [
    # Types and keys
    ({"services": {"name": "vllm"}}, "inference_policies_services is", "make it a list"),
    ({"services": [{"selector": {}}]}, "inference_policies_services[0] has no name", "add name"),
    (row(pbd={}), "inference_policies_services[0] has the unknown key pbd", "did you mean pdb?"),
    (row(hpa={"max_replica": 3}), "inference_policies_services[0].hpa has the unknown key max_replica", "did you mean max_replicas?"),
    (row(hpa={**HPA, "max_replicas": "many"}), "hpa.max_replicas is 'many'", "make it a whole number"),
    (row(kind="Deploymnet"), "kind is 'Deploymnet'", "did you mean Deployment?"),
    (row(affinity="prefered-host"), "affinity is 'prefered-host'", "did you mean preferred-host?"),
    (row(pdb={"unhealthy_pod_eviction_policy": "Always"}), "is 'Always'", "use one of AlwaysAllow, IfHealthyBudget"),
    ({"network": {"default_deny": ["egres"]}}, "inference_policies_network.default_deny[0] is 'egres'", "did you mean egress?"),
    # Names
    ({"namespace": "Ml"}, "inference_policies_namespace is 'Ml'", "lower-case"),
    ({"namespace": "kube-system"}, "belongs to the cluster", "for example ml"),
    ({"services": [{"name": "v_llm"}]}, "inference_policies_services[v_llm].name is 'v_llm'", "lower-case"),
    ({"services": [{"name": "vllm"}, {"name": "vllm"}]}, "inference_policies_services has vllm twice", "one row"),
    (row(selector={}), "inference_policies_services[vllm].selector is empty, and would take every pod", "leave it out for app: vllm"),
    (row(selector={"app": 1}), "the label app has the value 1", "put it in quotes"),
    (row(replicas=-1), "replicas is -1", "at least 0"),
    (row(resources={"limits": {"memory": "16 GiB"}}), "resources.limits.memory is '16 GiB'", "write a quantity"),
    # Budgets
    (row(pdb={"min_available": 1, "max_unavailable": 1}), "pdb has min_available and max_unavailable", "leave the other out"),
    (row(pdb={"min_available": "half"}), "pdb.min_available is 'half'", "a share, such as 50%"),
    (row(pdb={"min_available": 1.5}), "pdb.min_available is 1.5", "a number of pods"),
    (row(pdb={"min_available": True}), "pdb.min_available is True", "a number of pods"),
    (row(pdb={"max_unavailable": "120%"}), "pdb.max_unavailable is 120%", "at most 100%"),
    (row(pdb={"max_unavailable": -1}), "pdb.max_unavailable is -1", "at least 0"),
    ({"services": [{"name": "a", "pdb": {"name": "x"}}, {"name": "b", "pdb": {"name": "x"}}]}, "PodDisruptionBudget x is that of a, b", "its own pdb.name"),
    # Autoscalers
    (row(hpa={"cpu_percent": 70}), "hpa has no max_replicas", "add max_replicas"),
    (row(hpa={"max_replicas": 3}), "hpa has no metric", "add cpu_percent"),
    (row(hpa={**HPA, "min_replicas": 4}), "hpa.min_replicas is 4, more than max_replicas, which is 3", "raise max_replicas or lower min_replicas"),
    (row(hpa={**HPA, "min_replicas": 0}), "hpa.min_replicas is 0", "at least 1"),
    (row(hpa={**HPA, "cpu_percent": 0}), "hpa.cpu_percent is 0", "at least 1"),
    (row(hpa={**HPA, "queue_depth": 0}), "hpa.queue_depth is 0", "above 0"),
    (row(hpa={**HPA, "vllm_waiting": "ten"}), "hpa.vllm_waiting is 'ten'", "a quantity above 0"),
    (
        row(hpa={**HPA, "pods_metrics": [{"name": "vllm:num_requests_waiting", "average_value": 5}]}),
        "hpa.pods_metrics has the name 'vllm:num_requests_waiting'",
        "write vllm_num_requests_waiting",
    ),
    (row(hpa={**HPA, "scale_up": {"policies": [{**POLICY, "period_seconds": 1801}]}}), "scale_up.policies: period_seconds is 1801", "1 to 1800"),
    (row(hpa={**HPA, "scale_up": {"policies": [{**POLICY, "value": 0}]}}), "scale_up.policies: value is 0", "at least 1"),
    (row(hpa={**HPA, "scale_down": {"stabilization_window_seconds": 3601, "policies": [POLICY]}}), "stabilization_window_seconds is 3601", "0 to 3600"),
    (row(hpa={**HPA, "scale_down": {"select_policy": "Min"}}), "scale_down has no policies", "add one"),
    ({"services": [{"name": "a", "hpa": {**HPA, "name": "x"}}, {"name": "b", "hpa": {**HPA, "name": "x"}}]}, "HorizontalPodAutoscaler x", "its own hpa.name"),
    ({"services": [{"name": "a", "workload": "x"}, {"name": "b", "workload": "x"}]}, "a, b have the same workload", "one row for each workload"),
    # Networks
    (row(network={"from": [{"service": "gatway"}]}), "names the service 'gatway', which has no row", "add a row"),
    (row(network={"from": [{}]}), "network.from has {}", "name one of service"),
    (row(network={"to": [{"cidr": "192.0.2.0/24", "anyone": True}]}), "network.to has", "name one of service"),
    (row(network={"to": [{"cidr": "192.0.2.1/24"}]}), "network.to.cidr is '192.0.2.1/24'", "no bits behind it"),
    (row(network={"to": [{"cidr": "192.0.2.0/24", "except": ["198.51.100.0/24"]}]}), "no part of 192.0.2.0/24", "smaller networks"),
    (row(network={"to": [{"service": "vllm", "ports": [1]}]}), "has ports for the service vllm", "leave them out"),
    (row(network={"ports": [0]}), "network.ports has 0", "1 to 65535"),
    (row(network={"metrics_port": 70000}), "network.metrics_port has 70000", "1 to 65535"),
    ({"network": {"node_cidrs": ["nodes"]}}, "inference_policies_network.node_cidrs is 'nodes'", "for example 192.0.2.0/24"),
    ({"network": {"prometheus": {"namespace": "Monitoring"}}}, "prometheus.namespace is 'Monitoring'", "lower-case"),
    ({"services": [{"name": "allow-dns", "network": {}}]}, "has the name allow-dns", "rename"),
    # Priority classes
    ({"priority_classes": [{"name": "high"}]}, "inference_policies_priority_classes[0] has no value", "add value"),
    ({"priority_classes": [{**CLASS, "value": 1_000_000_001}]}, "inference_policies_priority_classes[high].value is 1000000001", "at most 1000000000"),
    ({"priority_classes": [{**CLASS, "name": "system-high"}]}, "begins with system-", "another name"),
    ({"priority_classes": [CLASS, CLASS]}, "has high twice", "keep one"),
    ({"priority_classes": [{**CLASS, "global_default": True}, {"name": "low", "value": 1, "global_default": True}]}, "true for high, low", "for one of them"),
    # Quotas and limits
    ({"quota": {"hard": {"limits.nvidia.com/gpu": 4}}}, "counts nvidia.com/gpu by requests only", "write requests.nvidia.com/gpu"),
    ({"quota": {"hard": {"nvidia.com/gpu": 4}}}, "the unknown key nvidia.com/gpu", "write requests.nvidia.com/gpu"),
    ({"quota": {"hard": {"requests.nvidia.com/gpu": "500m"}}}, "requests.nvidia.com/gpu is '500m'", "whole number"),
    ({"quota": {"hard": {"request.memory": "1Gi"}}}, "the unknown key request.memory", "did you mean requests.memory?"),
    ({"quota": {"hard": {"pods": "ten"}}}, "inference_policies_quota.hard.pods is 'ten'", "write a quantity"),
    ({"quota": {"hard": {"pods": -1}}}, "pods is -1", "at least 0"),
    ({"limits": {"default": {"memory": "1Gi"}, "default_request": {"memory": "2Gi"}}}, "default_request.memory is 2Gi, more than default.memory", "lower"),
    ({"limits": {"max": {"cpu": "two"}}}, "inference_policies_limits.max.cpu is 'two'", "write a quantity"),
]


@pytest.mark.parametrize(("settings", "what", "fix"), CASES, ids=[case[1] for case in CASES])
def test_bad_settings(settings: Object, what: str, fix: str) -> None:
    found = problems(**settings)
    assert found, "nothing was found"
    assert any(what in line.partition(" Fix: ")[0] and fix in line.partition(" Fix: ")[2] for line in found), found
    assert all(line.startswith("inference_policies_") for line in found), found


def test_all_problems_are_told_at_once() -> None:
    assert len(problems(namespace="Ml", quota={"hard": {"pods": "ten"}}, **row(replicas=-1, pdb={"min_available": "x"}))) == 4


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"services": None, "quota": None},
        row(pdb=None, hpa=None, network=None, replicas=0),
        row(pdb={"min_available": "0%"}, hpa={**HPA, "scale_down": {"select_policy": "Disabled"}}),
        {"quota": {"hard": {"count/jobs.batch": 3, "requests.storage": "10Gi", "fast.storageclass.storage.k8s.io/requests.storage": "5Gi"}}},
    ],
)
def test_good_settings(settings: Object) -> None:
    assert problems(**settings) == []
    assert policy_objects({"namespace": "ml", **settings})["objects"]


def test_objects_of_settings_that_were_not_judged() -> None:
    with pytest.raises(AnsibleFilterError, match="policy_problems tells what is wrong"):
        policy_objects({"namespace": "ml", "services": [{}]})
