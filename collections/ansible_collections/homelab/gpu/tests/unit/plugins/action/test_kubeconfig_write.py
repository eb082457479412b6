# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import yaml

from ansible_collections.homelab.gpu.plugins.action.kubeconfig_write import ActionModule

ADMIN = yaml.safe_dump(
    {
        "clusters": [{"name": "default", "cluster": {"server": "https://127.0.0.1:6443", "certificate-authority-data": "Q0E="}}],
        "users": [{"name": "default", "user": {"client-key-data": "S3CRET"}}],
    }
)


def run(path: Path, *, check_mode: bool = False, content: str = ADMIN, name: str = "homelab") -> dict[str, t.Any]:
    action = ActionModule.__new__(ActionModule)
    action._task = MagicMock(
        args={"content": content, "path": str(path), "server": "https://192.0.2.1:6443", "name": name, "cluster_uid": "uid-1"}, check_mode=check_mode
    )
    return action.run()


@pytest.fixture(autouse=True)
def _no_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.plugins.action.ActionBase.run", lambda *_arguments: {})


def test_written_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "config"
    foretold = run(path, check_mode=True)
    assert (foretold["changed"], path.exists()) == (True, False)
    done = run(path)
    assert (done["changed"], done["diff"]) == (True, foretold["diff"])
    assert run(path)["changed"] is False
    assert "S3CRET" not in str(done)


def test_values_from_templates(tmp_path: Path) -> None:
    class Tagged(str):
        __slots__ = ()

    assert run(tmp_path / "config", content=Tagged(ADMIN), name=Tagged("homelab"))["changed"] is True


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(ADMIN, encoding="utf-8")
    result = run(path)
    assert result["failed"] is True
    assert "was not written by this collection. Fix: choose another path" in result["msg"]
    assert path.read_text(encoding="utf-8") == ADMIN


@pytest.mark.parametrize("content", ["", "S3CRET: [", "clusters: []\nS3CRET: x"])
def test_a_broken_kubeconfig_is_not_quoted(tmp_path: Path, content: str) -> None:
    result = run(tmp_path / "config", content=content)
    assert "cannot be read" in result["msg"]
    assert "S3CRET" not in result["msg"]
