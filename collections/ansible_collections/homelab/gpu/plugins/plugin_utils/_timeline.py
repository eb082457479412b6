# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time.
"""Collects the events of a playbook run and turns them into a document and a table. Every time comes from the caller."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.homelab.gpu.plugins.plugin_utils._text_table import fit, width_of

__all__ = ["SCHEMA", "STATUSES", "Recorder", "Result", "TaskInfo", "busy_seconds", "render_table", "slowest_tasks"]

SCHEMA = 1
STATUSES = ("ok", "changed", "skipped", "ignored", "failed", "unreachable", "unfinished")

_BAR_WIDTH = 20
_NAME_WIDTH_MAX = 60


@dataclass(frozen=True)
class TaskInfo:
    """What is kept of a task: names only, never its arguments."""

    name: str
    action: str
    kind: str = "task"
    role: str | None = None
    block: str | None = None


@dataclass
class Result:
    """One task on one host."""

    host: str
    start: float
    end: float | None = None
    status: str = "unfinished"
    attempts: int = 1
    items: int | None = None
    delegated_to: str | None = None


@dataclass
class _Task:
    info: TaskInfo
    start: float
    results: list[Result] = field(default_factory=list)


@dataclass
class _Phase:
    name: str
    key: str
    start: float
    end: float | None = None
    batches: int = 1
    tasks: dict[str, _Task] = field(default_factory=dict)


def busy_seconds(intervals: t.Iterable[tuple[float, float]]) -> float:
    """Length of the union of the intervals: time in which at least one of them was running."""
    total = 0.0
    reached: float | None = None
    for start, end in sorted(intervals):
        if reached is None or start > reached:
            total += max(0.0, end - start)
            reached = max(start, end)
        elif end > reached:
            total += end - reached
            reached = end
    return total


def _counts(statuses: t.Iterable[str]) -> dict[str, int]:
    counts = dict.fromkeys(STATUSES, 0)
    for status in statuses:
        counts[status] += 1
    return counts


class Recorder:
    """Takes events in the order in which they happen. C(now) is a monotonic time in seconds."""

    def __init__(self, playbook: str, started_at: str, now: float, *, check: bool = False) -> None:
        self.playbook = playbook
        self.started_at = started_at
        self.check = check
        self._zero = now
        self._end: float | None = None
        self._outcome = "running"
        self._phases: list[_Phase] = []
        self._open: dict[tuple[str, str], Result] = {}

    @property
    def outcome(self) -> str:
        return self._outcome

    @property
    def has_phases(self) -> bool:
        return bool(self._phases)

    def start_phase(self, key: str, name: str, now: float) -> None:
        """A play begins. The batches of one serial play arrive as repeated beginnings and stay one phase."""
        if self._phases and self._phases[-1].key == key:
            self._phases[-1].batches += 1
            return
        self._close_phase(now)
        self._phases.append(_Phase(name=name, key=key, start=now))

    def start_task(self, key: str, info: TaskInfo, now: float) -> None:
        if not self._phases:
            return
        tasks = self._phases[-1].tasks
        if key not in tasks:
            tasks[key] = _Task(info=info, start=now)

    def start_result(self, key: str, host: str, now: float) -> None:
        task = self._task(key)
        if task is None:
            return
        result = Result(host=host, start=now)
        task.results.append(result)
        self._open[(key, host)] = result

    def finish_result(
        self, key: str, host: str, status: str, now: float, *, attempts: int = 1, items: int | None = None, delegated_to: str | None = None
    ) -> None:
        if status not in STATUSES:
            raise ValueError(f"status {status!r} is none of {', '.join(STATUSES)}")
        task = self._task(key)
        if task is None:
            return
        result = self._open.pop((key, host), None)
        if result is None:
            # Tasks that the strategy answers itself report an end without a start.
            result = Result(host=host, start=now)
            task.results.append(result)
        result.end = now
        result.status = status
        result.attempts = max(1, attempts)
        result.items = items
        result.delegated_to = delegated_to

    def finish(self, outcome: str, now: float) -> None:
        self._close_phase(now)
        self._end = now
        self._outcome = outcome

    def _task(self, key: str) -> _Task | None:
        return self._phases[-1].tasks.get(key) if self._phases else None

    def _close_phase(self, now: float) -> None:
        self._open.clear()
        if self._phases and self._phases[-1].end is None:
            self._phases[-1].end = now

    def document(self, now: float) -> dict[str, t.Any]:
        """The whole run as plain data; what still runs ends at C(now)."""
        end = self._end if self._end is not None else now
        phases = [self._phase_document(phase, end) for phase in self._phases]
        hosts = sorted({host for phase in phases for host in phase["hosts"]})
        return {
            "schema": SCHEMA,
            "generator": "homelab.gpu.timeline",
            "playbook": self.playbook,
            "started_at": self.started_at,
            "seconds": self._relative(end),
            "check": self.check,
            "outcome": self._outcome,
            "hosts": hosts,
            "counts": _sum_counts(phase["counts"] for phase in phases),
            "phases": phases,
        }

    def _relative(self, moment: float) -> float:
        return round(moment - self._zero, 3)

    def _phase_document(self, phase: _Phase, end_of_run: float) -> dict[str, t.Any]:
        end = phase.end if phase.end is not None else end_of_run
        tasks = [self._task_document(task, end) for task in phase.tasks.values()]
        return {
            "name": phase.name,
            "start": self._relative(phase.start),
            "end": self._relative(end),
            "seconds": round(end - phase.start, 3),
            "batches": phase.batches,
            "hosts": sorted({result["host"] for task in tasks for result in task["results"]}),
            "counts": _sum_counts(_counts(result["status"] for result in task["results"]) for task in tasks),
            "tasks": tasks,
        }

    def _task_document(self, task: _Task, end_of_phase: float) -> dict[str, t.Any]:
        results = []
        intervals = []
        for result in task.results:
            end = result.end if result.end is not None else end_of_phase
            intervals.append((result.start, end))
            results.append(
                {
                    "host": result.host,
                    "status": result.status,
                    "start": self._relative(result.start),
                    "end": self._relative(end),
                    "seconds": round(end - result.start, 3),
                    "attempts": result.attempts,
                    "items": result.items,
                    "delegated_to": result.delegated_to,
                }
            )
        return {
            "name": task.info.name,
            "action": task.info.action,
            "kind": task.info.kind,
            "role": task.info.role,
            "block": task.info.block,
            "start": self._relative(task.start),
            "seconds": round(busy_seconds(intervals), 3),
            "results": results,
        }


def _sum_counts(parts: t.Iterable[dict[str, int]]) -> dict[str, int]:
    total = dict.fromkeys(STATUSES, 0)
    for part in parts:
        for status, count in part.items():
            total[status] += count
    return total


def slowest_tasks(document: dict[str, t.Any], limit: int) -> list[dict[str, t.Any]]:
    """The tasks with the longest busy time, longest first, each with its phase and its slowest host."""
    found = []
    for phase in document["phases"]:
        for task in phase["tasks"]:
            if not task["results"]:
                continue
            worst = max(task["results"], key=lambda result: result["seconds"])
            found.append({"phase": phase["name"], "task": task_label(task), "seconds": task["seconds"], "host": worst["host"], "hosts": len(task["results"])})
    found.sort(key=lambda entry: -entry["seconds"])
    return found[: max(0, limit)]


def task_label(task: dict[str, t.Any]) -> str:
    role = task["role"]
    return f"{role.rsplit('.', 1)[-1]} : {task['name']}" if role else task["name"]


def _bar(share: float) -> str:
    eighths = round(max(0.0, min(1.0, share)) * _BAR_WIDTH * 8)
    full, rest = divmod(eighths, 8)
    blocks = "█" * full + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[rest]
    return blocks + " " * (_BAR_WIDTH - len(blocks))


def render_table(document: dict[str, t.Any], *, slowest: int = 10) -> list[tuple[str, str]]:
    """Lines of text, each with the worst thing it tells: C(failed), C(changed) or C(ok)."""
    phases = document["phases"]
    total = document["seconds"]
    width = min(_NAME_WIDTH_MAX, max([width_of("phase"), *(width_of(phase["name"]) for phase in phases)], default=5))
    title = document["playbook"] + (", check mode: nothing was changed" if document["check"] else "")
    lines = [(f"Timeline of {title}", "ok")]
    lines.append((f"{fit('phase', width)}  {'seconds':>8}  {'share':<{_BAR_WIDTH + 5}}  {'tasks':>5}  {'changed':>7}  {'failed':>6}", "ok"))
    for phase in phases:
        counts = phase["counts"]
        failed = counts["failed"] + counts["unreachable"]
        share = phase["seconds"] / total if total > 0 else 0.0
        row = (
            f"{fit(phase['name'], width)}  {phase['seconds']:>8.1f}  {_bar(share)} {share * 100:>3.0f}%"
            f"  {len(phase['tasks']):>5}  {counts['changed']:>7}  {failed:>6}"
        )
        lines.append((row, "failed" if failed else "changed" if counts["changed"] else "ok"))
    counts = document["counts"]
    failed = counts["failed"] + counts["unreachable"]
    tasks = sum(len(phase["tasks"]) for phase in phases)
    row = f"{fit('total', width)}  {total:>8.1f}  {'':<{_BAR_WIDTH + 5}}  {tasks:>5}  {counts['changed']:>7}  {failed:>6}"
    lines.append((row, "failed" if document["outcome"] != "ok" else "changed" if counts["changed"] else "ok"))
    if document["outcome"] not in ("ok", "failed"):
        lines.append((f"The run was {document['outcome']} before its end.", "failed"))
    entries = slowest_tasks(document, slowest)
    if entries:
        lines.append(("Slowest tasks", "ok"))
        for entry in entries:
            where = entry["host"] if entry["hosts"] == 1 else f"{entry['host']}, longest of {entry['hosts']}"
            lines.append((f"{entry['seconds']:>9.1f}  {entry['task']}  ({where})", "ok"))
    return lines
