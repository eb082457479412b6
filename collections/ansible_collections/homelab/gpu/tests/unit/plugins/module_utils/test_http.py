# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import http.client
import socket
import ssl
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils import _http
from ansible_collections.homelab.gpu.plugins.module_utils._http import Exchange, Request, Site, exchange, tls_context
from ansible_collections.homelab.gpu.tests.unit.loopback_server import (
    LoopbackServer,
    Turn,
    chunk,
    chunked,
    hangs_after,
    head,
    refusing_port,
    resets_after,
    says,
    trickles,
    unasked,
    whole,
)

GET = Request("GET", "/", {})
LONG = 30.0
# For servers that hang. Nothing is said of how long it takes
SHORT = 0.2


def ask(site: Site, request: Request = GET, *, timeout: float = LONG, complete: bytes | None = None, **options: t.Any) -> tuple[Exchange, bytes]:
    got = bytearray()

    def receive(block: bytes, _moment: float) -> bool:
        got.extend(block)
        return complete is not None and complete in got

    return exchange(site, request, receive, timeout, **options), bytes(got)


def ask_server(*turns: Turn, **options: t.Any) -> tuple[Exchange, bytes]:
    with LoopbackServer(*turns) as server:
        return ask(Site("127.0.0.1", server.port), **options)


@pytest.mark.parametrize(
    "answer",
    [
        whole(b"hello", X_LLM_Backend="gpu"),
        chunked(b"he", b"llo", X_LLM_Backend="gpu"),
        head(X_LLM_Backend="gpu") + b"hello",
        b"HTTP/1.1 100 Continue\r\n\r\n" + whole(b"hello", X_LLM_Backend="gpu"),
    ],
    ids=["length", "chunks", "until it hangs up", "continue"],
)
def test_whole_answers(answer: bytes) -> None:
    done, body = ask_server(says(answer))
    assert (done.failure, done.status, body, done.headers["x-llm-backend"]) == (None, 200, b"hello", "gpu")
    assert done.first_byte is not None
    assert done.started <= done.first_byte <= done.ended


def test_what_is_sent() -> None:
    with LoopbackServer(says(whole(b""))) as server:
        ask(Site("127.0.0.1", server.port), Request("POST", "/v1/x?y=z", {"X-Own": "1"}, b'{"a": 1}'))
        sent = server.requests[0]
    top, _blank, body = sent.partition(b"\r\n\r\n")
    assert top.startswith(b"POST /v1/x?y=z HTTP/1.1\r\n")
    assert {b"X-Own: 1", b"Connection: close", b"Content-Length: 8", f"Host: 127.0.0.1:{server.port}".encode()} <= set(top.split(b"\r\n"))
    assert body == b'{"a": 1}'


@pytest.mark.parametrize(
    ("turn", "outcome", "words"),
    [
        (says(), "cut", "hung up without an answer"),
        (resets_after(), "cut", "hung up without an answer"),
        (says(b"HTTP/1.1 200 OK\r\nContent-"), "cut", "the answer broke off"),
        (says(head(Content_Length=10) + b"hell"), "cut", "the answer broke off"),
        (says(head(Transfer_Encoding="chunked")), "cut", "the answer broke off"),
        (says(chunked(b"hell", end=False)), "cut", "the answer broke off"),
        (says(head(Transfer_Encoding="chunked") + b"10\r\nhell"), "cut", "the answer broke off"),
        (says(head(Transfer_Encoding="chunked") + b"zz\r\nhell"), "cut", "the answer broke off"),
        (resets_after(head(Content_Length=10) + b"hell"), "cut", "the answer broke off"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "not_http", "is not HTTP: 'SSH-2.0-OpenSSH_9.2"),
        (says(b"\x15\x03\x01\x00\x02\x02\x16"), "not_http", "is not HTTP"),
        (says(b"HTTP/1.1 abc Bad\r\n\r\n"), "not_http", "is not HTTP"),
        (says(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000), "not_http", "is not HTTP"),
        (says(head() + b"x" * (8 * 2**20 + 1)), "too_long", "longer than 8 MiB"),
    ],
)
def test_broken_answers(turn: Turn, outcome: str, words: str) -> None:
    done, _body = ask_server(turn)
    assert done.failure is not None
    assert (done.failure.outcome, words in str(done.failure)) == (outcome, True), str(done.failure)


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (hangs_after(), "connected, but no answer within 0.2 s"),
        (hangs_after(b"HTTP/1.1 200"), "a first byte came, but no whole header of an answer within"),
        (hangs_after(head(Content_Length=5) + b"hell"), "an answer began, but was not whole within"),
        (hangs_after(head(Transfer_Encoding="chunked") + chunk(b"hell")), "an answer began, but was not whole within"),
    ],
)
def test_servers_that_hang(turn: Turn, words: str) -> None:
    done, _body = ask_server(turn, timeout=SHORT)
    assert done.failure is not None
    assert done.failure.outcome == "timeout"
    assert words in str(done.failure)


class PulsingClock:
    """A second goes by each time somebody looks at it, and then the server sends one byte more."""

    def __init__(self, server: LoopbackServer) -> None:
        self._server = server
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        self._server.pulse.release()
        return self.now


@pytest.mark.parametrize(
    ("first", "byte", "words"),
    [
        (b"", b"H", "a first byte came, but no whole header"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"a", "a first byte came, but no whole header"),
        (head(Content_Length=10**6), b"a", "an answer began, but was not whole"),
        (head(Transfer_Encoding="chunked"), b"1\r\na\r\n", "an answer began, but was not whole"),
        (head(), b"a", "an answer began, but was not whole"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "a first byte came, but no whole header"),
    ],
)
def test_a_byte_a_second_is_bounded_too(first: bytes, byte: bytes, words: str) -> None:
    with LoopbackServer(trickles(first, byte)) as server:
        clock = PulsingClock(server)
        done, _body = ask(Site("127.0.0.1", server.port), timeout=60, clock=clock)
    assert done.failure is not None
    assert (done.failure.outcome, words in str(done.failure)) == ("timeout", True), str(done.failure)
    assert done.ended - done.started <= 63


@pytest.mark.parametrize("turn", [says(whole(b"hello")), says(head(Connection="close", Content_Length=10) + b"hell"), hangs_after(head())])
def test_nothing_is_left_to_the_garbage_collector(monkeypatch: pytest.MonkeyPatch, turn: Turn) -> None:
    """Python 3.13 complains on standard error if it has to close an answer after its connection."""
    made: list[http.client.HTTPResponse] = []

    class Noted(http.client.HTTPResponse):
        def __init__(self, *arguments: t.Any, **options: t.Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(http.client.HTTPConnection, "response_class", Noted)
    ask_server(turn, timeout=SHORT)
    assert [response.closed for response in made] == [True]


def test_an_answer_that_said_all_need_not_end() -> None:
    done, body = ask_server(hangs_after(head(Transfer_Encoding="chunked") + chunk(b"all [DONE]")), complete=b"[DONE]")
    assert (done.failure, body) == (None, b"all [DONE]")


def test_what_follows_when_all_was_said_does_not_count() -> None:
    done, _body = ask_server(resets_after(head(Transfer_Encoding="chunked") + chunk(b"[DONE]")), complete=b"[DONE]")
    assert done.failure is None


def test_an_answer_that_comes_before_all_was_sent() -> None:
    def turn(connection: t.Any) -> None:
        connection.sock.sendall(whole(b"too large", status="413 Content Too Large"))

    done, body = ask_server(turn, request=Request("POST", "/", {}, b"x" * 100))
    assert (done.status, body) == (413, b"too large")


# Connecting


def test_nobody_listens() -> None:
    done, _body = ask(Site("127.0.0.1", refusing_port()))
    assert done.failure is not None
    assert (done.failure.outcome, done.status, done.first_byte) == ("refused", None, None)
    assert "Connection refused" in str(done.failure)


def test_connection_that_is_never_accepted() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _number in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        done, _body = ask(Site("127.0.0.1", listener.getsockname()[1]), timeout=SHORT)
        for sock in waiting:
            sock.close()
    assert done.failure is not None
    assert (done.failure.outcome, str(done.failure)) == ("timeout", "no connection within 0.2 s")


Addresses = list[tuple[t.Any, ...]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, t.Callable[[], Addresses]]:
    """What names are, in place of the resolver."""
    known: dict[str, t.Callable[[], Addresses]] = {}
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *arguments: t.Any, **options: t.Any) -> t.Any:
        if host not in known:
            return real(host, port, *arguments, **options)
        if options.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known[host]()

    monkeypatch.setattr(_http.socket, "getaddrinfo", getaddrinfo)
    return known


def tcp(address: str, port: int) -> tuple[t.Any, ...]:
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)


def test_name_with_two_addresses_of_which_one_answers(names: dict[str, t.Callable[[], Addresses]]) -> None:
    with LoopbackServer(says(whole(b"hello"))) as server:
        names["llm"] = lambda: [tcp("127.0.0.1", refusing_port()), tcp("127.0.0.1", server.port)]
        done, body = ask(Site("llm", server.port))
    assert (done.failure, body) == (None, b"hello")


def test_name_that_is_unknown(names: dict[str, t.Callable[[], Addresses]]) -> None:
    def unknown() -> Addresses:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    names["llm"] = unknown
    done, _body = ask(Site("llm", 80))
    assert done.failure is not None
    assert (done.failure.outcome, str(done.failure)) == ("unreachable", "the name llm has no address: Name or service not known")


def test_name_that_cannot_be_one() -> None:
    done, _body = ask(Site("a" * 70 + ".example", 80))
    assert done.failure is not None
    assert done.failure.outcome == "unreachable"


def test_lookup_that_hangs_is_bounded_and_shared(names: dict[str, t.Callable[[], Addresses]]) -> None:
    released, asked = threading.Event(), []

    def hanging() -> Addresses:
        asked.append(threading.current_thread())
        released.wait()
        return []

    names["hanging"] = hanging
    outcomes = []
    askers = [threading.Thread(target=lambda: outcomes.append(ask(Site("hanging", 80), timeout=SHORT)[0].failure)) for _number in range(5)]
    for thread in askers:
        thread.start()
    for thread in askers:
        thread.join()
    released.set()
    assert [str(failure) for failure in outcomes] == ["no connection within 0.2 s"] * 5
    assert len(asked) == 1
    asked[0].join()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For 127.0.0.1, signed by itself; with its key."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_tls(certificate: Path) -> None:
    with LoopbackServer(says(whole(b"hello")), tls=serving(certificate)) as server:
        trusting, body = ask(Site("127.0.0.1", server.port, tls_context(True, str(certificate))))
        careless, same = ask(Site("127.0.0.1", server.port, tls_context(False, None)))
        strict, nothing = ask(Site("127.0.0.1", server.port, tls_context(True, None)))
    assert (trusting.failure, body, careless.failure, same, nothing) == (None, b"hello", None, b"hello", b"")
    assert strict.failure is not None
    assert strict.failure.outcome == "tls_error"
    assert "is not trusted: self-signed certificate; set ca_path" in str(strict.failure).replace("self signed", "self-signed")


def test_tls_with_a_server_that_has_none() -> None:
    with LoopbackServer(unasked(hangs_after(b"HTTP/1.1 400 Bad Request\r\n\r\n"))) as server:
        done, _body = ask(Site("127.0.0.1", server.port, tls_context(False, None)))
    assert done.failure is not None
    assert done.failure.outcome == "tls_error"
    assert str(done.failure).endswith("; is it plain http?")


def test_tls_with_a_server_that_says_no_hello() -> None:
    with LoopbackServer(unasked(hangs_after())) as server:
        done, _body = ask(Site("127.0.0.1", server.port, tls_context(False, None)), timeout=SHORT)
    assert done.failure is not None
    assert (done.failure.outcome, str(done.failure)) == ("timeout", "no connection within 0.2 s")
