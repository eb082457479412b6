# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe of vLLM's pods, before servers that answer, are busy, hang, or refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

PROBE = Path(__file__).parents[3] / "roles" / "vllm" / "files" / "answers.py"


class Server(ThreadingHTTPServer):
    """Answers at once, or waits and makes tokens for others meanwhile, or for nobody."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.tokens = 5
        self.answers = True
        self.busy = False
        self.key = ""
        self.reason = "length"
        self.asked: list[Any] = []
        self.over = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_args: object) -> None:
        pass

    def reply(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self) -> None:
        more = 'engine="0",model_name="a"'
        self.reply(200, f"# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total{{{more}}} {float(self.server.tokens)}\n")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            self.reply(401, '{"error": "Unauthorized"}')
        elif self.server.answers:
            self.reply(200, json.dumps({"choices": [{"text": "2", "finish_reason": self.server.reason}]}))
        else:
            self.server.tokens += int(self.server.busy)
            self.server.over.wait(60)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.over.set()
    made.shutdown()
    made.server_close()


def probe(port: int, deadline: str = "0.5", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROBE), str(port), "a", deadline]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False)


def test_one_token_is_asked_for(server: Server) -> None:
    assert probe(server.server_port, "30").returncode == 0
    ((path, body),) = server.asked
    assert (path, body["model"], body["max_tokens"]) == ("/v1/completions", "a", 1)


def test_a_server_that_is_busy_with_others_is_well(server: Server) -> None:
    server.answers, server.busy = False, True
    assert probe(server.server_port).returncode == 0


def test_a_server_that_hangs_is_not(server: Server) -> None:
    server.answers = False
    done = probe(server.server_port)
    assert done.returncode == 1
    assert "no token within 0.5 s, neither for this request nor for others" in done.stdout


def test_an_aborted_answer_is_none(server: Server) -> None:
    server.reason = "abort"
    assert probe(server.server_port, "30").returncode == 1


def test_the_key_is_given(server: Server) -> None:
    server.key = "k"
    assert probe(server.server_port, "30", VLLM_API_KEY="k").returncode == 0
    done = probe(server.server_port, "30", VLLM_API_KEY="other")
    assert done.returncode == 1
    assert "401" in done.stdout


def test_no_server(server: Server) -> None:
    port = server.server_port
    server.shutdown()
    server.server_close()
    done = probe(port)
    assert done.returncode == 1
    assert "refused" in done.stdout
