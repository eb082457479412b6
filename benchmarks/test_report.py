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


def test_cluster_modules_table_counts_requests() -> None:
    run = {"seconds": 2.0, "requests": {"GET": 3, "PATCH": 30}}
    keys = ("apply_list", "apply_list_again", "apply_each", "apply_each_again", "label_list", "label_list_again", "label_each")
    waits = {"wait_module": {"seconds": 0.5, "requests": 4}, "wait_polling": {"seconds": 1.0, "requests": 30}}
    result = {"objects": 30, "kubectl_apply_seconds": 1.0, "kubectl_apply_again_seconds": 1.0, **dict.fromkeys(keys, run), **waits}
    section = report.cluster_modules(result, [])
    assert "| `kube_apply`, 30 calls | 2.00 | 1.00 | 33 (3 GET, 30 PATCH) |" in section
    assert "| `kube_wait` | 0.50 | 0.50 | 4 |" in section


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
