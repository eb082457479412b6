# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role's files, judged by a real HAProxy, and that HAProxy with them between clients and model servers on loopback."""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
import typing as t

import pytest
import yaml

from ansible_collections.homelab.gpu.tests.unit.live_gateway import HAPROXY, ROLE, Gateway, ModelServer, free_port, render, role_options, until, write_files

Object = dict[str, t.Any]
Start = t.Callable[..., Gateway]

KEYS = ["first-key-of-many", "second-key-of-many"]
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")


@pytest.fixture
def folder() -> t.Iterator[pathlib.Path]:
    """A short path: that of a socket has little room."""
    with tempfile.TemporaryDirectory(prefix="gw-") as name:
        yield pathlib.Path(name)


@pytest.fixture
def gpu() -> t.Iterator[ModelServer]:
    server = ModelServer("gpu")
    yield server
    server.close()


@pytest.fixture
def cpu() -> t.Iterator[ModelServer]:
    server = ModelServer("cpu")
    yield server
    server.close()


@pytest.fixture
def start(folder: pathlib.Path, gpu: ModelServer, cpu: ModelServer) -> t.Iterator[Start]:
    started = []

    def make(keys: t.Sequence[str] = (), **options: t.Any) -> Gateway:
        backends = [
            {"name": "gpu", "host": "127.0.0.1", "port": gpu.port, "probe": False},
            {"name": "cpu", "host": "127.0.0.1", "port": cpu.port, "backup": True, "ollama_api": True},
        ]
        # A busy machine shall not look like a dead server
        patient = {"check_timeout_seconds": 10, "check_last_fall": 1}
        ports = {"port": free_port(), "metrics_port": free_port()}
        started.append(Gateway(folder, role_options(**{"backends": backends, **ports, **patient, **options}), keys))
        until(lambda: set(started[0].server_states().values()) == {"UP"}, "the servers' first checks pass")
        return started[0]

    yield make
    for gateway in started:
        gateway.close()


def probed(gpu: ModelServer, cpu: ModelServer, **more: t.Any) -> Object:
    return {
        "backends": [
            {"name": "gpu", "host": "127.0.0.1", "port": gpu.port, **more},
            {"name": "cpu", "host": "127.0.0.1", "port": cpu.port, "backup": True, "check_path": "/health"},
        ],
        "probe_interval_seconds": 0.2,
        "probe_silence_seconds": 0.1,
        "probe_stall_seconds": 1,
    }


VARIANTS: dict[str, Object] = {
    "defaults": {},
    "one backend": {"backends": [{"name": "only", "service": "vllm", "port": 8000}]},
    "many pods": {"backends": [{"name": "gpu", "service": "vllm", "port": 8000, "slots": 8, "max_requests": 4}, {"name": "two", "host": "fd00::7", "port": 1}]},
    "Ollama on the GPU": {
        "backends": [{"name": "gpu", "service": "ollama-gpu", "port": 11434}, {"name": "cpu", "service": "o", "port": 11434, "backup": True}]
    },
    "keys": {"api_keys": KEYS},
    "a Secret with keys": {"api_keys_secret": "keys"},
    "TLS": {"tls_secret": "certificate"},
    "other numbers": {"retries": 0, "retry_statuses": [], "threads": 1, "node_port": 30080, "paths": ["/v1/chat/", "/tokenize"], "ollama_manage": True},
}


@needs_haproxy
@pytest.mark.parametrize("name", VARIANTS)
def test_haproxy_takes_the_config(folder: pathlib.Path, name: str) -> None:
    options = role_options(**VARIANTS[name])
    if options["tls_secret"]:
        request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=gateway"]
        subprocess.run([*request, "-keyout", folder / "server.pem.key", "-out", folder / "server.pem"], check=True, capture_output=True)
    config = write_files(folder, options, KEYS)
    assert HAPROXY
    # No name of a Service can be resolved here, as where none of them is there yet
    done = subprocess.run([HAPROXY, "-c", "-f", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ALERT" not in done.stderr
    assert "deprecated" not in done.stderr


@needs_haproxy
def test_haproxy_refuses_what_is_wrong(folder: pathlib.Path) -> None:
    config = write_files(folder, role_options())
    config.write_text(config.read_text().replace("mode http", "mode telepathy"))
    assert HAPROXY
    assert subprocess.run([HAPROXY, "-c", "-f", config], capture_output=True, check=False).returncode != 0


@needs_haproxy
def test_the_first_backend_answers_and_is_named(start: Start, gpu: ModelServer) -> None:
    gateway = start()
    status, headers, body = gateway.ask("who")
    assert (status, headers["x-llm-backend"], json.loads(body)["from"]) == (200, "gpu", "gpu")
    assert "x-llm-server" not in headers
    (line,) = until(lambda: [line for line in gateway.log.read_text().splitlines() if line.startswith("{") and "completions" in line], "a log line")
    entry = json.loads(line)
    assert entry.items() >= {"status": 200, "backend": "gpu", "server": "gpu-1", "retries": "0", "path": "/v1/completions", "method": "POST"}.items()
    assert entry["id"] == headers["x-request-id"]
    assert entry["total_ms"] >= entry["first_byte_ms"] >= 0
    assert "who" not in line


@needs_haproxy
@pytest.mark.parametrize("behaviour", ["error", "empty", "abort"])
def test_a_bad_answer_is_replaced_by_the_backups(start: Start, gpu: ModelServer, cpu: ModelServer, behaviour: str) -> None:
    gateway = start()
    gpu.behaviour = behaviour
    status, headers, body = gateway.ask("once")
    assert (status, headers["x-llm-backend"], json.loads(body)["from"]) == (200, "cpu", "cpu")
    assert (gpu.questions("once"), cpu.questions("once")) == (1, 1)


@needs_haproxy
@pytest.mark.parametrize("probe", [False, True])
def test_nobody_stands_in_for_the_only_backend(start: Start, gpu: ModelServer, probe: bool) -> None:
    gateway = start(backends=[{"name": "gpu", "host": "127.0.0.1", "port": gpu.port, "probe": probe}], probe_silence_seconds=0.1)
    gpu.behaviour = "empty"
    status, headers, body = gateway.ask()
    assert status == (503 if probe else 502)
    assert json.loads(body)["error"]["code"] == ("no_backend" if probe else "empty_answer")
    gpu.behaviour = "answer"
    until(lambda: gateway.ask()[0] == 200, "it answers again")


@needs_haproxy
def test_a_server_that_answered_with_nothing_stays_out_until_a_probe_is_answered(start: Start, gpu: ModelServer, cpu: ModelServer) -> None:
    gateway = start(**probed(gpu, cpu))
    gpu.behaviour = "empty"
    assert gateway.ask()[1]["x-llm-backend"] == "cpu"
    assert gateway.server_states()["gpu-1"].startswith("MAINT")
    gpu.behaviour = "answer"
    until(lambda: gateway.ask()[1]["x-llm-backend"] == "gpu", "the GPU answers again")


@needs_haproxy
def test_a_request_to_a_dead_server_is_sent_again(start: Start, gpu: ModelServer) -> None:
    gateway = start()
    gpu.server.shutdown()
    gpu.server.server_close()
    assert [gateway.ask()[1]["x-llm-backend"] for _attempt in range(3)] == ["cpu"] * 3


@needs_haproxy
@pytest.mark.parametrize("behaviour", ["hang", "hang_stream"])
def test_a_server_that_is_healthy_and_hangs_is_found(start: Start, gpu: ModelServer, cpu: ModelServer, behaviour: str) -> None:
    gateway = start(**probed(gpu, cpu))
    gpu.behaviour = behaviour
    status, headers, body = gateway.ask("waits")
    assert (status, headers["x-llm-backend"], json.loads(body)["from"]) == (200, "cpu", "cpu")
    assert gateway.server_states()["gpu-1"].startswith("MAINT")
    gpu.behaviour = "answer"
    gpu.released.set()
    until(lambda: gateway.ask()[1]["x-llm-backend"] == "gpu", "the GPU answers again")


@needs_haproxy
def test_a_server_with_a_full_queue_does_not_hang(start: Start, gpu: ModelServer, cpu: ModelServer) -> None:
    gateway = start(**probed(gpu, cpu))
    gpu.behaviour = "hang"
    answers: list[str] = []
    waiting = threading.Thread(target=lambda: answers.append(gateway.ask("long")[1]["x-llm-backend"]))
    waiting.start()
    # Four probes in vain are two verdicts, each of which would have taken it out
    until(lambda: setattr(gpu, "tokens", gpu.tokens + 1) or gpu.questions("1") >= 5, "probes without an answer")
    assert gateway.server_states()["gpu-1"].startswith("UP")
    assert answers == []
    gpu.close()
    waiting.join()


@needs_haproxy
def test_a_maintenance_of_somebody_else_is_left_alone(start: Start, gpu: ModelServer, cpu: ModelServer) -> None:
    gateway = start(**probed(gpu, cpu))
    gateway.command("set server llm/gpu-1 state maint")
    asked = gpu.questions("1")
    assert gateway.ask()[1]["x-llm-backend"] == "cpu"
    gateway.command("set server llm/gpu-1 state ready")
    until(lambda: gpu.questions("1") > asked + 1, "probes go on")
    assert gateway.ask()[1]["x-llm-backend"] == "gpu"


@needs_haproxy
def test_a_stream_passes_and_one_that_has_begun_is_not_repeated(start: Start, gpu: ModelServer, cpu: ModelServer) -> None:
    gateway = start()
    gpu.behaviour = "stream"
    assert gateway.ask("s")[2].endswith("data: [DONE]\n\n")
    gpu.behaviour = "cut_stream"
    assert gateway.ask("c")[2] == 'data: {"from":"gpu"}\n\n'
    assert cpu.asked == []


@needs_haproxy
@pytest.mark.parametrize("ends", [True, False])
def test_a_soft_stop_lets_streams_end_within_a_bound(start: Start, gpu: ModelServer, ends: bool) -> None:
    gateway = start(drain_seconds=30 if ends else 1)
    gpu.behaviour = "long_stream"
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
    connection.request("POST", "/v1/completions", '{"prompt": "long"}')
    answer = connection.getresponse()
    assert answer.readline() == b'data: {"from":"gpu"}\n'
    gateway.process.send_signal(signal.SIGUSR1)
    until(lambda: gateway.status_of_port() == 0, "new connections are refused")
    assert gateway.process.poll() is None
    if ends:
        gpu.released.set()
        assert answer.read().endswith(b"data: [DONE]\n\n")
        assert gateway.process.wait(60) == 0
    else:
        gateway.process.wait(60)
        assert answer.read() == b"\n"
    connection.close()


@needs_haproxy
def test_a_body_beyond_the_limit_passes_and_is_not_repeated(start: Start, gpu: ModelServer, cpu: ModelServer) -> None:
    gateway = start(retry_body_bytes=16384)
    long = "x" * 100_000
    assert gateway.ask(long)[1]["x-llm-backend"] == "gpu"
    gpu.behaviour = "error"
    assert gateway.ask(long)[0] == 500
    assert cpu.asked == []


@needs_haproxy
def test_without_any_server_clients_get_an_error_in_the_form_of_the_api(start: Start, gpu: ModelServer, cpu: ModelServer) -> None:
    gateway = start()
    gpu.healthy = cpu.healthy = False
    until(lambda: all(state.startswith("DOWN") for state in gateway.server_states().values()), "both are down")
    status, headers, body = gateway.ask()
    assert (status, headers["content-type"], headers["retry-after"]) == (503, "application/json", "1")
    assert json.loads(body)["error"].items() >= {"type": "server_error", "code": "no_backend"}.items()
    assert gateway.request("GET", "/healthz")[0] == 503
    until(lambda: all(state.startswith("DOWN") for state in gateway.server_states("ollama").values()), "Ollama is down")
    status, _headers, body = gateway.request("POST", "/api/chat", {})
    assert (status, json.loads(body)) == (503, {"error": "No model server is up. Ask again later."})


@needs_haproxy
def test_paths(start: Start, gpu: ModelServer, cpu: ModelServer) -> None:
    gateway = start()
    assert gateway.request("GET", "/v1/models")[1]["x-llm-backend"] == "gpu"
    assert gateway.request("GET", "/api/tags")[1]["x-llm-backend"] == "cpu"
    assert gateway.request("POST", "/api/pull", {"model": "x"})[0] == 403
    assert gateway.request("GET", "/metrics")[0] == 404
    assert gateway.request("GET", "/healthz")[0] == 200
    assert "haproxy_server_status" in gateway.request("GET", "/metrics", port=gateway.metrics_port)[2]
    assert cpu.asked == ["/api/tags"]
    gpu.healthy = False
    until(lambda: gateway.request("GET", "/v1/models")[1]["x-llm-backend"] == "cpu", "the backup lists models")


@needs_haproxy
def test_clients_need_one_of_the_keys(start: Start, gpu: ModelServer) -> None:
    gateway = start(keys=KEYS, api_keys_secret="keys")
    for wrong in ({}, {"Authorization": "Bearer first-key-of-man"}, {"Authorization": f"Basic {KEYS[0]}"}, {"Authorization": "Bearer "}):
        status, headers, body = gateway.ask("locked out", **wrong)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert json.loads(body)["error"]["code"] == "invalid_api_key"
    assert gpu.questions("out") == 0
    for key in KEYS:
        assert gateway.ask(Authorization=f"Bearer {key}")[0] == 200
        assert gateway.ask(Authorization=f"bearer {key}")[0] == 200
    assert gateway.request("GET", "/healthz")[0] == 200
    assert not any(key in gateway.log.read_text() + (gateway.socket.parent / "haproxy.cfg").read_text() for key in KEYS)


class Supervised:
    """run.sh with a stand-in for haproxy, a script that does something, tells its process id, and does more."""

    def __init__(self, folder: pathlib.Path, first: str, then: str) -> None:
        self.started = folder / "started"
        self.started.touch()
        program = folder / "haproxy"
        program.write_text(f"#!/bin/sh\n{first}\necho $$ >> {self.started}\n{then}\n")
        program.chmod(0o755)
        environment = {"PATH": f"{folder}:/usr/bin:/bin"}
        self.process = subprocess.Popen(["sh", str(ROLE / "files" / "run.sh"), "the.cfg"], env=environment, stdout=subprocess.PIPE, text=True)

    def child(self, number: int) -> int:
        """Process id of the haproxy started as the first, second, …"""
        return int(until(lambda: self.started.read_text().split()[number - 1 : number], f"start number {number}")[0])


SOFT_STOP = ("trap 'echo soft; exit 0' USR1", "while :; do sleep 0.05; done")


def test_a_killed_haproxy_is_started_again(folder: pathlib.Path) -> None:
    supervised = Supervised(folder, *SOFT_STOP)
    for number in (1, 2):
        os.kill(supervised.child(number), signal.SIGKILL)
    supervised.child(3)
    supervised.process.send_signal(signal.SIGUSR1)
    output, _errors = supervised.process.communicate(timeout=60)
    assert supervised.process.returncode == 0
    assert output.count("HAProxy was killed (status 137) and is started again") == 2
    assert output.endswith("soft\n")


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_each_stop_is_a_soft_one(folder: pathlib.Path, number: signal.Signals) -> None:
    supervised = Supervised(folder, *SOFT_STOP)
    supervised.child(1)
    supervised.process.send_signal(number)
    output, _errors = supervised.process.communicate(timeout=60)
    assert (supervised.process.returncode, output) == (0, "soft\n")


def test_an_end_of_its_own_is_the_end(folder: pathlib.Path) -> None:
    supervised = Supervised(folder, 'test "$*" = "-db -f the.cfg" || exit 8', "exit 7")
    output, _errors = supervised.process.communicate(timeout=60)
    assert (supervised.process.returncode, output) == (7, "")
    assert len(supervised.started.read_text().split()) == 1


# What Ansible computes for the templates
PRIVATE: Object = {
    "__llm_gateway_config_name": "llm-gateway-0123456789",
    "__llm_gateway_keys_name": "llm-gateway-keys-01234567",
    "__llm_gateway_tls_name": "certificate",
    "__llm_gateway_version": "f" * 64,
    "__llm_gateway_check_name": "llm-gateway-check-ffffffffff",
    "__llm_gateway_files": {"haproxy.cfg": "a\nb\n"},
    "__llm_gateway_labels": {"app.kubernetes.io/name": "llm-gateway", "app.kubernetes.io/instance": "llm-gateway", "app.kubernetes.io/part-of": "homelab-gpu"},
    "__llm_gateway_selector": {"app.kubernetes.io/name": "llm-gateway", "app.kubernetes.io/instance": "llm-gateway"},
}


def objects(template: str, **options: t.Any) -> dict[str, Object]:
    documents = yaml.safe_load_all(render(template, role_options(**options), **PRIVATE))
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in documents}


def test_pods_come_before_they_go_and_end_in_their_own_time() -> None:
    deployment = objects("gateway.yml.j2", drain_seconds=100, pre_stop_seconds=7)["Deployment/llm-gateway"]["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert container["lifecycle"]["preStop"] == {"sleep": {"seconds": 7}}
    config = render("haproxy.cfg.j2", role_options(drain_seconds=100))
    assert "hard-stop-after 100s" in config
    assert pod["terminationGracePeriodSeconds"] > 100 + 7
    assert deployment["template"]["metadata"]["labels"].items() >= deployment["selector"]["matchLabels"].items()
    assert "preferredDuringSchedulingIgnoredDuringExecution" in pod["affinity"]["podAntiAffinity"]


def test_services_lead_to_the_ports() -> None:
    found = objects("gateway.yml.j2", node_port=30080, port=9000, metrics_port=9001, service_port=80)
    (container,) = found["Deployment/llm-gateway"]["spec"]["template"]["spec"]["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"http": 9000, "metrics": 9001}
    service = found["Service/llm-gateway"]["spec"]
    assert (service["type"], service["ports"]) == ("NodePort", [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080}])
    assert found["Service/llm-gateway-metrics"]["spec"]["ports"][0]["port"] == 9001
    assert objects("gateway.yml.j2")["Service/llm-gateway"]["spec"]["type"] == "ClusterIP"


@pytest.mark.parametrize("template", ["gateway.yml.j2", "check.yml.j2"])
def test_the_check_has_what_the_gateway_has(template: str) -> None:
    found = objects(template, api_keys=KEYS, tls_secret="certificate", priority_class="high", node_selector={"a": "b"}, tolerations=[{"operator": "Exists"}])
    (first, *_services) = found.values()
    pod = first["spec"] if first["kind"] == "Pod" else first["spec"]["template"]["spec"]
    assert {volume["name"] for volume in pod["volumes"]} == {"config", "run", "keys", "tls"}
    assert {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume} == {"llm-gateway-keys-01234567", "certificate"}
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {"config", "run", "keys", "tls"}
    assert (pod["priorityClassName"], pod["nodeSelector"], pod["tolerations"]) == ("high", {"a": "b"}, [{"operator": "Exists"}])
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not any(key in json.dumps(found) for key in KEYS)


def test_keys_are_in_a_secret_only() -> None:
    found = objects("config.yml.j2", api_keys=KEYS)
    assert found["ConfigMap/llm-gateway-0123456789"]["data"] == {"haproxy.cfg": "a\nb\n"}
    assert set(found) == {"Namespace/ml", "ConfigMap/llm-gateway-0123456789", "Secret/llm-gateway-keys-01234567"}
    assert set(objects("config.yml.j2")) == {"Namespace/ml", "ConfigMap/llm-gateway-0123456789"}


def test_every_variable_is_judged_or_used() -> None:
    own = (ROLE / "vars" / "main.yml").read_text(encoding="utf-8")
    used = own + "".join(path.read_text(encoding="utf-8") for name in ("tasks", "templates") for path in (ROLE / name).iterdir())
    for name in yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8")):
        assert re.search(rf"\b{name}\b", used), name


def test_haproxy_is_among_the_packages_of_the_checkout() -> None:
    packages = ROLE.parents[5] / "tools" / "packages.txt"
    if not packages.is_file():
        pytest.skip("not in the checkout")
    assert "haproxy" in packages.read_text(encoding="utf-8").split()
