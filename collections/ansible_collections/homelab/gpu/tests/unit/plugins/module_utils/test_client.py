# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import pathlib
import pkgutil
import socket
import subprocess
import sys
import time
import typing as t

import pytest
import urllib3

from ansible_collections.homelab.gpu.plugins import modules
from ansible_collections.homelab.gpu.plugins.module_utils._client import Client, KindNotServed, pause_before_retry
from ansible_collections.homelab.gpu.plugins.module_utils._connection import connection_settings, open_client
from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, ClientConfigError, DeadlinePassed, InputError, Unreachable, WrongCluster
from ansible_collections.homelab.gpu.plugins.module_utils._resources import BUILTIN
from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi, Fault, Kind

NODES = "/api/v1/nodes"


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def client(api: FakeApi, pauses: list[float]) -> Client:
    made = open_client(connection_settings({"kubeconfig": api.kubeconfig()}, {}))
    made._sleep = pauses.append
    return made


# Which cluster is meant


def test_options_decide_alone(tmp_path: pathlib.Path) -> None:
    environ = {"K8S_AUTH_HOST": "https://other:6443", "K8S_AUTH_API_KEY": "secret", "K8S_AUTH_CONTEXT": "other", "KUBECONFIG": str(tmp_path)}
    settings = connection_settings({"kubeconfig": "/mine"}, environ)
    assert (settings["kubeconfig"], settings["host"], settings["api_key"], settings["context"]) == ("/mine", None, None, None)


def test_environment_fills_in_when_no_cluster_is_named() -> None:
    settings = connection_settings({"context": "mine"}, {"K8S_AUTH_HOST": "https://a:6443", "K8S_AUTH_VERIFY_SSL": "no", "K8S_AUTH_CONTEXT": "other"})
    assert (settings["host"], settings["validate_certs"], settings["context"]) == ("https://a:6443", False, "mine")


def test_every_option_has_its_variable(tmp_path: pathlib.Path) -> None:
    file = str(tmp_path / "file")
    pathlib.Path(file).touch()
    expected = {
        "kubeconfig": ("K8S_AUTH_KUBECONFIG", "/env"),
        "context": ("K8S_AUTH_CONTEXT", "lab"),
        "host": ("K8S_AUTH_HOST", "https://a:6443"),
        "api_key": ("K8S_AUTH_API_KEY", "secret"),
        "ca_cert": ("K8S_AUTH_SSL_CA_CERT", file),
        "client_cert": ("K8S_AUTH_CERT_FILE", file),
        "client_key": ("K8S_AUTH_KEY_FILE", file),
        "proxy": ("K8S_AUTH_PROXY", "http://proxy:3128"),
    }
    settings = connection_settings({}, {**dict(expected.values()), "K8S_AUTH_VERIFY_SSL": "false"})
    assert settings == {**{option: value for option, (_variable, value) in expected.items()}, "validate_certs": False, "in_cluster": None}


def test_default_kubeconfig_comes_last(tmp_path: pathlib.Path) -> None:
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").touch()
    home = {"HOME": str(tmp_path)}
    assert connection_settings({}, home)["kubeconfig"] == str(tmp_path / ".kube" / "config")
    assert connection_settings({}, {**home, "K8S_AUTH_KUBECONFIG": "/env"})["kubeconfig"] == "/env"


@pytest.mark.parametrize(
    ("params", "environ", "words"),
    [
        ({}, {"HOME": "/nonexistent"}, "which cluster is meant? Set kubeconfig"),
        # A pod's own service account is never used silently
        ({}, {"HOME": "/nonexistent", "KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}, "in_cluster=true"),
        ({"in_cluster": True, "kubeconfig": "/x"}, {}, "in_cluster=true excludes kubeconfig"),
        ({"host": "k3s:6443"}, {}, "host is 'k3s:6443'; write it as https://"),
        ({"host": "https://a", "client_cert": "/dev/null"}, {}, "client_key is missing"),
        ({"host": "https://a", "ca_cert": "/nonexistent/ca.crt"}, {}, "ca_cert: there is no file /nonexistent/ca.crt"),
        ({}, {"K8S_AUTH_HOST": "https://a", "K8S_AUTH_VERIFY_SSL": "maybe"}, "K8S_AUTH_VERIFY_SSL is 'maybe'; set it to true or false"),
    ],
)
def test_settings_that_cannot_be_right(params: dict[str, t.Any], environ: dict[str, str], words: str) -> None:
    with pytest.raises(ClientConfigError) as caught:
        connection_settings(params, environ)
    assert words in str(caught.value)


def kubeconfig_file(folder: pathlib.Path, content: t.Any) -> str:
    path = folder / "kubeconfig"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def broken(**changes: t.Any) -> dict[str, t.Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "a", "user": {}}],
        **changes,
    }


@pytest.mark.parametrize(
    ("content", "context", "words"),
    [
        ("", None, "cannot be used"),
        ("{", None, "cannot be used"),
        ("no mapping", None, "/kubeconfig cannot be used, check that it is a complete kubeconfig"),
        (broken(), "b", "with context b cannot be used"),
        (broken(clusters=[]), None, "cannot be used"),
        (
            broken(
                users=[
                    {
                        "name": "a",
                        "user": {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/nonexistent/login", "interactiveMode": "Never"}},
                    }
                ]
            ),
            None,
            "its exec credential plugin gave no credentials",
        ),
    ],
)
def test_kubeconfigs_that_cannot_be_used(tmp_path: pathlib.Path, content: t.Any, context: str | None, words: str) -> None:
    with pytest.raises(ClientConfigError) as caught:
        open_client(connection_settings({"kubeconfig": kubeconfig_file(tmp_path, content), "context": context}, {}))
    assert words in str(caught.value)


def test_missing_kubeconfig_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ClientConfigError, match="there is no file"):
        open_client(connection_settings({"kubeconfig": str(tmp_path / "none")}, {}))


def test_kubeconfig_is_read_and_not_written(api: FakeApi, tmp_path: pathlib.Path) -> None:
    path = kubeconfig_file(tmp_path, api.kubeconfig("from-file"))
    os.utime(path, (1, 1))
    open_client(connection_settings({"kubeconfig": path}, {})).request("GET", NODES)
    assert api.headers[0]["authorization"] == "Bearer from-file"
    assert os.stat(path).st_mtime == 1


@pytest.mark.parametrize("with_kubeconfig", [True, False])
def test_api_key_wins(api: FakeApi, with_kubeconfig: bool) -> None:
    params: dict[str, t.Any] = {"api_key": "explicit"}
    params.update({"kubeconfig": api.kubeconfig("other")} if with_kubeconfig else {"host": api.url})
    api.token = "explicit"
    open_client(connection_settings(params, {})).request("GET", NODES)


def test_explicit_kubeconfig_wins_over_a_service_account(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    assert open_client(connection_settings({"kubeconfig": api.kubeconfig()}, dict(os.environ))).server == api.url


PLAIN = """
import importlib, json, sys
sys.modules["kubernetes"] = None
ours = "ansible_collections.homelab.gpu.plugins"
for name in sys.argv[1:]:
    importlib.import_module(f"{ours}.modules.{name}")
connection = importlib.import_module(f"{ours}.module_utils._connection")
client = connection.open_client(connection.connection_settings({"kubeconfig": json.load(sys.stdin)}, {}))
print(client.request("GET", "/version")["gitVersion"])
"""


def test_plain_kubeconfigs_need_no_kubernetes_package(api: FakeApi) -> None:
    names = sorted(module.name for module in pkgutil.iter_modules(modules.__path__) if module.name.startswith("kube_"))
    assert "kube_apply" in names
    command = [sys.executable, "-c", PLAIN, *names]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environ, input=json.dumps(api.kubeconfig()), capture_output=True, text=True, check=False)
    assert done.stdout == "v1.34.1+k3s1\n", done.stderr


@pytest.mark.parametrize("given", ["option", "kubeconfig", "environment", "none"])
def test_proxies(api: FakeApi, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """The fake API server is the proxy of a cluster whose name only it knows."""
    config = api.kubeconfig()
    config["clusters"][0]["cluster"] = {"server": "http://cluster.invalid:6443", **({"proxy-url": api.url} if given == "kubeconfig" else {})}
    for name in ("HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    # An option counts for more than what stands elsewhere
    if given in ("option", "environment", "none"):
        monkeypatch.setenv("http_proxy", api.url if given == "environment" else "http://127.0.0.1:9")
    if given == "none":
        monkeypatch.setenv("no_proxy", "cluster.invalid")
    client = open_client(connection_settings({"kubeconfig": config, "proxy": api.url if given == "option" else None}, {}))
    assert isinstance(client._transport, urllib3.ProxyManager) is (given != "none")
    if given != "none":
        client.request("GET", NODES, retry=False)
        assert api.requests == [("GET", f"http://cluster.invalid:6443{NODES}")]


# Requests


def test_many_requests_use_one_connection(api: FakeApi, client: Client) -> None:
    for _turn in range(20):
        client.request("GET", NODES)
    assert (len(api.requests), api.connections) == (20, 1)


def test_connections_notice_a_server_that_vanished(api: FakeApi, client: Client) -> None:
    connection = client._transport.connection_from_url(api.url)._get_conn()
    connection.connect()
    assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 5
    connection.close()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, reason="TooManyRequests", retry_after=3),
        Fault(status=500, reason="InternalError"),
        Fault(status=503, reason="ServiceUnavailable"),
        Fault(drop=True),
    ],
    ids=["429", "500", "503", "dropped"],
)
def test_transient_failures_are_retried(api: FakeApi, client: Client, pauses: list[float], fault: Fault) -> None:
    fault.times = 2
    api.faults.append(fault)
    assert client.request("GET", NODES)["kind"] == "NodeList"
    assert pauses == ([3.0, 3.0] if fault.retry_after else [0.1, 0.2])


def test_retries_end(api: FakeApi, client: Client, pauses: list[float]) -> None:
    api.faults.append(Fault(status=503, times=99))
    with pytest.raises(ApiError, match="503"):
        client.request("GET", NODES)
    assert len(api.requests) == 5
    assert len(pauses) == 4


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 422])
def test_final_answers_are_not_retried(api: FakeApi, client: Client, code: int) -> None:
    api.faults.append(Fault(status=code, times=99))
    with pytest.raises(ApiError) as caught:
        client.request("GET", NODES)
    assert (caught.value.status, len(api.requests)) == (code, 1)


def test_callers_with_a_deadline_see_failures_at_once(api: FakeApi, client: Client, pauses: list[float]) -> None:
    api.faults.append(Fault(status=503))
    with pytest.raises(ApiError):
        client.request("GET", NODES, retry=False)
    assert pauses == []


@pytest.mark.parametrize(
    ("fault", "seconds", "count"),
    [(Fault(delay=0.3, times=9), 0.1, 1), (Fault(status=503, retry_after=5, times=9), 1.0, 1), (Fault(), -1.0, 0)],
    ids=["silent", "asks for a pause", "passed already"],
)
def test_a_deadline_bounds_all_attempts_together(api: FakeApi, client: Client, pauses: list[float], fault: Fault, seconds: float, count: int) -> None:
    api.faults.append(fault)
    for ask in (client.request, lambda _method, _path, **options: client.list_all(BUILTIN["Node"], **options)):
        api.requests.clear()
        with pytest.raises(DeadlinePassed):
            ask("GET", NODES, deadline=time.monotonic() + seconds)
        assert (api.count(), pauses) == (count, [])


def test_with_time_left_failures_are_retried(api: FakeApi, client: Client, pauses: list[float]) -> None:
    api.faults.append(Fault(status=503, times=2))
    client.request("GET", NODES, deadline=time.monotonic() + 60)
    assert len(pauses) == 2
    api.faults.append(Fault(status=503, times=9))
    with pytest.raises(ApiError):
        client.request("GET", NODES, deadline=time.monotonic() + 60)


def test_server_decides_the_pause_within_reason() -> None:
    assert pause_before_retry(ApiError(429, "GET", "/", retry_after=4.0), 1) == 4.0
    assert pause_before_retry(ApiError(429, "GET", "/", retry_after=0.0), 1) == 0.0
    assert pause_before_retry(ApiError(429, "GET", "/", retry_after=3600.0), 1) == 10.0


def test_unreachable_server_is_named(api: FakeApi, client: Client) -> None:
    url = api.url
    api.stop()
    with pytest.raises(Unreachable) as caught:
        client.request("GET", NODES)
    assert f"cannot reach the API server at {url}" in str(caught.value)
    assert "Connection refused" in str(caught.value)


def test_slow_server_is_given_up(api: FakeApi, client: Client) -> None:
    api.faults.append(Fault(delay=0.2))
    with pytest.raises(Unreachable, match="timed out"):
        client.request("GET", NODES, timeout=0.02, retry=False)


def test_lists_are_read_to_the_end(api: FakeApi, client: Client) -> None:
    for name in "abcde":
        api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    api.page_size = 2
    page = client.list_all(BUILTIN["Node"])
    assert [item["metadata"]["name"] for item in page.items] == list("abcde")
    assert {(item["apiVersion"], item["kind"]) for item in page.items} == {("v1", "Node")}
    assert len(api.requests) == 3


# Discovery


def test_common_kinds_need_no_discovery(api: FakeApi, client: Client) -> None:
    assert client.resource("Deployment").path("default", "web") == "/apis/apps/v1/namespaces/default/deployments/web"
    assert client.resource("Node", "v1").path("ignored", "a") == "/api/v1/nodes/a"
    assert api.requests == []


@pytest.mark.parametrize("api_version", ["example.com/v1", None])
def test_other_kinds_are_discovered_once(api: FakeApi, client: Client, api_version: str | None) -> None:
    api.kinds.append(Kind("example.com/v1", "Widget", "widgets"))
    for _turn in range(3):
        assert client.resource("Widget", api_version).path("a", "b") == "/apis/example.com/v1/namespaces/a/widgets/b"
    assert len(api.requests) == (1 if api_version else 2)


@pytest.mark.parametrize("api_version", ["example.com/v1", "v1", None])
def test_unknown_kinds_are_named(api: FakeApi, client: Client, api_version: str | None) -> None:
    with pytest.raises(KindNotServed, match="does not serve kind Widget"):
        client.resource("Widget", api_version)


def test_ambiguous_kinds_ask_for_the_group(api: FakeApi, client: Client) -> None:
    api.kinds += [Kind("a.example.com/v1", "Widget", "widgets"), Kind("b.example.com/v1", "Widget", "widgets")]
    with pytest.raises(InputError, match=r"a.example.com/v1, b.example.com/v1\); set api_version"):
        client.resource("Widget")
    assert client.resource("Widget", "b.example.com/v1").api_version == "b.example.com/v1"


def test_preferred_version_is_taken(api: FakeApi, client: Client) -> None:
    api.kinds += [Kind("example.com/v2", "Widget", "widgets"), Kind("example.com/v1", "Widget", "widgets")]
    assert client.resource("Widget").api_version == "example.com/v2"


# The guard


def test_right_cluster_is_asked_once(api: FakeApi, client: Client) -> None:
    client.require_cluster(api.cluster_uid)
    client.require_cluster(api.cluster_uid)
    client.require_cluster(None)
    assert api.requests == [("GET", "/api/v1/namespaces/kube-system")]


def test_wrong_cluster_is_refused(api: FakeApi, client: Client) -> None:
    with pytest.raises(WrongCluster) as caught:
        client.require_cluster("another")
    assert api.cluster_uid in str(caught.value)
    assert "cluster_uid asks for another" in str(caught.value)
    assert "Nothing was changed" in str(caught.value)
