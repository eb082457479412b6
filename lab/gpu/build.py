# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the mock libraries and the stand-ins for the driver's programs; cached by the content of their sources, outside the checkout."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from lab.distribution.build import toolchain

SOURCES: Final = Path(__file__).resolve().parent / "nvml"
LIBRARY: Final = "libnvidia-ml.so.1"
CUDA: Final = "libcuda.so.1"
PROGRAM: Final = "nvidia-smi"
MPS_PROGRAMS: Final = {"nvidia-cuda-mps-control": "mps_control.c", "nvidia-cuda-mps-server": "mps_server.c"}
FUSE_BINDING: Final = "mfusepy==3.1.1"


class BuildError(Exception):
    """What the compiler said."""


def key() -> str:
    digest = hashlib.sha256(os.uname().machine.encode())
    for path in sorted(SOURCES.iterdir()):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def build() -> Path:
    """The folder with all of them."""
    cache = toolchain.cache_directory()
    done = cache / "gpu" / key()
    if done.is_dir():
        return done
    done.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=done.parent, prefix="partial-") as name:
        folder = Path(name) / "made"
        folder.mkdir()
        common = [toolchain.find_dynamic_c_compiler(cache, Path(name) / "log"), "-O2", "-Wall", "-Wextra", "-Werror"]
        for command in (
            [*common, "-fPIC", "-shared", f"-Wl,-soname,{LIBRARY}", "-o", str(folder / LIBRARY), str(SOURCES / "nvml_mock.c"), "-lpthread"],
            [*common, "-fPIC", "-shared", f"-Wl,-soname,{CUDA}", "-o", str(folder / CUDA), str(SOURCES / "cuda_stub.c")],
            [*common, "-o", str(folder / PROGRAM), str(SOURCES / "nvidia_smi.c"), "-ldl"],
            *([*common, "-o", str(folder / name), str(SOURCES / source)] for name, source in MPS_PROGRAMS.items()),
        ):
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode:
                raise BuildError(f"{shlex.join(command)}: {made.stderr.strip()[-2000:]}")
        try:
            folder.rename(done)
        except OSError:
            # Another run was quicker
            if not done.is_dir():
                raise
    return done


def fuse_binding() -> Path:
    """One file from PyPI, which the hosts' own Python runs."""
    cache = toolchain.cache_directory()
    with tempfile.TemporaryDirectory(prefix="fuse-") as scratch:
        name, _equals, version = FUSE_BINDING.partition("==")
        return toolchain.from_pypi(cache / "gpu" / f"{name}-{version}", FUSE_BINDING, Path(f"{name}.py"), "there is no other way", Path(scratch) / "log")
