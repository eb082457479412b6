# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils import _exec
from ansible_collections.homelab.gpu.plugins.module_utils._client import Client
from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, InputError, Unreachable, WaitFailed
from ansible_collections.homelab.gpu.plugins.module_utils._exec import Command, CommandFailed, Conversation, check_command, execute
from ansible_collections.homelab.gpu.plugins.module_utils._websocket import TimedOut

Object = dict[str, t.Any]

SUCCESS = b'\x03{"metadata":{},"status":"Success"}'


def command(stdin: bytes | None = None) -> Command:
    return Command(["cat", "-"], "n", "p", "c", stdin)


def failure(reason: str, message: str = "", **details: t.Any) -> bytes:
    return b"\x03" + json.dumps({"metadata": {}, "status": "Failure", "reason": reason, "message": message, "details": details}).encode()


def exit_code(code: str) -> bytes:
    return failure("NonZeroExitCode", "command terminated", causes=[{"reason": "Other", "message": "x"}, {"reason": "ExitCode", "message": code}])


# Pure


@pytest.mark.parametrize(
    ("stdin", "streams", "subprotocols", "messages"),
    [
        (None, ["stdout", "stderr"], ["v5.channel.k8s.io", "v4.channel.k8s.io"], []),
        (b"", ["stdin", "stdout", "stderr"], ["v5.channel.k8s.io"], [b"\xff\x00"]),
        (b"ab", ["stdin", "stdout", "stderr"], ["v5.channel.k8s.io"], [b"\x00ab", b"\xff\x00"]),
        (b"a" * 5000, ["stdin", "stdout", "stderr"], ["v5.channel.k8s.io"], [b"\x00" + b"a" * 4096, b"\x00" + b"a" * 904, b"\xff\x00"]),
    ],
    ids=["none", "empty", "short", "long"],
)
def test_what_a_command_asks_for(stdin: bytes | None, streams: list[str], subprotocols: list[str], messages: list[bytes]) -> None:
    asked = command(stdin)
    assert asked.query == [("command", "cat"), ("command", "-"), ("container", "c"), *((stream, "true") for stream in streams)]
    assert asked.subprotocols == subprotocols
    assert list(asked.messages) == messages


def test_a_command_does_not_show_its_input() -> None:
    assert "secret" not in repr(command(b"secret")) + str(command(b"secret"))


@pytest.mark.parametrize("argv", [["sh"], ["/bin/sh", "-c", "a b"], ["echo", ""], ["echo", "a b"]])
def test_good_commands(argv: list[str]) -> None:
    check_command(argv)


@pytest.mark.parametrize("argv", [[], [""], ["", "a"], ["a b"], [" "], ["a\tb", "c"], ["a", "\0"]])
def test_bad_commands(argv: list[str]) -> None:
    with pytest.raises(InputError, match=r"^command"):
        check_command(argv)


# messages, exit code, stdout, stderr, truncated
CONVERSATIONS: list[tuple[str, list[bytes], int | None, str, str, bool]] = [
    ("nothing", [], None, "", "", False),
    ("beginnings of streams", [b"\x01", b"\x02", b"\x03", b""], None, "", "", False),
    ("both streams", [b"\x01a", b"\x02b", b"\x01c"], None, "ac", "b", False),
    ("success", [b"\x01a", SUCCESS], 0, "a", "", False),
    ("exit code", [exit_code("7")], 7, "", "", False),
    ("output after the end", [SUCCESS, b"\x01late"], 0, "late", "", False),
    ("as much as may be", [b"\x01" + b"a" * 8], None, "a" * 8, "", False),
    ("one more", [b"\x01" + b"a" * 8, b"\x01a"], None, "a" * 8, "", True),
    ("too much at once", [b"\x02" + b"a" * 9], None, "", "a" * 8, True),
    ("limits are of each stream", [b"\x01" + b"a" * 8, b"\x02" + b"b" * 8], None, "a" * 8, "b" * 8, False),
    ("cut within a character", [b"\x01aaaaaaa\xc3\xbc"], None, "aaaaaaa\ufffd", "", True),
    ("a character in two messages", [b"\x01\xc3", b"\x01\xbc"], None, "\u00fc", "", False),
    ("other channels", [b"\x04{}", b"\xff\x01"], None, "", "", False),
]


@pytest.mark.parametrize(("messages", "rc", "stdout", "stderr", "truncated"), [row[1:] for row in CONVERSATIONS], ids=[row[0] for row in CONVERSATIONS])
def test_conversations(messages: list[bytes], rc: int | None, stdout: str, stderr: str, truncated: bool) -> None:
    conversation = Conversation(8)
    for message in messages:
        conversation.take(message)
    assert (conversation.rc, conversation.output) == (rc, {"stdout": stdout, "stderr": stderr, "truncated": truncated})


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Internal error occurred: Internal error occurred: error executing command in container: no", "error executing command in container: no"),
        ("no", "no"),
        ("", "no explanation given"),
    ],
)
def test_commands_that_could_not_be_run(message: str, told: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        Conversation(8).take(failure("InternalError", message))
    assert (str(caught.value), caught.value.data) == (told, {"reason": "InternalError"})


@pytest.mark.parametrize("status", [b"x", b"1", b"[]", b"{}", b'{"status":"Failure","reason":"NonZeroExitCode"}', exit_code("")[1:], exit_code("x")[1:]])
def test_endings_that_are_not_understood_are_no_exit_codes(status: bytes) -> None:
    conversation = Conversation(8)
    with pytest.raises(Unreachable):
        conversation.take(b"\x03" + status)
    assert conversation.rc is None


# Input and output


class Connection:
    """A script: bytes are received; an exception is raised by receiving; None is the proper end. Time passes when nothing is there."""

    subprotocol = "v5.channel.k8s.io"

    def __init__(self, *script: t.Any, takes: int | None = None, seconds_each: float = 0.0) -> None:
        self.now = 0.0
        self.script = list(script)
        self.takes = takes
        self.seconds_each = seconds_each
        self.sent: list[bytes] = []
        self.closed = False

    def ready(self, timeout: float, *, to_send: bool) -> tuple[bool, bool]:
        writable = to_send and (self.takes is None or len(self.sent) < self.takes)
        if not self.script and not writable:
            self.now += timeout
        return bool(self.script), writable

    def receive(self, timeout: float) -> bytes | None:
        assert timeout > 0
        self.now += self.seconds_each
        step = self.script.pop(0) if len(self.script) > 1 or not self.seconds_each else self.script[0]
        if isinstance(step, Exception):
            raise step
        return t.cast("bytes | None", step)

    def send(self, message: bytes, timeout: float) -> None:
        assert timeout > 0
        self.sent.append(message)

    def close(self) -> None:
        self.closed = True


class Server:
    """Answers, one after the other, and what was slept between them."""

    def __init__(self, *answers: t.Any) -> None:
        self.answers = list(answers)
        self.slept: list[float] = []
        self.now = 0.0

    def websocket(self, *_arguments: t.Any, **_options: t.Any) -> Connection:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return t.cast("Connection", answer)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def run(self, stdin: bytes | None = None) -> Conversation:
        connections = [answer for answer in self.answers if isinstance(answer, Connection)]
        return execute(
            t.cast("Client", self),
            command(stdin),
            timeout_seconds=10,
            limit_bytes=100,
            clock=lambda: self.now + sum(connection.now for connection in connections),
            sleep=self.sleep,
        )


def test_a_whole_run() -> None:
    connection = Connection(b"\x01a", b"", SUCCESS, None)
    assert Server(connection).run().rc == 0
    assert connection.closed


def test_after_the_exit_code_the_end_need_not_be_a_good_one() -> None:
    for end in (None, Unreachable("cut"), TimedOut("late")):
        assert Server(Connection(SUCCESS, end)).run().rc == 0


def test_an_end_that_does_not_come_is_not_waited_for_long() -> None:
    connection = Connection(SUCCESS)
    assert Server(connection).run().rc == 0
    assert connection.now == pytest.approx(_exec._GOODBYE_SECONDS)


def test_what_comes_is_read_before_more_is_sent() -> None:
    connection = Connection(b"\x01a", takes=1)
    with pytest.raises(WaitFailed):
        Server(connection).run(b"x" * 10_000)
    assert (len(connection.sent), connection.script) == (1, [])


def test_the_rest_of_the_input_is_not_sent_to_a_command_that_has_ended() -> None:
    connection = Connection(SUCCESS, None)
    assert Server(connection).run(b"x").rc == 0
    assert connection.sent == []


@pytest.mark.parametrize("message", [b"\x01a", b""], ids=["output", "pings"])
def test_the_deadline_holds_though_something_always_comes(message: bytes) -> None:
    connection = Connection(message, seconds_each=0.75)
    with pytest.raises(WaitFailed, match="timed out after 10 s waiting for cat in container c of Pod n/p to end") as caught:
        Server(connection).run()
    assert caught.value.data["timed_out"] is True
    assert 10 <= connection.now < 11
    assert connection.closed


@pytest.mark.parametrize("end", [None, Unreachable("cut")])
def test_without_an_exit_code_it_is_a_failure(end: t.Any) -> None:
    with pytest.raises(Unreachable, match="cat in container c of Pod n/p was begun, and how it ended is unknown") as caught:
        Server(Connection(b"\x01a", end)).run()
    assert caught.value.data == {"stdout": "a", "stderr": "", "truncated": False}


def refusal(status: int, reason: str = "TooManyRequests", retry_after: float | None = None) -> ApiError:
    return ApiError(status, "GET", "/exec", reason=reason, retry_after=retry_after)


def test_the_server_says_how_long_it_wants_to_be_left_alone() -> None:
    server = Server(refusal(429, retry_after=3), refusal(503), Connection(SUCCESS, None))
    assert server.run().rc == 0
    assert server.slept == [3, pytest.approx(0.2)]


def test_asking_again_ends_with_the_deadline() -> None:
    server = Server(*(refusal(429, retry_after=3) for _ in range(9)))
    with pytest.raises(ApiError) as caught:
        server.run()
    assert (caught.value.status, server.slept) == (429, [3, 3, 3])


@pytest.mark.parametrize("error", [refusal(500), refusal(504), refusal(403, "Forbidden"), Unreachable("cut")])
def test_other_failures_are_not_tried_again(error: Exception) -> None:
    server = Server(error, Connection(SUCCESS, None))
    with pytest.raises(type(error)):
        server.run(b"x")
    assert server.slept == []
