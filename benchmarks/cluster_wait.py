# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How soon a wait ends after what was waited for was sent to the API server: kube_wait, `kubectl wait`, and k8s_info asked again each second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from benchmarks.contest import NAMESPACE, Contest, contest, ended
from benchmarks.measured_lab import BenchmarkError, log, machine

WAITS: Final = 24
KUBECTL_WAITS: Final = 12
POLLS: Final = 6
_DEADLINE_SECONDS: Final = 30.0


def measure() -> dict[str, Any]:
    about = machine()
    with contest() as arena:
        measured = {}
        for name, work in (("module", by_module), ("kubectl", by_kubectl), ("polling", by_polling)):
            arena.settle()
            delays = work(arena)
            measured[name] = [round(1000 * delay, 1) for delay in delays]
            log(f"  {name}: {measured[name]} ms")
        return {**about, **arena.conditions(), "milliseconds": measured}


def make_targets(arena: Contest, way: str, count: int) -> list[str]:
    """ConfigMaps whose state is not yet as it will be waited for."""
    names = [f"{way}-{number}" for number in range(count)]
    for name in names:
        arena.proxy.request("POST", _path(), {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"state": "wanted"}})
    return names


def _path(name: str = "") -> str:
    return f"/api/v1/namespaces/{NAMESPACE}/configmaps" + (f"/{name}" if name else "")


def come_true(arena: Contest, name: str) -> float:
    """When the change was sent, by the monotonic clock."""
    _answer, sent = arena.proxy.request_at("PATCH", _path(name), {"data": {"state": "reached"}}, "application/merge-patch+json")
    return sent


def off_beat(number: int) -> float:
    """Seconds, another each time, so that nothing that comes once a second meets them all alike."""
    return 0.2 + (0.137 * number) % 1.0


def lines_of(stream: Any, wanted: str, seen: Callable[[float], None]) -> str:
    """Reads to the end; tells when each wanted line came."""
    text = []
    for line in stream:
        if wanted in line:
            seen(time.monotonic())
        text.append(line)
    return "".join(text)


def watched(arena: Contest, count: int) -> None:
    """Returns once that many watches were opened; what waits is then waiting."""
    _until(lambda: arena.proxy.counts().get("WATCH", 0) >= count, f"watch {count} was never opened")


def _until(true: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise BenchmarkError(problem)
        time.sleep(0.005)


def loop_delays(arena: Contest, name: str, task: dict[str, Any], targets: list[str], ready: Callable[[int], None]) -> Iterator[float]:
    """One play with a task over all targets: from the change that is sent to the API server until Ansible tells that the item is done."""
    play = arena.play(name, [{"name": "Measure", **task, "loop": targets}], kubeconfig=arena.proxy.kubeconfig)
    arena.proxy.reset()
    process = arena.start(play)
    done: list[float] = []
    output: list[str] = []
    reader = threading.Thread(target=lambda: output.append(lines_of(process.stdout, "(item=", done.append)))
    reader.start()
    try:
        for number, target in enumerate(targets):
            ready(number)
            time.sleep(off_beat(number))
            if len(done) > number:
                raise BenchmarkError(f"{name}: {target} was taken for reached before it was")
            sent = come_true(arena, target)
            _until(lambda number=number: len(done) > number, f"{name}: {target} was never taken for reached")  # type: ignore[misc]
            yield done[number] - sent
        reader.join(_DEADLINE_SECONDS)
        if process.wait(_DEADLINE_SECONDS):
            raise BenchmarkError(f"{name}: {''.join(output)[-3000:]}")
    finally:
        process.kill()
        process.wait()
        reader.join()


def by_module(arena: Contest) -> list[float]:
    options = {"kind": "ConfigMap", "namespace": NAMESPACE, "name": "{{ item }}", "until": "expression", "expression": "data.state == 'reached'"}
    task = {"homelab.gpu.kube_wait": {**options, "timeout_seconds": 30}}
    return list(loop_delays(arena, "wait-module", task, make_targets(arena, "module", WAITS), lambda number: watched(arena, number + 1)))


def by_polling(arena: Contest) -> list[float]:
    """Without a watch that tells, the first question of each item is given time."""
    task = {
        "kubernetes.core.k8s_info": {"kind": "ConfigMap", "namespace": NAMESPACE, "name": "{{ item }}"},
        "register": "seen",
        "until": "seen.resources[0].data.state == 'reached'",
        "retries": 30,
        "delay": 1,
    }
    return list(loop_delays(arena, "wait-polling", task, make_targets(arena, "polling", POLLS), lambda number: time.sleep(1.0 if number else 2.0)))


def by_kubectl(arena: Contest) -> list[float]:
    """Until the process has ended."""
    delays = []
    for number, target in enumerate(make_targets(arena, "kubectl", KUBECTL_WAITS)):
        arena.proxy.reset()
        wanted = "--for=jsonpath={.data.state}=reached"
        process = arena.start_kubectl("wait", wanted, f"configmap/{target}", "--namespace", NAMESPACE, "--timeout=30s", kubeconfig=arena.proxy.kubeconfig)
        watched(arena, 1)
        time.sleep(off_beat(number))
        sent = come_true(arena, target)
        end = ended(process, _DEADLINE_SECONDS)
        if end.code:
            raise BenchmarkError(f"kubectl wait: {end.output}")
        delays.append(end.at - sent)
    return delays
