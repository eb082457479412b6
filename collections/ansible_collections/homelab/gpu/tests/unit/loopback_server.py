# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An endpoint that misbehaves on purpose: what it does to a connection is told by a list of turns, one for each connection, the last for all others."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import typing as t

Turn = t.Callable[["Connection"], None]


class Connection:
    def __init__(self, sock: socket.socket, server: LoopbackServer) -> None:
        self.sock = sock
        self.server = server

    def request(self) -> bytes:
        """Head and body of what the client asks."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _blank, body = data.partition(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
        while len(body) < length:
            body += self._more()
        return head + b"\r\n\r\n" + body

    def _more(self) -> bytes:
        block = self.sock.recv(65536)
        if not block:
            raise ConnectionError("the client hung up")
        return block


class LoopbackServer:
    def __init__(self, *turns: Turn, tls: ssl.SSLContext | None = None) -> None:
        self._turns = list(turns)
        self._tls = tls
        self.requests: list[bytes] = []
        self.released = threading.Event()
        """Set when the test is over: whoever hangs goes on."""
        self.pulse = threading.Semaphore(0)
        """Lets a trickling turn send one more byte."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> LoopbackServer:
        return self

    def __exit__(self, *_arguments: object) -> None:
        self.released.set()
        self.pulse.release(1000)
        # Closing alone would not wake the thread that accepts
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _address = self._listener.accept()
            except OSError:
                return
            with self._lock:
                turn = self._turns.pop(0) if len(self._turns) > 1 else self._turns[0]
            threading.Thread(target=self._serve, args=(sock, turn), daemon=True).start()

    def _serve(self, sock: socket.socket, turn: Turn) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            stack.callback(sock.close)
            connection = Connection(sock, self)
            if not getattr(turn, "unasked", False):
                request = connection.request()
                with self._lock:
                    self.requests.append(request)
            turn(connection)


def says(*blocks: bytes) -> Turn:
    def turn(connection: Connection) -> None:
        for block in blocks:
            connection.sock.sendall(block)

    return turn


def hangs_after(*blocks: bytes) -> Turn:
    def turn(connection: Connection) -> None:
        says(*blocks)(connection)
        connection.server.released.wait()

    return turn


def unasked(turn: Turn) -> Turn:
    """Reads nothing before."""

    def unasked_turn(connection: Connection) -> None:
        turn(connection)

    unasked_turn.unasked = True  # type: ignore[attr-defined]
    return unasked_turn


def resets_after(*blocks: bytes) -> Turn:
    def turn(connection: Connection) -> None:
        says(*blocks)(connection)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return turn


def trickles(first: bytes, byte: bytes) -> Turn:
    """The same byte again and again, one for each pulse, without end."""

    def turn(connection: Connection) -> None:
        connection.sock.sendall(first)
        while not connection.server.released.is_set():
            connection.server.pulse.acquire()
            connection.sock.sendall(byte)

    return turn


def head(status: str = "200 OK", **headers: object) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


def whole(body: bytes | dict[str, t.Any], status: str = "200 OK", **headers: object) -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(status, Content_Length=len(raw), **headers) + raw


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def chunked(*blocks: bytes, end: bool = True, **headers: object) -> bytes:
    return head(Transfer_Encoding="chunked", **headers) + b"".join(chunk(block) for block in blocks) + (b"0\r\n\r\n" if end else b"")


def event(document: dict[str, t.Any] | str) -> bytes:
    return b"data: " + (document if isinstance(document, str) else json.dumps(document)).encode() + b"\n\n"


def refusing_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
