# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns results into the sections of docs/performance.md. Ratios within one run are the figures; seconds are shown beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from benchmarks.measured_lab import median

UNKNOWN_REASON: Final = "not looked into"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in cells)])


def ratio(part: float, whole: float) -> str:
    return f"{part / whole:.2f}" if whole else "-"


def judged(holds: bool, promise: str) -> str:
    return f"{'kept' if holds else '**missed**'}: {promise}"


def reason_for(task: Mapping[str, Any], run: str, reasons: Sequence[Mapping[str, str]]) -> str:
    for entry in reasons:
        if entry.get("run", run) == run and re.search(entry["task"], task["name"]) and re.search(entry.get("phase", ""), task["phase"]):
            return entry["reason"]
    return UNKNOWN_REASON


def slowest(tasks: Sequence[Mapping[str, Any]], run: str, whole: float, reasons: Sequence[Mapping[str, str]]) -> str:
    rows = [
        (
            task["phase"],
            task["name"].removeprefix("homelab.gpu."),
            f"{task['seconds']:.1f}",
            f"{100 * task['seconds'] / whole:.0f} %",
            reason_for(task, run, reasons),
        )
        for task in tasks
    ]
    return table(["phase", "task", "s", "share", "reason"], rows)


def site_runs(result: Mapping[str, Any], reasons: Sequence[Mapping[str, str]]) -> str:
    """Promises in time are judged by the median of the rounds, all others by every round."""
    rounds = result["rounds"]
    hosts, units = rounds[0]["hosts"], rounds[0]["units"]
    share = median([entry["second_seconds"] / entry["first_seconds"] for entry in rounds])
    ready = median([entry["up_seconds"] + entry["first_seconds"] for entry in rounds])
    changed = [entry["second_changed"] for entry in rounds]
    restarted = sorted({unit for entry in rounds for unit in entry["units_restarted"]})
    promises = [
        judged(share <= 1 / 3, f"the second run takes at most 1/3 of the first: {share:.2f} (median)"),
        judged(not any(changed), f"the second run changes nothing: {max(changed)} changed"),
        judged(not restarted, f"no unit is restarted: start time and process of {units} units equal" if not restarted else f"restarted: {restarted}"),
        judged(ready <= 90, f"{hosts} hosts from nothing to all Ready in at most 90 s: {ready:.0f} s (median)"),
    ]
    runs = [
        (
            number,
            *(f"{entry[key]:.1f}" for key in ("up_seconds", "first_seconds", "second_seconds")),
            ratio(entry["second_seconds"], entry["first_seconds"]),
            f"{entry['load_between']:.1f}",
        )
        for number, entry in enumerate(rounds, start=1)
    ]
    typical = sorted(rounds, key=lambda entry: entry["second_seconds"] / entry["first_seconds"])[len(rounds) // 2]
    return "\n\n".join(
        [
            "\n".join(f"- {promise}" for promise in promises),
            table(["round", "`lab/up.yml`, s", "first `site.yml`, s", "second, s", "second/first", "load between"], runs),
            "The ten slowest tasks of the first run, in the round with the median ratio:",
            slowest(typical["first_slowest"], "first", typical["first_seconds"], reasons),
            "Of the second run in that round:",
            slowest(typical["second_slowest"], "second", typical["second_seconds"], reasons),
        ]
    )


def join_scale(result: Mapping[str, Any], _reasons: Sequence[Mapping[str, str]]) -> str:
    cost: dict[int, list[float]] = {}
    again: dict[int, list[float]] = {}
    for join in (join for joins in result["rounds"] for join in joins):
        cost.setdefault(join["agent"], []).append(join["adding_seconds"])
        again.setdefault(join["agent"], []).append(join["whole_again_seconds"])
    share = median(cost[5]) / median(cost[2])
    rows = [
        (
            f"{agent}.",
            ", ".join(f"{seconds:.1f}" for seconds in cost[agent]),
            f"{median(cost[agent]):.1f}",
            ratio(median(cost[agent]), median(cost[2])),
            f"{median(again[agent]):.1f}",
        )
        for agent in cost
    ]
    head = [
        "agent",
        "`site.yml --limit` that adds it, s, each round",
        "median",
        "of the second's",
        "`site.yml` over all hosts afterwards, 0 changed, s, median",
    ]
    return "\n\n".join(
        ["- " + judged(0.75 <= share <= 1.25, f"adding the fifth agent costs what the second did (± 25 %): {share:.2f} (medians)"), table(head, rows)]
    )


def demo_times(result: Mapping[str, Any], _reasons: Sequence[Mapping[str, str]]) -> str:
    cold, warm, again = (result[name]["seconds"] for name in ("cold", "warm", "again"))
    steps = list(result["cold"]["steps"])
    rows = [(step, *(f"{result[name]['steps'][step]:.0f}" for name in ("cold", "warm", "again"))) for step in steps] + [
        ("all", cold, warm, again),
        ("of the cold run", "1", ratio(warm, cold), ratio(again, cold)),
    ]
    return "\n\n".join(
        [
            "\n".join(
                [
                    "- " + judged(cold <= 1200, f"cold, with empty caches, at most 20 min: {cold / 60:.1f} min"),
                    "- " + judged(warm <= 240, f"warm, hosts made anew, at most 4 min: {warm / 60:.1f} min"),
                ]
            ),
            table(["step", "cold, s", "warm, s", "again at once, s"], rows),
        ]
    )


def requests(counts: Mapping[str, int]) -> str:
    return f"{sum(counts.values())} ({', '.join(f'{number} {verb}' for verb, number in counts.items())})"


def cluster_modules(result: Mapping[str, Any], _reasons: Sequence[Mapping[str, str]]) -> str:
    objects, base = result["objects"], result["apply_list"]["seconds"]
    rows = [
        (f"`kube_apply`, one call, {objects} new objects", "apply_list"),
        ("again, nothing to change", "apply_list_again"),
        (f"`kube_apply`, {objects} calls", "apply_each"),
        ("again, nothing to change", "apply_each_again"),
    ]
    applied = [(what, f"{result[key]['seconds']:.2f}", ratio(result[key]["seconds"], base), requests(result[key]["requests"])) for what, key in rows]
    for what, key in (("`kubectl apply --server-side` on the server", "kubectl_apply_seconds"), ("again", "kubectl_apply_again_seconds")):
        applied.append((what, f"{result[key]:.2f}", ratio(result[key], base), "not counted"))
    labels = [
        ("`kube_node`, one call, all nodes", "label_list"),
        ("again, nothing to change", "label_list_again"),
        ("`kube_node`, a call for each", "label_each"),
    ]
    labelled = [
        (what, f"{result[key]['seconds']:.2f}", ratio(result[key]["seconds"], result["label_list"]["seconds"]), requests(result[key]["requests"]))
        for what, key in labels
    ]
    polled = result["wait_polling"]["seconds"]
    waits = [("`kube_wait`", "wait_module"), ("`kube_info`, `until`, `delay: 1`", "wait_polling")]
    waited = [(what, f"{result[key]['seconds']:.2f}", ratio(result[key]["seconds"], polled), f"{result[key]['requests']:.0f}") for what, key in waits]
    return "\n\n".join(
        [
            table(["apply", "s", "ratio", "requests"], applied),
            table(["label", "s", "ratio", "requests"], labelled),
            "From the object's creation until the waiting play has ended, its own end included (median of 5):",
            table(["wait", "s", "ratio", "requests in about 6 s"], waited),
        ]
    )


SECTIONS: Final[Mapping[str, Callable[[Mapping[str, Any], Sequence[Mapping[str, str]]], str]]] = {
    "site_runs": site_runs,
    "join_scale": join_scale,
    "demo_times": demo_times,
    "cluster_modules": cluster_modules,
}


def conditions(result: Mapping[str, Any]) -> str:
    """On what the figures were taken; a machine that was not idle is named as such."""
    cores, load = result["cores"], result["load_before"]
    if load > cores / 2:
        return f"Taken on {cores} cores that were **not idle** (load {load:.1f} before the start): seconds are worse than on idle ones, ratios uncertain."
    return f"Started on {cores} idle cores (load {load:.1f} before the start); what else began later was not watched."


def section_of(name: str, result: Mapping[str, Any], reasons: Sequence[Mapping[str, str]]) -> str:
    return f"{conditions(result)}\n\n{SECTIONS[name](result, reasons)}"


def renewed(document: str, name: str, section: str) -> str:
    """The document with what stands between the section's marks replaced."""
    begin, end = f"<!-- {name}: written by `python3 -m benchmarks {name}` -->", f"<!-- {name}: end -->"
    before, found_begin, rest = document.partition(begin)
    _old, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"docs/performance.md lacks the marks {begin!r} and {end!r}")
    return f"{before}{begin}\n\n{section}\n\n{end}{after}"
