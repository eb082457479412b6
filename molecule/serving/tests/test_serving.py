# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients see of one endpoint while what is behind it fails. Tests run in their order; each leaves a GPU that answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

import gpu_host as lab
from endpoint import Watch, figures, gpu_answers, probe

NAMESPACE = "ml"
MODEL = "deepseek-coder-6.7b-instruct-awq"


@pytest.fixture(autouse=True)
def _gpu_answers() -> Iterator[None]:
    gpu_answers(MODEL)
    yield
    lab.on_host("pkill --signal CONT --full '[V]LLM::|[v]llm serve' || true")


def pods(app: str) -> list[dict]:
    found = lab.read("pods", "--namespace", NAMESPACE, f"--selector=app={app}")["items"]
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


def ready(pod: dict) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))


def signal_vllm(name: str, which: str = "[V]LLM::|[v]llm serve") -> None:
    lab.on_host(f"pkill --signal {name} --full '{which}'")


def test_both_answer_to_the_same_names() -> None:
    for model in (MODEL, "default"):
        assert probe(model)["backend"] == "gpu"
    assert {pod["spec"]["nodeName"] for pod in pods("vllm-server")} == {lab.HOST}
    assert lab.HOST not in {pod["spec"]["nodeName"] for pod in pods("ollama")}, "the fallback would go with the GPU"
    assert len({pod["spec"]["nodeName"] for pod in pods("llm-gateway")}) == 2
    holders = lab.on_host("ls -l /proc/*/fd/* 2>/dev/null | grep -c /dev/nvidia0 || true")
    assert int(holders) > 0, "the stand-in has to hold the GPU as vLLM does"


def test_gpu_backend_is_killed() -> None:
    with Watch(MODEL) as watch:
        fault = watch.now()
        signal_vllm("KILL")
        watch.wait_for("cpu", since=fault)
        watch.wait_for("gpu", since=watch.now())
    figures("GPU backend killed", watch, fault)
    assert (watch.failures, watch.empty) == (0, 0), watch.told


def test_gpu_backend_hangs_as_a_whole() -> None:
    with Watch(MODEL) as watch:
        fault = watch.now()
        signal_vllm("STOP")
        watch.wait_for("cpu", since=fault)
        signal_vllm("CONT")
        watch.wait_for("gpu", since=watch.now())
    figures("GPU backend stopped", watch, fault)
    assert (watch.failures, watch.empty) == (0, 0), watch.told


def test_gpu_backend_hangs_and_says_that_it_is_healthy() -> None:
    with Watch(MODEL) as watch:
        fault = watch.now()
        signal_vllm("STOP", "[V]LLM::EngineCore")
        watch.wait_for("cpu", since=fault)
        signal_vllm("CONT")
        watch.wait_for("gpu", since=watch.now())
    figures("engine stopped, /health 200", watch, fault)
    assert (watch.failures, watch.empty) == (0, 0), watch.told


def test_gpu_pod_is_evicted_in_order() -> None:
    (before,) = pods("vllm-server")
    with Watch(MODEL) as watch:
        fault = watch.now()
        # Its budget lets it go
        lab.kubectl("drain", lab.HOST, "--pod-selector=app=vllm-server", "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=60s")
        watch.wait_for("cpu", since=fault)
        lab.kubectl("uncordon", lab.HOST)
        watch.wait_for("gpu", since=watch.now())
    figures("GPU pod evicted", watch, fault)
    assert (watch.failures, watch.empty) == (0, 0), watch.told
    assert before["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in pods("vllm-server")}


def test_gateway_gets_another_config() -> None:
    before = {pod["metadata"]["uid"] for pod in pods("llm-gateway")}
    with Watch(MODEL) as watch:
        fault = watch.now()
        lab.succeeds(lab.serve(serving_roles=["llm_gateway"], llm_gateway_keep_alive_timeout_seconds=74))
    figures("gateway changed", watch, fault)
    assert watch.failures == 0, watch.told
    after = {pod["metadata"]["uid"] for pod in pods("llm-gateway")}
    assert len(after) == 2
    assert not after & before, "no pod was replaced, so nothing was shown"
    lab.succeeds(lab.serve(serving_roles=["llm_gateway"]))


def test_gateway_pod_is_killed() -> None:
    victim = pods("llm-gateway")[0]
    with Watch(MODEL) as watch:
        fault = watch.now()
        lab.on_host("pkill --signal KILL haproxy", victim["spec"]["nodeName"])
        watch.wait_for("gpu", since=fault + 3)
        lab.wait("both run again", lambda: len([pod for pod in pods("llm-gateway") if ready(pod)]) == 2)
    figures("gateway pod killed", watch, fault)
    assert watch.failures <= 1, watch.told


def test_who_may_reach_the_fallback() -> None:
    address = lab.read("service", "ollama", "--namespace", NAMESPACE)["spec"]["clusterIP"]
    reach = f"python3 -c 'import socket; socket.create_connection((\"{address}\", 11434), 3)'"
    lab.kubectl("run", "stranger", "--image=localhost/homelab-lab/ollama:0.34.1-lab1", "--command", "--", "sleep", "600")
    try:
        lab.wait("the stranger runs", lambda: lab.read("pod", "stranger")["status"]["phase"] == "Running")
        with pytest.raises(lab.subprocess.CalledProcessError):
            lab.kubectl("exec", "stranger", "--", "sh", "-c", reach)
        # Inside its own pod nobody stands in the way, so the words above are right
        lab.kubectl("exec", "--namespace", NAMESPACE, pods("ollama")[0]["metadata"]["name"], "--", "sh", "-c", reach)
    finally:
        lab.kubectl("delete", "pod", "stranger", "--now")


def devices_of(name: str, environment: dict[str, str]) -> str:
    """What NVIDIA's runtime gives a container with this environment on the node with the GPU."""
    container = {
        "name": "looks",
        "image": pods("ollama")[0]["spec"]["containers"][0]["image"],
        "command": ["sh", "-c", "test -e /dev/nvidia0 && echo gpu || echo none"],
        "env": [{"name": variable, "value": value} for variable, value in environment.items()],
    }
    spec = {"nodeName": lab.HOST, "runtimeClassName": "nvidia", "restartPolicy": "Never", "tolerations": [{"operator": "Exists"}], "containers": [container]}
    lab.kubectl("create", "--filename=-", given=json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}))
    try:
        lab.wait("it has looked", lambda: lab.read("pod", name)["status"]["phase"] == "Succeeded")
        return lab.kubectl("logs", name).strip()
    finally:
        lab.kubectl("delete", "pod", name, "--now")


def test_the_fallback_is_given_no_gpu() -> None:
    spec = pods("ollama")[0]["spec"]
    assert "runtimeClassName" not in spec
    environment = {variable["name"]: variable["value"] for variable in spec["containers"][0]["env"] if "value" in variable}
    # Even where NVIDIA's runtime is the default one
    assert devices_of("fallback", environment) == "none"
    assert devices_of("anybody", {"NVIDIA_VISIBLE_DEVICES": "all"}) == "gpu", "nothing was shown"
