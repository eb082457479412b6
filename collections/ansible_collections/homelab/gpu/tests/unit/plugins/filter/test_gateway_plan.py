# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.gateway_plan import FilterModule, gateway_plan
from ansible_collections.homelab.gpu.tests.unit.live_gateway import role_options

Object = dict[str, t.Any]

GPU: Object = {"name": "gpu", "service": "vllm", "port": 8000}
CPU: Object = {"name": "cpu", "service": "ollama", "port": 11434, "backup": True}
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"


def planned(backends: t.Any = None, **options: t.Any) -> Object:
    return gateway_plan([GPU, CPU] if backends is None else backends, role_options(**options))


def test_the_filter_has_its_name() -> None:
    assert FilterModule().filters() == {"gateway_plan": gateway_plan}


def test_what_is_left_out_follows_from_the_rest() -> None:
    gpu, cpu = planned()["backends"]
    assert (gpu["address"], gpu["check_path"], gpu["metrics_path"], gpu["probe"], gpu["ollama_api"]) == (
        "vllm.ml.svc.cluster.local",
        "/health",
        "/metrics",
        True,
        False,
    )
    assert (cpu["address"], cpu["check_path"], cpu["metrics_path"], cpu["probe"], cpu["ollama_api"]) == (
        "ollama.ml.svc.cluster.local",
        "/api/version",
        "",
        False,
        True,
    )


def test_what_is_said_counts() -> None:
    (backend,) = planned([{**GPU, "namespace": "other", "port": "11434", "ollama_api": False, "check_path": "/ping", "probe": False}])["backends"]
    assert (backend["address"], backend["port"], backend["ollama_api"], backend["check_path"], backend["probe"]) == (
        "vllm.other.svc.cluster.local",
        11434,
        False,
        "/ping",
        False,
    )


@pytest.mark.parametrize(
    ("host", "address", "resolved"),
    [("192.0.2.7", "192.0.2.7", False), ("fd00::7", "[fd00::7]", False), ("ollama.example.com", "ollama.example.com", True)],
)
def test_a_host_outside_the_cluster(host: str, address: str, resolved: bool) -> None:
    (backend,) = planned([{"name": "far", "host": host, "port": 1}])["backends"]
    assert (backend["address"], backend["resolved"]) == (address, resolved)


def test_the_plan_tells_what_clients_need() -> None:
    plan = planned(api_keys=["k" * 16], tls_certificate=CERTIFICATE, tls_key=KEY)
    assert plan["needs_key"]
    assert plan["tls"]
    plan = planned()
    assert not plan["needs_key"]
    assert not plan["tls"]
    assert planned(api_keys_secret="keys")["needs_key"]
    assert planned(tls_secret="cert", tls=True)["tls"]


@pytest.mark.parametrize(
    ("backends", "message"),
    [
        ([], r"llm_gateway_backends is \[\]; it has to be a list of backends"),
        ({"name": "gpu"}, "it has to be a list of backends"),
        (["gpu"], r"llm_gateway_backends\[0\] is 'gpu'; it has to be a mapping"),
        ([{**GPU, "weight": 3}], r"llm_gateway_backends\[0\].weight is not known; a backend has name, service"),
        ([{**GPU, "name": "GPU 1"}], r"\[0\].name is 'GPU 1'; it has to be 1 to 40 small letters"),
        ([{**GPU, "name": "g" * 41}], r"\[0\].name is 'g+'; it has to be 1 to 40"),
        ([{"service": "vllm", "port": 8000}], r"\[0\].name is ''"),
        ([GPU, {**CPU, "name": "gpu"}], r"llm_gateway_backends\[1\].name: gpu is given twice"),
        ([GPU, {**GPU, "name": "two"}], r"llm_gateway_backends\[1\]: vllm.ml.svc.cluster.local:8000 is given twice; a backend that stands in for itself"),
        ([{"name": "gpu", "port": 1}], "has neither service and host"),
        ([{**GPU, "host": "192.0.2.1"}], "has both service and host"),
        ([{**GPU, "service": "vLLM"}], r"\[0\].service is 'vLLM'; it has to be a name of small letters"),
        ([{**GPU, "namespace": "a.b"}], r"\[0\].namespace is 'a.b'"),
        ([{"name": "far", "host": "http://x/", "port": 1}], r"\[0\].host is 'http://x/'; it has to be an address or a host name without scheme"),
        ([{"name": "far", "host": "x", "namespace": "ml", "port": 1}], r"\[0\].namespace is 'ml', but .*host is outside"),
        ([{**GPU, "port": 70000}], r"\[0\].port is 70000; it has to be 1 to 65535"),
        ([{**GPU, "port": "http"}], r"\[0\].port is 'http'; it has to be a whole number"),
        ([{**GPU, "port": True}], r"\[0\].port is True; it has to be a whole number"),
        ([{**GPU, "backup": "yes"}], r"\[0\].backup is 'yes'; it has to be true or false"),
        ([{**GPU, "slots": 65}], r"\[0\].slots is 65; it has to be 1 to 64"),
        ([{**GPU, "max_requests": -1}], r"\[0\].max_requests is -1"),
        ([{**GPU, "check_path": "health"}], r"\[0\].check_path is 'health'; it has to begin with /"),
        ([{**GPU, "check_path": "/a b"}], r"\[0\].check_path is '/a b'"),
        ([{**GPU, "probe_path": "/v1/x,y"}], r"\[0\].probe_path is '/v1/x,y'"),
        ([{**GPU, "metrics_path": "/m?x"}], r"\[0\].metrics_path is '/m\?x'"),
        ([CPU, {**GPU, "backup": True}], "cpu, gpu: all are backups; leave backup out"),
    ],
)
def test_backends_that_cannot_be_right(backends: t.Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        planned(backends)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"node_port": 8080}, "llm_gateway_node_port is 8080; it has to be 30000 to 32767, or 0 for none"),
        ({"port": 80}, "llm_gateway_port is 80; it has to be 1024 to 65535"),
        ({"metrics_port": 8080}, "llm_gateway_metrics_port is 8080, as is llm_gateway_port"),
        ({"replicas": 0}, "llm_gateway_replicas is 0"),
        ({"paths": []}, "llm_gateway_paths is empty"),
        ({"paths": ["v1"]}, r"llm_gateway_paths\[0\] is 'v1'; it has to begin with /"),
        ({"retry_statuses": [200]}, r"llm_gateway_retry_statuses\[0\] is 200; it has to be one of 401, "),
        ({"check_interval_seconds": 0}, "llm_gateway_check_interval_seconds is 0; it has to be 0.05 to 60"),
        ({"probe_stall_seconds": "3"}, "llm_gateway_probe_stall_seconds is '3'"),
        ({"drain_seconds": 0}, "llm_gateway_drain_seconds is 0; it has to be 1 to 86400"),
        ({"api_keys": ["short"]}, r"llm_gateway_api_keys\[0\] is too short; it has to be text of 16 characters or more"),
        ({"api_keys": ["with a blank in it"]}, r"llm_gateway_api_keys\[0\] has a blank"),
        ({"api_keys": ["#" * 16]}, "begins with #"),
        ({"api_keys": ["k" * 16, "k" * 16]}, "llm_gateway_api_keys has the same key twice"),
        ({"api_keys": ["k" * 16], "api_keys_secret": "keys"}, "are both given"),
        ({"api_keys_secret": "My Keys"}, "llm_gateway_api_keys_secret is 'My Keys'"),
        ({"tls": True}, "llm_gateway_tls is true without a certificate"),
        ({"tls_certificate": CERTIFICATE}, "llm_gateway_tls_key is empty, but llm_gateway_tls_certificate is given"),
        ({"tls_key": KEY}, "llm_gateway_tls_certificate is empty, but llm_gateway_tls_key is given"),
        ({"tls_certificate": "/etc/cert.pem", "tls_key": KEY}, "llm_gateway_tls_certificate is not a certificate in PEM"),
        ({"tls_certificate": CERTIFICATE, "tls_key": "-----BEGIN ENCRYPTED PRIVATE KEY-----"}, "without a passphrase"),
        ({"tls_certificate": CERTIFICATE, "tls_key": "secret"}, "llm_gateway_tls_key is not a private key without a passphrase"),
        ({"tls_secret": "a", "tls_certificate": CERTIFICATE, "tls_key": KEY}, "llm_gateway_tls_secret and llm_gateway_tls_certificate are both given"),
        ({"resources": {"limits": {"memory": "much"}}}, "llm_gateway_resources.limits.memory is 'much'; it has to be a quantity"),
        ({"max_connections": 10000}, r"limits.memory is 512Mi, but 10000 connections .* two buffers of 147456 bytes .* can take 2877Mi"),
    ],
)
def test_options_that_cannot_be_right(options: Object, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        planned(**options)


def test_no_message_has_a_key_in_it() -> None:
    for options in ({"api_keys": ["s3cret"]}, {"api_keys": ["s3cret s3cret s3cret"]}, {"tls_certificate": CERTIFICATE, "tls_key": "s3cret"}):
        with pytest.raises(AnsibleFilterError) as caught:
            planned(**options)
        assert "s3cret" not in str(caught.value)
