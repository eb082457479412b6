# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster modules on the lab's running cluster: one call with a list against a call per object, requests counted, and how soon a wait ends."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.counting_proxy import CountingProxy
from benchmarks.measured_lab import CHECKOUT, BenchmarkError, ansible_playbook, environment, lab_description, log, machine, median, task_seconds

TITLE = "Cluster modules"
NAMESPACE: Final = "benchmark"
OBJECTS: Final = 30
WAITS: Final = 5


def measure() -> dict[str, Any]:
    about = machine()
    server = min(lab_description()["hosts"], key=lambda host: (not host.endswith("server"), host))
    kubeconfig = CHECKOUT / ".lab/kubeconfig"
    if not kubeconfig.is_file():
        raise BenchmarkError("the lab has no cluster: make site")
    kubectl = ("k3s", "kubectl")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, CountingProxy(kubeconfig, Path(folder)) as proxy:
        variables = json.dumps({"bench_kubeconfig": str(proxy.kubeconfig), "bench_objects": OBJECTS, "bench_nodes": sorted(lab_description()["hosts"])})
        ansible_playbook("benchmarks/playbooks/prepare.yml", "-e", variables)
        try:
            result = {**about, "objects": OBJECTS, **apply_and_label(proxy, variables), **kubectl_apply(server, kubectl), **waits(proxy, variables)}
        finally:
            ansible_playbook("benchmarks/playbooks/cleanup.yml", "-e", variables)
    return result


def apply_and_label(proxy: CountingProxy, variables: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in ("apply_list", "apply_list_again", "apply_each", "apply_each_again", "label_list", "label_list_again", "label_each"):
        proxy.reset()
        playbook = f"benchmarks/playbooks/{name.removesuffix('_again')}.yml"
        run = ansible_playbook(playbook, "-e", variables)
        if name.endswith("_again") and run.changed:
            raise BenchmarkError(f"{name}: {run.changed} tasks changed something that was there")
        result[name] = {"seconds": round(task_seconds(run.timeline, "Measure"), 2), "requests": proxy.counts()}
    return result


def kubectl_apply(server: str, kubectl: tuple[str, ...]) -> dict[str, Any]:
    """The peer for one call with a list: kubectl's server-side apply of the same objects, on the server itself."""
    documents = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"kubectl-{number}", "namespace": NAMESPACE}, "data": {"number": str(number)}}
        for number in range(OBJECTS)
    ]
    seconds = []
    for _ in range(2):
        started = time.monotonic()
        done = subprocess.run(
            [CHECKOUT / ".lab/podman", "exec", "--interactive", server, *kubectl, "apply", "--server-side", "--filename=-"],
            input=yaml.safe_dump_all(documents),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchmarkError(f"kubectl apply: {done.stderr}")
        seconds.append(round(time.monotonic() - started, 2))
    return {"kubectl_apply_seconds": seconds[0], "kubectl_apply_again_seconds": seconds[1]}


def waits(proxy: CountingProxy, variables: str) -> dict[str, Any]:
    """From the moment an object is there until the play that waits for it has ended; ending a play costs both ways the same."""
    result: dict[str, Any] = {}
    for name in ("wait_module", "wait_polling"):
        delays, requests = [], []
        for number in range(WAITS):
            target = f"{name.replace('_', '-')}-{number}"
            proxy.reset()
            play = subprocess.Popen(
                ["ansible-playbook", f"benchmarks/playbooks/{name}.yml", "-e", variables, "-e", f"bench_name={target}"],
                cwd=CHECKOUT,
                env=environment({}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            # Off the beat of a poll each second.
            time.sleep(6 + 0.2 * number)
            proxy.create_config_map(NAMESPACE, target)
            created = time.monotonic()
            output, _ = play.communicate(timeout=60)
            delays.append(time.monotonic() - created)
            if play.returncode:
                raise BenchmarkError(f"{name}: {output[-3000:]}")
            requests.append(sum(proxy.counts().values()))
        result[name] = {"seconds": round(median(delays), 2), "requests": median(requests)}
        log(f"  {name}: {result[name]}")
    return result
