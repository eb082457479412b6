# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What systemd says about a unit, and what follows from it. Pure; private to this collection.

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["PROPERTIES", "UnitState", "error_lines", "parse_environ", "parse_show", "verdict"]

PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "MainPID",
    "NRestarts",
    "InvocationID",
    "NeedDaemonReload",
    "UnitFileState",
    "ExecMainStartTimestamp",
    "InactiveExitTimestamp",
    "ExecMainStatus",
)

# Lines of the journal without which the cause of a failed start cannot be named.
_ERROR = re.compile(r"level=(?:error|fatal)|^[EF]\d{4} |\b(?:fatal|error|failed|refused|denied|unauthorized|panic)\b", re.IGNORECASE)
# A module that is built into the kernel is "not found" as well.
_NOISE = re.compile(r"^(?:Scheduled restart job|Stopped |Starting |Started |modprobe: FATAL: Module \S+ not found)")


@dataclass(frozen=True)
class UnitState:
    load: str
    active: str
    sub: str
    result: str
    pid: int
    restarts: int
    invocation: str
    need_reload: bool
    enabled: bool
    started_at: str
    # When the present attempt began, in systemd's own notation
    attempt_at: str

    @property
    def running(self) -> bool:
        return self.active in ("active", "reloading") and self.sub == "running"

    @property
    def summary(self) -> str:
        return f"{self.active} ({self.sub})"


def parse_show(text: str) -> UnitState:
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def number(key: str) -> int:
        return int(values[key]) if values.get(key, "").isdigit() else 0

    return UnitState(
        load=values.get("LoadState", "not-found"),
        active=values.get("ActiveState", "inactive"),
        sub=values.get("SubState", "dead"),
        result=values.get("Result", ""),
        pid=number("MainPID"),
        restarts=number("NRestarts"),
        invocation=values.get("InvocationID", ""),
        need_reload=values.get("NeedDaemonReload") == "yes",
        enabled=values.get("UnitFileState") in ("enabled", "enabled-runtime"),
        started_at=values.get("ExecMainStartTimestamp", ""),
        attempt_at=values.get("InactiveExitTimestamp", ""),
    )


def parse_environ(data: bytes) -> dict[str, str]:
    """The variables in /proc/<pid>/environ."""
    pairs = (item.partition(b"=") for item in data.split(b"\0") if b"=" in item)
    return {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, _equals, value in pairs}


def error_lines(journal: list[str], limit: int = 8) -> list[str]:
    """The last lines of the journal that name an error, each once, newest last; without any, simply the last lines."""
    lines = [line.strip() for line in journal if line.strip() and not _NOISE.match(line.strip())]
    chosen: list[str] = []
    seen: set[str] = set()
    for line in reversed([line for line in lines if _ERROR.search(line)] or lines):
        # The same error comes with another time stamp at each attempt.
        key = re.sub(r"time=\"[^\"]*\"|\d+", "", line)
        if key not in seen:
            seen.add(key)
            chosen.append(line[:600])
        if len(chosen) == limit:
            break
    return list(reversed(chosen))


def verdict(before: UnitState, now: UnitState, *, fresh: bool, journal: list[str], fatal: list[str], max_restarts: int) -> tuple[str, str]:
    """Whether a start is done: ready, waiting or failed, and why. With fresh, the process of before does not count."""
    if now.running and not (fresh and now.invocation == before.invocation):
        return "ready", now.summary
    for line in reversed(journal):
        for pattern in fatal:
            if re.search(pattern, line):
                return "failed", f"it cannot succeed: {line.strip()[:400]}"
    if now.load == "not-found":
        return "failed", "there is no such unit"
    if now.active == "failed":
        return "failed", f"its state is failed ({now.result})"
    began = 0 if now.invocation != before.invocation and now.restarts < before.restarts else before.restarts
    if now.restarts - began >= max_restarts:
        return "failed", f"it ended {now.restarts - began} times while starting ({now.result})"
    return "waiting", now.summary
