# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time.
"""Renders what C(summarise) returns as text for people."""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.gpu.plugins.plugin_utils._text_table import columns, human_age

__all__ = ["render"]

_GIB = 2**30
_MOST_PENDING = 20


def _cores(usage: dict[str, t.Any]) -> str:
    whole = f"{usage['allocatable']:g}"
    return f"- of {whole}" if usage["used"] is None else f"{usage['used']:.2f} of {whole}"


def _memory(usage: dict[str, t.Any]) -> str:
    whole = f"{usage['allocatable'] / _GIB:.1f} GiB"
    return f"- of {whole}" if usage["used"] is None else f"{usage['used'] / _GIB:.1f} of {whole}"


def _gpus(gpus: dict[str, dict[str, int]]) -> str:
    parts = []
    for key, count in gpus.items():
        number = str(count["allocatable"]) if count["allocatable"] == count["capacity"] else f"{count['allocatable']} of {count['capacity']}"
        parts.append(f"{key} {number}")
    return ", ".join(parts) or "-"


def _nodes(nodes: list[dict[str, t.Any]]) -> list[str]:
    rows = [["NODE", "STATUS", "ROLES", "VERSION", "AGE", "ADDRESS", "PODS", "CPU", "MEMORY", "GPUS"]]
    for node in nodes:
        rows.append(
            [
                node["name"],
                ",".join(node["status"]),
                ",".join(node["roles"]),
                node["version"] or "-",
                human_age(node["age_seconds"]),
                node["address"] or "-",
                f"{node['pods']['running']} of {node['pods']['allocatable']}",
                _cores(node["cpu_cores"]),
                _memory(node["memory_bytes"]),
                _gpus(node["gpus"]),
            ]
        )
    return columns(rows, right=(4,))


def _marks(nodes: list[dict[str, t.Any]]) -> list[str]:
    rows = [["NODE", "LABELS AND TAINTS OF THIS SITE"]]
    for node in nodes:
        rows += [[node["name"], f"label {key}={value}"] for key, value in node["labels"].items()]
        rows += [[node["name"], f"taint {taint}"] for taint in node["taints"]]
    return ["", *columns(rows)] if len(rows) > 1 else []


def _workloads(workloads: list[dict[str, t.Any]]) -> list[str]:
    rows = [["WORKLOAD", "NAMESPACE", "AVAILABLE", "AGE"]]
    for workload in workloads:
        available = f"{workload['available']} of {workload['wanted']}"
        rows.append([f"{workload['kind']} {workload['name']}", workload["namespace"] or "-", available, human_age(workload["age_seconds"])])
    return ["", *columns(rows, right=(3,))] if workloads else []


def _pending(pods: list[dict[str, t.Any]]) -> list[str]:
    lines = [f"  {pod['namespace']}/{pod['name']}, for {human_age(pod['age_seconds'])}: {pod['why']}" for pod in pods[:_MOST_PENDING]]
    if len(pods) > _MOST_PENDING:
        lines.append(f"  and {len(pods) - _MOST_PENDING} more")
    return ["", "Pods that wait for a node:", *lines] if pods else []


def _verdict(summary: dict[str, t.Any]) -> str:
    nodes, workloads = summary["nodes"], summary["workloads"]
    ready = sum(node["ready"] for node in nodes)
    available = sum(workload["ready"] for workload in workloads)
    text = f"{ready} of {len(nodes)} nodes are Ready, {available} of {len(workloads)} workloads are available"
    return f"{'HEALTHY' if summary['healthy'] else 'UNHEALTHY'}: {text}"


def render(summary: dict[str, t.Any]) -> str:
    """Lines without trailing blanks; the last one is the verdict."""
    lines = [f"Cluster {summary['cluster_uid'] or '-'}, {', '.join(summary['versions']) or 'no version'}, at {summary['taken_at']}", ""]
    lines += _nodes(summary["nodes"])
    lines += _marks(summary["nodes"])
    lines += _workloads(summary["workloads"])
    lines += _pending(summary["pending_pods"])
    notes = []
    if not summary["metrics"]:
        notes.append("No CPU and memory usage: metrics.k8s.io is not served.")
    if len(summary["versions"]) > 1:
        notes.append(f"The nodes run {len(summary['versions'])} versions.")
    if notes:
        lines += ["", *notes]
    if summary["problems"]:
        lines += ["", "Problems:", *(f"  {problem}" for problem in summary["problems"])]
    return "\n".join([*lines, "", _verdict(summary)])
