# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the image is put together. Building the genuine one takes a Go compiler, and only happens with HOMELAB_GPU_LAB_TESTS=1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from lab import container_image
from lab.gpu.device_plugin import image


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOMELAB_GPU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_all_sources_enter_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = {path for path in image.HERE.rglob("*") if path.suffix in (".go", ".mod", ".sum") and not path.name.endswith("_test.go")}
    assert programs < set(image.sources())
    assert {image.HERE / "cmd" / name / "main.go" for name in image.PROGRAMS} < programs
    before = image.key()
    source = tmp_path / "lab/gpu/device_plugin/main.go"
    source.parent.mkdir(parents=True)
    source.write_text("package main\n")
    monkeypatch.setattr(image, "HERE", source.parent)
    monkeypatch.setattr(image, "sources", lambda: [source])
    first = image.key()
    source.write_text("package main //\n")
    assert len({before, first, image.key()}) == 3


def test_interpreter_of_a_program() -> None:
    assert image.interpreter(Path(sys.executable).resolve()).is_file()


def test_static_programs_are_refused(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF\x02\x01".ljust(0x40, b"\0"))
    with pytest.raises(image.BuildError, match="program was linked statically: it could not load NVML"):
        image.interpreter(program)


def test_c_library_is_that_of_this_machine() -> None:
    program = Path(sys.executable).resolve()
    found = [*image.c_library(program)]
    assert found[0] == image.interpreter(program)
    assert "libc.so.6" in [path.name for path in found]
    assert len({*found}) == len(found)
    assert all(path.is_file() for path in found)


@pytest.mark.parametrize(
    ("path", "expected"), [("/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/x86_64-linux-gnu/libc.so.6"), ("/usr/lib/libc.so.6", "/usr/lib/libc.so.6")]
)
def test_libraries_lie_below_usr(path: str, expected: str) -> None:
    assert image.merged(Path(path)) == expected


def test_two_builds_at_once_make_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Path] = []

    def compile_programs(work: Path) -> dict[str, Path]:
        compiled.append(work)
        return {}

    monkeypatch.setattr(image, "compile_programs", compile_programs)
    monkeypatch.setattr(image, "entries", lambda _programs, _work: iter([container_image.text("etc/group", "")]))
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(image.build())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [image.archive_path()] * 2
    assert len(compiled) == 1
    assert not [*cache.glob("gpu/partial-*")]
    with tarfile.open(results[0]) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest
        assert json.load(manifest)[0]["RepoTags"] == ["localhost/homelab-lab/k8s-device-plugin:v0.20.0-lab1"]


def test_failed_build_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def compile_programs(_work: Path) -> dict[str, Path]:
        raise image.BuildError("gpu-open could not be compiled")

    monkeypatch.setattr(image, "compile_programs", compile_programs)
    assert image.main([]) == 1
    assert "device plugin: gpu-open could not be compiled" in capsys.readouterr().err
    assert [path.suffix for path in cache.glob("gpu/*")] == [".lock"]
    assert image.main(["--print"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"image": image.NAME, "archive": str(image.archive_path()), "size": None, "sha256": None}


@pytest.mark.skipif(not os.environ.get("HOMELAB_GPU_LAB_TESTS"), reason="compiles; set HOMELAB_GPU_LAB_TESTS=1")
def test_programs_run_by_what_is_in_the_image(tmp_path: Path) -> None:
    with tarfile.open(image.build()) as archive:
        layers = json.load(archive.extractfile("manifest.json") or pytest.fail("no manifest"))[0]["Layers"]
        for layer in layers:
            with tarfile.open(fileobj=archive.extractfile(layer)) as content:
                content.extractall(tmp_path, filter="fully_trusted")
    program = tmp_path / "usr/bin/nvidia-device-plugin"
    loader = tmp_path / image.merged(image.interpreter(program)).lstrip("/")
    folders = (tmp_path / "etc/ld.so.conf.d/lab.conf").read_text().split()
    libraries = ":".join(f"{tmp_path}{folder}" for folder in folders)
    for name in image.PROGRAMS:
        words = [str(loader), "--inhibit-cache", "--library-path", libraries, str(tmp_path / "usr/bin" / name), "--help"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "Usage of" in done.stderr
    assert subprocess.run([str(tmp_path / "usr/bin/busybox"), "sh", "-c", "exit 3"], check=False).returncode == 3
    assert os.readlink(tmp_path / "bin") == "usr/bin"
    assert not (tmp_path / "etc/ld.so.cache").exists()
