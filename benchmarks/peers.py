# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tools that the cluster modules are measured against: kubernetes.core in a Python environment of its own, and the kubectl of the lab."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.measured_lab import CHECKOUT, BenchmarkError, log
from lab.hosts.image import default_cache

REQUIREMENTS: Final = Path(__file__).resolve().parent / "peers.txt"
CONSTRAINTS: Final = CHECKOUT / "constraints.txt"


class Peer(NamedTuple):
    """Where kubernetes.core is: its modules run on this Python, and Ansible finds it below this folder."""

    python: Path
    collections: Path

    def version(self) -> str:
        manifest = self.collections / "ansible_collections/kubernetes/core/MANIFEST.json"
        return str(json.loads(manifest.read_text())["collection_info"]["version"])


def environment_key(requirements: str, constraints: str, python: str) -> str:
    return hashlib.sha256("\0".join([requirements, constraints, python]).encode()).hexdigest()[:16]


def kubernetes_core() -> Peer:
    """Made once and kept in the cache, beside the environments of the checkouts."""
    folder = default_cache() / "peers" / environment_key(REQUIREMENTS.read_text(), CONSTRAINTS.read_text(), sys.version)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".complete").exists():
            log(f"making the environment of kubernetes.core in {folder} (about 60 s, 700 MB)")
            shutil.rmtree(folder, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(folder)])
            pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
            _run([*pip, "install", "--constraint", str(CONSTRAINTS), "--requirement", str(REQUIREMENTS)])
            (folder / ".complete").touch()
    found = sorted(folder.glob("lib/python3.*/site-packages"))
    if not found:
        raise BenchmarkError(f"{folder} is no Python environment; remove it")
    return Peer(folder / "bin/python", found[0])


def kubectl_binary(host: str, folder: Path) -> Path:
    """The k3s binary of a host of the lab, for use as `k3s kubectl` on the control machine."""
    binary = folder / "k3s"
    _run([str(CHECKOUT / ".lab/podman"), "cp", f"{host}:/usr/local/bin/k3s", str(binary)])
    binary.chmod(0o700)
    return binary


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
