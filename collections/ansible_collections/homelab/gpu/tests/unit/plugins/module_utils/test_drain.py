# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._drain import Plan, Rules, _Leaving, decide, due, forecast, refuse, requested, selects
from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError

Object = dict[str, t.Any]

GPU = ("nvidia.com/gpu", "nvidia.com/mig-*")


def pod(owner: str = "ReplicaSet", *, phase: str = "Running", ready: bool = True, labels: Object | None = None, **more: t.Any) -> Object:
    metadata: Object = {"name": "p", "namespace": "models", "uid": "u", "labels": labels or {}, **more.pop("metadata", {})}
    if owner:
        metadata["ownerReferences"] = [{"kind": owner, "name": "o", "controller": True}]
    status = {"phase": phase, "conditions": [{"type": "Ready", "status": str(ready)}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": more, "status": status}


def container(**resources: Object) -> Object:
    return {"name": "c", "resources": resources}


WITH_GPU: Object = {"containers": [container(), container(limits={"nvidia.com/gpu": "1"})]}


@pytest.mark.parametrize(
    ("found", "rules", "action", "reason"),
    [
        (pod(), Rules(), "evict", ""),
        (pod(), Rules(disable_eviction=True), "delete", ""),
        (pod("StatefulSet"), Rules(), "evict", ""),
        # Pods of a node's own files
        (pod("Node", metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}), Rules(force=True, daemon_sets=True), "skip", "static pod"),
        # DaemonSets
        (pod("DaemonSet"), Rules(), "skip", "of DaemonSet o"),
        (pod("DaemonSet"), Rules(daemon_sets=True), "delete", "makes it anew unless a taint"),
        (pod("DaemonSet", volumes=[{"emptyDir": {}}]), Rules(), "skip", "of DaemonSet o"),
        (pod("DaemonSet", **WITH_GPU), Rules(GPU, daemon_sets=True), "delete", "of DaemonSet o"),
        (pod("DaemonSet"), Rules(GPU, daemon_sets=True), "skip", "requests none of nvidia.com/gpu, nvidia.com/mig-*"),
        # What would be lost
        (pod(""), Rules(), "refuse", "no controller would make it anew; set force=true"),
        (pod(""), Rules(force=True), "evict", ""),
        (pod(volumes=[{"name": "d", "emptyDir": {}}]), Rules(), "refuse", "set delete_emptydir_data=true"),
        (pod(volumes=[{"name": "d", "emptyDir": {}}]), Rules(delete_emptydir_data=True), "evict", ""),
        (pod(volumes=[{"name": "d", "configMap": {}}]), Rules(), "evict", ""),
        (pod("", volumes=[{"name": "d", "emptyDir": {}}]), Rules(force=True), "refuse", "set delete_emptydir_data=true"),
        # What is over, or as good as
        (pod("", phase="Succeeded", volumes=[{"emptyDir": {}}]), Rules(), "evict", "finished"),
        (pod("DaemonSet", phase="Failed"), Rules(), "evict", "finished"),
        (pod("", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), Rules(), "wait", "was being deleted already"),
        # GPUs only
        (pod(**WITH_GPU), Rules(GPU), "evict", "requests nvidia.com/gpu"),
        (pod(containers=[container(requests={"cpu": "1"})]), Rules(GPU), "skip", "requests none of"),
        (pod("", containers=[container(requests={"cpu": "1"})]), Rules(GPU), "skip", "requests none of"),
        (pod("", **WITH_GPU), Rules(GPU), "refuse", "set force=true"),
    ],
)
def test_what_becomes_of_a_pod(found: Object, rules: Rules, action: str, reason: str) -> None:
    plan = decide(found, rules)
    assert plan.action == action
    assert reason in plan.reason
    assert plan.goes is (action in ("evict", "delete", "wait"))


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"containers": [container(limits={"nvidia.com/gpu": 1})]}, "nvidia.com/gpu"),
        ({"containers": [container(requests={"nvidia.com/mig-1g.10gb": "1"})]}, "nvidia.com/mig-1g.10gb"),
        ({"containers": [container()], "initContainers": [container(limits={"nvidia.com/gpu": "2"})]}, "nvidia.com/gpu"),
        ({"containers": [container(limits={"nvidia.com/gpu": "0"})]}, ""),
        ({"containers": [container(limits={"amd.com/gpu": "1"})]}, ""),
        ({"containers": [{"name": "c"}]}, ""),
        ({}, ""),
    ],
)
def test_requested_resources(spec: Object, wanted: str) -> None:
    assert requested({"spec": spec}, GPU) == wanted


def test_refusal_names_all_pods_and_options() -> None:
    plans = [decide(pod(metadata={"name": name}, volumes=[{"emptyDir": {}}]), Rules()) for name in ("a", "b")] + [decide(pod(), Rules())]
    with pytest.raises(InputError) as caught:
        refuse(plans)
    assert "models/a: it has data in an emptyDir volume; set delete_emptydir_data=true to lose it; models/b: " in str(caught.value)
    with pytest.raises(InputError, match="and 2 more"):
        refuse([decide(pod("", metadata={"name": f"p{number}"}), Rules()) for number in range(12)])
    refuse(plans[2:])


def budget(name: str = "b", allowed: int = 0, selector: Object | None = None, namespace: str = "models", policy: str = "", **status: int) -> Object:
    spec: Object = {"selector": selector if selector is not None else {"matchLabels": {"app": "web"}}}
    if policy:
        spec["unhealthyPodEvictionPolicy"] = policy
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec, "status": {"disruptionsAllowed": allowed, **status}}


def web(name: str = "p", **more: t.Any) -> Plan:
    return decide(pod(labels={"app": "web"}, metadata={"name": name, "uid": name}, **more), Rules())


@pytest.mark.parametrize(
    ("plans", "budgets", "blocked"),
    [
        ([web()], [], []),
        ([web()], [budget(allowed=1)], []),
        ([web()], [budget()], ["p"]),
        ([web("a"), web("b"), web("c")], [budget(allowed=2)], ["c"]),
        ([web()], [budget(namespace="other")], []),
        ([web()], [budget(selector={"matchLabels": {"app": "db"}})], []),
        ([web()], [budget(selector={})], ["p"]),
        # The API server refuses pods with two budgets even where both would allow it
        ([web()], [budget(allowed=1), budget("c", allowed=1)], ["p"]),
        # Nobody is served by these
        ([web(phase="Succeeded")], [budget()], []),
        ([web(phase="Pending", ready=False)], [budget()], []),
        ([web(ready=False)], [budget()], ["p"]),
        ([web(ready=False)], [budget(policy="AlwaysAllow")], []),
        ([web(ready=False)], [budget(currentHealthy=2, desiredHealthy=2)], []),
        ([web(ready=False)], [budget(currentHealthy=1, desiredHealthy=2)], ["p"]),
        # Deletions do not ask budgets
        ([decide(pod(labels={"app": "web"}), Rules(disable_eviction=True))], [budget()], []),
    ],
)
def test_forecast(plans: list[Plan], budgets: list[Object], blocked: list[str]) -> None:
    assert [found.plan.name for found in forecast(plans, budgets)] == blocked


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "x"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}, {"key": "tier", "operator": "DoesNotExist"}]}, True),
        ({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_selectors(selector: Object | None, matches: bool) -> None:
    assert selects(selector, {"app": "web"}) is matches


ONE, TWO = ("models", "one"), ("models", "two")


@pytest.mark.parametrize(
    ("leaving", "sent"),
    [
        pytest.param([(None, 0.0, False), (None, 0.0, False)], [0, 1], id="without a budget all at once"),
        pytest.param([(None, None, True), (None, 0.0, False)], [1], id="nothing is known of any budget"),
        pytest.param([(ONE, 0.0, False), (ONE, 0.0, False), (TWO, 0.0, False), (TWO, 0.0, False)], [0, 2], id="one of each budget"),
        pytest.param([(ONE, None, True), (ONE, 0.0, False), (TWO, 0.0, False)], [2], id="not while another one is under way"),
        pytest.param([(ONE, None, False), (ONE, 0.0, False)], [1], id="next when the other one was answered"),
        pytest.param([(ONE, 5.0, False), (ONE, 1.0, False), (ONE, 0.5, False)], [1], id="what has to wait holds nobody back"),
    ],
)
def test_pods_of_one_budget_go_one_after_the_other(leaving: list[tuple[tuple[str, str] | None, float | None, bool]], sent: list[int]) -> None:
    found = [_Leaving(web(str(at)), {}, next_try, "", budget=counted, under_way=under_way) for at, (counted, next_try, under_way) in enumerate(leaving)]
    assert [int(one.plan.name) for one in due(found, 1.0)] == sent
