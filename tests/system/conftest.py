# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[2]
REPORTS = PROJECT / "junit"
ENVIRONMENT = {
    **os.environ,
    # The commands of the environment that runs the tests, whether it is activated or not
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    # Without its borders Molecule hands the output of its commands through as it comes
    "MOLECULE_COMMAND_BORDERS": "false",
}


class Shell:
    """Runs the project's commands in its root, their output going straight to the terminal: they take minutes."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def stream(self, *command: str, **environment: str) -> int:
        with self._capfd.disabled():
            print(f"\n$ {' '.join(command)}", flush=True)
            return subprocess.run(command, cwd=PROJECT, env={**ENVIRONMENT, **environment}, check=False).returncode

    def into(self, log: Path, *command: str) -> int:
        with self._capfd.disabled():
            print(f"\n$ {' '.join(command)} > {log.relative_to(PROJECT)}", flush=True)
        with log.open("w", encoding="utf-8") as output:
            return subprocess.run(command, cwd=PROJECT, env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT, check=False).returncode

    def diagnose(self) -> None:
        if (PROJECT / ".lab" / "lab.json").exists():
            self.stream("ansible-playbook", "molecule/shared/diagnose.yml")


class ProcessWatch:
    """Collects the command lines of all processes that this machine shows, those in the lab's hosts included."""

    INTERVAL_SECONDS = 0.1

    def __init__(self) -> None:
        self.command_lines: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="process watch", daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(self.INTERVAL_SECONDS):
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    # Processes end while they are looked at
                    with contextlib.suppress(OSError):
                        self.command_lines.add((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip())

    def __enter__(self) -> ProcessWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def shell(capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capfd)


@pytest.fixture(scope="session")
def process_watch() -> Iterator[ProcessWatch]:
    with ProcessWatch() as watch:
        yield watch


@pytest.fixture(scope="session")
def reports() -> Path:
    REPORTS.mkdir(mode=0o700, exist_ok=True)
    return REPORTS


@pytest.fixture(scope="session", autouse=True)
def _lab_is_removed_after_success(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a failure the hosts stay, to be looked at."""
    if request.session.testsfailed:
        pytest.skip("tests before this one failed: no cluster is made for them")
    yield
    if not request.session.testsfailed:
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print("\n$ molecule destroy", flush=True)
            subprocess.run(["molecule", "destroy", "--scenario-name", "default"], cwd=PROJECT, env=ENVIRONMENT, check=True)
