# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import yaml

from ansible_collections.homelab.gpu.plugins.plugin_utils._kubeconfig import destination_problem, read_own, rewrite, summary, write

ADMIN = yaml.safe_dump(
    {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default", "cluster": {"server": "https://127.0.0.1:6443", "certificate-authority-data": "Q0E="}}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "current-context": "default",
        "users": [{"name": "default", "user": {"client-certificate-data": "A", "client-key-data": "B"}}],
    }
)


def rewritten(uid: str = "uid-1") -> str:
    return rewrite(ADMIN, server="https://192.0.2.11:6443", name="homelab", cluster_uid=uid)


def test_rewrite() -> None:
    config = yaml.safe_load(rewritten())
    assert config["clusters"][0]["name"] == config["contexts"][0]["name"] == config["current-context"] == "homelab"
    assert config["clusters"][0]["cluster"]["server"] == "https://192.0.2.11:6443"
    assert config["clusters"][0]["cluster"]["certificate-authority-data"] == "Q0E="
    assert config["contexts"][0]["context"] == {"cluster": "homelab", "user": "homelab-admin"}
    assert config["users"] == [{"name": "homelab-admin", "user": {"client-certificate-data": "A", "client-key-data": "B"}}]
    assert "default" not in rewritten()


def test_the_same_each_time() -> None:
    assert rewritten() == rewritten()


def test_the_file_remembers_its_cluster(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(rewritten("uid-7"), encoding="utf-8")
    assert read_own(str(path)) == "uid-7"
    assert destination_problem(str(path)) is None


@pytest.mark.parametrize("text", [ADMIN, "", "a: [", "[]", "clusters: []", "\udcff"])
def test_what_is_not_ours_is_not_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert read_own(str(path)) is None
    problem = destination_problem(str(path))
    assert problem is not None
    assert "was not written by this collection" in problem[0]


def test_destinations(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert destination_problem(str(tmp_path / "new" / "deep" / "config")) is None
    assert "is a relative path" in str(destination_problem("kubeconfig"))
    assert "is a directory" in str(destination_problem(str(tmp_path)))
    assert "is not a directory" in str(destination_problem(str(tmp_path / "file" / "config")))


def test_a_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    assert "is not writable for this user" in str(destination_problem(str(tmp_path / "config")))


def test_written_once_with_mode_0600(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "kubeconfig"
    assert write(str(path), rewritten(), check_mode=True) == ""
    assert not path.parent.exists()
    assert write(str(path), rewritten(), check_mode=False) == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert write(str(path), rewritten(), check_mode=False) is None
    assert os.listdir(path.parent) == ["kubeconfig"]


def test_another_cluster_and_another_mode_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    write(str(path), rewritten("uid-1"), check_mode=False)
    assert "cluster uid-1, mode 0600" in str(write(str(path), rewritten("uid-2"), check_mode=False))
    path.chmod(0o644)
    assert "cluster uid-2, mode 0644" in str(write(str(path), rewritten("uid-2"), check_mode=False))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_summary_has_no_credentials_but_moves_with_them() -> None:
    other = rewrite(ADMIN.replace("client-key-data: B", "client-key-data: SECRET"), server="https://192.0.2.11:6443", name="homelab", cluster_uid="uid-1")
    assert summary(other) != summary(rewritten())
    assert "SECRET" not in summary(other)
    assert "https://192.0.2.11:6443" in summary(other)
