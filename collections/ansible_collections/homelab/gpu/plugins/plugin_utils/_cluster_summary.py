# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time.
"""Objects of a cluster in, a short description of its state out."""

from __future__ import annotations

import re
import typing as t
from datetime import datetime, timezone

from ansible_collections.homelab.gpu.plugins.module_utils._quantity import quantity
from ansible_collections.homelab.gpu.plugins.module_utils._ready import readiness

__all__ = ["SCHEMA", "age_seconds", "moment", "summarise"]

SCHEMA = 1

Object = t.Mapping[str, t.Any]

_GPU = re.compile(r"(?:nvidia|amd)\.com/(?:gpu|mig-)|gpu\.intel\.com/")
_ROLE = "node-role.kubernetes.io/"
# Labels of these owners, and of their subdomains, are set by software, not for a purpose of the site.
_SOFTWARE = ("kubernetes.io", "k8s.io", "k3s.io", "cattle.io", "nvidia.com")
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")


def moment(text: str) -> datetime:
    """A point in time as Kubernetes writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)


def age_seconds(since: str | None, now: datetime) -> int | None:
    if not since:
        return None
    return max(0, int((now - moment(since)).total_seconds()))


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _conditions(obj: Object) -> dict[str, Object]:
    return {condition["type"]: condition for condition in (obj.get("status") or {}).get("conditions") or []}


def _owner_is_software(key: str) -> bool:
    owner = key.partition("/")[0] if "/" in key else ""
    return any(owner == domain or owner.endswith("." + domain) for domain in _SOFTWARE)


def _roles(labels: t.Mapping[str, str]) -> list[str]:
    roles = sorted(key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE))
    if "control-plane" in roles and "master" in roles:
        roles.remove("master")
    return roles or ["worker"]


def _address(node: Object) -> str | None:
    addresses = {address["type"]: address["address"] for address in reversed((node.get("status") or {}).get("addresses") or [])}
    return addresses.get("InternalIP") or addresses.get("ExternalIP")


def _usage(name: str, allocatable: Object, used: Object | None) -> dict[str, t.Any]:
    value = used.get(name) if used else None
    return {
        "allocatable": float(quantity(allocatable.get(name, "0"))),
        "used": None if value is None else float(quantity(value)),
    }


def _node(node: Object, pods: int, used: Object | None, now: datetime) -> dict[str, t.Any]:
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    labels = metadata.get("labels") or {}
    conditions = _conditions(node)
    allocatable = status.get("allocatable") or {}
    capacity = status.get("capacity") or {}
    verdict = readiness(node)
    ready = (conditions.get("Ready") or {}).get("status") == "True"
    states = ["Ready" if ready else "NotReady"]
    if spec.get("unschedulable"):
        states.append("cordoned")
    pressures = [kind for kind in _PRESSURES if (conditions.get(kind) or {}).get("status") == "True"]
    problems = [] if verdict.ok else [f"node {metadata['name']}: {verdict.what}"]
    problems += [f"node {metadata['name']}: {kind}: {conditions[kind].get('message', '')}".rstrip(": ") for kind in pressures]
    return {
        "name": metadata["name"],
        "ready": ready,
        "status": states + pressures,
        "roles": _roles(labels),
        "version": (status.get("nodeInfo") or {}).get("kubeletVersion"),
        "age_seconds": age_seconds(metadata.get("creationTimestamp"), now),
        "address": _address(node),
        "pods": {"running": pods, "allocatable": int(quantity(allocatable.get("pods", "0")))},
        "cpu_cores": _usage("cpu", allocatable, used),
        "memory_bytes": _usage("memory", allocatable, used),
        "gpus": {
            key: {"allocatable": int(quantity(allocatable.get(key, "0"))), "capacity": int(quantity(capacity[key]))}
            for key in sorted(capacity)
            if _GPU.match(key)
        },
        "labels": {key: labels[key] for key in sorted(labels) if not _owner_is_software(key)},
        "taints": [
            f"{taint['key']}{'=' + taint['value'] if taint.get('value') else ''}:{taint['effect']}"
            for taint in spec.get("taints") or []
            if not taint["key"].startswith("node.kubernetes.io/")
        ],
        "problems": problems,
    }


def _workload(workload: Object, now: datetime) -> dict[str, t.Any]:
    metadata, spec, status = workload["metadata"], workload.get("spec") or {}, workload.get("status") or {}
    kind = workload["kind"]
    if kind == "DaemonSet":
        wanted, available = status.get("desiredNumberScheduled", 0), status.get("numberAvailable", 0)
    else:
        wanted, available = spec.get("replicas", 1), status.get("availableReplicas", status.get("readyReplicas", 0))
    verdict = readiness(workload)
    return {
        "namespace": metadata.get("namespace"),
        "kind": kind,
        "name": metadata["name"],
        "wanted": wanted,
        "available": available,
        "ready": verdict.ok,
        "age_seconds": age_seconds(metadata.get("creationTimestamp"), now),
        "problems": [] if verdict.ok else [f"{kind} {metadata.get('namespace')}/{metadata['name']}: {verdict.what}"],
    }


def _waiting(pod: Object, now: datetime) -> dict[str, t.Any]:
    """A pod without a node, and the scheduler's words for why."""
    metadata = pod["metadata"]
    scheduled = _conditions(pod).get("PodScheduled") or {}
    return {
        "namespace": metadata.get("namespace"),
        "name": metadata["name"],
        "age_seconds": age_seconds(metadata.get("creationTimestamp"), now),
        "why": scheduled.get("message") or scheduled.get("reason") or "the scheduler has not looked at it yet",
    }


def summarise(
    nodes: t.Sequence[Object],
    pods: t.Sequence[Object],
    workloads: t.Sequence[Object],
    metrics: t.Sequence[Object] | None,
    *,
    cluster_uid: str | None,
    now: datetime,
) -> dict[str, t.Any]:
    """C(metrics) is None where nothing measures usage; that alone is no problem."""
    running: dict[str, int] = {}
    waiting = []
    for pod in pods:
        if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            where = (pod.get("spec") or {}).get("nodeName")
            if where:
                running[where] = running.get(where, 0) + 1
            else:
                waiting.append(_waiting(pod, now))
    waiting.sort(key=lambda pod: (pod["namespace"] or "", pod["name"]))
    usage = {_name(entry): entry.get("usage") for entry in metrics or []}
    described_nodes = [_node(node, running.get(_name(node), 0), usage.get(_name(node)), now) for node in nodes]
    # Servers first: a reader looks for them there.
    described_nodes.sort(key=lambda node: ("control-plane" not in node["roles"], node["name"]))
    described_workloads = [_workload(workload, now) for workload in workloads]
    described_workloads.sort(key=lambda workload: (workload["namespace"] or "", workload["kind"], workload["name"]))
    problems = [] if nodes else ["no node is registered"]
    for entry in [*described_nodes, *described_workloads]:
        problems += entry["problems"]
    return {
        "schema": SCHEMA,
        "cluster_uid": cluster_uid,
        "taken_at": now.replace(microsecond=0).isoformat().replace("+00:00", "Z"),
        "versions": sorted({node["version"] for node in described_nodes if node["version"]}),
        "healthy": not problems,
        "problems": problems,
        "pending_pods": waiting,
        "metrics": metrics is not None,
        "nodes": described_nodes,
        "workloads": described_workloads,
    }
