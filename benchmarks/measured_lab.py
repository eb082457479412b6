# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs playbooks of this checkout with the timeline switched on, and reads what its lab says about itself."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

CHECKOUT: Final = Path(__file__).resolve().parent.parent


class BenchmarkError(Exception):
    """A measurement that could not be made, or whose conditions were not met."""


class Run(NamedTuple):
    """One playbook run: wall-clock seconds of the whole process, and the timeline's document."""

    seconds: float
    timeline: dict[str, Any]

    @property
    def changed(self) -> int:
        return int(self.timeline["counts"].get("changed", 0))


def log(text: str) -> None:
    print(f"bench: {text}", flush=True)


def environment(more: Mapping[str, str]) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{CHECKOUT}/.venv/bin:{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "collections"),
        "ANSIBLE_FORCE_COLOR": "0",
        **more,
    }


def ansible_playbook(playbook: str, *arguments: str, checkout: Path = CHECKOUT, settings: Mapping[str, str] | None = None, quiet: bool = False) -> Run:
    if not quiet:
        log(f"ansible-playbook {' '.join([playbook, *arguments])}")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        timeline = {
            "ANSIBLE_CALLBACKS_ENABLED": "homelab.gpu.timeline",
            "HOMELAB_GPU_TIMELINE_DIR": folder,
            "HOMELAB_GPU_TIMELINE_NAME": "run",
            "HOMELAB_GPU_TIMELINE_TABLE": "false",
        }
        started = time.monotonic()
        done = subprocess.run(
            ["ansible-playbook", playbook, *arguments],
            cwd=checkout,
            env=environment({**(settings or {}), **timeline}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - started
        if done.returncode:
            raise BenchmarkError(f"{playbook} ended with {done.returncode}:\n{done.stdout[-6000:]}")
        run = Run(seconds, json.loads((Path(folder) / "run.json").read_text()))
    if not quiet:
        log(f"  {run.seconds:.1f} s, {run.changed} changed")
    return run


def slowest_tasks(timeline: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """The tasks in which most time went, over all phases; a task that runs in two phases counts twice."""
    tasks = [
        {"name": f"{task['role']} : {task['name']}" if task.get("role") else task["name"], "phase": phase["name"], "seconds": task["seconds"]}
        for phase in timeline["phases"]
        for task in phase["tasks"]
    ]
    return sorted(tasks, key=lambda task: -task["seconds"])[:count]


def task_seconds(timeline: Mapping[str, Any], name: str) -> float:
    found = [task["seconds"] for phase in timeline["phases"] for task in phase["tasks"] if task["name"] == name]
    if not found:
        raise BenchmarkError(f"no task {name!r} in the run of {timeline['playbook']}")
    return float(sum(found))


def lab_description() -> dict[str, Any]:
    path = CHECKOUT / ".lab/lab.json"
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise BenchmarkError("this checkout has no lab: make lab-up") from error


def on_host(host: str, *command: str) -> str:
    done = subprocess.run([CHECKOUT / ".lab/podman", "exec", host, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command)} on {host} ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    return done.stdout


def unit_starts(hosts: Iterable[str]) -> dict[str, str]:
    """When the cluster's unit of each host was started, and as which process."""
    starts = {}
    for host in hosts:
        shown = on_host(host, "systemctl", "show", "--property=Id,MainPID,ExecMainStartTimestampMonotonic", "k3s.service", "k3s-agent.service")
        for block in shown.strip().split("\n\n"):
            unit = dict(line.split("=", 1) for line in block.splitlines())
            if unit["MainPID"] != "0":
                starts[f"{host} {unit['Id']}"] = f"{unit['MainPID']} at {unit['ExecMainStartTimestampMonotonic']}"
    if not starts:
        raise BenchmarkError("no unit of the cluster is running")
    return starts


def machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 1)}


def idle_share(seconds: float = 0.5) -> float:
    """Which part of the cores had nothing to do for the next moment."""

    def idle_and_all() -> tuple[int, int]:
        times = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return times[3] + times[4], sum(times)

    idle_before, all_before = idle_and_all()
    time.sleep(seconds)
    idle, everything = idle_and_all()
    return (idle - idle_before) / max(everything - all_before, 1)


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
