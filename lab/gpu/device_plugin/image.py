# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the container image with the stand-in for NVIDIA's device plugin, and with gpu-open.

python3 -m lab.gpu.device_plugin.image            builds it, unless it is in the cache, and tells image, archive, size and sha256 as JSON
python3 -m lab.gpu.device_plugin.image --print    only tells them (the last two null before a build)
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from lab import container_image
from lab.container_image import Entry, ImageError
from lab.distribution.build import recipe, toolchain
from lab.distribution.build.toolchain import ToolError

NAME: Final = "localhost/homelab-lab/k8s-device-plugin:v0.20.0-lab1"
HERE: Final = Path(__file__).resolve().parent
ARCHIVE: Final = "k8s-device-plugin.tar"
# Without lazy binding the loader would look for all of NVML's functions before the library is there
DYNAMIC: Final = "-s -w -extldflags=-Wl,-z,lazy"
# All speak with NVML, and so need a C library
PROGRAMS: Final = ("nvidia-device-plugin", "mps-control-daemon", "gpu-open")
# What the driver's libraries need, the mock's included, beside the C library itself
MORE_LIBRARIES: Final = ("libpthread.so.0", "libdl.so.2", "libm.so.6", "librt.so.1", "libresolv.so.2")
# As in NVIDIA's image
ENVIRONMENT: Final = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "NVIDIA_DISABLE_REQUIRE=true",
    "NVIDIA_VISIBLE_DEVICES=all",
    "NVIDIA_DRIVER_CAPABILITIES=utility,compute",
)
INTERPRETER: Final = 3


class BuildError(Exception):
    """What the compiler said, or what this machine lacks."""


def sources() -> list[Path]:
    """All that enters the image from the checkout."""
    go = [path for path in sorted(HERE.rglob("*.go")) if not path.name.endswith("_test.go")]
    return [*go, HERE / "go.mod", HERE / "go.sum", Path(__file__).resolve(), Path(container_image.__file__).resolve()]


def key() -> str:
    digest = hashlib.sha256(" ".join([os.uname().machine, *platform.libc_ver()]).encode())
    for path in sources():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(HERE.parents[2])} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def archive_path() -> Path:
    return toolchain.cache_directory() / "gpu" / f"device-plugin-{key()}" / ARCHIVE


def build() -> Path:
    """The image as a docker-archive."""
    archive = archive_path()
    home = archive.parent
    home.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{home}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.is_file():
            with tempfile.TemporaryDirectory(dir=home.parent, prefix="partial-") as name:
                work = Path(name)
                done = work / "done"
                done.mkdir()
                programs = compile_programs(work)
                layer = container_image.write_layer(work / "layer.tar", [*entries(programs, work)])
                image = container_image.Image(NAME, [layer], entrypoint=["nvidia-device-plugin"], env=ENVIRONMENT)
                container_image.write_archive(done / ARCHIVE, [image])
                done.rename(home)
    return archive


def compile_programs(work: Path) -> dict[str, Path]:
    cache = toolchain.cache_directory()
    log = work / "log"
    go = toolchain.find_go(cache, toolchain.go_needed([HERE / "go.mod"]), log)
    environment = {
        **recipe.go_environment(container_image.machine_architecture()),
        "CGO_ENABLED": "1",
        # NVML's header calls many of its own functions deprecated
        "CGO_CFLAGS": "-O2 -g -Wno-deprecated-declarations",
        "CC": toolchain.find_dynamic_c_compiler(cache, log),
    }
    made = {name: work / name for name in PROGRAMS}
    for name in PROGRAMS:
        command = [str(go), "build", "-ldflags", DYNAMIC, "-o", str(made[name]), f"./cmd/{name}"]
        if toolchain.run(command, log, environment, HERE) != 0:
            raise BuildError(f"{name} could not be compiled:\n{log.read_text(errors='replace')[-3000:]}")
    return made


def entries(programs: dict[str, Path], work: Path) -> Iterator[Entry]:
    """A system as small as possible: the programs, the C library of this machine, a shell. The loader's cache is left to NVIDIA's hook."""
    busybox = toolchain.find_busybox(toolchain.cache_directory(), work / "log")
    yield from container_image.busybox_entries(busybox)
    for name, path in programs.items():
        yield container_image.file(f"usr/bin/{name}", path)
    libraries = [*c_library(programs[PROGRAMS[0]])]
    for path in libraries:
        yield container_image.file(merged(path), path)
    for folder in ("bin", "lib", "lib64", "sbin"):
        yield container_image.directory(f"usr/{folder}")
        yield container_image.link(folder, f"usr/{folder}")
    folders = dict.fromkeys(str(Path(merged(path)).parent) for path in libraries)
    yield container_image.text("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
    yield container_image.text("etc/ld.so.conf.d/lab.conf", "".join(f"{folder}\n" for folder in folders))
    yield container_image.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    yield container_image.text("etc/group", "root:x:0:\n")
    yield container_image.directory("root", 0o700)
    yield container_image.directory("tmp", 0o1777)


def merged(path: Path) -> str:
    """Where a file lies if all of /lib is below /usr."""
    return str(path) if path.is_relative_to("/usr") else f"/usr{path}"


def interpreter(program: Path) -> Path:
    """The loader that a 64-bit little-endian ELF file asks for."""
    content = program.read_bytes()
    offset, size, count = (int.from_bytes(content[start:end], "little") for start, end in ((0x20, 0x28), (0x36, 0x38), (0x38, 0x3A)))
    for header in (content[offset + size * number : offset + size * (number + 1)] for number in range(count)):
        if int.from_bytes(header[:4], "little") == INTERPRETER:
            start, length = int.from_bytes(header[0x08:0x10], "little"), int.from_bytes(header[0x20:0x28], "little")
            return Path(content[start : start + length].rstrip(b"\0").decode())
    raise BuildError(f"{program.name} was linked statically: it could not load NVML")


def c_library(program: Path) -> Iterator[Path]:
    """The loader, what the program needs, and what else belongs to the same C library."""
    loader = interpreter(program)
    listed = subprocess.run([str(loader), "--list", str(program)], capture_output=True, text=True, check=False)
    found = [Path(path) for path in re.findall(r" => (/\S+)", listed.stdout)]
    if listed.returncode or not found:
        raise BuildError(f"{loader} does not tell the libraries of {program.name}: {listed.stderr.strip() or listed.stdout.strip()}")
    yield loader
    yield from (path for path in found if path != loader)
    for folder in dict.fromkeys(path.parent for path in found):
        yield from (folder / name for name in MORE_LIBRARIES if (folder / name).is_file() and folder / name not in found)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--print", action="store_true", help="build nothing")
    options = parser.parse_args(words)
    try:
        archive = archive_path() if options.print else build()
    except (BuildError, ImageError, ToolError, subprocess.CalledProcessError) as error:
        print(f"device plugin: {error}", file=sys.stderr)
        return 1
    told: dict[str, str | int | None] = {"image": NAME, "archive": str(archive), "size": None, "sha256": None}
    if archive.is_file():
        with archive.open("rb") as stream:
            told |= {"size": archive.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
