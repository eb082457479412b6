# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

"""The gateway of the role llm_gateway on loopback: its rendered files, a real HAProxy, and model servers that can be told to misbehave."""

import base64
import http.client
import json
import shutil
import socket
import subprocess
import threading
import time
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jinja2
import yaml

from ansible_collections.homelab.gpu.plugins.plugin_utils._gateway import plan

ROLE = Path(__file__).parents[2] / "roles" / "llm_gateway"
HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
DEADLINE_SECONDS = 30.0


def role_options(**given: t.Any) -> dict[str, t.Any]:
    """The role's variables without their prefix, those with templates replaced by what they come to."""
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
    options = {name.removeprefix("llm_gateway_"): value for name, value in defaults.items()}
    options |= {"namespace": "ml", "cluster_domain": "cluster.local", "kubeconfig": "/kubeconfig"}
    return options | given


def render(template: str, options: dict[str, t.Any], **private: t.Any) -> str:
    """A template of the role, as Ansible renders it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLE / "templates"), trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True
    )
    environment.filters["to_json"] = json.dumps
    environment.filters["combine"] = lambda first, second: {**first, **second}
    environment.filters["b64encode"] = lambda text: base64.b64encode(text.encode()).decode()
    own = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))
    variables = own | {f"llm_gateway_{name}": value for name, value in options.items()}
    return environment.get_template(template).render(variables | {"__llm_gateway_plan": plan(options["backends"], options)} | private)


def write_files(folder: Path, options: dict[str, t.Any], keys: t.Sequence[str] = ()) -> Path:
    """All that HAProxy reads, in one folder. Returns its config."""
    dirs = {f"__llm_gateway_{name}_dir": str(folder) for name in ("config", "run", "keys", "tls")}
    (folder / "keys").write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
    shutil.copyfile(ROLE / "files" / "watchdog.lua", folder / "watchdog.lua")
    for name in ("settings.lua", "haproxy.cfg"):
        (folder / name).write_text(render(f"{name}.j2", options, **dirs), encoding="utf-8")
    return folder / "haproxy.cfg"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: t.Callable[[], t.Any], what: str) -> t.Any:
    """What the condition returns, once it is true."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        threading.Event().wait(0.01)
    raise AssertionError(f"not within {DEADLINE_SECONDS:.0f} s: {what}")


class ModelServer:
    """A server with the paths of a model server. Its behaviour is what a test says at the moment:

    C(answer), C(error) (500), C(empty) (200 and no body), C(abort) (200 with finish_reason abort), C(hang) (completions never come, health does), C(stream),
    C(hang_stream) (the headers of a stream come, and nothing else), C(cut_stream) (half of one), C(long_stream) (the rest comes when C(released) is set).
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.behaviour = "answer"
        self.healthy = True
        self.tokens = 0
        self.asked: list[str] = []
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_args: t.Any) -> None:
                pass

            def reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self.reply(200, f"vllm:generation_tokens_total {outer.tokens}\n".encode(), "text/plain")
                elif self.path in ("/health", "/api/version"):
                    self.reply(200 if outer.healthy else 503, b"")
                else:
                    outer.asked.append(self.path)
                    self.reply(200, json.dumps({"data": [{"id": "tiny"}], "from": outer.name}).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append(f"{self.path} {json.loads(body).get('prompt', '')}"[:200])
                behaviour = outer.behaviour
                if "stream" in behaviour:
                    self.send_response(200)
                    self.send_header("Content-Type", "text/event-stream")
                    self.send_header("Connection", "close")
                    self.end_headers()
                    self.close_connection = True
                    if behaviour == "hang_stream":
                        outer.released.wait(DEADLINE_SECONDS)
                        return
                    self.wfile.write(b'data: {"from":"%s"}\n\n' % outer.name.encode())
                    if behaviour == "long_stream":
                        outer.released.wait(DEADLINE_SECONDS)
                    if behaviour in ("stream", "long_stream"):
                        self.wfile.write(b"data: [DONE]\n\n")
                    return
                if behaviour == "hang":
                    outer.released.wait(DEADLINE_SECONDS)
                    self.close_connection = True
                elif behaviour == "error":
                    self.reply(500, b"{}")
                elif behaviour == "empty":
                    self.reply(200, b"")
                else:
                    reason = "abort" if behaviour == "abort" else "stop"
                    tokens = 0 if behaviour == "abort" else 1
                    choice = {"text": "pong" if tokens else "", "finish_reason": reason}
                    self.reply(200, json.dumps({"from": outer.name, "choices": [choice], "usage": {"completion_tokens": tokens}}).encode())

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: t.Any, client_address: t.Any) -> None:
                # HAProxy ends connections of requests that it has given up
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def questions(self, prompt: str) -> int:
        return sum(line.endswith(f" {prompt}") for line in self.asked)

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


class Gateway:
    """A running HAProxy with the role's files."""

    def __init__(self, folder: Path, options: dict[str, t.Any], keys: t.Sequence[str] = ()) -> None:
        assert HAPROXY
        self.port, self.metrics_port = options["port"], options["metrics_port"]
        config = write_files(folder, options, keys)
        self.socket = folder / "admin.sock"
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen([HAPROXY, "-db", "-f", str(config)], stdout=log, stderr=log)
        until(lambda: self.process.poll() is not None or self.socket.exists(), "HAProxy starts")
        assert self.process.poll() is None, self.log.read_text()
        until(lambda: self.status_of_port() == 200, "HAProxy listens")

    def status_of_port(self) -> int:
        try:
            return self.request("GET", "/healthz", port=self.metrics_port)[0]
        except OSError:
            return 0

    def request(self, method: str, path: str, body: t.Any = None, port: int = 0, **headers: str) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=DEADLINE_SECONDS)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json", **{key.replace("_", "-"): value for key, value in headers.items()}})
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read().decode()
        finally:
            connection.close()

    def ask(self, prompt: str = "ping", **headers: str) -> tuple[int, dict[str, str], str]:
        return self.request("POST", "/v1/completions", {"prompt": prompt}, **headers)

    def server_states(self, backend: str = "llm") -> dict[str, str]:
        """Status of each server by its name, for example UP, DOWN, MAINT."""
        rows = [line.split(",") for line in self.command("show stat").splitlines() if line.startswith(f"{backend},")]
        return {row[1]: row[17] for row in rows if row[1] != "BACKEND"}

    def command(self, words: str) -> str:
        """What the administration socket answers."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self.socket))
            admin.sendall(f"{words}\n".encode())
            return b"".join(iter(lambda: admin.recv(65536), b"")).decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
