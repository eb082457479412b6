# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import stat
import typing as t
from pathlib import Path

import pytest

Run = t.Callable[..., dict[str, t.Any]]

CONTENT = {"k3s": b"program", "images.tar": b"archive"}


class Target:
    """A host's directories, and the files that the controller sent there."""

    def __init__(self, root: Path, run: Run) -> None:
        self.root, self._run = root, run
        self.binary, self.images = root / "lib" / "v1" / "k3s", root / "data" / "agent" / "images"
        self.state = root / "lib" / "placed.json"

    def files(self) -> list[dict[str, t.Any]]:
        destinations = {"k3s": (self.binary, "0755"), "images.tar": (self.images / "images.tar", "0644")}
        return [
            {"src": f"/cache/{name}", "dest": str(path), "mode": mode, "size": len(CONTENT[name]), "sha256": hashlib.sha256(CONTENT[name]).hexdigest()}
            for name, (path, mode) in destinations.items()
        ]

    def call(self, *, send: dict[str, bytes] | None = None, **options: t.Any) -> dict[str, t.Any]:
        staged = {}
        for name, content in (send or {}).items():
            sent = self.root / f"sent-{name}"
            sent.write_bytes(content)
            staged[next(entry["dest"] for entry in self.files() if entry["src"].endswith(name))] = str(sent)
        arguments = {
            "files": self.files(),
            "empty_files": [str(self.images / ".cache.json")],
            "state_file": str(self.state),
            "prune": [str(self.images)],
            "staged": staged,
        }
        return self._run("artifact_install", **{**arguments, **options})


@pytest.fixture
def target(tmp_path: Path, run_host_module: Run) -> Target:
    return Target(tmp_path, run_host_module)


def test_what_is_missing_is_only_told_at_first(target: Target) -> None:
    result = target.call()
    assert (result["changed"], result["missing"]) == (False, [str(target.binary), str(target.images / "images.tar")])
    assert os.listdir(target.root) == []


def test_placed_verified_and_left_alone(target: Target) -> None:
    result = target.call(send=CONTENT)
    assert result["changed"] is True
    assert target.binary.read_bytes() == b"program"
    assert stat.S_IMODE(target.binary.stat().st_mode) == 0o755
    assert sorted(os.listdir(target.images)) == [".cache.json", "images.tar"]

    # K3s knows archives by size and time stamp: neither may move, nor may its notes.
    (target.images / ".cache.json").write_text("{}", encoding="utf-8")
    before = (target.images / "images.tar").stat().st_mtime_ns
    again = target.call()
    assert (again["changed"], again["missing"], again["diff"]) == (False, [], [])
    assert (target.images / "images.tar").stat().st_mtime_ns == before
    assert (target.images / ".cache.json").read_text(encoding="utf-8") == "{}"


def test_a_wrong_byte_on_the_way_is_found(target: Target) -> None:
    result = target.call(send={**CONTENT, "k3s": b"progrom"})
    assert result["failed"] is True
    assert "arrived with sha256" in result["msg"]
    assert os.listdir(target.binary.parent) == []


def test_only_what_differs_is_wanted(target: Target) -> None:
    target.call(send=CONTENT)
    target.binary.write_bytes(b"PROGRAM")
    assert target.call()["missing"] == [str(target.binary)]
    result = target.call(send={"k3s": b"program"})
    assert (result["changed"], target.binary.read_bytes()) == (True, b"program")


def test_archives_of_earlier_versions_go_and_those_of_others_stay(target: Target) -> None:
    target.call(send=CONTENT)
    (target.images / "mine.tar").write_bytes(b"somebody's")
    files = [entry for entry in target.files() if entry["dest"] == str(target.binary)]
    foretold = target.call(files=files, check_mode=True)
    assert (foretold["changed"], foretold["removed"]) == (True, [str(target.images / "images.tar")])
    assert (target.images / "images.tar").exists()
    assert target.call(files=files)["removed"] == [str(target.images / "images.tar")]
    assert sorted(os.listdir(target.images)) == [".cache.json", "mine.tar"]
    # The binary of the earlier version stays for going back.
    assert target.call(files=[])["removed"] == []
    assert target.binary.exists()


def test_check_mode_on_a_bare_host(target: Target) -> None:
    result = target.call(check_mode=True)
    assert (result["changed"], len(result["missing"])) == (True, 2)
    assert os.listdir(target.root) == []


def test_modes_are_mended(target: Target) -> None:
    target.call(send=CONTENT)
    target.binary.chmod(0o777)
    assert target.call(check_mode=True)["changed"] is True
    assert target.call()["changed"] is True
    assert stat.S_IMODE(target.binary.stat().st_mode) == 0o755
    assert target.call()["changed"] is False


def test_no_room(target: Target) -> None:
    result = target.call(files=[{**entry, "size": 10**15} for entry in target.files()])
    assert result["failed"] is True
    assert "make room, then run again" in result["msg"]
    assert os.listdir(target.root) == []


def test_a_relative_path_is_refused(target: Target) -> None:
    assert "'placed.json' is not an absolute path" in target.call(state_file="placed.json")["msg"]
