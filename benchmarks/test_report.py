# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import measured_lab, report

HERE = Path(__file__).resolve().parent
REASONS = [
    {"task": "^k3s_server : Wait", "run": "first", "reason": "the server starts"},
    {"task": "^k3s_server : Wait", "phase": "two", "reason": "another phase"},
    {"task": "^k3s_server : Wait", "run": "second", "reason": "the server runs"},
]

TIMELINE = {
    "playbook": "site.yml",
    "phases": [
        {"name": "one", "tasks": [{"name": "Wait", "role": "k3s_server", "seconds": 9.0}, {"name": "Look", "role": None, "seconds": 1.0}]},
        {"name": "two", "tasks": [{"name": "Look", "role": None, "seconds": 2.5}]},
    ],
}


def site(*changes: dict[str, Any]) -> dict[str, Any]:
    """Three rounds, the first of them with changes."""
    usual = {"hosts": 3, "up_seconds": 20.0, "first_seconds": 60.0, "second_seconds": 12.0, "second_changed": 0, "units": 3, "units_restarted": []}
    slowest = measured_lab.slowest_tasks(TIMELINE, 2)
    usual = {**usual, "load_between": 0.5, "first_slowest": slowest, "second_slowest": slowest}
    return {"rounds": [{**usual, **(changes[number] if number < len(changes) else {})} for number in range(3)]}


def test_gpu_node_section_tells_what_was_missed() -> None:
    result = {
        "gpus": 8,
        "reading": {"task_seconds": 0.4, "beyond_ping_seconds": 0.1},
        "hung": {"task_seconds": 4.0, "beyond_ping_seconds": 3.5},
        "first_half_seconds": 12.0,
        "second_half_seconds": 6.0,
        "second_changed": 0,
        "restarted": [],
        "plugin_replaced": True,
        "visible_seconds": {"4 to 2": [8.0, 9.0, 30.0], "2 to 4": [5.0, 6.0, 7.0]},
    }
    lines = report.gpu_node(result, []).splitlines()
    assert [line.startswith("- kept") for line in lines[:6]] == [True, False, True, False, True, True]
    assert "| 4 to 2 | 8.0, 9.0, 30.0 | 9.0 |" in lines


def test_endpoint_watch_section_tells_what_was_missed() -> None:
    loop = {"asked": 150, "answered": 150, "processor_seconds": 3.0}
    result = {
        "seconds": 20,
        "hang_seconds": 3,
        "rates": {
            "10": {"watch": {"asked": 200, "processor_seconds": 0.8}, "loop": loop},
            "50": {"watch": {"asked": 900, "processor_seconds": 18.0}, "loop": loop},
        },
        "hanging": {"watch": {"asked": 199, "processor_seconds": 0.9}, "loop": loop},
    }
    lines = report.endpoint_watch(result, []).splitlines()
    assert [line.startswith("- kept") for line in lines[:5]] == [True, True, False, False, True]
    assert "| 10/s | `curl` and `sleep` in a loop | 200 | 150 | 20.0 | 5.00 |" in lines


def test_slowest_tasks_over_all_phases() -> None:
    assert measured_lab.slowest_tasks(TIMELINE, 2) == [
        {"name": "k3s_server : Wait", "phase": "one", "seconds": 9.0},
        {"name": "Look", "phase": "two", "seconds": 2.5},
    ]


def test_task_seconds_adds_up_and_misses_loudly() -> None:
    assert measured_lab.task_seconds(TIMELINE, "Look") == 3.5
    with pytest.raises(measured_lab.BenchmarkError, match="no task 'Missing' in the run of site.yml"):
        measured_lab.task_seconds(TIMELINE, "Missing")


@pytest.mark.parametrize(("values", "middle"), [([3.0, 1.0, 2.0], 2.0), ([4.0, 1.0, 2.0, 3.0], 2.5), ([7.0], 7.0)])
def test_median(values: list[float], middle: float) -> None:
    assert measured_lab.median(values) == middle


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ([], []),
        ([{"second_seconds": 59.0}], []),
        ([{"second_seconds": 20.1}, {"second_seconds": 59.0}], ["at most 1/3 of the first: 0.34"]),
        ([{"second_changed": 1}], ["changes nothing: 1 changed"]),
        ([{"units_restarted": ["k3s-server k3s.service"]}], ["restarted: ['k3s-server k3s.service']"]),
        ([{"up_seconds": 99.0}], []),
        ([{"up_seconds": 31.0}, {"up_seconds": 99.0}], ["at most 90 s: 91 s"]),
    ],
)
def test_site_promises(changes: list[dict[str, Any]], missed: list[str]) -> None:
    lines = report.site_runs(site(*changes), REASONS).splitlines()
    found = [line for line in lines if "**missed**" in line]
    assert len(found) == len(missed)
    assert all(part in line for part, line in zip(missed, found, strict=True))
    assert sum(line.startswith("- kept") for line in lines) == 4 - len(missed)


def test_site_tasks_have_reasons_or_say_that_they_have_none() -> None:
    section = report.site_runs(site(), REASONS)
    assert "| one | k3s_server : Wait | 9.0 | 15 % | the server starts |" in section
    assert "| one | k3s_server : Wait | 9.0 | 75 % | the server runs |" in section
    assert f"| two | Look | 2.5 | 4 % | {report.UNKNOWN_REASON} |" in section
    assert "| 1 | 20.0 | 60.0 | 12.0 | 0.20 | 0.5 |" in section


@pytest.mark.parametrize(("fifth", "verdict"), [(10.0, "kept"), (12.5, "kept"), (12.6, "**missed**"), (7.4, "**missed**")])
def test_join_promise(fifth: float, verdict: str) -> None:
    rounds = [
        [{"agent": agent, "adding_seconds": cost * factor, "whole_again_seconds": 8.0} for agent, cost in ((2, 10.0), (5, fifth))] for factor in (1, 1, 9)
    ]
    section = report.join_scale({"rounds": rounds}, [])
    assert section.startswith(f"- {verdict}: adding the fifth agent")
    assert "| 2. | 10.0, 10.0, 90.0 | 10.0 | 1.00 | 8.0 |" in section


@pytest.mark.parametrize(("cold", "warm", "missed"), [(1200, 240, 0), (1201, 240, 1), (1200, 241, 1)])
def test_demo_promises(cold: int, warm: int, missed: int) -> None:
    result = {name: {"seconds": seconds, "steps": {"setup": 1.0, "site": 2.0}} for name, seconds in (("cold", cold), ("warm", warm), ("again", 30))}
    section = report.demo_times(result, [])
    assert section.count("**missed**") == missed
    assert "| setup | 1 | 1 | 1 |" in section


CONTEST = {"kubernetes_core": "6.2.0", "least_idle": 0.71, "starts": 30}


def applied(seconds: dict[str, list[float]] | None = None, sizes: dict[str, Any] | None = None) -> dict[str, Any]:
    usual = {"empty": [0.6], "ours": [0.9, 0.8, 1.9], "list": [1.6], "tasks": [17.0], "kubectl": [0.3]}
    count = {"requests": {"GET": 20, "PATCH": 20}, "connections": 1}
    grown = {
        str(size): {"new_seconds": [taken], "changed_seconds": [taken], **dict.fromkeys(("new", "changed"), {"requests": {"GET": size}, "connections": 1})}
        for size, taken in ((20, 1.0), (200, 2.8), (1000, 10.8))
    }
    labels = {"nodes": 3, **dict.fromkeys(("list", "again", "each"), {**count, "seconds": 0.8})}
    unchanged = {"objects": 20, "seconds": {**usual, **(seconds or {})}, "counted": dict.fromkeys(("ours", "list", "kubectl"), count)}
    return {**CONTEST, "unchanged": unchanged, "sizes": {**grown, **(sizes or {})}, "labels": labels}


def grown(taken: float, requests: int = 400, connections: int = 1) -> dict[str, Any]:
    count = {"requests": {"GET": requests}, "connections": connections}
    return {"200": {"new_seconds": [taken], "changed_seconds": [taken], "new": count, "changed": count}}


@pytest.mark.parametrize(
    ("seconds", "sizes", "missed"),
    [
        ({}, {}, []),
        ({"tasks": [8.9]}, {}, ["at most 1/10 of 20 `k8s` tasks, whole plays: 0.101"]),
        ({"list": [1.2]}, {}, ["at most 0.7 of one `k8s` task with the list: 0.75"]),
        ({"kubectl": [0.09]}, {}, ["at most 3 times `kubectl apply --server-side`: 3.33"]),
        ({"empty": [0.3, 0.3]}, {}, []),
        ({}, grown(3.3), ["200 objects take 1.18 of what 20 and 1000 let expect"]),
        ({}, grown(2.3), ["200 objects take 0.82 of what 20 and 1000 let expect"]),
        ({}, grown(2.8, requests=411), ["at most 2 requests an object and 10 more: 20 for 20, 20 for 20, 411 for 200"]),
        ({}, grown(2.8, connections=2), ["1 connection: 2"]),
    ],
)
def test_apply_promises(seconds: dict[str, list[float]], sizes: dict[str, Any], missed: list[str]) -> None:
    lines = report.cluster_apply(applied(seconds, sizes), []).splitlines()
    found = [line for line in lines if "**missed**" in line]
    assert len(found) == len(missed)
    assert all(part in line for part, line in zip(missed, found, strict=True))
    assert sum(line.startswith("- kept") for line in lines) == 6 - len(missed)


def test_apply_tables() -> None:
    section = report.cluster_apply(applied(), [])
    assert "Against kubernetes.core 6.2.0" in section
    assert "Of 30 starts, the least quiet found 71 % of the cores idle." in section
    assert "| `kube_apply`, the list | 0.90 | 0.80 to 1.90 | 1.00 | 40 (20 GET, 20 PATCH) | 1 |" in section
    assert "| `kubernetes.core.k8s`, 20 tasks | 17.00 | one round | 18.89 | - | - |" in section
    assert "| 1000 | 10.80 | 10.80 | 1000 (1000 GET) | 1000 (1000 GET) |" in section
    assert "| 3 calls | 0.80 | 40 (20 GET, 20 PATCH) | 1 |" in section


def drained(ours: list[float], after: list[float]) -> dict[str, Any]:
    seconds = {"empty": [0.6], "ours": ours, "kubectl": [5.0, 4.0, 6.0], "peer": [8.0]}
    peer = {"seconds": 2.31, "message": "Failed to delete pod a/b: disruption budget.", "cordoned": True}
    budget = {"opens_seconds": 8.0, "pods": 3, "after_seconds": {"ours": after, "kubectl": [3.5]}, "kubelet_seconds": [0.4], "peer": peer}
    return {**CONTEST, "sizes": {"15": seconds}, "budget": budget}


@pytest.mark.parametrize(
    ("ours", "after", "missed"),
    [
        ([5.1, 5.1, 9.0], [0.5, 0.4, 1.5], []),
        ([5.2, 5.1, 9.0], [0.5], ["at most 0.9 of `kubectl drain`: 0.92"]),
        ([2.0], [0.5, 1.51], ["at most 1.5 s after it opened: 1.51 s (longest)"]),
    ],
)
def test_drain_promises(ours: list[float], after: list[float], missed: list[str]) -> None:
    lines = report.cluster_drain(drained(ours, after), []).splitlines()
    found = [line for line in lines if "**missed**" in line]
    assert len(found) == len(missed)
    assert all(part in line for part, line in zip(missed, found, strict=True))
    assert sum(line.startswith("- kept") for line in lines) == 2 - len(missed)


def test_drain_tables() -> None:
    section = report.cluster_drain(drained([2.0], [0.5]), [])
    assert "| 15 | `kubectl drain` | 5.00 | 4.00 to 6.00 | 2.50 |" in section
    assert "| `kubernetes.core.k8s_drain` | fails after 2.3 s, the node left cordoned: Failed to delete pod a/b: disruption budget. |" in section


@pytest.mark.parametrize(("taken", "verdict"), [([3.0] * 20, "kept"), ([3.0] * 19, "**missed**"), ([100.1] * 20, "**missed**")])
def test_wait_promise(taken: list[float], verdict: str) -> None:
    section = report.cluster_wait({**CONTEST, "milliseconds": {"module": taken, "kubectl": [5.0, 7.0], "polling": [900.0]}}, [])
    assert f"- {verdict}: a condition is seen at most 100 ms after the API has it" in section
    assert "| `kubectl wait`, until its process has ended | 2 | 6 | 5 | 7 |" in section


def test_groups_name_sections() -> None:
    assert {name for names in report.GROUPS.values() for name in names} <= set(report.SECTIONS)


@pytest.mark.parametrize(("load", "idle"), [(0.4, True), (1.0, True), (1.1, False), (18.0, False)])
def test_conditions_name_a_busy_machine(load: float, idle: bool) -> None:
    text = report.conditions({"cores": 2, "load_before": load})
    assert ("not idle" not in text) is idle
    assert f"load {load}" in text


def test_section_is_replaced_between_its_marks() -> None:
    begin, end = "<!-- x: written by `python3 -m benchmarks x` -->", "<!-- x: end -->"
    assert report.renewed(f"a\n{begin}\nold\n{end}\nb\n", "x", "new") == f"a\n{begin}\n\nnew\n\n{end}\nb\n"
    with pytest.raises(ValueError, match="lacks the marks"):
        report.renewed("a", "x", "new")


@pytest.mark.parametrize("name", report.SECTIONS)
def test_document_says_what_was_measured(name: str) -> None:
    kept = HERE / f"results/{name}.json"
    document = (measured_lab.CHECKOUT / "docs/performance.md").read_text()
    reasons = yaml.safe_load((HERE / "reasons.yml").read_text())
    section = report.section_of(name, json.loads(kept.read_text()), reasons) if kept.exists() else "Not measured yet."
    assert report.renewed(document, name, section) == document
    assert report.UNKNOWN_REASON not in section
