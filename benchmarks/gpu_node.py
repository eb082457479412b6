# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What GPU nodes cost: reading eight GPUs and a driver that hangs, the GPU half of site.yml, other numbers of slices. Makes this checkout's lab anew."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

from benchmarks.measured_lab import CHECKOUT, BenchmarkError, Run, ansible_playbook, log, machine, on_host, task_seconds, unit_starts

TITLE = "GPU nodes"
HOST: Final = "k3s-gpu-worker"
SAMPLES: Final = 10
ROUNDS: Final = 3
HALF: Final = ("Artifacts for GPUs", "Driver and container toolkit", "GPU nodes")
# From the first change of the cluster to the moment at which the node offers the slices
VISIBLE: Final = (
    "Apply a DaemonSet for each config",
    "Let pods go whose devices will no longer be there",
    "Choose the config of each node",
    "Wait until it does",
)


def gpu(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "lab.gpu", *words], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"lab.gpu {' '.join(words)}: {done.stderr.strip()}")


def half(run: Run) -> float:
    return round(sum(phase["seconds"] for phase in run.timeline["phases"] if phase["name"] in HALF), 1)


def reading(samples: int) -> dict[str, float]:
    """Seconds of one call on the host, by what both modules take and what the idle one takes."""
    run = ansible_playbook("benchmarks/gpu_info.yml", "-e", f"samples={samples}")
    both = {name: task_seconds(run.timeline, name) / samples for name in ("Look for GPUs", "Do nothing")}
    return {"task_seconds": round(both["Look for GPUs"], 2), "beyond_ping_seconds": round(both["Look for GPUs"] - both["Do nothing"], 2)}


def measure() -> dict[str, Any]:
    about = machine()
    ansible_playbook("lab/down.yml")
    ansible_playbook("lab/up.yml")
    ansible_playbook("playbooks/site.yml")
    gpu("install", *["tesla-p40"] * 8)
    result: dict[str, Any] = {**about, "gpus": 8, "reading": reading(SAMPLES)}
    gpu("hang")
    result["hung"] = reading(2)
    gpu("return")
    gpu("swap", "tesla-p40")
    result["first_half_seconds"] = half(ansible_playbook("playbooks/site.yml"))
    before, pods = unit_starts([HOST]), plugin_pods()
    again = ansible_playbook("playbooks/site.yml")
    result |= {
        "second_half_seconds": half(again),
        "second_changed": again.changed,
        "restarted": sorted(set(before.items()) ^ set(unit_starts([HOST]).items())),
        "plugin_replaced": plugin_pods() != pods,
    }
    result["visible_seconds"] = {"4 to 2": [], "2 to 4": []}
    for _round in range(ROUNDS):
        for replicas, change in ((2, "4 to 2"), (4, "2 to 4")):
            settings = {"nvidia_device_plugin_replicas": replicas, "nvidia_device_plugin_stable_seconds": 0}
            run = ansible_playbook("playbooks/site.yml", "-e", json.dumps(settings))
            result["visible_seconds"][change].append(round(sum(task_seconds(run.timeline, name) for name in VISIBLE), 1))
            log(f"  {change}: {result['visible_seconds'][change][-1]} s")
    ansible_playbook("lab/down.yml")
    return result


def plugin_pods() -> str:
    """Their identities."""
    pods = ("pods", "--namespace=nvidia-device-plugin", "--output=jsonpath={.items[*].metadata.uid}")
    return on_host("k3s-server", "k3s", "kubectl", "get", *pods)
