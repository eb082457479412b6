# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the measurements of cluster modules have in common: the lab's cluster, a namespace in it, and the contestants, run as their users run them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.counting_proxy import CountingProxy
from benchmarks.measured_lab import CHECKOUT, BenchmarkError, Run, ansible_playbook, environment, idle_share, lab_description, log
from benchmarks.peers import Peer, kubectl_binary, kubernetes_core

NAMESPACE: Final = "benchmark"
# On the control machine both run as they are; what differs is the module
SETTINGS: Final = {"ANSIBLE_PIPELINING": "true", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
_QUIET: Final = 0.6
_LONGEST_SETTLING_SECONDS: Final = 2.0

Tasks = Sequence[Mapping[str, Any]]


class Ended(NamedTuple):
    """A process that has ended; C(at) is by the monotonic clock."""

    code: int
    output: str
    at: float


class Contest:
    """One namespace of one cluster, reached directly or through a proxy that counts."""

    def __init__(self, folder: Path, proxy: CountingProxy, peer: Peer, kubectl: Path) -> None:
        self.folder = folder
        self.proxy = proxy
        self.direct = CHECKOUT / ".lab/kubeconfig"
        self._peer = peer
        self._kubectl = kubectl
        self._idle: list[float] = []

    # Contestants

    def play(self, name: str, tasks: Tasks, *, kubeconfig: Path | None = None) -> Path:
        """Written to a file: tasks of ours, and of kubernetes.core, which run on its own Python."""
        path = self.folder / f"{name}.yml"
        target = {"kubeconfig": str(kubeconfig or self.direct)}
        play: dict[str, Any] = {"name": name, "hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": list(tasks)}
        if any(key.startswith("kubernetes.core.") for task in tasks for key in task):
            play["module_defaults"] = {"group/kubernetes.core.k8s": target}
            play["vars"] = {"ansible_python_interpreter": str(self._peer.python)}
        else:
            play["module_defaults"] = {"group/homelab.gpu.gpu": target}
        path.write_text(json.dumps([play], indent=1))
        return path

    def run(self, play: Path) -> Run:
        return ansible_playbook(str(play), settings=self._settings(), quiet=True)

    def start(self, play: Path, *, verbosity: int = 0) -> subprocess.Popen[str]:
        return self._start(["ansible-playbook", str(play)], environment({**self._settings(), "ANSIBLE_VERBOSITY": str(verbosity)}))

    def kubectl(self, *arguments: str, kubeconfig: Path | None = None, text: str | None = None) -> str:
        done = subprocess.run(self._kubectl_command(arguments, kubeconfig), input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(f"kubectl {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def start_kubectl(self, *arguments: str, kubeconfig: Path | None = None) -> subprocess.Popen[str]:
        return self._start(self._kubectl_command(arguments, kubeconfig), None)

    def counted(self, work: Callable[[], Any]) -> dict[str, Any]:
        """What a contestant that goes through the proxy asks of the API server, once it has noted what the server serves."""
        work()
        self.proxy.reset()
        work()
        return {"requests": self.proxy.counts(), "connections": self.proxy.connections()}

    def _kubectl_command(self, arguments: Sequence[str], kubeconfig: Path | None) -> list[str]:
        cache = self.folder / "kubectl-cache"
        return [str(self._kubectl), "kubectl", "--kubeconfig", str(kubeconfig or self.direct), "--cache-dir", str(cache), *arguments]

    def _settings(self) -> dict[str, str]:
        return {**SETTINGS, "ANSIBLE_COLLECTIONS_PATH": f"{CHECKOUT / 'collections'}:{self._peer.collections}"}

    @staticmethod
    def _start(command: Sequence[str], env: Mapping[str, str] | None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=CHECKOUT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )

    # Conditions

    def settle(self) -> None:
        """Lets the cluster finish what the last contestant left to it, and notes how idle the machine is before the next one starts."""
        deadline = time.monotonic() + _LONGEST_SETTLING_SECONDS
        while (idle := idle_share()) < _QUIET and time.monotonic() < deadline:
            pass
        self._idle.append(idle)

    def conditions(self) -> dict[str, Any]:
        return {"kubernetes_core": self._peer.version(), "least_idle": round(min(self._idle), 2) if self._idle else None, "starts": len(self._idle)}


def ended(process: subprocess.Popen[str], timeout_seconds: float) -> Ended:
    try:
        output, _ = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        process.kill()
        output, _ = process.communicate()
        raise BenchmarkError(f"{process.args!r} did not end within {timeout_seconds} s: {output[-3000:]}") from error
    return Ended(process.returncode, output, time.monotonic())


def seconds_of(work: Callable[[], Any]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def rotated(names: Sequence[str], number: int) -> list[str]:
    """Another contestant begins each round."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


@contextlib.contextmanager
def contest() -> Iterator[Contest]:
    kubeconfig = CHECKOUT / ".lab/kubeconfig"
    hosts = lab_description()["hosts"]
    if not kubeconfig.is_file():
        raise BenchmarkError("the lab has no cluster: make site")
    peer = kubernetes_core()
    with tempfile.TemporaryDirectory(prefix="bench-") as name, CountingProxy(kubeconfig, Path(name)) as proxy:
        folder = Path(name)
        opened = Contest(folder, proxy, peer, kubectl_binary(min(hosts, key=lambda host: (not host.endswith("server"), host)), folder))
        with namespace(opened):
            yield opened


@contextlib.contextmanager
def namespace(opened: Contest) -> Iterator[None]:
    opened.kubectl("create", "namespace", NAMESPACE)
    try:
        yield
    finally:
        log(f"removing the namespace {NAMESPACE}")
        opened.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s")
