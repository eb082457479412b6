# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests do to the GPU node and ask of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
HOST = "k3s-gpu-worker"
NAMESPACE = "nvidia-device-plugin"
CONFIG_LABEL = "homelab.gpu/device-plugin-config"
# A node that is about to change again need not be looked at for as long as one that shall stay
QUICK = {"nvidia_device_plugin_stable_seconds": 2, "nvidia_device_plugin_timeout_seconds": 60}


@dataclass(frozen=True)
class Run:
    """A playbook's end."""

    status: int
    output: str

    @property
    def changed(self) -> int:
        return sum(int(number) for number in re.findall(r"changed=(\d+)", self.output))

    @property
    def text(self) -> str:
        """Its output without the line breaks of long messages."""
        return " ".join(self.output.split())


def playbook(path: str, *arguments: str, inventories: Sequence[str] = ("inventories/lab/hosts.yml",), **variables: Any) -> Run:
    environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "true"}
    sources = [f"--inventory={one}" for one in inventories]
    command = ["ansible-playbook", *sources, path, "--extra-vars", json.dumps(variables), *arguments]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=600)
    return Run(done.returncode, done.stdout + done.stderr)


def site(**variables: Any) -> Run:
    """The GPU node's part of the site."""
    return playbook("playbooks/site.yml", "--limit", HOST, **{**QUICK, **variables})


def offer(**variables: Any) -> Run:
    """The site's last step alone, where nothing before it changed."""
    return playbook("molecule/gpu_node/offer.yml", **{**QUICK, **variables})


def serve(**variables: Any) -> Run:
    """What serves models by the scenario's profile."""
    inventories = ("inventories/lab/hosts.yml", "molecule/serving/profile", "molecule/serving/bench")
    return playbook("playbooks/serving.yml", inventories=inventories, **variables)


def verify() -> Run:
    return playbook("playbooks/gpu_verify.yml")


def succeeds(run: Run) -> Run:
    assert run.status == 0, run.output
    return run


def gpu(*words: str) -> None:
    """Let something happen to the mock GPU."""
    subprocess.run([sys.executable, "-m", "lab.gpu", *words], cwd=PROJECT, check=True)


def on_host(command: str, host: str = HOST) -> str:
    return subprocess.run([str(PROJECT / ".lab/podman"), "exec", host, "sh", "-c", command], capture_output=True, text=True, check=True).stdout


def kubectl(*words: str, given: str | None = None) -> str:
    command = [str(PROJECT / ".lab/podman"), "exec", "--interactive", "k3s-server", "k3s", "kubectl", *words]
    return subprocess.run(command, input=given or "", capture_output=True, text=True, check=True).stdout


def read(*words: str) -> Any:
    return json.loads(kubectl("get", *words, "--output=json"))


def node() -> Any:
    return read("node", HOST)


def allocatable(resource: str = "nvidia.com/gpu") -> int:
    return int(node()["status"]["allocatable"].get(resource, "0"))


def config() -> str:
    """The key of the node's config."""
    return str(node()["metadata"]["labels"].get(CONFIG_LABEL))


def plugin_pods() -> list[Any]:
    return [pod for pod in read("pods", "--namespace", NAMESPACE)["items"] if pod["spec"].get("nodeName") == HOST]


def log(pod: Any) -> str:
    """Nothing, if its container has not started."""
    command = [str(PROJECT / ".lab/podman"), "exec", "k3s-server", "k3s", "kubectl", "logs"]
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    return subprocess.run([*command, f"--namespace={namespace}", name], capture_output=True, text=True, check=False).stdout


def wait(what: str, found: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = found()
        if answer:
            return answer
        time.sleep(0.5)
    raise AssertionError(f"{what}: not within {seconds:g} s")


USERS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: users, namespace: default}
spec:
  replicas: %d
  selector: {matchLabels: {app: users}}
  template:
    metadata: {labels: {app: users}}
    spec:
      runtimeClassName: nvidia
      terminationGracePeriodSeconds: 1
      containers:
        - name: user
          image: localhost/homelab-lab/k8s-device-plugin:v0.20.0-lab1
          command: [gpu-open, --hold]
          resources: {limits: {nvidia.com/gpu: 1}}
"""


def start_users(count: int) -> None:
    """Pods that hold a slice each."""
    kubectl("apply", "--filename=-", given=USERS % count)


def users(phase: str | None = None) -> list[Any]:
    pods = [pod for pod in read("pods", "--selector=app=users")["items"] if not pod["metadata"].get("deletionTimestamp")]
    return [pod for pod in pods if phase in (None, pod["status"]["phase"])]


def end_users() -> None:
    kubectl("delete", "deployment", "users", "--ignore-not-found")
    kubectl("delete", "pods", "--selector=app=users", "--ignore-not-found", "--wait")
