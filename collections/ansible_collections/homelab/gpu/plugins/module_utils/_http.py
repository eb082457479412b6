# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# One HTTP request on a connection of its own, under one deadline for all of it: the name, the connection, TLS, and each byte of the answer. A timeout of
# a socket alone begins anew with every byte that trickles in. Standard library only: this runs on hosts.

from __future__ import annotations

import contextlib
import dataclasses
import errno
import http.client
import io
import socket
import ssl
import threading
import time
import typing as t

__all__ = ["DEADLINE_PASSED", "Exchange", "Failure", "Request", "Site", "exchange", "tls_context"]

_BLOCK_BYTES = 65536
_LONGEST_BODY_BYTES = 8 * 1024 * 1024
# How long the formal end of an answer is waited for that has already said all
_TAIL_SECONDS = 0.25
# A lookup that hangs is not asked after this time whether it has an answer; a new one is begun
_SHARED_LOOKUP_SECONDS = 1.0
_NO_ONE_LISTENS = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED})

Clock = t.Callable[[], float]
Receive = t.Callable[[bytes, float], bool]
"""Given each block of the body with the moment at which it came; true once the answer has said all."""

DEADLINE_PASSED: t.Final = "timeout"


class Failure(Exception):
    """No whole answer; C(outcome) names the kind."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


@dataclasses.dataclass(frozen=True)
class Site:
    """Where to connect."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    @property
    def name(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclasses.dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: t.Mapping[str, str]
    body: bytes | None = None


@dataclasses.dataclass
class Exchange:
    """What became of a request; moments are by the clock that was given."""

    started: float
    ended: float = 0.0
    first_byte: float | None = None
    status: int | None = None
    headers: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    """By names in lower case."""
    failure: Failure | None = None


def tls_context(validate_certs: bool, ca_path: str | None) -> ssl.SSLContext:
    """Raises OSError if the file cannot be used."""
    context = ssl.create_default_context(cafile=ca_path)
    if not validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _Time:
    """What is left of it."""

    def __init__(self, clock: Clock, deadline: float) -> None:
        self.clock = clock
        self.deadline = deadline

    def left(self) -> float:
        left = self.deadline - self.clock()
        if left <= 0:
            raise socket.timeout
        return left

    def shorten(self, seconds: float) -> None:
        self.deadline = min(self.deadline, self.clock() + seconds)


class _Reader(io.RawIOBase):
    """Reads from a socket for as long as there is time."""

    def __init__(self, sock: socket.socket, time_left: _Time) -> None:
        self._sock = sock
        self._time = time_left
        self.first_byte: float | None = None
        self.last_byte = 0.0
        self.at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        self._sock.settimeout(self._time.left())
        count = self._sock.recv_into(buffer)
        if not count:
            self.at_end = True
            return 0
        self.last_byte = self._time.clock()
        if self.first_byte is None:
            self.first_byte = self.last_byte
        return count


class _Socket:
    """What http.client wants of a socket. It closes when it thinks fit; whoever opened the socket closes it."""

    def __init__(self, sock: socket.socket, time_left: _Time) -> None:
        self._sock = sock
        self._time = time_left
        self.reader = _Reader(sock, time_left)

    def sendall(self, data: bytes) -> None:
        # Bounds the whole, unlike the timeout of a receiving call
        self._sock.settimeout(self._time.left())
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self.reader, _BLOCK_BYTES)

    def close(self) -> None:
        """Not yet."""


class _Lookup:
    """One look for the addresses of a name, which the C library does not let anybody bound. Those who ask for the same name meanwhile share it."""

    _running: t.ClassVar[dict[tuple[str, int], _Lookup]] = {}
    _lock = threading.Lock()

    def __init__(self, key: tuple[str, int]) -> None:
        self._key = key
        self._begun = time.monotonic()
        self._done = threading.Event()
        self._found: list[tuple[t.Any, ...]] | OSError | UnicodeError = []

    @classmethod
    def addresses(cls, host: str, port: int, seconds: float) -> list[tuple[t.Any, ...]]:
        with contextlib.suppress(OSError):
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        key = (host, port)
        with cls._lock:
            lookup = cls._running.get(key)
            if lookup is None or time.monotonic() - lookup._begun > _SHARED_LOOKUP_SECONDS:
                lookup = cls._running[key] = cls(key)
                threading.Thread(target=lookup._run, daemon=True).start()
        if not lookup._done.wait(seconds):
            raise socket.timeout
        if isinstance(lookup._found, Exception):
            raise lookup._found
        return lookup._found

    def _run(self) -> None:
        try:
            self._found = socket.getaddrinfo(*self._key, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._found = error
        with self._lock:
            if self._running.get(self._key) is self:
                del self._running[self._key]
        self._done.set()


def _connected(site: Site, time_left: _Time) -> socket.socket:
    try:
        addresses = _Lookup.addresses(site.host, site.port, time_left.left())
    except socket.gaierror as error:
        raise Failure("unreachable", f"the name {site.host} has no address: {error.strerror}") from error
    except UnicodeError as error:
        raise Failure("unreachable", f"{site.host!r} cannot be a host's name: {error}") from error
    broken: OSError | None = None
    for number, (family, kind, protocol, _name, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            # An address that swallows packets leaves time for the others
            sock.settimeout(time_left.left() / (len(addresses) - number))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            sock.close()
            broken = error
    time_left.left()
    if isinstance(broken, socket.timeout):
        raise broken
    outcome = "refused" if broken is not None and broken.errno in _NO_ONE_LISTENS else "unreachable"
    raise Failure(outcome, f"no connection to {site.name}: {_plain(broken)}")


def _plain(error: BaseException | None) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _secured(sock: socket.socket, site: Site, time_left: _Time) -> socket.socket:
    if site.tls is None:
        return sock
    sock.settimeout(time_left.left())
    try:
        return site.tls.wrap_socket(sock, server_hostname=site.host)
    except socket.timeout:
        raise
    except ssl.SSLCertVerificationError as error:
        told = f"the certificate of {site.name} is not trusted: {error.verify_message}; set ca_path to the CA that signed it, or use the name it was made for"
        raise Failure("tls_error", told) from error
    except (OSError, ValueError) as error:
        raise Failure("tls_error", f"no TLS with {site.name}: {getattr(error, 'reason', None) or _plain(error)}; is it plain http?") from error


def exchange(site: Site, request: Request, receive: Receive, timeout_seconds: float, clock: Clock = time.monotonic) -> Exchange:
    """Ask once. What goes wrong on the way is in the result; redirects are not followed."""
    done = Exchange(started=clock())
    time_left = _Time(clock, done.started + timeout_seconds)
    opened: list[socket.socket] = []
    wrapped: _Socket | None = None
    try:
        opened.append(_connected(site, time_left))
        opened.append(_secured(opened[0], site, time_left))
        wrapped = _Socket(opened[-1], time_left)
        _talk(site, request, wrapped, receive, done, time_left)
    except Failure as failure:
        done.failure = failure
    except socket.timeout:
        done.failure = Failure(DEADLINE_PASSED, f"{_so_far(done, wrapped)} within {timeout_seconds:g} s")
    finally:
        for sock in reversed(opened):
            with contextlib.suppress(OSError):
                sock.close()
    if wrapped is not None:
        done.first_byte = wrapped.reader.first_byte
    done.ended = done.ended or clock()
    return done


def _so_far(done: Exchange, wrapped: _Socket | None) -> str:
    if wrapped is None:
        return "no connection"
    if wrapped.reader.first_byte is None:
        return "connected, but no answer"
    return "an answer began, but was not whole" if done.status is not None else "a first byte came, but no whole header of an answer"


def _talk(site: Site, request: Request, wrapped: _Socket, receive: Receive, done: Exchange, time_left: _Time) -> None:
    connection = http.client.HTTPConnection(site.host, site.port)
    connection.sock = t.cast("socket.socket", wrapped)
    complete = False
    response: http.client.HTTPResponse | None = None
    try:
        # A server may answer and hang up before all was sent
        with contextlib.suppress(ConnectionError):
            connection.request(request.method, request.path, request.body, {**request.headers, "Connection": "close"})
        response = connection.getresponse()
        done.status = response.status
        done.headers = {name.lower(): value for name, value in response.getheaders()}
        if wrapped.reader.at_end:
            # http.client takes half a header for a whole one
            raise http.client.IncompleteRead(b"")
        for block in _body(response):
            time_left.left()
            if not complete and receive(block, wrapped.reader.last_byte):
                complete = True
                done.ended = wrapped.reader.last_byte
                # Who hangs up before the formal end is a client that broke off, in the eyes of a gateway
                time_left.shorten(_TAIL_SECONDS)
    except Failure:
        if not complete:
            raise
    except socket.timeout:
        if not complete:
            raise
    except (http.client.BadStatusLine, http.client.UnknownProtocol, http.client.LineTooLong) as error:
        if isinstance(error, http.client.RemoteDisconnected):
            raise Failure("cut", f"{site.name} hung up without an answer") from error
        raise Failure("not_http", f"what came from {site.name} is not HTTP: {_shown(str(error))}") from error
    except (OSError, http.client.HTTPException) as error:
        if not complete:
            began = "the answer broke off" if done.status is not None else "hung up without an answer"
            why = "" if isinstance(error, http.client.IncompleteRead) else f" ({_plain(error)})"
            raise Failure("cut", f"{site.name}: {began}{why}") from error
    finally:
        connection.close()
        if response is not None:
            # It outlives its connection, and its end is no matter for the garbage collector
            response.close()


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _body(response: http.client.HTTPResponse) -> t.Iterator[bytes]:
    """As it comes. Counted here: read1() of older Pythons does not miss what is missing of an announced length."""
    announced, received = response.length, 0
    while announced is None or received < announced:
        block = response.read1(_BLOCK_BYTES if announced is None else min(_BLOCK_BYTES, announced - received))
        if not block:
            if announced is not None:
                raise http.client.IncompleteRead(b"", announced - received)
            return
        received += len(block)
        if received > _LONGEST_BODY_BYTES:
            raise Failure("too_long", f"the answer is longer than {_LONGEST_BODY_BYTES // 2**20} MiB")
        yield block
