# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock file is the product's interface: its own reader has to take it. What it names is not built here."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.homelab.gpu.plugins.module_utils._artifacts import check_lock, select
from lab.gateway import image as haproxy
from lab.models import artifacts, python_base
from lab.models.ollama import image as ollama
from lab.models.vllm_standin import image as vllm


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOMELAB_GPU_CACHE", str(tmp_path))
    folder = tmp_path / "images"
    folder.mkdir()
    for name in (ollama.ARCHIVE, ollama.STORE, vllm.ARCHIVE, haproxy.ARCHIVE):
        (folder / name).write_text(name)
    monkeypatch.setattr(ollama, "build", lambda: (folder / ollama.ARCHIVE, folder / ollama.STORE))
    monkeypatch.setattr(vllm, "build", lambda: folder / vllm.ARCHIVE)
    monkeypatch.setattr(haproxy, "build", lambda: folder / haproxy.ARCHIVE)
    return folder


def test_product_takes_the_lock_file(cache: Path) -> None:
    path = artifacts.build()
    assert path == artifacts.lock_path()
    entries = check_lock(yaml.safe_load(path.read_text()))
    assert [(entry["name"], entry["kind"]) for entry in entries] == [
        ("ollama", "images"),
        ("vllm", "images"),
        ("haproxy", "images"),
        ("homelab-tiny", "bundle"),
    ]
    chosen, missing = select(entries, version="", images=["ollama", "vllm", "haproxy"], arch=entries[0]["arch"], binary="")
    assert ([entry["filename"] for entry in chosen], missing) == ([ollama.ARCHIVE, vllm.ARCHIVE, haproxy.ARCHIVE], [])


def test_each_part_enters_the_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [artifacts.lock_path().name]
    for part in (ollama, vllm, haproxy):
        monkeypatch.setattr(part, "key", lambda: "0" * 16)
        names.append(artifacts.lock_path().name)
    assert len(set(names)) == 4


def test_command(cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert artifacts.main(["--print"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert (path, path.exists()) == (artifacts.lock_path(), False)
    assert artifacts.main([]) == 0
    assert capsys.readouterr().out == f"{path}\n"

    def fail() -> None:
        raise python_base.BuildError("no compiler")

    monkeypatch.setattr(vllm, "build", fail)
    assert artifacts.main([]) == 1
    assert capsys.readouterr().err == "artifacts: no compiler\n"
