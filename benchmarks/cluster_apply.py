# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kube_apply against its peers on objects that need no change, its requests and its time on new and changed ones, and kube_node's labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.contest import NAMESPACE, Contest, contest, rotated, seconds_of
from benchmarks.measured_lab import BenchmarkError, lab_description, log, machine

OBJECTS: Final = 20
ROUNDS: Final = 7
# The slowest contestant sits out all but these
TASK_ROUNDS: Final = (0, 3, 6)
SIZES: Final = (20, 200, 1000)
SIZE_ROUNDS: Final = 3
LABEL: Final = "benchmark.homelab.gpu/label"
CONTESTANTS: Final = ("empty", "ours", "list", "tasks", "kubectl")

Object = dict[str, Any]


def measure() -> dict[str, Any]:
    about = machine()
    with contest() as arena:
        measured = {"unchanged": unchanged(arena), "sizes": sizes(arena), "labels": labels(arena)}
        return {**about, **arena.conditions(), **measured}


def mixed_objects(count: int) -> list[Object]:
    """Of ten, four are ConfigMaps, three Deployments of no pods, and three Services, written as people write them."""
    return [_object(number) for number in range(count)]


def _object(number: int) -> Object:
    name = f"mixed-{number}"
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "benchmark"}}
    if number % 10 < 4:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"number": str(number), "settings.ini": "[server]\nthreads = 2\n"}}
    if number % 10 < 7:
        container = {
            "name": "server",
            "image": "localhost/server:1",
            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
            "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 2},
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        }
        template = {"metadata": {"labels": {"app.kubernetes.io/name": name}}, "spec": {"containers": [container]}}
        spec = {"replicas": 0, "selector": {"matchLabels": {"app.kubernetes.io/name": name}}, "template": template}
        return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": {"app.kubernetes.io/name": name}, "ports": ports}}


def plays(arena: Contest, objects: Sequence[Object], kubeconfig: Path) -> dict[str, Path]:
    tasks = {
        "empty": [],
        "ours": [{"name": "Measure", "homelab.gpu.kube_apply": {"definitions": objects}}],
        "list": [{"name": "Measure", "kubernetes.core.k8s": {"definition": objects}}],
        "tasks": [{"name": f"Measure {number}", "kubernetes.core.k8s": {"definition": body}} for number, body in enumerate(objects)],
    }
    return {name: arena.play(f"{name}-{kubeconfig.name}-{kubeconfig.parent.name}", found, kubeconfig=kubeconfig) for name, found in tasks.items()}


def unchanged(arena: Contest) -> dict[str, Any]:
    """Whole processes, seconds of each round, straight to the API server; then requests and connections, through the proxy."""
    objects = mixed_objects(OBJECTS)
    manifests = arena.folder / "manifests.json"
    manifests.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    ways = plays(arena, objects, arena.direct)

    def once(name: str) -> float:
        if name == "kubectl":
            return seconds_of(lambda: apply_by_kubectl(arena, manifests, arena.direct))
        run = arena.run(ways[name])
        if run.changed:
            raise BenchmarkError(f"{name}: {run.changed} tasks changed something that was there")
        return run.seconds

    apply_by_kubectl(arena, manifests, arena.direct)
    for name in ("ours", "list", "empty"):
        arena.run(ways[name])
    before = resource_versions(arena)
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for number in range(ROUNDS):
        for name in rotated(CONTESTANTS, number):
            if name != "tasks" or number in TASK_ROUNDS:
                arena.settle()
                seconds[name].append(round(once(name), 3))
        log(f"  {OBJECTS} unchanged objects, round {number + 1}: {', '.join(f'{name} {taken[-1]:.2f} s' for name, taken in seconds.items())}")
    if resource_versions(arena) != before:
        raise BenchmarkError("a contestant wrote objects that needed no change")
    through_proxy = plays(arena, objects, arena.proxy.kubeconfig)
    counted = {
        "ours": arena.counted(lambda: arena.run(through_proxy["ours"])),
        "list": arena.counted(lambda: arena.run(through_proxy["list"])),
        "kubectl": arena.counted(lambda: apply_by_kubectl(arena, manifests, arena.proxy.kubeconfig)),
    }
    return {"objects": OBJECTS, "seconds": seconds, "counted": counted}


def apply_by_kubectl(arena: Contest, manifests: Path, kubeconfig: Path) -> None:
    arena.kubectl("apply", "--server-side", "--filename", str(manifests), kubeconfig=kubeconfig)


def resource_versions(arena: Contest) -> list[str]:
    found = json.loads(arena.kubectl("get", "configmaps,deployments,services", "--namespace", NAMESPACE, "--output", "json"))
    return [f"{item['kind']} {item['metadata']['name']} {item['metadata']['resourceVersion']}" for item in found["items"]]


def sizes(arena: Contest) -> dict[str, Any]:
    """New and then changed ConfigMaps from a file: counted in a round through the proxy, timed in others that go straight to the API server."""
    result: dict[str, Any] = {str(size): {"new_seconds": [], "changed_seconds": []} for size in SIZES}
    for number in range(SIZE_ROUNDS + 1):
        kubeconfig = arena.direct if number else arena.proxy.kubeconfig
        for size in SIZES:
            entry = result[str(size)]
            for state in ("new", "changed"):
                source = arena.folder / f"{size}-{state}.json"
                source.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": config_maps(size, state)}))
                play = arena.play(f"size-{size}", [{"name": "Measure", "homelab.gpu.kube_apply": {"src": [str(source)]}}], kubeconfig=kubeconfig)
                arena.settle()
                arena.proxy.reset()
                run = arena.run(play)
                log(f"  {size} {state} objects, {f'round {number}' if number else 'counted'}: {run.seconds:.2f} s")
                if not run.changed:
                    raise BenchmarkError(f"{size} {state} objects: nothing was changed")
                if number:
                    entry[f"{state}_seconds"].append(round(run.seconds, 3))
                else:
                    entry[state] = {"requests": arena.proxy.counts(), "connections": arena.proxy.connections()}
            arena.proxy.request("DELETE", f"/api/v1/namespaces/{NAMESPACE}/configmaps?labelSelector=size%3Dn{size}")
    return result


def config_maps(size: int, state: str) -> list[Object]:
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"n{size}-{number}", "namespace": NAMESPACE, "labels": {"size": f"n{size}"}},
            "data": {"number": str(number), "state": state},
        }
        for number in range(size)
    ]


def labels(arena: Contest) -> dict[str, Any]:
    """All nodes by one call, twice, and by a call for each; counted through the proxy."""
    nodes = sorted(lab_description()["hosts"])

    def labelled(value: str | None) -> list[Mapping[str, Any]]:
        return [{"name": node, "labels": {LABEL: value}} for node in nodes]

    each = [{"name": f"Label {entry['name']}", "homelab.gpu.kube_node": {"nodes": [entry]}} for entry in labelled("each")]
    tasks = {"list": [{"name": "Label", "homelab.gpu.kube_node": {"nodes": labelled("list")}}], "each": each}
    result: dict[str, Any] = {"nodes": len(nodes)}
    try:
        for name, found in (("list", tasks["list"]), ("again", tasks["list"]), ("each", tasks["each"])):
            play = arena.play(f"label-{name}", found, kubeconfig=arena.proxy.kubeconfig)
            arena.settle()
            arena.proxy.reset()
            run = arena.run(play)
            result[name] = {"seconds": round(run.seconds, 2), "requests": arena.proxy.counts(), "connections": arena.proxy.connections()}
    finally:
        arena.run(arena.play("unlabel", [{"name": "Unlabel", "homelab.gpu.kube_node": {"nodes": labelled(None)}}]))
    return result
