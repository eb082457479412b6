# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from lab.distribution.build.progress import Durations, Progress, Step, spell_seconds

STEPS = [Step("fetch", "fetch all", 10), Step("compile", "compile all", 100), Step("pack", "pack all", 5)]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (3600, "60 min 00 s")])
def test_spell_seconds(seconds: float, text: str) -> None:
    assert spell_seconds(seconds) == text


def test_expectation_comes_from_estimates_then_from_earlier_runs(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    assert Progress(STEPS, Durations(path)).remaining(0) == 115
    Durations(path).record("compile", 40)
    assert Progress(STEPS, Durations(path)).remaining(0) == 55


@pytest.mark.parametrize(("elapsed", "remaining"), [(0, 105), (60, 45), (100, 5), (500, 5)])
def test_remaining_time_of_a_running_step(tmp_path: Path, elapsed: float, remaining: float) -> None:
    assert Progress(STEPS, Durations(tmp_path / "none.json")).remaining(1, elapsed) == remaining


@pytest.mark.parametrize("content", ["", "{", "[]", '{"compile": "soon"}', '{"compile": null}'])
def test_unreadable_durations_count_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "durations.json"
    path.write_text(content)
    assert Progress(STEPS, Durations(path)).remaining(1) == 105


def test_lines_of_a_step(tmp_path: Path) -> None:
    out, clock, path = io.StringIO(), Clock(), tmp_path / "durations.json"
    progress = Progress(STEPS, Durations(path), stream=out, clock=clock)
    with progress.step("compile"):
        clock.now = 70
    assert out.getvalue().splitlines() == ["[2/3] compile all (about 1 min 45 s to go)", "[2/3] compile all: done in 1 min 10 s"]
    assert json.loads(path.read_text()) == {"compile": 70.0}
    assert progress.line(2, 3) == "[3/3] pack all: 3 s, about 2 s to go"


def test_step_that_takes_longer_than_expected(tmp_path: Path) -> None:
    progress = Progress(STEPS, Durations(tmp_path / "none.json"))
    assert progress.line(1, 130) == "[2/3] compile all: 2 min 10 s instead of the expected 1 min 40 s, about 5 s after this step"


def test_failed_step_is_not_called_done_and_teaches_nothing(tmp_path: Path) -> None:
    out, path = io.StringIO(), tmp_path / "durations.json"
    progress = Progress(STEPS, Durations(path), stream=out)
    with pytest.raises(RuntimeError), progress.step("fetch"):
        raise RuntimeError
    assert "done" not in out.getvalue()
    assert not path.exists()
