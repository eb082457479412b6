# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible_collections.homelab.gpu.plugins.plugin_utils._timeline import Recorder, TaskInfo, busy_seconds, render_table, slowest_tasks


def run_of(*events: tuple, outcome: str | None = "ok", end: float = 110.0, check: bool = False) -> dict:
    """A document from (method, *args) events; the clock of the run starts at 100."""
    recorder = Recorder("site.yml", "2026-11-22T10:00:00Z", 100.0, check=check)
    for method, *args in events:
        keywords = args.pop() if args and isinstance(args[-1], dict) else {}
        getattr(recorder, method)(*args, **keywords)
    if outcome:
        recorder.finish(outcome, end)
    return recorder.document(end + 5)


COPY = TaskInfo(name="Copy it", action="ansible.builtin.copy", role="homelab.gpu.k3s_server", block="Install")
PING = TaskInfo(name="Ping", action="ansible.builtin.ping")


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([], 0.0),
        ([(1, 3)], 2.0),
        ([(1, 3), (5, 6)], 3.0),
        ([(1, 3), (2, 6)], 5.0),
        ([(1, 9), (2, 3)], 8.0),
        ([(5, 6), (1, 3), (3, 5)], 5.0),
        ([(4, 2)], 0.0),
    ],
    ids=["none", "one", "apart", "overlapping", "contained", "unsorted and touching", "reversed"],
)
def test_busy_seconds_is_the_length_of_the_union(intervals, expected):
    assert busy_seconds(intervals) == expected


def test_results_hosts_and_counts_of_a_phase():
    document = run_of(
        ("start_phase", "p1", "Install", 101.0),
        ("start_task", "t1", COPY, 101.0),
        ("start_result", "t1", "b", 101.5),
        ("start_result", "t1", "a", 102.0),
        ("finish_result", "t1", "b", "changed", 104.0, {"attempts": 3, "items": 2, "delegated_to": "localhost"}),
        ("finish_result", "t1", "a", "ok", 103.0),
    )
    (phase,) = document["phases"]
    assert (phase["name"], phase["start"], phase["end"], phase["seconds"], phase["hosts"]) == ("Install", 1.0, 10.0, 9.0, ["a", "b"])
    (task,) = phase["tasks"]
    assert (task["name"], task["action"], task["role"], task["block"], task["kind"]) == (
        "Copy it",
        "ansible.builtin.copy",
        "homelab.gpu.k3s_server",
        "Install",
        "task",
    )
    assert task["seconds"] == 2.5
    assert task["results"][0] == {
        "host": "b",
        "status": "changed",
        "start": 1.5,
        "end": 4.0,
        "seconds": 2.5,
        "attempts": 3,
        "items": 2,
        "delegated_to": "localhost",
    }
    assert document["counts"] == {"ok": 1, "changed": 1, "skipped": 0, "ignored": 0, "failed": 0, "unreachable": 0, "unfinished": 0}
    assert (document["outcome"], document["seconds"], document["hosts"], document["check"]) == ("ok", 10.0, ["a", "b"], False)
    assert json.loads(json.dumps(document)) == document


def test_phases_follow_each_other_without_a_gap():
    document = run_of(("start_phase", "p1", "One", 101.0), ("start_phase", "p2", "Two", 104.0))
    assert [(phase["start"], phase["end"]) for phase in document["phases"]] == [(1.0, 4.0), (4.0, 10.0)]


def test_batches_of_a_serial_play_are_one_phase_and_do_not_count_the_time_between():
    document = run_of(
        ("start_phase", "p1", "Rolling", 100.0),
        ("start_task", "t1", PING, 100.0),
        ("start_result", "t1", "a", 100.0),
        ("finish_result", "t1", "a", "ok", 101.0),
        ("start_phase", "p1", "Rolling", 105.0),
        ("start_task", "t1", PING, 105.0),
        ("start_result", "t1", "b", 105.0),
        ("finish_result", "t1", "b", "ok", 107.0),
    )
    (phase,) = document["phases"]
    assert phase["batches"] == 2
    assert [task["seconds"] for task in phase["tasks"]] == [3.0]


def test_a_result_without_a_start_takes_no_time():
    document = run_of(("start_phase", "p", "P", 100.0), ("start_task", "t", PING, 100.0), ("finish_result", "t", "a", "skipped", 103.0))
    (result,) = document["phases"][0]["tasks"][0]["results"]
    assert (result["start"], result["end"], result["status"]) == (3.0, 3.0, "skipped")


def test_an_interrupted_run_leaves_unfinished_results_up_to_its_end():
    document = run_of(("start_phase", "p", "P", 100.0), ("start_task", "t", PING, 100.0), ("start_result", "t", "a", 102.0), outcome="interrupted", end=108.0)
    (result,) = document["phases"][0]["tasks"][0]["results"]
    assert (result["status"], result["seconds"]) == ("unfinished", 6.0)
    assert document["outcome"] == "interrupted"
    assert document["counts"]["unfinished"] == 1


def test_a_running_document_ends_now():
    document = run_of(("start_phase", "p", "P", 100.0), outcome=None, end=110.0)
    assert (document["outcome"], document["seconds"], document["phases"][0]["end"]) == ("running", 15.0, 15.0)


def test_events_before_the_first_phase_and_of_unknown_tasks_are_ignored():
    document = run_of(
        ("start_task", "t", PING, 100.0),
        ("start_result", "t", "a", 100.0),
        ("finish_result", "t", "a", "ok", 101.0),
        ("start_phase", "p", "P", 102.0),
        ("start_result", "other", "a", 103.0),
        ("finish_result", "other", "a", "ok", 104.0),
    )
    assert document["phases"][0]["tasks"] == []


def test_an_unknown_status_is_refused():
    with pytest.raises(ValueError, match="status 'fine' is none of ok, changed"):
        run_of(("start_phase", "p", "P", 100.0), ("start_task", "t", PING, 100.0), ("finish_result", "t", "a", "fine", 101.0))


def mixed_run(**keywords) -> dict:
    return run_of(
        ("start_phase", "p1", "Prepare the hosts", 100.0),
        ("start_task", "t1", PING, 100.0),
        ("start_result", "t1", "a", 100.0),
        ("finish_result", "t1", "a", "ok", 101.0),
        ("start_phase", "p2", "Install", 102.5),
        ("start_task", "t2", COPY, 102.5),
        ("start_result", "t2", "a", 102.5),
        ("start_result", "t2", "b", 102.5),
        ("finish_result", "t2", "a", "changed", 104.0),
        ("finish_result", "t2", "b", "failed", 106.0),
        ("start_task", "t3", TaskInfo(name="Never ran", action="x"), 106.0),
        **keywords,
    )


def test_slowest_tasks_longest_first_with_their_slowest_host():
    document = mixed_run()
    assert slowest_tasks(document, 5) == [
        {"phase": "Install", "task": "k3s_server : Copy it", "seconds": 3.5, "host": "b", "hosts": 2},
        {"phase": "Prepare the hosts", "task": "Ping", "seconds": 1.0, "host": "a", "hosts": 1},
    ]
    assert [entry["task"] for entry in slowest_tasks(document, 1)] == ["k3s_server : Copy it"]
    assert slowest_tasks(document, 0) == []


def test_table_is_aligned_and_tells_failures():
    lines = render_table(mixed_run(outcome="failed"), slowest=2)
    assert lines == [
        ("Timeline of site.yml", "ok"),
        ("phase               seconds  share                      tasks  changed  failed", "ok"),
        ("Prepare the hosts       2.5  █████                 25%      1        0       0", "ok"),
        ("Install                 7.5  ███████████████       75%      2        1       1", "failed"),
        ("total                  10.0                                 3        1       1", "failed"),
        ("Slowest tasks", "ok"),
        ("      3.5  k3s_server : Copy it  (b, longest of 2)", "ok"),
        ("      1.0  Ping  (a)", "ok"),
    ]


@pytest.mark.parametrize(
    ("outcome", "check", "expected"),
    [
        ("ok", True, "Timeline of site.yml, check mode: nothing was changed"),
        ("interrupted", False, "The run was interrupted before its end."),
    ],
)
def test_table_marks_check_mode_and_interruption(outcome, check, expected):
    assert expected in [line for line, _mood in render_table(mixed_run(outcome=outcome, check=check), slowest=0)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("名前" * 40, "名前" * 14 + "名…"),
        ("x" * 61, "x" * 59 + "…"),
        ("two\nlines\x1b[31m", "two lines [31m"),
        ("e\u0301", "e\u0301"),
    ],
    ids=["wide characters", "too long", "control characters", "combining characters"],
)
def test_odd_names_keep_the_table_in_shape(name, expected):
    lines = render_table(run_of(("start_phase", "p", name, 100.0)), slowest=0)
    row = lines[2][0]
    assert row.startswith(expected)
    assert "\n" not in row
    assert "\x1b" not in row


def test_an_empty_run_has_a_table():
    assert [line for line, _mood in render_table(run_of(end=100.0), slowest=3)][-1].split() == ["total", "0.0", "0", "0", "0"]
