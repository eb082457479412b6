# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time.
"""What hosts, API server and nodes answered, as text and as a list of who did not."""

from __future__ import annotations

import typing as t

from ansible_collections.homelab.gpu.plugins.plugin_utils._text_table import columns, human_age

__all__ = ["report"]

# In this order a host is asked; what comes after the first failure was not asked.
STEPS = ("ssh", "root", "python")


def _first_line(text: t.Any) -> str:
    lines = [line.strip() for line in str(text or "").splitlines() if line.strip()]
    return lines[0].removeprefix("Task failed: ") if lines else "no reason given"


def _host(host: t.Mapping[str, t.Any]) -> tuple[list[str], str | None]:
    cells = []
    problem = None
    for step in STEPS:
        answer = host.get(step)
        if problem is not None or answer is None:
            cells.append("-")
        elif answer["ok"]:
            cells.append("yes")
        else:
            cells.append("no")
            problem = _first_line(answer.get("problem"))
    return cells, problem


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def report(hosts: t.Sequence[t.Mapping[str, t.Any]], cluster: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """C(cluster) is the result of kube_ping; one without nodes has only a C(msg)."""
    silent: dict[str, str] = {}
    lines = []
    rows = [["HOST", "SSH", "ROOT", "PYTHON", ""]]
    for host in hosts:
        cells, problem = _host(host)
        rows.append([host["name"], *cells, problem or ""])
        if problem:
            silent[f"host {host['name']}"] = problem
    lines += columns(rows)
    answered = "nodes" in cluster
    if answered:
        state = "ready" if cluster["ready"] else "not ready" + (f": {', '.join(cluster['failing_checks'])}" if cluster["failing_checks"] else "")
        api = [cluster["server"], cluster["version"] or "-", f"{state}, answered in {cluster['answered_seconds']:.3f} s"]
        if not cluster["ready"]:
            silent["API server"] = state
    else:
        problem = _first_line(cluster.get("msg"))
        api = ["-", "-", problem]
        silent["API server"] = problem
    lines += ["", *columns([["API SERVER", "VERSION", ""], api])]
    nodes = cluster["nodes"] if answered else []
    if nodes:
        rows = [["NODE", "ANSWERS", "HEARTBEAT", ""]]
        for node in nodes:
            age = node["heartbeat_age_seconds"]
            rows.append([node["name"], "yes" if node["answers"] else "no", "-" if age is None else f"{human_age(round(age))} ago", node["problem"] or ""])
            if not node["answers"]:
                silent[f"node {node['name']}"] = node["problem"]
        lines += ["", *columns(rows)]
    elif answered:
        silent["nodes"] = "none is registered"
    everybody = f"{_count(len(hosts), 'host')}, the API server and {_count(len(nodes), 'node')}"
    verdict = f"NO ANSWER: {', '.join(silent)}" if silent else f"ALL ANSWER: {everybody}"
    return {"ok": not silent, "silent": silent, "text": "\n".join([*lines, "", verdict])}
