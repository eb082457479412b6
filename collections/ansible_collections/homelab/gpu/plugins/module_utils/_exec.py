# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Commands in containers. Conversation is the pure part: messages in, output and exit code out. The streams are told apart by the first
# byte of each message; the exit code comes last, in a Status on a stream of its own.

from __future__ import annotations

import dataclasses
import json
import time
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._client import pause_before_retry
from ansible_collections.homelab.gpu.plugins.module_utils._containers import container_names, is_over, one_container, state
from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, InputError, KubeError, Unreachable, WaitFailed
from ansible_collections.homelab.gpu.plugins.module_utils._resources import BUILTIN, describe
from ansible_collections.homelab.gpu.plugins.module_utils._websocket import TimedOut

if t.TYPE_CHECKING:
    from ansible_collections.homelab.gpu.plugins.module_utils._client import Client
    from ansible_collections.homelab.gpu.plugins.module_utils._websocket import WebSocket

__all__ = ["Command", "CommandFailed", "Conversation", "check_command", "execute", "running_container"]

Clock = t.Callable[[], float]

_V5, _V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSE = 0, 1, 2, 3, 255
# A socket that can take anything can take this much, so that sending never keeps us from reading
_PIECE = 4096
# After the exit code there is nothing more to come but the end
_GOODBYE_SECONDS = 2.0
# Answers by which a server says that it has not even begun
_NOT_NOW = (429, 503)
# Each server on the way puts it before what the next one said
_PREFIX = "Internal error occurred: "


# Pure


@dataclasses.dataclass(frozen=True)
class Command:
    """A program with its arguments, and where it is to be run."""

    argv: t.Sequence[str]
    namespace: str
    pod: str
    container: str
    stdin: bytes | None = dataclasses.field(default=None, repr=False)
    """None: it has no standard input."""

    def __str__(self) -> str:
        return f"{self.argv[0]} in container {self.container} of Pod {self.namespace}/{self.pod}"

    @property
    def query(self) -> list[tuple[str, str]]:
        wanted = ("stdout", "stderr") if self.stdin is None else ("stdin", "stdout", "stderr")
        return [*(("command", word) for word in self.argv), ("container", self.container), *((stream, "true") for stream in wanted)]

    @property
    def subprotocols(self) -> list[str]:
        """Those that can do what is needed, the best first: only the newest can tell a command that its standard input has ended."""
        return [_V5, _V4] if self.stdin is None else [_V5]

    @property
    def messages(self) -> t.Iterator[bytes]:
        """The standard input and its end."""
        if self.stdin is None:
            return
        for start in range(0, len(self.stdin), _PIECE):
            yield bytes([_STDIN]) + self.stdin[start : start + _PIECE]
        yield bytes([_CLOSE, _STDIN])


def check_command(argv: t.Sequence[str]) -> None:
    """Refuses what a text that was meant for a shell becomes as a list."""
    if not argv or not argv[0]:
        raise InputError(f"command is {list(argv)}; begin it with the name of a program")
    if argv[0].split() != [argv[0]]:
        raise InputError(f"command begins with {argv[0]!r}; give each word as an element of its own, or run a shell: [sh, -c, ...]")
    for index, word in enumerate(argv):
        if "\0" in word:
            raise InputError(f"command[{index}] contains a NUL character, which no argument can hold; give such data as stdin")


class CommandFailed(KubeError):
    """The kubelet or the container runtime could not start the command, or lost it."""


class Conversation:
    """The messages of one command, and what they say so far."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._output = {_STDOUT: bytearray(), _STDERR: bytearray()}
        self.truncated = False
        self.rc: int | None = None

    def take(self, message: bytes) -> None:
        """CommandFailed if the message says that the command could not be run."""
        if len(message) < 2:
            return
        channel, data = message[0], message[1:]
        if channel == _STATUS:
            self.rc = _exit_code(data)
        elif channel in self._output:
            kept = self._output[channel]
            room = self._limit - len(kept)
            kept += data[:room]
            self.truncated = self.truncated or len(data) > room

    @property
    def output(self) -> dict[str, t.Any]:
        """As results carry it."""
        stdout, stderr = (self._output[channel].decode(errors="replace") for channel in (_STDOUT, _STDERR))
        return {"stdout": stdout, "stderr": stderr, "truncated": self.truncated}


def _exit_code(data: bytes) -> int:
    try:
        status = json.loads(data)
        if status["status"] == "Success":
            return 0
        reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
        if reason == "NonZeroExitCode":
            return int(next(cause["message"] for cause in status["details"]["causes"] if cause.get("reason") == "ExitCode"))
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration) as error:
        raise Unreachable(f"the API server told how the command ended in a way that is not understood: {data[:200].decode(errors='replace')}") from error
    while message.startswith(_PREFIX):
        message = message.removeprefix(_PREFIX)
    raise CommandFailed(message or "no explanation given", reason=reason)


# Input and output


def running_container(client: Client, namespace: str, pod_name: str, wanted: str | None) -> str:
    """The name of the container in which commands can run now; says what there is if it cannot be told, or does not run."""
    pod = client.get(BUILTIN["Pod"], pod_name, namespace)
    if pod is None:
        raise KubeError(f"there is no pod {pod_name!r} in namespace {namespace}; check pod and namespace")
    name = one_container(pod, wanted)
    if state(pod, name)[0] != "running" or is_over(pod):
        states = "; ".join(f"{each} {_words(*state(pod, each))}" for each in container_names(pod))
        phase = (pod.get("status") or {}).get("phase") or "Pending"
        raise KubeError(f"container {name} of {describe(pod)} does not run, so no command can run in it; the pod is {phase}: {states}")
    return name


def _words(kind: str, why: str) -> str:
    return (f"is {kind}" if kind else "has not been started") + (f" ({why})" if why else "")


def execute(
    client: Client,
    command: Command,
    *,
    timeout_seconds: float,
    limit_bytes: int,
    clock: Clock = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> Conversation:
    """Runs a command to its end. Whatever else happens is an error that carries the output so far, never an exit code."""
    deadline = clock() + timeout_seconds
    conversation = Conversation(limit_bytes)
    connection: WebSocket | None = None
    try:
        connection = _begin(client, command, deadline, clock, sleep)
        _talk(connection, conversation, command.messages, deadline, clock)
    except TimedOut as error:
        message = f"timed out after {timeout_seconds:g} s waiting for {command} to end; it may still run there, for nothing but itself can end it"
        raise WaitFailed(message, timed_out=True, **conversation.output) from error
    except CommandFailed as error:
        raise CommandFailed(f"{command} could not be run: {error}", **error.data, **conversation.output) from error
    except Unreachable as error:
        raise Unreachable(f"{command} was begun, and how it ended is unknown: {error}", **conversation.output) from error
    finally:
        if connection is not None:
            connection.close()
    if conversation.rc is None:
        raise Unreachable(f"{command} was begun, and how it ended is unknown: the connection was closed before the exit code came", **conversation.output)
    return conversation


def _begin(client: Client, command: Command, deadline: float, clock: Clock, sleep: t.Callable[[float], None]) -> WebSocket:
    path = BUILTIN["Pod"].path(command.namespace, command.pod, "exec")
    attempt = 0
    while True:
        try:
            return client.websocket(path, command.query, subprotocols=command.subprotocols, timeout=max(deadline - clock(), 0.001))
        except ApiError as error:
            attempt += 1
            pause = pause_before_retry(error, attempt)
            if error.status == 403 and not error.reason and command.stdin is not None:
                raise KubeError(
                    "this API server cannot tell a command that its stdin has ended, which takes Kubernetes 1.30 or later; give the data as a part of command"
                ) from error
            if error.status not in _NOT_NOW or clock() + pause >= deadline:
                raise
            sleep(pause)


def _talk(connection: WebSocket, conversation: Conversation, messages: t.Iterator[bytes], deadline: float, clock: Clock) -> None:
    """One thread for both directions: a command that writes before it has read everything must not block us, nor we it."""
    message = next(messages, None)
    while True:
        left = deadline - clock()
        readable, writable = connection.ready(left, to_send=message is not None) if left > 0 else (False, False)
        if readable:
            try:
                received = connection.receive(left)
            except Unreachable:
                if conversation.rc is not None:
                    return
                raise
            if received is None:
                return
            conversation.take(received)
            if conversation.rc is not None:
                message = None
                deadline = min(deadline, clock() + _GOODBYE_SECONDS)
        elif message is not None and writable:
            try:
                connection.send(message, left)
                message = next(messages, None)
            except TimedOut:
                raise
            except Unreachable:
                # A command need not read all that it is given: how it ended may have arrived already
                message = None
        elif clock() >= deadline:
            if conversation.rc is not None:
                return
            raise TimedOut("the command did not end in time")
