# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands in containers of the fake API server: the server's side of a WebSocket, and of the streams that it carries.

Commands are really run, on this machine: what a test says of them can be said of a real cluster as well.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import queue
import struct
import subprocess
import threading
import typing as t

Object = dict[str, t.Any]

STDIN, STDOUT, STDERR, STATUS, CLOSE = 0, 1, 2, 3, 255
BINARY, END, PING = 2, 8, 9
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")


class Wire:
    """Messages over a connection that was a request."""

    def __init__(self, read: t.Callable[[int], bytes], write: t.Callable[[bytes], object]) -> None:
        self._read = read
        self._write = write
        self._lock = threading.Lock()

    def send(self, data: bytes, code: int = BINARY, *, final: bool = True) -> None:
        if len(data) < 126:
            length = bytes([len(data)])
        elif len(data) < 65536:
            length = b"\x7e" + struct.pack("!H", len(data))
        else:
            length = b"\x7f" + struct.pack("!Q", len(data))
        with self._lock:
            self._write(bytes([(0x80 if final else 0) | code]) + length + data)

    def receive(self) -> tuple[int, bytes]:
        """Code and content; ConnectionError if the client is gone."""
        head = self._exactly(2)
        size = head[1] & 0x7F
        if size >= 126:
            size = struct.unpack("!H" if size == 126 else "!Q", self._exactly(2 if size == 126 else 8))[0]
        assert head[1] & 0x80, "clients mask what they send"
        mask = int.from_bytes(self._exactly(4) * (size // 4 + 1), "big") >> 8 * (4 - size % 4)
        return head[0] & 0x0F, (int.from_bytes(self._exactly(size), "big") ^ mask).to_bytes(size, "big")

    def _exactly(self, size: int) -> bytes:
        data = self._read(size) if size else b""
        if len(data) < size:
            raise ConnectionError("the client is gone")
        return data


@dataclasses.dataclass
class Session:
    """One command, as the kubelet gets it."""

    wire: Wire
    argv: list[str]
    container: str
    protocol: str
    has_stdin: bool

    def stdin(self) -> t.Iterator[bytes]:
        """Pieces until their end, or until the client is gone."""
        with contextlib.suppress(ConnectionError):
            while True:
                code, message = self.wire.receive()
                if code == END or message == bytes([CLOSE, STDIN]):
                    return
                if code == BINARY:
                    assert message[0] == STDIN
                    yield message[1:]

    def write(self, channel: int, data: bytes) -> None:
        self.wire.send(bytes([channel]) + data)

    def end(self, status: Object) -> None:
        self.write(STATUS, json.dumps(status).encode())
        self.wire.send(struct.pack("!H", 1000), END)


def run_here(session: Session) -> None:
    try:
        process = subprocess.Popen(session.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError:
        session.end(internal_error(f'exec: "{session.argv[0]}": executable file not found in $PATH'))
        return
    # A command may write for ever, and its client read slowly
    written: queue.Queue[tuple[int, bytes]] = queue.Queue(maxsize=16)
    readers = [
        threading.Thread(target=_drain, args=(stream, channel, written), daemon=True)
        for stream, channel in ((process.stdout, STDOUT), (process.stderr, STDERR))
    ]
    for thread in (*readers, threading.Thread(target=_feed, args=(session, process.stdin), daemon=True)):
        thread.start()
    open_streams = len(readers)
    client_is_gone = False
    while open_streams:
        channel, data = written.get()
        if not data:
            open_streams -= 1
        elif not client_is_gone:
            try:
                session.write(channel, data)
            except OSError:
                client_is_gone = True
                process.kill()
    code = process.wait()
    if not client_is_gone:
        session.end(exit_status(code))


def _feed(session: Session, stream: t.Any) -> None:
    with contextlib.suppress(OSError):
        for data in session.stdin() if session.has_stdin else ():
            stream.write(data)
            stream.flush()
    with contextlib.suppress(OSError):
        stream.close()


def _drain(stream: t.Any, channel: int, written: queue.Queue[tuple[int, bytes]]) -> None:
    with stream:
        while data := stream.read1(32768):
            written.put((channel, data))
    written.put((channel, b""))


def exit_status(code: int) -> Object:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    rc = code if code > 0 else 128 - code
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {rc}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(rc)}]},
    }


def internal_error(message: str) -> Object:
    return {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": f"Internal error occurred: {message}", "code": 500}


def accept_key(key: str) -> str:
    return base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
