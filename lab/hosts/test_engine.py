# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import fcntl
import json
import os
import subprocess
from pathlib import Path

import pytest

from lab.hosts import engine
from lab.hosts.identity import Lab

RAISED = str(engine.WANTED_INOTIFY_INSTANCES)


@pytest.mark.parametrize(
    ("record", "instances", "expected"),
    [
        pytest.param({"ip_forward": "1", "netavark_chains": True, "absent": [], "inotify_instances": "128"}, RAISED, "128", id="set back"),
        pytest.param({"ip_forward": "1", "netavark_chains": True, "absent": [], "inotify_instances": "128"}, "65536", "65536", id="set by somebody else since"),
        pytest.param({"ip_forward": "1", "netavark_chains": True}, RAISED, RAISED, id="record of an earlier revision"),
    ],
)
def test_last_lab_sets_the_machine_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: dict[str, object], instances: str, expected: str) -> None:
    setting = tmp_path / "max_user_instances"
    setting.write_text(f"{instances}\n")
    monkeypatch.setattr(engine, "INOTIFY_INSTANCES", setting)
    lab = Lab("0123abcd", None, state_root=tmp_path / "state", run_root=tmp_path / "run")
    lab.run_root.mkdir()
    (lab.run_root / "machine.json").write_text(json.dumps(record))

    engine.leave_machine(lab)

    assert setting.read_text().strip() == expected
    assert not lab.run_root.exists()


def test_hosts_of_all_labs_are_started_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab("0123abcd", None, state_root=tmp_path / "state", run_root=tmp_path / "run")
    lab.run_root.mkdir()
    calls = []

    def podman(lab: Lab, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        other_lab = os.open(lab.run_root, os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(other_lab, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(other_lab)
        calls.append((*arguments, check))
        return subprocess.CompletedProcess(arguments, 0, "", "")

    monkeypatch.setattr(engine.own, "podman", podman)
    engine.in_parallel(lambda host: engine.start_host(lab, host), ["one", "two"])
    engine.start_host(lab, "three", check=False)

    assert sorted(calls) == [("start", "one", True), ("start", "three", False), ("start", "two", True)]
