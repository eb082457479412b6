# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the package websocket-client is told: nothing of what was decided for all requests may be left to it."""

from __future__ import annotations

import ssl
import sys
import typing as t

import pytest
import websocket

from ansible_collections.homelab.gpu.plugins.module_utils._connection import connection_settings, open_client
from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, ClientConfigError, KubeError, Unreachable
from ansible_collections.homelab.gpu.plugins.module_utils._websocket import TimedOut

Object = dict[str, t.Any]


class Asked(Exception):
    pass


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Object:
    """What the package was told last; it opens nothing."""
    seen: Object = {}

    def create_connection(url: str, **options: t.Any) -> t.NoReturn:
        seen.update(options, url=url)
        raise Asked

    monkeypatch.setattr(websocket, "create_connection", create_connection)
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return seen


def ask(**cluster: t.Any) -> None:
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://k3s:6443/prefix/", **cluster}}],
        "users": [{"name": "c", "user": {"token": "secret"}}],
    }
    client = open_client(connection_settings({"kubeconfig": config}, {}))
    client.websocket("/api", [("a", "b c"), ("a", "d")], subprotocols=["x", "y"], timeout=3)


def test_the_request(told: Object) -> None:
    with pytest.raises(Asked):
        ask()
    assert told["url"] == "wss://k3s:6443/prefix/api?a=b+c&a=d"
    assert told["header"] == ["User-Agent: homelab.gpu", "authorization: Bearer secret"]
    assert (told["subprotocols"], told["timeout"], told["redirect_limit"]) == (["x", "y"], 3, 0)


@pytest.mark.parametrize(
    ("cluster", "mode", "name"),
    [
        ({}, ssl.CERT_REQUIRED, None),
        ({"insecure-skip-tls-verify": True}, ssl.CERT_NONE, None),
        ({"tls-server-name": "kubernetes"}, ssl.CERT_REQUIRED, "kubernetes"),
    ],
    ids=["verified", "not verified", "by another name"],
)
def test_tls(told: Object, cluster: Object, mode: ssl.VerifyMode, name: str | None) -> None:
    with pytest.raises(Asked):
        ask(**cluster)
    options = told["sslopt"]
    assert (options["cert_reqs"], options["check_hostname"], options.get("server_hostname")) == (mode, mode == ssl.CERT_REQUIRED, name)
    assert (options["context"].verify_mode, options["context"].check_hostname) == (mode, mode == ssl.CERT_REQUIRED)


def proxy_of(told: Object) -> Object:
    return {name.removeprefix("http_"): value for name, value in told.items() if "proxy" in name}


def test_no_proxy(told: Object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "k3s")
    with pytest.raises(Asked):
        ask()
    assert proxy_of(told) == {"no_proxy": ["*"]}


@pytest.mark.parametrize(
    ("url", "host", "port", "auth"),
    [
        ("http://proxy:3128", "proxy", 3128, None),
        ("http://proxy", "proxy", 80, None),
        ("http://me:a%40b@proxy:3128", "proxy", 3128, ("me", "a@b")),
        ("http://me@proxy:3128", "proxy", 3128, ("me", "")),
    ],
)
@pytest.mark.parametrize("from_environment", [False, True])
def test_a_proxy(told: Object, monkeypatch: pytest.MonkeyPatch, url: str, host: str, port: int, auth: tuple[str, str] | None, from_environment: bool) -> None:
    if from_environment:
        monkeypatch.setenv("https_proxy", url)
    with pytest.raises(Asked):
        ask(**({} if from_environment else {"proxy-url": url}))
    proxy = proxy_of(told)
    assert (proxy["proxy_host"], proxy["proxy_port"], proxy["proxy_auth"], proxy["proxy_type"]) == (host, port, auth, "http")
    assert proxy["no_proxy"] not in ([], None), "the package would look into the environment"


def test_a_proxy_that_cannot_be_used(told: Object) -> None:
    with pytest.raises(ClientConfigError) as caught:
        ask(**{"proxy-url": "https://me:secret@proxy:3128"})
    assert str(caught.value) == "proxy is https://proxy, which cannot carry the connection of a command; use one that is reached by http://"
    assert told == {}


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websocket", None)
    with pytest.raises(ClientConfigError, match="the Python package websocket-client cannot be imported"):
        ask()


def bad_status(status: int, body: bytes | None, headers: dict[str, str] | None = None) -> Exception:
    return t.cast("Exception", websocket.WebSocketBadStatusException("said", status, "Words", headers or {}, body))


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (bad_status(404, b'{"kind":"Status","reason":"NotFound","message":"pods \\"p\\" not found"}'), ApiError, 'GET /api: 404 NotFound: pods "p" not found'),
        (bad_status(502, b"<html>"), ApiError, "GET /api: 502 <html>"),
        (bad_status(403, None), ApiError, "GET /api: 403 Words"),
        (websocket.WebSocketTimeoutException("late"), TimedOut, "the API server at https://k3s:6443/prefix did not answer in time"),
        (websocket.WebSocketConnectionClosedException("gone"), Unreachable, "the connection to the API server at https://k3s:6443/prefix was cut"),
        (websocket.WebSocketProxyException("no"), Unreachable, "the WebSocket to the API server at https://k3s:6443/prefix failed: no"),
        (
            ConnectionRefusedError(111, "Connection refused"),
            Unreachable,
            "the connection to the API server at https://k3s:6443/prefix broke: Connection refused",
        ),
        (ssl.SSLCertVerificationError("self-signed certificate"), ClientConfigError, "the certificate of https://k3s:6443/prefix is not trusted: "),
    ],
)
def test_failures(monkeypatch: pytest.MonkeyPatch, raised: Exception, kind: type[KubeError], words: str) -> None:
    def create_connection(*_arguments: t.Any, **_options: t.Any) -> t.NoReturn:
        raise raised

    monkeypatch.setattr(websocket, "create_connection", create_connection)
    with pytest.raises(kind) as caught:
        ask()
    assert type(caught.value) is kind
    assert str(caught.value).startswith(words)


def test_how_long_the_server_wants_to_be_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_connection(*_arguments: t.Any, **_options: t.Any) -> t.NoReturn:
        raise bad_status(429, b"", {"retry-after": "7"})

    monkeypatch.setattr(websocket, "create_connection", create_connection)
    with pytest.raises(ApiError) as caught:
        ask()
    assert caught.value.retry_after == 7
