# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.distribution.build import choose
from lab.distribution.build.artifacts_lock import Artifact, render


class Releases(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/k3s")
        else:
            self.send_response(200 if self.path == "/k3s" else 404)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Releases) as releases:
        threading.Thread(target=releases.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{releases.server_port}"
        releases.shutdown()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def lock_file(folder: Path, url: str, arch: str = "amd64", kind: str = "binary") -> Path:
    path = folder / "artifacts.lock.yml"
    path.write_text(render([Artifact("k3s", "v1.37.1+k3s1", arch, kind, "k3s", url, 1, "0" * 64)]))
    return path


@pytest.mark.parametrize(
    ("path", "distribution", "reason"),
    [("/k3s", "release", "can be reached"), ("/moved", "release", "can be reached"), ("/gone", "upstream", "answered 404 Not Found")],
)
def test_server_that_answers(tmp_path: Path, server: str, path: str, distribution: str, reason: str) -> None:
    decision = choose.choose("auto", lock_file(tmp_path, server + path), "amd64")
    assert decision["distribution"] == distribution
    assert reason in decision["reason"]
    assert server + path in decision["reason"]


def test_server_that_hangs(tmp_path: Path, silent: str) -> None:
    decision = choose.choose("auto", lock_file(tmp_path, silent + "/k3s"), "amd64", limit=0.2)
    assert decision["distribution"] == "upstream"
    assert "timed out" in decision["reason"] or "no answer within 0.2 s" in decision["reason"]


def test_name_resolution_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: released.wait(30) and [])
    try:
        decision = choose.choose("auto", lock_file(tmp_path, "http://releases.invalid/k3s"), "amd64", limit=0.2)
    finally:
        released.set()
    assert decision == {"distribution": "upstream", "reason": decision["reason"]}
    assert decision["reason"].endswith("no answer within 0.2 s")


def test_refused_connection(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    decision = choose.choose("auto", lock_file(tmp_path, f"http://127.0.0.1:{port}/k3s"), "amd64")
    assert decision["distribution"] == "upstream"
    assert "refused" in decision["reason"]


@pytest.mark.parametrize(
    ("url", "arch", "kind", "reason"),
    [
        ("https://releases.invalid/k3s", "arm64", "binary", "names no binary for amd64"),
        ("https://releases.invalid/k3s", "amd64", "images", "names no binary for amd64"),
        ("file:///srv/k3s", "amd64", "binary", "not the address of a release"),
    ],
)
def test_nothing_to_ask_for(tmp_path: Path, url: str, arch: str, kind: str, reason: str) -> None:
    decision = choose.choose("auto", lock_file(tmp_path, url, arch, kind), "amd64")
    assert decision["distribution"] == "upstream"
    assert reason in decision["reason"]


def test_missing_lock_file(tmp_path: Path) -> None:
    decision = choose.choose("auto", tmp_path / "none.yml", "amd64")
    assert decision["distribution"] == "upstream"
    assert str(tmp_path / "none.yml") in decision["reason"]


@pytest.mark.parametrize("want", ["release", "upstream"])
def test_given_value_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], want: str) -> None:
    monkeypatch.setattr(choose, "probe", lambda *_arguments: pytest.fail("asked"))
    assert choose.main(["--want", want, "--lock-file", str(lock_file(tmp_path, "http://127.0.0.1:1/k3s"))]) == 0
    assert json.loads(capsys.readouterr().out)["distribution"] == want


def test_unknown_value(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        choose.main(["--want", "genuine"])
    assert "'genuine'" in capsys.readouterr().err


def test_broken_lock_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "artifacts.lock.yml"
    path.write_text("---\nschema: 1\nartifacts:\n  - name: k3s\n    url: http://127.0.0.1:1/k3s\n")
    assert choose.main(["--lock-file", str(path)]) == 2
    problem = capsys.readouterr().err
    assert str(path) in problem
    assert "lacks version, arch" in problem
