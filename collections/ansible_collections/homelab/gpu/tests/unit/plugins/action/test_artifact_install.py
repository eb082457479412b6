# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from ansible_collections.homelab.gpu.plugins.action.artifact_install import ActionModule

BIG, SMALL = {"dest": "/lib/k3s", "size": 10}, {"dest": "/images/i.tar", "size": 5}


class Host(ActionModule):
    """Answers instead of a host, and remembers what it was asked and sent."""

    def __init__(self, files: list[dict[str, t.Any]], answers: list[dict[str, t.Any]], check_mode: bool = False) -> None:
        self._task = MagicMock(args={"files": files, "state_file": "/s", "staged": {"ignored": "x"}}, check_mode=check_mode, async_val=0, no_log=False)
        self._connection = MagicMock()
        self._connection._shell.join_path = lambda *parts: "/".join(parts)
        self._connection.put_file = lambda source, destination: self.sent.append((source, destination))
        self._answers = answers
        self.asked: list[dict[str, t.Any]] = []
        self.sent: list[tuple[str, str]] = []
        self.removed: list[str] = []

    def _execute_module(self, **options: t.Any) -> dict[str, t.Any]:
        self.asked.append(options["module_args"])
        return dict(self._answers.pop(0))

    def _make_tmp_path(self, *_arguments: t.Any) -> str:
        return "/tmp/x"

    def _remove_tmp_path(self, tmp_path: str, force: bool = False) -> None:
        self.removed.append(tmp_path)


@pytest.fixture(autouse=True)
def _no_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.plugins.action.ActionBase.run", lambda *_arguments: {})


@pytest.fixture
def files(tmp_path: Path) -> list[dict[str, t.Any]]:
    for name in ("big", "small"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    return [{**BIG, "src": str(tmp_path / "big")}, {**SMALL, "src": str(tmp_path / "small")}]


def test_nothing_missing_is_one_call(files: list[dict[str, t.Any]]) -> None:
    host = Host(files, [{"changed": False, "missing": []}])
    assert host.run() == {"changed": False, "missing": []}
    assert (len(host.asked), host.sent) == (1, [])
    assert "staged" not in host.asked[0]


def test_only_what_is_missing_is_sent(files: list[dict[str, t.Any]]) -> None:
    host = Host(files, [{"changed": False, "missing": ["/images/i.tar"]}, {"changed": True, "missing": ["/images/i.tar"]}])
    result = host.run()
    assert (result["changed"], result["sent_bytes"]) == (True, 5)
    assert host.sent == [(files[1]["src"], "/tmp/x/0-i.tar")]
    assert host.asked[1]["staged"] == {"/images/i.tar": "/tmp/x/0-i.tar"}
    assert host.removed == ["/tmp/x"]


def test_check_mode_sends_nothing(files: list[dict[str, t.Any]]) -> None:
    host = Host(files, [{"changed": True, "missing": ["/lib/k3s"]}], check_mode=True)
    assert host.run()["changed"] is True
    assert (len(host.asked), host.sent) == (1, [])


def test_a_failed_look_is_the_result(files: list[dict[str, t.Any]]) -> None:
    host = Host(files, [{"failed": True, "msg": "no room", "missing": ["/lib/k3s"]}])
    assert (host.run()["msg"], host.sent) == ("no room", [])


def test_a_file_that_is_not_in_the_cache() -> None:
    host = Host([{**BIG, "src": "/nowhere/k3s"}], [{"changed": False, "missing": ["/lib/k3s"]}])
    result = host.run()
    assert result["failed"] is True
    assert "run the role homelab.gpu.k3s_artifacts first" in result["msg"]


def test_a_failed_placement_leaves_no_temporary_files(files: list[dict[str, t.Any]]) -> None:
    host = Host(files, [{"missing": ["/lib/k3s"]}, {"failed": True, "msg": "wrong byte"}])
    result = host.run()
    assert (result["failed"], host.removed, "sent_bytes" in result) == (True, ["/tmp/x"], False)
