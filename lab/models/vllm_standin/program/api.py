# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API server of the stand-in: vLLM's paths, answers and ways to end, in front of the engine."""

from __future__ import annotations

import argparse
import contextlib
import hmac
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from .metrics import Counts
from .options import VERSION, on_cpu, parsed, seconds, visible_gpus

# As measured of vLLM
NOTICE_SECONDS: Final = 0.75
"""From the engine's death until /health says 503."""
LEAVE_SECONDS: Final = 2.25
"""From then until the server ends."""
ABORT_SECONDS: Final = 1.0
"""What aborted requests get to have their answers written."""
AWAKE_SECONDS: Final = 0.1
"""How long the first thread sleeps at most."""
PARALLEL_MOST: Final = 8
"""Requests that llama.cpp computes at once; each takes memory of its own."""
COMPLETION_TOKENS: Final = 16
DROPPED: Final = ("timings", "system_fingerprint")
BODY_MOST: Final = 16 * 1024 * 1024

Handle = Callable[[], None]


class EngineDead(Exception):
    """It broke off in the middle of an answer."""


class RequestError(Exception):
    """What is wrong with a request, as vLLM tells it."""

    def __init__(self, status: int, kind: str, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.parameter = status, kind, parameter


class Stop:
    """No Event: a signal's handler would wait for a lock that the code which it interrupts may hold."""

    wanted = False

    def now(self, *_: object) -> None:
        self.wanted = True


class Engine:
    def __init__(self, options: argparse.Namespace, environment: Mapping[str, str], gpus: Sequence[Path], command: Sequence[str]) -> None:
        self.address = f"vllm-standin-{os.getpid()}-{secrets.token_hex(8)}"
        self.parallel = min(options.max_num_seqs, PARALLEL_MOST)
        given = {
            "file": str(options.file),
            "context": options.max_model_len,
            "parallel": self.parallel,
            "gpus": [str(path) for path in gpus],
            "load_seconds": seconds(environment, "VLLM_STANDIN_LOAD_SECONDS"),
            "token_seconds": seconds(environment, "VLLM_STANDIN_TOKEN_SECONDS"),
        }
        self.ready, inside = os.pipe()
        # Under the name that the process has in vLLM
        self.process = subprocess.Popen(
            ["VLLM::EngineCore", *command[1:], self.address, str(inside), json.dumps(given)], executable=command[0], pass_fds=[inside]
        )
        os.close(inside)
        self.dead = threading.Event()
        self.aborting = threading.Event()
        self.connections: set[socket.socket] = set()
        self.lock = threading.Lock()

    def loaded(self) -> bool:
        """Wait for it; not if it ends before."""
        with os.fdopen(self.ready, "rb") as told:
            while not select.select([told], [], [], AWAKE_SECONDS)[0]:
                pass
            return told.read(1) == b"1"

    def ask(self, chat: bool, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The pieces of an answer. If all requests are aborted, they just end."""
        connection = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection):
            with self.lock:
                if self.aborting.is_set():
                    return
                self.connections.add(connection)
            try:
                connection.connect(f"\0{self.address}")
                with connection.makefile("rwb") as stream:
                    stream.write(json.dumps({"chat": chat, "body": body}).encode() + b"\n")
                    stream.flush()
                    for line in stream:
                        message = json.loads(line)
                        if "end" in message:
                            if message["end"]:
                                raise RequestError(400, "BadRequestError", message["end"])
                            return
                        if "error" in message:
                            error = message["error"]
                            raise RequestError(int(error.get("code", 500)), "BadRequestError", str(error.get("message", error)))
                        yield message
            except OSError:
                pass
            finally:
                with self.lock:
                    self.connections.discard(connection)
        if not self.aborting.is_set():
            raise EngineDead

    def abort(self) -> None:
        with self.lock:
            self.aborting.set()
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class Api(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 2048
    allow_reuse_address = True

    def __init__(self, options: argparse.Namespace, engine: Engine) -> None:
        self.options, self.engine = options, engine
        self.counts = Counts(options.served_model_name[0], options.max_num_seqs)
        self.started = int(time.time())
        self.ending = threading.Event()
        self.idle: set[socket.socket] = set()
        self.idle_lock = threading.Lock()
        super().__init__((options.host, options.port), Handler)

    def close_idle(self) -> None:
        """Connections on which nothing is asked; those with a request close after its answer."""
        with self.idle_lock:
            self.ending.set()
            for connection in self.idle:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = f"vllm-standin/{VERSION}"
    sys_version = ""
    disable_nagle_algorithm = True
    server: Api

    def handle_one_request(self) -> None:
        with self.server.idle_lock:
            if self.server.ending.is_set():
                self.close_connection = True
                return
            self.server.idle.add(self.connection)
        super().handle_one_request()
        if self.server.ending.is_set():
            self.close_connection = True

    def parse_request(self) -> bool:
        with self.server.idle_lock:
            self.server.idle.discard(self.connection)
        self.begun = False
        return super().parse_request()

    def finish(self) -> None:
        with self.server.idle_lock:
            self.server.idle.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        if self.path not in ("/health", "/metrics", "/ping"):
            print(f"{self.client_address[0]} - {format % args}", flush=True)

    def do_GET(self) -> None:
        self.route({"/health": self.health, "/ping": self.health, "/version": self.version, "/metrics": self.metrics, "/v1/models": self.models})

    def do_POST(self) -> None:
        self.route({"/ping": self.health, "/v1/chat/completions": lambda: self.complete(True), "/v1/completions": lambda: self.complete(False)})

    def route(self, known: Mapping[str, Handle]) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/v1") and not self.authorised():
            self.reply(401, {"error": "Unauthorized"})
        elif path not in known:
            self.reply(404, {"detail": "Not Found"})
        else:
            known[path]()

    def authorised(self) -> bool:
        keys: list[str] = self.server.options.api_key
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return not keys or any(hmac.compare_digest(key.encode(), given.encode()) for key in keys)

    def reply(self, status: int, body: Mapping[str, Any] | str) -> None:
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        if status == 401:
            self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        if self.server.ending.is_set() or self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def health(self) -> None:
        self.reply(503 if self.server.engine.dead.is_set() else 200, "")

    def version(self) -> None:
        self.reply(200, {"version": VERSION})

    def metrics(self) -> None:
        self.reply(200, self.server.counts.text())

    def models(self) -> None:
        options = self.server.options
        common = {"object": "model", "created": self.server.started, "owned_by": "vllm-standin", "root": options.model, "parent": None}
        self.reply(200, {"object": "list", "data": [{"id": name, **common, "max_model_len": options.max_model_len} for name in options.served_model_name]})

    def complete(self, chat: bool) -> None:
        try:
            body = self.body(chat)
            with self.server.counts.turn():
                (self.stream if body.get("stream") else self.whole)(chat, body)
        except RequestError as error:
            self.fail(error.status, error.kind, str(error), error.parameter)
        except EngineDead:
            self.fail(500, "InternalServerError", "EngineCore encountered an issue. See stack trace (above) for the root cause.")

    def fail(self, status: int, kind: str, message: str, parameter: str | None = None) -> None:
        error = {"error": {"message": message, "type": kind, "param": parameter, "code": status}}
        if self.begun:
            self.piece(f"data: {json.dumps(error)}\n\n")
            self.piece("")
        else:
            self.reply(status, error)

    def body(self, chat: bool) -> dict[str, Any]:
        size = self.headers.get("Content-Length", "")
        if not size.isdigit() or int(size) > BODY_MOST:
            self.close_connection = True
            raise RequestError(400, "BadRequestError", "a body with Content-Length is needed")
        try:
            body = json.loads(self.rfile.read(int(size)))
        except ValueError as error:
            raise RequestError(400, "BadRequestError", f"the body is no JSON: {error}") from error
        if not isinstance(body, dict):
            raise RequestError(400, "BadRequestError", "the body is no object")
        names: list[str] = self.server.options.served_model_name
        if body.setdefault("model", names[0]) not in names:
            raise RequestError(404, "NotFoundError", f"The model `{body['model']}` does not exist.", "model")
        needed = "messages" if chat else "prompt"
        if needed not in body:
            raise RequestError(400, "BadRequestError", f"Field required: {needed}", needed)
        if body.get("n", 1) != 1:
            raise RequestError(400, "BadRequestError", "the stand-in gives one answer to a request", "n")
        if not chat:
            body.setdefault("max_tokens", COMPLETION_TOKENS)
        return body

    def chunks(self, chat: bool, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Pieces of the answer, under the name that was asked for; if requests are aborted, the last one says so."""
        counts = self.server.counts
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        kind = "chat.completion.chunk" if chat else "text_completion"
        common = {"id": f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(16)}", "object": kind, "created": int(time.time()), "model": body["model"]}
        reason, prompt_tokens = None, 0
        for chunk in self.server.engine.ask(chat, asked):
            usage = chunk.get("usage") or {}
            for choice in chunk.get("choices", []):
                reason = choice.get("finish_reason") or reason
                if text_of(chat, choice):
                    counts.generated(1)
            prompt_tokens = usage.get("prompt_tokens", prompt_tokens)
            yield {**{key: value for key, value in chunk.items() if key not in DROPPED}, **common}
        if reason is None:
            reason = "abort"
            yield {**common, "choices": [{"index": 0, "finish_reason": reason, **({"delta": {"content": ""}} if chat else {"text": ""})}]}
        counts.ended(reason, prompt_tokens)

    def whole(self, chat: bool, body: dict[str, Any]) -> None:
        text, reason = "", "stop"
        last: dict[str, Any] = {}
        for chunk in self.chunks(chat, body):
            last = {**last, **chunk}
            for choice in chunk["choices"]:
                text += text_of(chat, choice)
                reason = choice.get("finish_reason") or reason
        if reason == "abort":
            # As vLLM does: what was computed so far is lost
            text = ""
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        usage = last.pop("usage", None) or {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        kind = "chat.completion" if chat else "text_completion"
        self.reply(200, {**last, "object": kind, "choices": [{"index": 0, **said, "logprobs": None, "finish_reason": reason}], "usage": usage})

    def stream(self, chat: bool, body: dict[str, Any]) -> None:
        wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        for chunk in self.chunks(chat, body):
            if not self.begun:
                self.begin()
            if chunk.get("usage") and not wants_usage:
                del chunk["usage"]
                if not chunk["choices"]:
                    continue
            self.piece(f"data: {json.dumps(chunk)}\n\n")
        self.piece("data: [DONE]\n\n")
        self.piece("")

    def begin(self) -> None:
        self.begun = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def piece(self, text: str) -> None:
        """One chunk; an empty one ends the answer."""
        content = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))


def text_of(chat: bool, choice: Mapping[str, Any]) -> str:
    return ((choice.get("delta") or {}).get("content") if chat else choice.get("text")) or ""


def main(arguments: Sequence[str], environment: Mapping[str, str], engine_command: Sequence[str]) -> int:
    """Serve until SIGTERM, or until the engine dies."""
    options = parsed(arguments, environment)
    gpus = visible_gpus(environment)
    if not gpus and not on_cpu(environment):
        print("RuntimeError: Failed to infer device type: no GPU is visible (the stand-in runs without one if VLLM_STANDIN_DEVICE is cpu)", file=sys.stderr)
        return 1
    if options.tensor_parallel_size > max(1, len(gpus)):
        print(f"ValueError: World size ({options.tensor_parallel_size}) is larger than the number of available GPUs ({len(gpus)})", file=sys.stderr)
        return 1
    stop = Stop()
    signal.signal(signal.SIGINT, stop.now)
    engine = Engine(options, environment, gpus, engine_command)

    def give_up(*_: object) -> None:
        stop.now()
        engine.process.kill()

    # While it loads there is nothing to wait for
    signal.signal(signal.SIGTERM, give_up)
    if not engine.loaded():
        print("RuntimeError: Engine core initialization failed. See root cause above.", file=sys.stderr)
        return 0 if stop.wanted else 1
    signal.signal(signal.SIGTERM, stop.now)
    # Only now does the port exist
    api = Api(options, engine)
    threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    threading.Thread(target=watch, args=(engine, stop), daemon=True).start()
    print(f"stand-in for vLLM {VERSION}: {', '.join(options.served_model_name)} on port {options.port}", flush=True)
    # The kernel may give a signal to any thread, and Python handles it in this one, which has to be awake for that
    while not stop.wanted:
        time.sleep(AWAKE_SECONDS)
    if engine.dead.is_set():
        time.sleep(LEAVE_SECONDS)
        print("RuntimeError: EngineCore died", file=sys.stderr, flush=True)
        return 1
    end(api, engine, options.shutdown_timeout)
    return 0


def watch(engine: Engine, stop: Stop) -> None:
    engine.process.wait()
    time.sleep(NOTICE_SECONDS)
    engine.dead.set()
    stop.now()


def end(api: Api, engine: Engine, timeout: int) -> None:
    """No new connections; requests in flight have so long to complete, then they are aborted."""
    api.shutdown()
    api.server_close()
    api.close_idle()
    if not (timeout and api.counts.idle(timeout)):
        engine.abort()
        api.counts.idle(ABORT_SECONDS)
    # Answers are written before a request counts as ended, not the last bytes of its connection
    time.sleep(0.1)
    engine.process.kill()
    engine.process.wait()
