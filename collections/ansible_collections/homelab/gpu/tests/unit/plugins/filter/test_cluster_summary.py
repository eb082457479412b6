# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.cluster_summary import cluster_summary
from ansible_collections.homelab.gpu.plugins.filter.cluster_table import cluster_table
from ansible_collections.homelab.gpu.plugins.module_utils._quantity import QuantityError, quantity
from ansible_collections.homelab.gpu.plugins.plugin_utils._cluster_summary import age_seconds, moment

NOW = "2026-11-22T10:00:00Z"


def node(name="worker", *, ready="True", labels=None, taints=None, unschedulable=False, conditions=(), capacity=None, allocatable=None, **metadata) -> dict:
    return {
        "kind": "Node",
        "metadata": {"name": name, "creationTimestamp": "2026-11-22T09:00:00Z", "labels": labels or {}, **metadata},
        "spec": {"taints": taints or [], "unschedulable": unschedulable},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "fd00::1"}, {"type": "Hostname", "address": name}],
            "allocatable": {"cpu": "2", "memory": "16Gi", "pods": "110", **(allocatable or {})},
            "capacity": {"cpu": "2", "memory": "17Gi", "pods": "110", **(capacity or {})},
            "conditions": [{"type": "Ready", "status": ready, "reason": "KubeletState", "message": "says so"}, *conditions],
            "nodeInfo": {"kubeletVersion": "v1.36.4+k3s1"},
        },
    }


def deployment(name="coredns", *, wanted=1, available=1, kind="Deployment") -> dict:
    return {
        "kind": kind,
        "metadata": {"name": name, "namespace": "kube-system", "creationTimestamp": "2026-11-22T09:59:00Z", "generation": 1},
        "spec": {"replicas": wanted},
        "status": {"observedGeneration": 1, "replicas": wanted, "updatedReplicas": wanted, "availableReplicas": available},
    }


def daemon_set(*, wanted: int, available: int) -> dict:
    return {
        "kind": "DaemonSet",
        "metadata": {"name": "device-plugin", "namespace": "kube-system", "creationTimestamp": "2026-11-22T09:59:00Z", "generation": 1},
        "status": {"observedGeneration": 1, "desiredNumberScheduled": wanted, "updatedNumberScheduled": wanted, "numberAvailable": available},
    }


def pod(where: str | None, phase="Running") -> dict:
    return {"metadata": {"name": "p"}, "spec": {"nodeName": where} if where else {}, "status": {"phase": phase}}


def summary(*nodes, **resources) -> dict:
    return cluster_summary({"nodes": list(nodes), **resources}, cluster_uid="uid-1", now=NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2", 2.0),
        ("250m", 0.25),
        ("123456789n", 0.123456789),
        ("1500u", 0.0015),
        ("16Gi", 16 * 2**30),
        ("24567Ki", 24567 * 1024),
        ("1k", 1000.0),
        ("2M", 2e6),
        ("1e3", 1000.0),
        ("12E", 12e18),
        ("0.5", 0.5),
        (".5", 0.5),
        (4, 4.0),
    ],
)
def test_quantities(text, expected):
    assert float(quantity(text)) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1KiB", "one", "1e", None])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(QuantityError, match="not a Kubernetes quantity"):
        quantity(text)


@pytest.mark.parametrize(("since", "expected"), [("2026-11-22T09:58:30Z", 90), ("2026-11-22T10:00:05Z", 0), (None, None)])
def test_age(since, expected):
    assert age_seconds(since, moment(NOW)) == expected


def test_a_node_in_full():
    entry = summary(
        node(
            "gpu",
            labels={
                "node-role.kubernetes.io/gpu": "true",
                "kubernetes.io/hostname": "gpu",
                "beta.kubernetes.io/arch": "amd64",
                "node.k3s.io/x": "y",
                "nvidia.com/gpu.count": "1",
                "accelerator": "rtx",
                "homelab.gpu/site": "cellar",
            },
            taints=[
                {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},
                {"key": "homelab.gpu/eject", "effect": "NoExecute"},
                {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
            ],
            unschedulable=True,
            capacity={"nvidia.com/gpu": "4", "nvidia.com/mig-1g.5gb": "2", "example.com/fpga": "1"},
            allocatable={"nvidia.com/gpu": "3"},
        ),
        pods=[pod("gpu"), pod("gpu", "Pending"), pod("gpu", "Succeeded"), pod("gpu", "Failed"), pod("other"), pod(None, "Pending")],
        metrics=[{"metadata": {"name": "gpu"}, "usage": {"cpu": "500m", "memory": "4Gi"}}],
    )["nodes"][0]
    assert entry == {
        "name": "gpu",
        "ready": True,
        "status": ["Ready", "cordoned"],
        "roles": ["gpu"],
        "version": "v1.36.4+k3s1",
        "age_seconds": 3600,
        "address": "10.0.0.1",
        "pods": {"running": 2, "allocatable": 110},
        "cpu_cores": {"allocatable": 2.0, "used": 0.5},
        "memory_bytes": {"allocatable": 16.0 * 2**30, "used": 4.0 * 2**30},
        "gpus": {"nvidia.com/gpu": {"allocatable": 3, "capacity": 4}, "nvidia.com/mig-1g.5gb": {"allocatable": 0, "capacity": 2}},
        "labels": {"accelerator": "rtx", "homelab.gpu/site": "cellar"},
        "taints": ["nvidia.com/gpu=present:NoSchedule", "homelab.gpu/eject:NoExecute"],
        "problems": [],
    }


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, ["worker"]),
        ({"node-role.kubernetes.io/control-plane": "true", "node-role.kubernetes.io/master": "true"}, ["control-plane"]),
        ({"node-role.kubernetes.io/etcd": "true", "node-role.kubernetes.io/control-plane": "true"}, ["control-plane", "etcd"]),
    ],
)
def test_roles(labels, expected):
    assert summary(node(labels=labels))["nodes"][0]["roles"] == expected


def test_servers_come_first_then_names():
    names = [entry["name"] for entry in summary(node("b"), node("a"), node("z", labels={"node-role.kubernetes.io/control-plane": "true"}))["nodes"]]
    assert names == ["z", "a", "b"]


@pytest.mark.parametrize(
    ("nodes", "workloads", "problems"),
    [
        ([node()], [deployment(), daemon_set(wanted=2, available=2), deployment("off", wanted=0, available=0)], []),
        ([node(unschedulable=True)], [], []),
        ([], [], ["no node is registered"]),
        ([node("a"), node("b", ready="False")], [], ["node b: Ready=False (KubeletState says so)"]),
        ([node("b", ready="Unknown")], [], ["node b: Ready=Unknown (KubeletState says so)"]),
        (
            [node(conditions=[{"type": "DiskPressure", "status": "True", "message": "disk is full"}, {"type": "PIDPressure", "status": "False"}])],
            [],
            ["node worker: DiskPressure: disk is full"],
        ),
        ([node()], [deployment(wanted=2, available=1)], ["Deployment kube-system/coredns: 2 of 2 updated, 1 available"]),
        ([node()], [daemon_set(wanted=3, available=2)], ["DaemonSet kube-system/device-plugin: 3 of 3 updated, 2 available"]),
    ],
    ids=["well", "cordoned", "no node", "not ready", "unknown", "pressure", "deployment", "daemon set"],
)
def test_health(nodes, workloads, problems):
    result = summary(*nodes, workloads=workloads)
    assert result["problems"] == problems
    assert result["healthy"] is (problems == [])
    assert json.loads(json.dumps(result)) == result


def test_what_is_not_measured_is_null_and_no_problem():
    result = summary(node())
    assert (result["metrics"], result["healthy"]) == (False, True)
    assert result["nodes"][0]["cpu_cores"] == {"allocatable": 2.0, "used": None}
    assert summary(node(), metrics=[])["metrics"] is True


def test_the_current_time_is_the_default():
    assert cluster_summary({"nodes": [node(creationTimestamp="2026-01-01T00:00:00Z")]})["nodes"][0]["age_seconds"] > 0


@pytest.mark.parametrize(
    ("resources", "options", "message"),
    [
        ([], {}, "the input is list; give it a mapping"),
        ({}, {}, "nodes is missing"),
        ({"nodes": [], "node": []}, {}, "unknown key 'node'; known are nodes, pods, workloads, metrics"),
        ({"nodes": {"a": 1}}, {}, "nodes is dict, not a list"),
        ({"nodes": "abc"}, {}, "nodes is str, not a list"),
        ({"nodes": [{"metadata": {}}]}, {}, r"nodes\[0\] is no Kubernetes object"),
        ({"nodes": [], "workloads": [{"kind": "Job", "metadata": {"name": "a"}}]}, {}, r"workloads\[0\] has kind 'Job'"),
        ({"nodes": [node(allocatable={"cpu": "two"})]}, {}, "'two' is not a Kubernetes quantity"),
        ({"nodes": [node(taints=[{"value": "x"}])]}, {}, "not as the Kubernetes API writes it: KeyError: 'key'"),
        ({"nodes": []}, {"now": "yesterday"}, "now is 'yesterday'; write it as"),
        ({"nodes": []}, {"now": 7}, "now is 7; write it as"),
    ],
)
def test_bad_input_names_what_is_wrong(resources, options, message):
    with pytest.raises(AnsibleFilterError, match=f"cluster_summary: .*{message}"):
        cluster_summary(resources, **options)


def test_table_of_a_healthy_cluster():
    text = cluster_table(
        summary(
            node("k3s-server", labels={"node-role.kubernetes.io/control-plane": "true"}),
            node(
                "k3s-gpu-worker",
                labels={"accelerator": "rtx"},
                taints=[{"key": "homelab.gpu/eject", "effect": "NoExecute"}],
                capacity={"nvidia.com/gpu": "4"},
                allocatable={"nvidia.com/gpu": "3"},
            ),
            pods=[pod("k3s-server"), pod("k3s-server")],
            workloads=[deployment()],
            metrics=[{"metadata": {"name": "k3s-server"}, "usage": {"cpu": "250m", "memory": "1Gi"}}],
        )
    )
    assert text.splitlines() == [
        "Cluster uid-1, v1.36.4+k3s1, at 2026-11-22T10:00:00Z",
        "",
        "NODE            STATUS  ROLES          VERSION       AGE  ADDRESS   PODS      CPU        MEMORY           GPUS",
        "k3s-server      Ready   control-plane  v1.36.4+k3s1  60m  10.0.0.1  2 of 110  0.25 of 2  1.0 of 16.0 GiB  -",
        "k3s-gpu-worker  Ready   worker         v1.36.4+k3s1  60m  10.0.0.1  0 of 110  - of 2     - of 16.0 GiB    nvidia.com/gpu 3 of 4",
        "",
        "NODE            LABELS AND TAINTS OF THIS SITE",
        "k3s-gpu-worker  label accelerator=rtx",
        "k3s-gpu-worker  taint homelab.gpu/eject:NoExecute",
        "",
        "WORKLOAD            NAMESPACE    AVAILABLE  AGE",
        "Deployment coredns  kube-system  1 of 1     60s",
        "",
        "HEALTHY: 2 of 2 nodes are Ready, 1 of 1 workloads are available",
    ]


def test_table_of_an_unhealthy_cluster_ends_with_problems_and_verdict():
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."}
    fifth = {
        "metadata": {"name": "vllm-5", "namespace": "ml", "creationTimestamp": "2026-11-22T09:59:00Z"},
        "status": {"phase": "Pending", "conditions": [unscheduled]},
    }
    new = {"metadata": {"name": "batch", "namespace": "ml"}, "status": {"phase": "Pending"}}
    found = summary(node("a"), node("b", ready="False"), pods=[fifth, new, pod("a")])
    assert [(one["name"], one["age_seconds"]) for one in found["pending_pods"]] == [("batch", None), ("vllm-5", 60)]
    lines = cluster_table(found).splitlines()
    assert lines[-10:] == [
        "Pods that wait for a node:",
        "  ml/batch, for -: the scheduler has not looked at it yet",
        "  ml/vllm-5, for 60s: 0/2 nodes are available: 2 Insufficient nvidia.com/gpu.",
        "",
        "No CPU and memory usage: metrics.k8s.io is not served.",
        "",
        "Problems:",
        "  node b: Ready=False (KubeletState says so)",
        "",
        "UNHEALTHY: 1 of 2 nodes are Ready, 0 of 0 workloads are available",
    ]


def test_table_shows_some_of_many_pods_that_wait():
    many = [{"metadata": {"name": f"p{number:02}", "namespace": "ml"}, "status": {"phase": "Pending"}} for number in range(25)]
    text = cluster_table(summary(node(), pods=many))
    assert "p19" in text
    assert "p20" not in text
    assert "  and 5 more" in text


def test_table_of_nothing():
    assert cluster_table(summary()).splitlines()[-1] == "UNHEALTHY: 0 of 0 nodes are Ready, 0 of 0 workloads are available"


@pytest.mark.parametrize(
    ("value", "message"), [(None, "no summary of schema 1"), ({"schema": 2}, "no summary of schema 1"), ({"schema": 1}, "damaged: KeyError")]
)
def test_table_refuses_what_is_no_summary(value, message):
    with pytest.raises(AnsibleFilterError, match=f"cluster_table: .*{message}"):
        cluster_table(value)
