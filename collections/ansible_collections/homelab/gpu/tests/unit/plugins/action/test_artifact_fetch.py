# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import typing as t
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import yaml
from ansible.errors import AnsibleError

from ansible_collections.homelab.gpu.plugins.action.artifact_fetch import ActionModule

Object = dict[str, t.Any]

TOOLKIT: Object = {"version": "1.20.1-1", "architecture": "amd64", "binary": "", "packages": ["base", "toolkit"], "package_format": "deb"}
K3S: Object = {"version": "v1.37.1+k3s1", "architecture": "amd64"}
IMAGE: Object = {"version": "", "architecture": "amd64", "binary": "", "images": ["k8s-device-plugin"]}


class Lock:
    """A lock file of artifacts that lie beside it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "artifacts.lock.yml"
        self._folder = folder
        self._entries: list[Object] = []

    def add(self, name: str, version: str, kind: str, filename: str, arch: str = "amd64") -> None:
        source = self._folder / filename
        source.write_text(f"{name} {version} {arch}")
        sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
        told = {"name": name, "version": version, "arch": arch, "kind": kind, "filename": filename}
        self._entries.append({**told, "url": source.as_uri(), "size": source.stat().st_size, "sha256": sha256})
        self.path.write_text(yaml.safe_dump({"schema": 1, "artifacts": self._entries}))

    def sha256(self, filename: str) -> str:
        return next(entry["sha256"] for entry in self._entries if entry["filename"] == filename)


@pytest.fixture(autouse=True)
def _no_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.plugins.action.ActionBase.run", lambda *_arguments: {})


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    made = Lock(tmp_path)
    made.add("k3s", "v1.37.1+k3s1", "binary", "k3s")
    made.add("k8s-device-plugin", "v0.20.0", "images", "k8s-device-plugin.tar")
    for name in ("base", "toolkit"):
        for form in ("deb", "rpm"):
            made.add(name, "1.20.1-1", "package", f"{name}.{form}")
    return made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the environment says that files are kept."""
    monkeypatch.setenv("HOMELAB_GPU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/artifacts"


def run(lock: Lock, *wants: Object, check_mode: bool = False, **options: t.Any) -> Object:
    action = ActionModule.__new__(ActionModule)
    action._task = MagicMock(args={"lock_file": str(lock.path), "wants": [*wants], **options}, check_mode=check_mode)
    return action.run()


def test_packages_come_into_the_cache(lock: Lock, cache: Path) -> None:
    foretold = run(lock, TOOLKIT, check_mode=True)
    assert (foretold["changed"], cache.exists()) == (True, False)
    done = run(lock, TOOLKIT)
    paths = [str(cache / lock.sha256(name) / name) for name in ("base.deb", "toolkit.deb")]
    assert (done["changed"], done["fetched"], done["fetched_bytes"]) == (True, paths, sum(Path(path).stat().st_size for path in paths))
    assert done == foretold
    (artifact,) = done["artifacts"]
    assert [(file["name"], file["kind"], file["path"]) for file in artifact["files"]] == [("base", "package", paths[0]), ("toolkit", "package", paths[1])]
    assert Path(paths[0]).read_text() == "base 1.20.1-1 amd64"
    again = run(lock, TOOLKIT)
    assert (again["changed"], again["fetched"], again["fetched_bytes"], again["artifacts"]) == (False, [], 0, done["artifacts"])


def test_wants_are_told_as_they_were_given(lock: Lock, cache: Path) -> None:
    # Hosts find their own by comparing, so nothing may be added to them, not even a default
    wants = [TOOLKIT, K3S, {**TOOLKIT, "package_format": "rpm"}, IMAGE, {**K3S, "images": "k8s-device-plugin"}, TOOLKIT]
    artifacts = run(lock, *wants)["artifacts"]
    assert [artifact["want"] for artifact in artifacts] == wants
    assert [[file["filename"] for file in artifact["files"]] for artifact in artifacts] == [
        ["base.deb", "toolkit.deb"],
        ["k3s"],
        ["base.rpm", "toolkit.rpm"],
        ["k8s-device-plugin.tar"],
        ["k3s", "k8s-device-plugin.tar"],
        ["base.deb", "toolkit.deb"],
    ]


def test_nothing_wanted(lock: Lock, cache: Path) -> None:
    result = run(lock)
    assert (result["changed"], result["artifacts"], result["fetched"]) == (False, [], [])


def test_cache_of_the_option_and_of_each_environment(lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def folder(**options: t.Any) -> str:
        return str(Path(run(lock, K3S, check_mode=True, **options)["fetched"][0]).parents[1])

    for name in ("HOMELAB_GPU_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/one")
    assert folder() == "/home/one/.cache/homelab-gpu/artifacts"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert folder() == "/xdg/homelab-gpu/artifacts"
    monkeypatch.setenv("HOMELAB_GPU_CACHE", "/own")
    assert folder() == "/own/artifacts"
    assert folder(cache_dir="~/x") == "/home/one/x"
    monkeypatch.chdir(tmp_path)
    assert folder(cache_dir="here") == str(tmp_path / "here")
    # As an empty variable of an inventory
    assert folder(cache_dir="") == "/own/artifacts"


@pytest.mark.parametrize(
    ("wants", "lines"),
    [
        ([{**TOOLKIT, "version": "1.20.2-1"}], ["base (deb) 1.20.2-1 amd64; listed are 1.20.1-1 amd64", "toolkit (deb) 1.20.2-1 amd64; listed are"]),
        ([{**TOOLKIT, "architecture": "arm64"}], ["base (deb) 1.20.1-1 arm64; listed are 1.20.1-1 amd64"]),
        ([TOOLKIT, {**TOOLKIT, "packages": ["driver"]}], ["driver (deb) 1.20.1-1 amd64; no version of it is listed"]),
        ([{**IMAGE, "images": ["other"]}], ["other (images)  amd64; no version of it is listed"]),
    ],
)
def test_what_the_lock_file_lacks(lock: Lock, cache: Path, wants: list[Object], lines: list[str]) -> None:
    result = run(lock, *wants)
    assert result["failed"]
    assert result["msg"].startswith(f"The lock file {lock.path} lacks:\n")
    assert all(f"\n  {line}" in result["msg"] for line in lines)
    # Not even what it does have
    assert not cache.exists()


def test_packages_without_a_format(lock: Lock, cache: Path) -> None:
    result = run(lock, K3S, {key: value for key, value in TOOLKIT.items() if key != "package_format"})
    assert (result["failed"], result["msg"]) == (True, "wants[1] names packages, but no package_format. Set it to one of deb, rpm.")


def test_wrong_lock_file(lock: Lock, cache: Path) -> None:
    lock.add("driver", "1", "package", "driver.exe")
    result = run(lock, TOOLKIT)
    assert result["failed"]
    assert f"The lock file {lock.path} is wrong:\n  artifact 7 (driver): driver.exe is no package; fix: end it with one of .deb, .rpm" in result["msg"]


@pytest.mark.parametrize("check_mode", [False, True])
def test_spoilt_source(lock: Lock, cache: Path, tmp_path: Path, check_mode: bool) -> None:
    (tmp_path / "base.deb").write_text("x" * len("base 1.20.1-1 amd64"))
    result = run(lock, TOOLKIT, check_mode=check_mode)
    assert result["failed"]
    assert result["msg"].startswith("1 of 2 artifacts could not be had; nothing was changed on any host:\n  base 1.20.1-1 amd64 from file://")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"wants": [{**TOOLKIT, "package_format": "zip"}]}, "value of package_format must be one of: deb, rpm"),
        ({"wants": [{**K3S, "architecture": "riscv64"}]}, "value of architecture must be one of: amd64, arm64"),
        ({"wants": [{"architecture": "amd64"}]}, "missing required arguments: version"),
        ({"wants": [{**K3S, "package": "base"}]}, "package. Supported parameters include"),
    ],
)
def test_bad_input(lock: Lock, cache: Path, options: Object, words: str) -> None:
    with pytest.raises(AnsibleError) as failure:
        run(lock, **options)
    assert words in str(failure.value)
