# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the packages are put together, with a Go compiler that only pretends. The genuine ones are looked at if they were built before, or with
HOMELAB_GPU_LAB_TESTS=1."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from lab import container_image
from lab.distribution.build import toolchain
from lab.gpu.toolkit import packages

needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")

BASE, TOOLKIT, TOOLS, LIBRARY = "nvidia-container-toolkit-base", "nvidia-container-toolkit", "libnvidia-container-tools", "libnvidia-container1"

# As NVIDIA's, with less text
CONTROL = """Source: nvidia-container-toolkit
Section: @SECTION@utils
Build-Depends: debhelper (>= 9.20160709)

Package: nvidia-container-toolkit
Architecture: any
Depends: ${misc:Depends}, nvidia-container-toolkit-base (= @VERSION@), libnvidia-container-tools (= @VERSION@), libnvidia-container-tools (<< 2.0.0)
Breaks: nvidia-container-runtime (<= 3.5.0-1), nvidia-container-runtime-hook
Description: NVIDIA Container toolkit
 Provides tools: and utilities.
 .
 More.

Package: nvidia-container-toolkit-base
Pre-Depends: ${misc:Pre-Depends}
Depends: ${misc:Depends}
Replaces: nvidia-container-runtime (<= 3.5.0-1), nvidia-container-runtime-hook
Description: NVIDIA Container Toolkit Base

"""
INSTALL = {
    BASE: """nvidia-container-runtime /usr/bin
nvidia-ctk /usr/bin

nvidia-cdi-hook /usr/bin/
nvidia-cdi-refresh.service /lib/systemd/system/
nvidia-cdi-refresh.path /lib/systemd/system/
nvidia-cdi-refresh.env /etc/nvidia-container-toolkit/
99-nvidia-cdi-refresh.rules /lib/udev/rules.d/
""",
    TOOLKIT: "nvidia-container-runtime-hook /usr/bin\n",
}
POSTINST = """#!/bin/sh
set -e
#DEBHELPER#
exit 0
"""
# Places programs where it is told, and tells where the module's sources are
GO = """#!/bin/sh
case "$1" in
list) echo "$SOURCES" ;;
build)
  [ -z "$BROKEN" ] || { echo "compile error"; exit 1; }
  shift
  while [ $# -gt 0 ]; do
    case "$1" in
    -ldflags) shift ;;
    -o) mkdir -p "$2"; folder=$2; shift ;;
    */cmd/*) echo "${1##*/}" >"$folder/${1##*/}" ;;
    esac
    shift
  done
  ;;
esac
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("Source: a\nSection: b\n", {}),
        ("Package: a\n", {"a": {"Package": "a"}}),
        ("Source: x\n\nPackage: a\nDepends:b\n\n\n\nPackage: c\n", {"a": {"Package": "a", "Depends": "b"}, "c": {"Package": "c"}}),
        # Lines of nothing but blanks part stanzas, too
        ("Package: a\n \t\nPackage: b\n", {"a": {"Package": "a"}, "b": {"Package": "b"}}),
        ("Package: a\nDepends: b,\n c: d,\n\te\nSection: f\n", {"a": {"Package": "a", "Depends": "b,\n c: d,\n\te", "Section": "f"}}),
        ("# A comment: with a colon\nPackage: a\nDescription: x\n# another\n .\n y\n", {"a": {"Package": "a", "Description": "x\n .\n y"}}),
    ],
)
def test_control_stanzas(text: str, expected: dict[str, dict[str, str]]) -> None:
    assert packages.control_stanzas(text) == expected


def test_control_files_of_the_four() -> None:
    stanzas = packages.control_stanzas(CONTROL)
    assert set(stanzas) == {BASE, TOOLKIT}
    common = "Version: 1.2-1\nArchitecture: arm64\nMaintainer: homelab.gpu contributors <lab@localhost>\nSection: utils\nPriority: optional\n"
    made = {name: packages.control_file(name, stanzas.get(name, {}), "1.2-1", "arm64") for name in packages.PACKAGES}
    assert made == {
        TOOLKIT: f"Package: {TOOLKIT}\n{common}"
        f"Depends: {BASE} (= 1.2-1), {TOOLS} (= 1.2-1), {TOOLS} (<< 2.0.0)\n"
        "Breaks: nvidia-container-runtime (<= 3.5.0-1), nvidia-container-runtime-hook\n"
        "Description: NVIDIA Container toolkit\n Provides tools: and utilities.\n .\n More.\n",
        # Of nothing but variables of debhelper nothing is left
        BASE: f"Package: {BASE}\n{common}Replaces: nvidia-container-runtime (<= 3.5.0-1), nvidia-container-runtime-hook\n"
        "Description: NVIDIA Container Toolkit Base\n",
        TOOLS: f"Package: {TOOLS}\n{common}Depends: {LIBRARY} (>= 1.2-1)\nDescription: {packages.EMPTY}\n",
        LIBRARY: f"Package: {LIBRARY}\n{common}Description: {packages.EMPTY}\n",
    }


def test_relations_over_several_lines() -> None:
    made = packages.control_file("a", {"Depends": "b (= @VERSION@),\n c | d,\n ${shlibs:Depends},\n"}, "1-1", "amd64")
    assert "\nDepends: b (= 1-1), c | d\n" in made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n  \n", []),
        ("a /usr/bin\n", [("a", "usr/bin")]),
        ("a usr/bin/\n\n\tb\t /etc/x/ \n", [("a", "usr/bin"), ("b", "etc/x")]),
    ],
)
def test_install_list(text: str, expected: list[tuple[str, str]]) -> None:
    assert packages.install_list(text) == expected


def test_version_is_that_of_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"{packages.MODULE} v{packages.version().removesuffix('-1')} " in (packages.HERE / "go.mod").read_text()
    assert packages.file_name(BASE) == f"{BASE}_{packages.version()}_{container_image.machine_architecture()}.deb"
    monkeypatch.setattr(packages, "HERE", tmp_path)
    for text, expected in (
        (f"require (\n\texample.com/a v3.0.0\n\t{packages.MODULE} v1.2.3\n)\n", "1.2.3-1"),
        (f"require {packages.MODULE} v1.2.4 // indirect\n", "1.2.4-1"),
    ):
        (tmp_path / "go.mod").write_text(text)
        assert packages.version() == expected
    (tmp_path / "go.mod").write_text(f"tool {packages.MODULE}/cmd/nvidia-ctk\nrequire {packages.MODULE}/v2 v2.0.0\n")
    with pytest.raises(packages.PackageError, match="requires no version of"):
        packages.version()


def test_key_tells_what_enters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [packages.key()]
    assert packages.key() == keys[0]
    monkeypatch.setattr(packages, "HERE", tmp_path)
    for name in ("go.mod", "go.sum"):
        (tmp_path / name).write_text("a\n")
    keys.append(packages.key())
    for name in ("go.mod", "go.sum"):
        (tmp_path / name).write_text(f"{name}\n")
        keys.append(packages.key())
    monkeypatch.setattr(container_image, "machine_architecture", lambda: "riscv64")
    keys.append(packages.key())
    assert len(set(keys)) == 5


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """The module as NVIDIA publishes it."""
    folder = tmp_path / "module"
    files = {
        "packaging/debian/control": CONTROL,
        **{f"packaging/debian/{name}.install": text for name, text in INSTALL.items()},
        **{f"packaging/debian/{name}.postinst": POSTINST for name in INSTALL},
        f"packaging/debian/{TOOLKIT}.postrm": "#!/bin/sh\nexit 0\n",
        **{f"deployments/systemd/nvidia-cdi-refresh.{suffix}": f"[{suffix}]\n" for suffix in ("service", "path", "env")},
        "deployments/udev/99-nvidia-cdi-refresh.rules": "# rules\n",
    }
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.fixture
def cache(tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a compiler that makes texts of the programs' names."""
    go = tmp_path / "go"
    go.write_text(GO)
    go.chmod(0o755)
    monkeypatch.setenv("SOURCES", str(sources))
    monkeypatch.setenv("HOMELAB_GPU_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(toolchain, "find_go", lambda *_arguments: go)
    monkeypatch.setattr(toolchain, "find_dynamic_c_compiler", lambda *_arguments: "cc")
    return tmp_path / "cache"


def tree(option: str, package: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of what is in a package, by path; folders end with a slash."""
    content = subprocess.run(["dpkg-deb", option, str(package)], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        found = {}
        for member in archive:
            assert (member.uid, member.gid, member.uname, member.mtime) == (0, 0, "root", 1767225600)
            stream = archive.extractfile(member) if member.isfile() else None
            found[member.name.removeprefix(".") + ("/" if member.isdir() else "")] = (member.mode, stream.read() if stream else b"")
    return found


def files(package: Path) -> dict[str, bytes]:
    return {path: content for path, (_mode, content) in tree("--fsys-tarfile", package).items() if not path.endswith("/")}


def field(package: Path, name: str) -> str:
    return subprocess.run(["dpkg-deb", "--field", str(package), name], capture_output=True, text=True, check=True).stdout.strip()


@needs_dpkg
def test_packages_of_a_module(cache: Path) -> None:
    made = packages.build()
    assert {path.relative_to(cache).as_posix() for path in made.values()} == {
        f"gpu/toolkit-{packages.key()}/{packages.file_name(name)}" for name in packages.PACKAGES
    }
    assert files(made[BASE]) == {
        **{f"/usr/bin/{name}": f"{name}\n".encode() for name in ("nvidia-container-runtime", "nvidia-ctk", "nvidia-cdi-hook")},
        "/lib/systemd/system/nvidia-cdi-refresh.service": b"[service]\n",
        "/lib/systemd/system/nvidia-cdi-refresh.path": b"[path]\n",
        "/etc/nvidia-container-toolkit/nvidia-cdi-refresh.env": b"[env]\n",
        "/lib/udev/rules.d/99-nvidia-cdi-refresh.rules": b"# rules\n",
    }
    assert files(made[TOOLKIT]) == {"/usr/bin/nvidia-container-runtime-hook": b"nvidia-container-runtime-hook\n"}
    assert files(made[TOOLS]) == files(made[LIBRARY]) == {}
    modes = {path: mode for path, (mode, _content) in tree("--fsys-tarfile", made[BASE]).items()}
    assert {mode for path, mode in modes.items() if path.endswith("/") or path.startswith("/usr/bin/")} == {0o755}
    assert {mode for path, mode in modes.items() if not path.endswith("/") and not path.startswith("/usr/bin/")} == {0o644}
    control = {name: tree("--ctrl-tarfile", path) for name, path in made.items()}
    assert {name: sorted(path for path in listed if not path.endswith("/")) for name, listed in control.items()} == {
        BASE: ["/conffiles", "/control", "/postinst", "/postrm", "/prerm"],
        TOOLKIT: ["/control", "/postinst", "/postrm"],
        TOOLS: ["/control"],
        LIBRARY: ["/control"],
    }
    assert control[BASE]["/conffiles"][1] == b"/etc/nvidia-container-toolkit/nvidia-cdi-refresh.env\n"
    postinst = control[BASE]["/postinst"][1].decode()
    assert packages.ENABLE in postinst
    assert "#DEBHELPER#" not in postinst


@needs_dpkg
def test_bytes_depend_on_nothing_else(cache: Path, sources: Path) -> None:
    def built(umask: int) -> dict[str, bytes]:
        before = os.umask(umask)
        try:
            made = packages.build()
        finally:
            os.umask(before)
        content = {name: path.read_bytes() for name, path in made.items()}
        shutil.rmtree(cache / "gpu")
        return content

    first = built(0o022)
    os.utime(sources / "deployments/systemd/nvidia-cdi-refresh.env")
    # Of a person who hides what is theirs, and of one who shares it with a group
    assert built(0o077) == first
    assert built(0o002) == first


@needs_dpkg
def test_packages_are_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = packages.build()
    monkeypatch.setenv("BROKEN", "1")
    assert packages.build() == made
    assert [path.name for path in (cache / "gpu").iterdir() if path.is_dir()] == [f"toolkit-{packages.key()}"]


def left(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "gpu").iterdir())


def test_programs_that_cannot_be_compiled(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(packages.PackageError, match=r"the container toolkit could not be compiled; see .*toolkit\.log"):
        packages.build()
    assert left(cache) == ["toolkit.log"]
    assert "compile error" in (cache / "gpu/toolkit.log").read_text()


def test_sources_that_go_does_not_have(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCES", "/nowhere")
    with pytest.raises(packages.PackageError, match="are not where Go says: /nowhere"):
        packages.build()
    assert left(cache) == ["toolkit.log"]


def test_file_that_the_module_lists_but_has_not(cache: Path, sources: Path) -> None:
    (sources / "deployments/udev/99-nvidia-cdi-refresh.rules").unlink()
    with pytest.raises(packages.PackageError, match=r"99-nvidia-cdi-refresh\.rules is to be packed, but neither"):
        packages.build()
    assert left(cache) == ["toolkit.log"]


def test_machine_without_dpkg(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "mkdir"):
        (programs / name).symlink_to(shutil.which(name) or pytest.fail(f"no {name}"))
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(packages.PackageError, match="dpkg-deb is not on this machine; install dpkg"):
        packages.build()


@needs_dpkg
def test_package_that_dpkg_refuses(cache: Path, sources: Path) -> None:
    control = sources / "packaging/debian/control"
    control.write_text(control.read_text().replace("(<= 3.5.0-1)", "(<= "))
    with pytest.raises(packages.PackageError, match=r"dpkg-deb .*--build .*: "):
        packages.build()
    assert left(cache) == ["toolkit.log"]


@needs_dpkg
def test_another_run_was_quicker(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = packages._make
    done = cache / f"gpu/toolkit-{packages.key()}"

    def make(cache: Path, scratch: Path) -> Path:
        made = genuine(cache, scratch)
        done.mkdir()
        (done / "theirs").touch()
        return made

    monkeypatch.setattr(packages, "_make", make)
    packages.build()
    assert [path.name for path in done.iterdir()] == ["theirs"]


@pytest.fixture(scope="module")
def genuine() -> dict[str, Path]:
    """Those that the lab's hosts get."""
    there = toolchain.cache_directory() / "gpu" / f"toolkit-{packages.key()}"
    if not there.is_dir() and not os.environ.get("HOMELAB_GPU_LAB_TESTS"):
        pytest.skip("compiles; set HOMELAB_GPU_LAB_TESTS=1")
    return packages.build()


@needs_dpkg
def test_genuine_packages(genuine: dict[str, Path], tmp_path: Path) -> None:
    version = packages.version()
    assert list(genuine) == list(packages.PACKAGES)
    for name, path in genuine.items():
        assert (field(path, "Package"), field(path, "Version")) == (name, version)
        assert path.name == f"{name}_{version}_{field(path, 'Architecture')}.deb"
    # Of another version neither the base nor the library would fit
    assert field(genuine[TOOLKIT], "Depends").split(", ")[:2] == [f"{BASE} (= {version})", f"{TOOLS} (= {version})"]
    assert field(genuine[TOOLS], "Depends") == f"{LIBRARY} (>= {version})"
    assert "nvidia-container-runtime-hook" in field(genuine[BASE], "Breaks")
    assert not any(character in field(path, "Depends") for path in genuine.values() for character in "@$")

    found = {path for package in genuine.values() for path in files(package)}
    assert {f"/usr/bin/{name}" for name in packages.PROGRAMS} | {f"/lib/systemd/system/{unit}" for unit in packages.UNITS.split()} <= found
    configuration = {path for path in found if path.startswith("/etc/")}
    assert configuration
    assert tree("--ctrl-tarfile", genuine[BASE])["/conffiles"][1].decode().splitlines() == sorted(configuration)
    for name in packages.PROGRAMS:
        package = genuine[TOOLKIT if name.endswith("-hook") and "runtime" in name else BASE]
        mode, content = tree("--fsys-tarfile", package)[f"/usr/bin/{name}"]
        assert (mode, content[:4]) == (0o755, b"\x7fELF")

    scripts = {f"{name}.{path[1:]}": entry for name, package in genuine.items() for path, entry in tree("--ctrl-tarfile", package).items() if entry[0] == 0o755}
    assert {f"{BASE}.{script}" for script in ("postinst", "prerm", "postrm")} | {f"{TOOLKIT}.postinst", f"{TOOLKIT}.postrm"} <= set(scripts)
    for name, (_mode, text) in scripts.items():
        if text:
            checked = subprocess.run(["sh", "-n"], input=text, capture_output=True, check=False)
            assert (name, checked.returncode, checked.stderr) == (name, 0, b"")

    subprocess.run(["dpkg-deb", "--extract", str(genuine[BASE]), str(tmp_path)], check=True)
    told = subprocess.run([str(tmp_path / "usr/bin/nvidia-ctk"), "--version"], capture_output=True, text=True, check=False).stdout
    assert f"version {version.removesuffix('-1')}" in told
