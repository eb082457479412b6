# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API server runs as a program here, before an engine without a model: it says a word at a time, and waits before the last one if it is asked to."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.models.vllm_standin import image
from lab.models.vllm_standin.program import options

CHECKOUT = Path(__file__).resolve().parents[3]
ENGINE = """
import ctypes, json, os, socket, sys, threading
ctypes.CDLL(None).prctl(1, 9)  # With its parent, as the real one
address, ready, given = "\\0" + sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
listener = socket.socket(socket.AF_UNIX); listener.bind(address); listener.listen(64)
os.write(ready, b"1"); os.close(ready)
def serve(connection):
    stream = connection.makefile("rwb")
    request = json.loads(stream.readline())
    asked = request["body"]["messages"][-1]["content"] if request["chat"] else request["body"]["prompt"]
    def say(text, reason=None, usage=None):
        part = {"delta": {"content": text} if text else {}} if request["chat"] else {"text": text}
        chunk = {"choices": [{"index": 0, "finish_reason": reason, **part}], "timings": {}, "model": "engine's"}
        stream.write(json.dumps(chunk).encode() + b"\\n"); stream.flush()
    if asked == "fail":
        stream.write(b'{"end": "it does not fit"}\\n'); stream.flush(); return
    say("one ")
    if asked.startswith("wait "):
        open(asked.split()[1]).read()
    say("two")
    say("", "stop")
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    stream.write(json.dumps({"choices": [], "usage": usage}).encode() + b"\\n")
    stream.write(b'{"end": null}\\n'); stream.flush()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
PROGRAM = "import os, sys; from lab.models.vllm_standin.program import api; os._exit(api.main(sys.argv[2:], os.environ, [sys.executable, sys.argv[1]]))"


class Server:
    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        (folder / "engine.py").write_text(ENGINE)
        (folder / "tiny.gguf").write_bytes(b"GGUF")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [
            sys.executable,
            "-c",
            PROGRAM,
            str(folder / "engine.py"),
            "serve",
            str(folder / "tiny.gguf"),
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        self.process = subprocess.Popen(
            [*command, *arguments], cwd=CHECKOUT, env={**os.environ, "VLLM_STANDIN_DEVICE": "cpu", **environment}, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("stand-in for vLLM"):
                break

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def chat(self, content: str = "hello", **more: object) -> tuple[int, Any]:
        status, text = self.ask("POST", "/v1/chat/completions", {"model": "a", "messages": [{"role": "user", "content": content}], **more})
        return status, text if more.get("stream") else json.loads(text)

    def engine(self) -> int:
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=True)
        return int(listed.stdout)

    def metric(self, name: str) -> float:
        found = re.search(rf"^vllm:{name}\{{.*\}} (\S+)$", self.ask("GET", "/metrics")[1], re.MULTILINE)
        assert found
        return float(found[1])

    def until(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not what():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(*arguments: str, **environment: str) -> Server:
        made.append(Server(tmp_path, "--served-model-name", "a", "b/c", *arguments, **environment))
        return made[-1]

    yield make
    for server in made:
        if server.process.poll() is None:
            os.kill(server.engine(), signal.SIGCONT)
        server.process.kill()
        server.process.wait()
        # No engine outlives its server
        server.until(lambda: subprocess.run(["pgrep", "-f", str(tmp_path / "engine.py")], stdout=subprocess.DEVNULL, check=False).returncode == 1)


class InFlight:
    """A request that waits in the middle of its answer until it is let go."""

    def __init__(self, server: Server, folder: Path, **more: object) -> None:
        self.gate = folder / f"gate-{time.monotonic_ns()}"
        os.mkfifo(self.gate)
        self.answer: tuple[int, Any] | None = None
        running = server.metric("num_requests_running")
        self.thread = threading.Thread(target=self.run, args=(server, more))
        self.thread.start()
        server.until(lambda: server.metric("num_requests_running") > running)

    def run(self, server: Server, more: dict[str, object]) -> None:
        self.answer = server.chat(f"wait {self.gate}", **more)

    def let_go(self) -> None:
        self.gate.write_text("")

    def ended(self) -> tuple[int, Any]:
        self.thread.join(30)
        assert self.answer
        return self.answer


def test_answers_by_every_name_and_to_no_other(start: Callable[..., Server]) -> None:
    server = start("--max-model-len", "8k")
    assert [(one["id"], one["max_model_len"]) for one in json.loads(server.ask("GET", "/v1/models")[1])["data"]] == [("a", 8000), ("b/c", 8000)]
    for name in ("a", "b/c"):
        status, answer = server.chat(model=name)
        assert (status, answer["model"], answer["choices"][0]["message"]["content"], answer["choices"][0]["finish_reason"]) == (200, name, "one two", "stop")
        assert answer["usage"]["completion_tokens"] == 2
        assert "timings" not in answer
    status, answer = server.chat(model="d")
    assert (status, answer["error"]["type"], answer["error"]["message"]) == (404, "NotFoundError", "The model `d` does not exist.")
    status, text = server.ask("POST", "/v1/completions", {"prompt": "hello"})
    assert (status, json.loads(text)["choices"][0]["text"], json.loads(text)["model"]) == (200, "one two", "a")


def test_streams(start: Callable[..., Server]) -> None:
    server = start()
    for usage in (False, True):
        status, text = server.chat(stream=True, **({"stream_options": {"include_usage": True}} if usage else {}))
        lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        chunks = [json.loads(line) for line in lines[:-1]]
        assert (status, lines[-1]) == (200, "[DONE]")
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]) == "one two"
        assert {chunk["model"] for chunk in chunks} == {"a"}
        assert any("usage" in chunk for chunk in chunks) == usage


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/chat/completions", {"model": "a"}, 400, "messages"),
        ("/v1/completions", {"model": "a"}, 400, "prompt"),
        ("/v1/completions", {"prompt": "x", "n": 2}, 400, "one answer"),
        ("/v1/completions", {"prompt": "fail"}, 400, "it does not fit"),
        ("/v1/completions", [1], 400, "no object"),
        ("/v1/else", {}, 404, "Not Found"),
    ],
)
def test_bad_requests(start: Callable[..., Server], path: str, body: object, status: int, message: str) -> None:
    code, text = start().ask("POST", path, body)
    assert code == status
    assert message in text


def test_key_guards_the_api_only(start: Callable[..., Server]) -> None:
    server = start(VLLM_API_KEY="secret")
    assert server.ask("GET", "/v1/models") == (401, '{"error": "Unauthorized"}')
    assert server.ask("GET", "/v1/models", Authorization="Bearer other")[0] == 401
    assert server.ask("GET", "/v1/models", Authorization="Bearer secret")[0] == 200
    assert [server.ask("GET", path)[0] for path in ("/health", "/ping", "/metrics", "/version")] == [200] * 4


def test_counts_what_runs_and_waits(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start("--max-num-seqs", "1")
    first = InFlight(server, tmp_path)
    second = threading.Thread(target=server.chat)
    second.start()
    server.until(lambda: server.metric("num_requests_waiting") == 1)
    assert server.metric("num_requests_running") == 1
    first.let_go()
    assert first.ended()[0] == 200
    second.join(30)
    server.until(lambda: server.metric("num_requests_running") == 0)
    assert server.metric("generation_tokens_total") == 4


def test_sigterm_aborts_by_default(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start()
    whole, stream = InFlight(server, tmp_path), InFlight(server, tmp_path, stream=True)
    server.process.terminate()
    status, answer = whole.ended()
    assert (status, answer["choices"][0]["finish_reason"], answer["choices"][0]["message"]["content"]) == (200, "abort", "")
    status, text = stream.ended()
    assert status == 200
    assert '"finish_reason": "abort"' in text
    assert text.endswith("data: [DONE]\n\n")
    assert server.process.wait(30) == 0


def test_sigterm_with_a_timeout_lets_requests_complete(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start("--shutdown-timeout", "20")
    whole, stream = InFlight(server, tmp_path), InFlight(server, tmp_path, stream=True)
    server.process.terminate()

    def refused() -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", server.port)) != 0

    server.until(refused)
    whole.let_go()
    stream.let_go()
    assert whole.ended()[1]["choices"][0]["message"]["content"] == "one two"
    assert "two" in stream.ended()[1]
    assert server.process.wait(30) == 0


def test_sigterm_while_the_model_loads(tmp_path: Path) -> None:
    """The engine has not said that it is ready; here it never will."""
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    (tmp_path / "engine.py").write_text("import time; open('begun', 'w').close(); time.sleep(600)")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "engine.py"), "serve", str(tmp_path / "tiny.gguf")]
    environment = {**os.environ, "VLLM_STANDIN_DEVICE": "cpu", "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()


def test_stopped_engine_hangs_while_health_is_well(start: Callable[..., Server]) -> None:
    server = start()
    os.kill(server.engine(), signal.SIGSTOP)
    asked = threading.Thread(target=server.chat)
    asked.start()
    server.until(lambda: server.metric("num_requests_running") == 1)
    assert server.ask("GET", "/health")[0] == 200
    asked.join(0.2)
    assert asked.is_alive()
    os.kill(server.engine(), signal.SIGCONT)
    asked.join(30)
    assert not asked.is_alive()


def test_killed_engine_ends_the_server(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start()
    flight = InFlight(server, tmp_path)
    os.kill(server.engine(), signal.SIGKILL)
    assert flight.ended()[0] == 500
    server.until(lambda: server.ask("GET", "/health")[0] == 503)
    assert server.process.wait(30) == 1


def test_no_gpu_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    command = [sys.executable, "-c", PROGRAM, "no-engine", "serve", str(tmp_path / "tiny.gguf")]
    done = subprocess.run(command, cwd=CHECKOUT, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no GPU is visible" in done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["--max-model", "9"], "unrecognized arguments"),
        (["--port", "0"], "'0' is less than 1"),
        (["--max-model-len", "many"], "'many' is not a number of tokens"),
        (["--max-model-len", "0"], "not a number of tokens"),
        (["--gpu-memory-utilization", "1.1"], "not a fraction"),
        (["--gpu-memory-utilization", "0"], "not a fraction"),
        (["--quantization", "q4_0"], "invalid choice: 'q4_0'"),
        (["--dtype", "int8"], "invalid choice: 'int8'"),
        (["--max-num-seqs", "no"], "'no' is not a whole number"),
        (["--shutdown-timeout", "-1"], "'-1' is less than 0"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], message: str) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    with pytest.raises(SystemExit):
        options.parsed(["serve", str(tmp_path), *given], {})
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["serve"], ["serve", "Org/Model"], ["bench"], []])
def test_without_a_model_nothing_starts(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        options.parsed(words, {})


def test_gpus_in_the_container(tmp_path: Path) -> None:
    for name in ("nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert [path.name for path in options.visible_gpus({}, tmp_path)] == ["nvidia2", "nvidia10"]
    for value in ("-1", ""):
        assert options.visible_gpus({"CUDA_VISIBLE_DEVICES": value}, tmp_path) == []


def test_every_source_enters_the_key() -> None:
    sources = {path for path in image.HERE.rglob("*.py") if not path.name.startswith("test_")}
    assert sources <= set(image.INPUTS)
    assert all(path.is_file() for path in image.INPUTS)
