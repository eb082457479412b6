# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kube_drain against `kubectl drain` and k8s_drain: pods that end within a second, and a PodDisruptionBudget that opens after a while."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from benchmarks.contest import NAMESPACE, Contest, Ended, contest, ended, rotated, seconds_of
from benchmarks.measured_lab import BenchmarkError, lab_description, log, machine

ROUNDS: Final = 3
# The slowest contestant sits out the later rounds of the larger drain
PEER_ROUNDS: Final = {15: 3, 60: 1}
BUDGET_PODS: Final = 3
BUDGET_OPENS_SECONDS: Final = 8.0
# Kubelets look at their containers once a second, and the pods became ready at such a moment: each round opens at another one
BUDGET_ROUNDS: Final = {"ours": 5, "kubectl": 1, "peer": 1}
CONTESTANTS: Final = ("ours", "kubectl", "peer")
DEPLOYMENT: Final = "drained"
_IMAGE: Final = "localhost/homelab-lab/pause:1"
_TIMEOUT_SECONDS: Final = 120


def measure() -> dict[str, Any]:
    about = machine()
    node = sorted(host for host in lab_description()["hosts"] if not host.endswith("server"))[-1]
    with contest() as arena, drainable(arena, node):
        sizes = {str(size): drains(arena, node, size) for size in PEER_ROUNDS}
        return {**about, **arena.conditions(), "sizes": sizes, "budget": budget(arena, node)}


@contextmanager
def drainable(arena: Contest, node: str) -> Iterator[None]:
    """What runs on the node besides the benchmark's pods moves away first; the node ends as it began, schedulable."""
    try:
        arena.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
        arena.kubectl("uncordon", node)
        arena.kubectl("apply", "--filename", "-", text=json.dumps(deployment(node)))
        yield
    finally:
        arena.kubectl("uncordon", node)


def deployment(node: str) -> dict[str, Any]:
    labels = {"app": DEPLOYMENT}
    pod = {
        "nodeSelector": {"kubernetes.io/hostname": node},
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "containers": [{"name": "pause", "image": _IMAGE, "imagePullPolicy": "IfNotPresent"}],
    }
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": DEPLOYMENT, "namespace": NAMESPACE}, "spec": spec}


def pods_on(arena: Contest, node: str) -> list[dict[str, Any]]:
    """Those that a drain has to move, finished or not."""
    found = arena.proxy.request("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")["items"]
    return [pod for pod in found if not any(owner["kind"] == "DaemonSet" for owner in pod["metadata"].get("ownerReferences") or [])]


def make_ready(arena: Contest, node: str, count: int) -> None:
    """Exactly so many pods run on the node, none of them on its way out, and the machine has calmed down."""
    arena.kubectl("uncordon", node)
    arena.kubectl("scale", "--namespace", NAMESPACE, f"deployment/{DEPLOYMENT}", f"--replicas={count}")
    arena.kubectl("rollout", "status", "--namespace", NAMESPACE, f"deployment/{DEPLOYMENT}", "--timeout=120s")
    deadline = time.monotonic() + 60
    while True:
        pods = pods_on(arena, node)
        if len(pods) == count and all(pod["status"]["phase"] == "Running" and not pod["metadata"].get("deletionTimestamp") for pod in pods):
            break
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{node}: {len(pods)} pods instead of {count} running ones")
        time.sleep(0.2)
    arena.settle()


def require_drained(arena: Contest, node: str, name: str) -> None:
    left = pods_on(arena, node)
    if left:
        raise BenchmarkError(f"{name} ended while {len(left)} pods were still on {node}")
    if not is_cordoned(arena, node):
        raise BenchmarkError(f"{name} left {node} schedulable")


def is_cordoned(arena: Contest, node: str) -> bool:
    return bool(arena.proxy.request("GET", f"/api/v1/nodes/{node}")["spec"].get("unschedulable"))


def tasks_of(name: str, node: str) -> list[dict[str, Any]]:
    if name == "empty":
        return []
    if name == "ours":
        return [{"name": "Measure", "homelab.gpu.kube_drain": {"name": node, "timeout_seconds": _TIMEOUT_SECONDS}}]
    options = {"ignore_daemonsets": True, "wait_timeout": _TIMEOUT_SECONDS}
    return [{"name": "Measure", "kubernetes.core.k8s_drain": {"state": "drain", "name": node, "delete_options": options}}]


def kubectl_drain(node: str) -> tuple[str, ...]:
    return ("drain", node, "--ignore-daemonsets", f"--timeout={_TIMEOUT_SECONDS}s")


def drains(arena: Contest, node: str, size: int) -> dict[str, Any]:
    """Whole processes, seconds of each round, straight to the API server."""
    plays = {name: arena.play(f"drain-{name}", tasks_of(name, node)) for name in ("empty", "ours", "peer")}
    seconds: dict[str, list[float]] = {"empty": [], **{name: [] for name in CONTESTANTS}}
    for number in range(ROUNDS):
        for name in rotated(CONTESTANTS, number):
            if name == "peer" and number >= PEER_ROUNDS[size]:
                continue
            make_ready(arena, node, size)
            taken = seconds_of(lambda: arena.kubectl(*kubectl_drain(node))) if name == "kubectl" else arena.run(plays[name]).seconds
            require_drained(arena, node, name)
            seconds[name].append(round(taken, 3))
            seconds["empty"].append(round(arena.run(plays["empty"]).seconds, 3))
        log(f"  drain of {size} pods, round {number + 1}: {', '.join(f'{name} {taken[-1]:.2f} s' for name, taken in seconds.items())}")
    return seconds


def budget(arena: Contest, node: str) -> dict[str, Any]:
    """Seconds from the API server's answer to the opening of the budget until the process has ended, and what the kubelet needed of it."""
    result: dict[str, Any] = {"opens_seconds": BUDGET_OPENS_SECONDS, "pods": BUDGET_PODS, "after_seconds": {"ours": [], "kubectl": []}, "kubelet_seconds": []}
    path = f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets"
    closed = {"maxUnavailable": 0, "selector": {"matchLabels": {"app": DEPLOYMENT}}}
    arena.proxy.request("POST", path, {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": DEPLOYMENT}, "spec": closed})
    plays = {name: arena.play(f"budget-{name}", tasks_of(name, node)) for name in ("ours", "peer")}
    for number in range(max(BUDGET_ROUNDS.values())):
        for name, rounds in BUDGET_ROUNDS.items():
            if number >= rounds:
                continue
            arena.proxy.request("PATCH", f"{path}/{DEPLOYMENT}", {"spec": {"maxUnavailable": 0}}, "application/merge-patch+json")
            make_ready(arena, node, BUDGET_PODS)
            started = time.monotonic()
            process = arena.start_kubectl(*kubectl_drain(node)) if name == "kubectl" else arena.start(plays[name], verbosity=1)
            if name == "peer":
                end = ended(process, _TIMEOUT_SECONDS)
                message = failure_of(end)
                result["peer"] = {"seconds": round(end.at - started, 2), "message": message, "cordoned": is_cordoned(arena, node)}
                log(f"  budget: {name}: {result['peer']}")
                continue
            while not is_cordoned(arena, node):
                if process.poll() is not None:
                    raise BenchmarkError(f"{name}: {ended(process, 1).output[-3000:]}")
                time.sleep(0.05)
            time.sleep(BUDGET_OPENS_SECONDS + number / rounds)
            arena.proxy.request("PATCH", f"{path}/{DEPLOYMENT}", {"spec": {"maxUnavailable": "100%"}}, "application/merge-patch+json")
            opened = time.monotonic()
            end = ended(process, _TIMEOUT_SECONDS)
            if end.code or end.at < opened:
                raise BenchmarkError(f"{name} did not wait for the budget: {end.output[-3000:]}")
            require_drained(arena, node, name)
            result["after_seconds"][name].append(round(end.at - opened, 3))
            if name == "ours":
                result["kubelet_seconds"].append(kubelet_seconds(end.output))
            log(f"  budget: {name}: {result['after_seconds'][name]}")
    return result


def kubelet_seconds(output: str) -> float:
    """From the first eviction until the last pod was gone, from the module's result as the play printed it."""
    times = {key: [float(value) for value in re.findall(rf'"{key}_at_seconds": ([0-9.]+)', output)] for key in ("requested", "gone")}
    if not times["requested"] or not times["gone"]:
        raise BenchmarkError(f"no times of pods in: {output[-3000:]}")
    return round(max(times["gone"]) - min(times["requested"]), 3)


def failure_of(end: Ended) -> str:
    """The message of the task that failed, as the play printed it."""
    if not end.code:
        raise BenchmarkError(f"the play did not fail: {end.output[-3000:]}")
    found = re.search(r'"msg": ("(?:[^"\\]|\\.)*")', end.output)
    if not found:
        raise BenchmarkError(f"no message in: {end.output[-3000:]}")
    return str(json.loads(found.group(1)))
