# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._ready import readiness

__all__ = ["failing_checks", "node_answers"]

Object = t.Mapping[str, t.Any]


def failing_checks(text: str) -> list[str]:
    """The checks that failed, from the verbose answer of C(/readyz)."""
    lines = (line.strip() for line in text.splitlines())
    return [line[3:].split(" ")[0] for line in lines if line.startswith("[-]")]


def _renewed(lease: Object | None) -> datetime.datetime | None:
    text = ((lease or {}).get("spec") or {}).get("renewTime")
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def node_answers(nodes: t.Iterable[Object], leases: t.Iterable[Object], now: float, heartbeat_seconds: float) -> list[dict[str, t.Any]]:
    """For each node whether it is ready and its kubelet alive. C(now) is the API server's time in seconds since the epoch."""
    by_name = {lease["metadata"]["name"]: lease for lease in leases}
    answers = []
    for node in sorted(nodes, key=lambda node: str(node["metadata"]["name"])):
        name = node["metadata"]["name"]
        renewed = _renewed(by_name.get(name))
        age = None if renewed is None else max(0.0, now - renewed.timestamp())
        verdict = readiness(node)
        problem = None
        if not verdict.ok:
            problem = verdict.what
        elif age is None:
            problem = "has never renewed its lease"
        elif age > heartbeat_seconds:
            problem = f"last heartbeat {age:.0f} s ago"
        answers.append({"name": name, "answers": problem is None, "heartbeat_age_seconds": None if age is None else round(age, 1), "problem": problem})
    return answers
