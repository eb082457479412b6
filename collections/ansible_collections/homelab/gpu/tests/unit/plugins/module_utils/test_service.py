# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._service import UnitState, error_lines, parse_environ, parse_show, verdict

RUNNING = UnitState("loaded", "active", "running", "success", 100, 0, "i1", False, True, "Sun 2026-11-22 11:00:00 UTC", "Sun 2026-11-22 10:59:50 UTC")
STOPPED = replace(RUNNING, active="inactive", sub="dead", pid=0, invocation="")
STARTING = replace(RUNNING, active="activating", sub="start", invocation="i2")

SHOW = """\
Result=success
NRestarts=3
ExecMainStartTimestamp=Sun 2026-11-22 11:00:00 UTC
InactiveExitTimestamp=Sun 2026-11-22 10:59:50 UTC
ExecMainStatus=0
MainPID=100
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
NeedDaemonReload=yes
InvocationID=i1
"""


def test_show() -> None:
    assert parse_show(SHOW) == replace(RUNNING, restarts=3, need_reload=True)


def test_show_of_an_unknown_unit() -> None:
    state = parse_show("LoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\nMainPID=0\n")
    assert (state.load, state.running, state.enabled, state.pid) == ("not-found", False, False, 0)


def test_environ() -> None:
    assert parse_environ(b"A=1\0B=x=y\0\0BROKEN\0") == {"A": "1", "B": "x=y"}


def judge(before: UnitState, now: UnitState, *, fresh: bool = False, journal: tuple[str, ...] = ()) -> str:
    return verdict(before, now, fresh=fresh, journal=list(journal), fatal=["token CA hash"], max_restarts=3)[0]


@pytest.mark.parametrize(
    ("before", "now", "fresh", "journal", "expected"),
    [
        (STOPPED, RUNNING, False, (), "ready"),
        (STOPPED, STARTING, False, (), "waiting"),
        # A restart is done only when it is another process that runs.
        (RUNNING, RUNNING, True, (), "waiting"),
        (RUNNING, replace(RUNNING, invocation="i2"), True, (), "ready"),
        (RUNNING, replace(RUNNING, active="deactivating", sub="stop-sigterm"), True, (), "waiting"),
        (STOPPED, replace(STOPPED, active="failed", sub="failed"), False, (), "failed"),
        (STOPPED, replace(STOPPED, load="not-found"), False, (), "failed"),
        (STOPPED, replace(STARTING, restarts=2), False, (), "waiting"),
        (STOPPED, replace(STARTING, restarts=3), False, (), "failed"),
        # Failures of earlier times do not count, and systemd counts anew after a start by hand.
        (replace(STOPPED, restarts=7), replace(STARTING, restarts=9), False, (), "waiting"),
        (replace(STOPPED, restarts=7), replace(STARTING, restarts=3), False, (), "failed"),
        (STOPPED, STARTING, False, ('level=error msg="token CA hash does not match"',), "failed"),
        (STOPPED, STARTING, False, ("level=error msg=other",), "waiting"),
        # What was said before it succeeded after all does not matter.
        (STOPPED, RUNNING, False, ("token CA hash",), "ready"),
    ],
)
def test_verdict(before: UnitState, now: UnitState, fresh: bool, journal: tuple[str, ...], expected: str) -> None:
    assert judge(before, now, fresh=fresh, journal=journal) == expected


def test_the_reason_names_the_line() -> None:
    _result, reason = verdict(STOPPED, STARTING, fresh=False, journal=["x", "token CA hash wrong", "y"], fatal=["token CA hash"], max_restarts=3)
    assert reason == "it cannot succeed: token CA hash wrong"


def test_error_lines_are_the_last_errors_each_once() -> None:
    journal = [
        "Starting k3s.service - Lightweight Kubernetes...",
        "modprobe: FATAL: Module overlay not found in directory /lib/modules/6.1.0",
        'time="2026-11-22T11:00:00Z" level=info msg="Starting"',
        'time="2026-11-22T11:00:01Z" level=error msg="no answer" n=1',
        "E1122 11:00:01.000000 7 x.go:1] first",
        "k3s.service: Scheduled restart job, restart counter is at 1.",
        'time="2026-11-22T11:00:06Z" level=error msg="no answer" n=2',
        'time="2026-11-22T11:00:07Z" level=fatal msg="the end"',
    ]
    assert error_lines(journal) == ["E1122 11:00:01.000000 7 x.go:1] first", journal[-2], journal[-1]]
    assert error_lines(journal, limit=1) == [journal[-1]]


def test_without_an_error_the_last_lines_are_told() -> None:
    assert error_lines(["one", "two", ""]) == ["one", "two"]
