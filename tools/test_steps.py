# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest

from tools.steps import Step, clock, parse_step, read_timings, run, write_timing

if TYPE_CHECKING:
    from pathlib import Path


def test_step_keeps_equal_signs_of_its_command() -> None:
    assert parse_step("site=90=make site A=b") == Step("site", 90, "make site A=b")


@pytest.mark.parametrize("text", ["", "site", "site=90", "site=soon=make site", "=90=make site", "site=90="])
def test_malformed_step_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="name=seconds=command"):
        parse_step(text)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (754, "12:34")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize("content", ["", "[]", "{", '{"test/lint": "long"}'])
def test_spoilt_timings_count_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "timings.json"
    path.write_text(content)
    assert read_timings(path) == {}


def test_first_failure_ends_the_run_with_its_status(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    steps = [Step("one", 1, "true"), Step("two", 2, "exit 3"), Step("three", 4, f"touch {tmp_path}/reached")]
    assert run("gates", steps, tmp_path / "timings.json") == 3
    output = capfd.readouterr().out
    assert "[2/3] two: expected 0:02" in output
    assert "failed in step 2 of 3, two (exit status 3)" in output
    assert not (tmp_path / "reached").exists()
    assert list(read_timings(tmp_path / "timings.json")) == ["gates/one"]


def test_last_word_belongs_to_the_last_step(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("gates", [Step("one", 1, "true"), Step("two", 2, "echo 7 passed")], tmp_path / "timings.json") == 0
    assert capfd.readouterr().out.endswith("7 passed\n")


def test_expected_time_is_the_last_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    timings = tmp_path / "new" / "timings.json"
    write_timing(timings, "gates/one", 83.4)
    write_timing(timings, "gates/one", 61.2)
    run("gates", [Step("one", 1, "true")], timings)
    assert "one: expected 1:01" in capfd.readouterr().out
