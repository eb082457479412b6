# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock file is the product's interface: its own reader has to take it. What it names is not built here."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
import yaml

from ansible_collections.homelab.gpu.plugins.module_utils._artifacts import check_lock, select
from lab import container_image
from lab.distribution.build import artifacts_lock, toolchain
from lab.gpu import artifacts
from lab.gpu.device_plugin import image
from lab.gpu.toolkit import packages


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache below a path that YAML and URLs take for something else, where everything was built before."""
    folder = tmp_path / "a b: #1"
    monkeypatch.setenv("HOMELAB_GPU_CACHE", str(folder))
    monkeypatch.setattr(container_image, "machine_architecture", lambda: "arm64")
    made = folder / "gpu/toolkit"
    made.mkdir(parents=True)
    files = {name: made / packages.file_name(name) for name in packages.PACKAGES}
    for name, path in files.items():
        path.write_text(name)
    (folder / image.ARCHIVE).write_text("image")
    monkeypatch.setattr(packages, "build", lambda: files)
    monkeypatch.setattr(image, "build", lambda: folder / image.ARCHIVE)
    return folder


def test_product_takes_the_lock_file(cache: Path) -> None:
    path = artifacts.build()
    assert path == artifacts.lock_path()
    entries = check_lock(yaml.safe_load(path.read_text()))
    version = packages.version()
    assert [(entry["name"], entry["version"], entry["arch"], entry["kind"]) for entry in entries] == [
        *((name, version, "arm64", "package") for name in packages.PACKAGES),
        ("k8s-device-plugin", image.NAME.rpartition(":")[2], "arm64", "images"),
    ]
    for entry in entries:
        file = cache / ("gpu/toolkit" if entry["kind"] == "package" else "") / entry["filename"]
        assert entry["url"] == file.as_uri()
        assert (entry["size"], entry["sha256"]) == (file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
    assert [*map(vars, artifacts_lock.read(path))] == entries


def test_roles_find_what_they_want(cache: Path) -> None:
    entries = check_lock(yaml.safe_load(artifacts.build().read_text()))
    wanted = {"arch": "arm64", "binary": ""}
    chosen, missing = select(entries, version=packages.version(), images=[], packages=[*packages.PACKAGES], package_format="deb", **wanted)
    assert ([entry["name"] for entry in chosen], missing) == ([*packages.PACKAGES], [])
    chosen, missing = select(entries, version="", images=["k8s-device-plugin"], **wanted)
    assert ([entry["filename"] for entry in chosen], missing) == ([image.ARCHIVE], [])


def test_same_content_is_the_same_file(cache: Path) -> None:
    path = artifacts.build()
    text = path.read_text()
    assert (artifacts.build(), path.read_text()) == (path, text)
    # A file that was spoilt is put right, and nothing half-written stays
    path.write_text("---\n")
    assert artifacts.build().read_text() == text
    assert [file.name for file in (cache / "gpu").iterdir() if file.is_file()] == [path.name]


def test_each_part_enters_the_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [artifacts.lock_path().name]
    for part in (packages, image):
        monkeypatch.setattr(part, "key", lambda: "0" * 16)
        names.append(artifacts.lock_path().name)
    assert len(set(names)) == 3
    assert names[2] == f"artifacts-{'0' * 16}-{'0' * 16}.lock.yml"


def test_command(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert artifacts.main(["--print"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert (path, path.exists()) == (artifacts.lock_path(), False)
    assert artifacts.main([]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert path.is_file()


@pytest.mark.parametrize(
    ("part", "error"),
    [
        (packages, packages.PackageError("the toolkit could not be compiled")),
        (image, image.BuildError("the plugin could not be compiled")),
        (image, container_image.ImageError("no such file")),
        (packages, toolchain.ToolError("install Go")),
        (image, subprocess.CalledProcessError(1, ["busybox", "--list"])),
    ],
)
def test_failure_is_told_and_leaves_no_lock_file(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], part: object, error: Exception
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(part, "build", fail)
    assert artifacts.main([]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"artifacts: {error}\n")
    assert [file for file in (cache / "gpu").iterdir() if file.is_file()] == []
