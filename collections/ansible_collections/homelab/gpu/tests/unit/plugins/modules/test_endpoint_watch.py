# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.homelab.gpu.plugins.modules import endpoint_watch
from ansible_collections.homelab.gpu.plugins.modules.endpoint_watch import Results, Stop
from ansible_collections.homelab.gpu.tests.unit.loopback_server import LoopbackServer, Turn, hangs_after, refusing_port, says, whole

Object = dict[str, t.Any]
Run = t.Callable[..., Object]

HELLO: Object = {"model": "m", "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}
GIVEN_UP: Object = {"model": "m", "choices": [{"message": {"content": ""}, "finish_reason": "abort"}]}
GPU = says(whole(HELLO, X_LLM_Backend="gpu"))
CPU = says(whole(HELLO, X_LLM_Backend="cpu"))
EMPTY = says(whole(GIVEN_UP, X_LLM_Backend="gpu"))
DOWN = says(whole({"error": "no server"}, "503 Service Unavailable"))


@pytest.fixture
def watch(run_host_module: Run) -> Run:
    """Ten questions, one after the other within a tenth of a second."""

    def run(url: str, **options: t.Any) -> Object:
        return run_host_module("endpoint_watch", url=url, **{"model": "m", "rate_per_second": 100, "duration_seconds": 0.1, **options})

    return run


def served(watch: Run, *turns: Turn, **options: t.Any) -> Object:
    with LoopbackServer(*turns) as server:
        return watch(server.url, **options)


def test_all_is_well(watch: Run) -> None:
    before = time.monotonic()
    result = served(watch, GPU)
    assert {name: result[name] for name in ("changed", "asked", "answered", "failures", "empty", "not_asked", "outcomes", "backends")} == {
        "changed": False,
        "asked": 10,
        "answered": 10,
        "failures": 0,
        "empty": 0,
        "not_asked": 0,
        "outcomes": {"answered": 10},
        "backends": {"gpu": 10},
    }
    assert (result["first_failure"], result["last_failure"], result["stopped"]) == (None, None, "")
    assert before <= result["monotonic_start"] <= time.monotonic()
    assert result["started_at"].endswith("Z")
    assert "failed" not in result


def test_each_question_has_a_connection_of_its_own(watch: Run) -> None:
    """The server closes none of its own accord after an answer; it is given as many connections as questions."""
    with LoopbackServer(hangs_after(whole(HELLO))) as server:
        assert watch(server.url)["answered"] == 10
        assert len(server.requests) == 10


def test_backends_that_change(watch: Run) -> None:
    result = served(watch, GPU, GPU, GPU, CPU)
    assert result["backends"] == {"gpu": 3, "cpu": 7}
    # On a busy machine questions may overtake one another, and there is more than one change
    assert {change["to"] for change in result["backend_changes"]} <= {"gpu", "cpu"}
    assert all(change["from"] != change["to"] and 0 < change["at_seconds"] <= result["watched_seconds"] for change in result["backend_changes"])
    assert result["backend_changes"]


def test_failures_and_limits(watch: Run) -> None:
    result = served(watch, GPU, DOWN, EMPTY, GPU, max_failed=0, max_empty=0)
    assert result["failed"] is True
    assert (result["asked"], result["answered"], result["failures"], result["empty"]) == (10, 8, 1, 1)
    assert "max_failed is 0, and of 10 questions 1 failed (the first " in result["msg"]
    assert "max_empty is 0, and of 10 questions 1 were answered with no text" in result["msg"]
    assert {result["first_failure"]["outcome"], result["last_failure"]["outcome"]} == {"http_error", "empty"}


def test_limits_that_are_kept(watch: Run) -> None:
    result = served(watch, GPU, DOWN, EMPTY, GPU, max_failed=1, max_empty=1, max_gap_seconds=30)
    assert "failed" not in result


def test_without_limits_nothing_fails(watch: Run) -> None:
    result = watch(f"http://127.0.0.1:{refusing_port()}")
    assert (result["outcomes"], result["latency_seconds"], "failed" in result) == ({"refused": 10}, {}, False)


def test_gap_that_is_too_long(watch: Run) -> None:
    result = served(watch, hangs_after(), timeout_seconds=0.2, max_gap_seconds=0.15)
    assert result["failed"] is True
    assert "max_gap_seconds is 0.15, and the longest gap between good answers was " in result["msg"]
    assert result["outcomes"] == {"timeout": 10}


def test_pages(watch: Run) -> None:
    with LoopbackServer(says(whole(b""))) as server:
        result = watch(f"{server.url}/health?deep=1", api="get", model=None)
        assert server.requests[0].startswith(b"GET /health?deep=1 HTTP/1.1\r\n")
    assert result["outcomes"] == {"answered": 10}


def test_lines_of_results(watch: Run, tmp_path: Path) -> None:
    path = tmp_path / "watch.jsonl"
    path.write_text("of an earlier watch\n" * 1000)
    path.chmod(0o644)
    result = served(watch, GPU, DOWN, GPU, results_path=str(path))
    first, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert first == {"started_at": result["started_at"], "monotonic_start": result["monotonic_start"], "pid": os.getpid()}
    assert sorted(line["number"] for line in lines) == list(range(10))
    assert [line for line in lines if line["outcome"] != "answered"] == [result["first_failure"]]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert result["changed"] is True


def test_check_mode_asks_once_and_writes_nothing(run_host_module: Run, tmp_path: Path) -> None:
    path = tmp_path / "watch.jsonl"
    with LoopbackServer(GPU) as server:
        result = run_host_module("endpoint_watch", check_mode=True, url=server.url, model="m", duration_seconds=3600, results_path=str(path))
    assert (result["asked"], result["answered"], path.exists()) == (1, 1, False)


def test_disk_that_is_full_does_not_end_the_watch(watch: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_watch.os, "write", lambda _descriptor, _data: 0)
    told: list[str] = []
    # Ansible's own keeps them by process, and tells each once
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.warn", lambda _module, text: told.append(text))
    result = served(watch, GPU, results_path=str(tmp_path / "watch.jsonl"))
    assert result["answered"] == 10
    assert "results_path is not complete: no space is left" in " ".join(told)


def test_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "watch.jsonl").symlink_to("precious")
    with pytest.raises(endpoint_watch.InputError, match="cannot be written"):
        Results(str(tmp_path / "watch.jsonl"))
    assert (tmp_path / "precious").read_text() == "kept"


# Ending it early


def test_stop_file_that_appears(tmp_path: Path) -> None:
    path = tmp_path / "stop"
    slept: list[float] = []
    stop = Stop(str(path), slept.append)
    assert not stop.wait(0.1)
    path.touch()
    assert stop.wait(0.2)
    assert (stop.reason, slept) == ("stop_file", [0.1, 0.2])


def test_stop_file_of_an_earlier_watch(tmp_path: Path) -> None:
    path = tmp_path / "stop"
    path.touch()
    os.utime(path, ns=(1, 1))
    stop = Stop(str(path), lambda _seconds: None)
    assert not stop.wait(0.1)
    path.touch()
    assert stop.wait(0.1)


def test_stop_file_that_goes(tmp_path: Path) -> None:
    path = tmp_path / "stop"
    path.touch()
    stop = Stop(str(path), lambda _seconds: None)
    path.unlink()
    assert not stop.wait(0.1)


def test_stop_file_ends_a_watch(watch: Run, tmp_path: Path) -> None:
    path = tmp_path / "stop"

    def turn(connection: t.Any) -> None:
        path.touch()
        GPU(connection)

    result = served(watch, turn, duration_seconds=3600, stop_file=str(path))
    assert result["stopped"] == "stop_file"
    assert 1 <= result["asked"] == result["answered"] < 3600


def started(tmp_path: Path, server: LoopbackServer, **options: t.Any) -> subprocess.Popen[str]:
    """As a process, as Ansible starts it."""
    program = (
        "import json, sys\n"
        "from ansible.module_utils.testing import patch_module_args\n"
        "from ansible_collections.homelab.gpu.plugins.modules import endpoint_watch\n"
        "with patch_module_args(json.loads(sys.argv[1])):\n"
        "    endpoint_watch.main()\n"
    )
    given = {"url": server.url, "model": "m", "duration_seconds": 3600, "rate_per_second": 50, "_ansible_remote_tmp": str(tmp_path), **options}
    return subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(given)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        text=True,
    )


class Meanwhile:
    """A good answer, after which something happens once; waited for by whoever started the watch."""

    def __init__(self, after: int) -> None:
        self._left = after
        self.come = threading.Event()

    def __call__(self, connection: t.Any) -> None:
        GPU(connection)
        self._left -= 1
        if self._left <= 0:
            self.come.set()


def test_sigterm_ends_a_watch_with_a_whole_result(tmp_path: Path) -> None:
    turn = Meanwhile(3)
    with LoopbackServer(turn) as server, started(tmp_path, server) as process:
        assert turn.come.wait(60)
        process.send_signal(signal.SIGTERM)
        output, _errors = process.communicate(timeout=60)
    result = json.loads(output)
    assert (process.returncode, result["stopped"]) == (0, "SIGTERM")
    assert 3 <= result["asked"] == result["answered"]


def test_killed_watch_leaves_what_it_saw(tmp_path: Path) -> None:
    turn = Meanwhile(5)
    path = tmp_path / "watch.jsonl"
    with LoopbackServer(turn) as server, started(tmp_path, server, results_path=str(path)) as process:
        assert turn.come.wait(60)
        process.kill()
        process.communicate(timeout=60)
    first, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert first["pid"] == process.pid
    # The last answers may not have been read by then
    assert len(lines) >= 3
    assert {line["outcome"] for line in lines} == {"answered"}


# Inputs that cannot be right, with words of the message
BAD: list[tuple[Object, str]] = [
    ({"url": "llm"}, "url is 'llm'; write it as http://NAME:PORT"),
    ({"model": None}, "model is missing; api=openai needs one: set model"),
    ({"api": "get"}, "model is given, and api=get asks for a page, not for an answer of a model; leave model out, or set api"),
    ({"api": "get", "model": None, "endpoint": "chat"}, "endpoint is given, and api=get asks for a page"),
    ({"api": "get", "model": None, "stream": True}, "stream is given, and api=get asks for a page"),
    ({"api": "post"}, "value of api must be one of: openai, ollama, get"),
    ({"rate_per_second": 0}, "rate_per_second is 0; set it to more than 0 and at most 100"),
    ({"rate_per_second": 101}, "rate_per_second is 101; set it to more than 0 and at most 100"),
    ({"rate_per_second": "nan"}, "rate_per_second is nan; set it to more than 0"),
    ({"duration_seconds": 0}, "duration_seconds is 0; set it to more than 0 and at most 3600"),
    ({"duration_seconds": 3601}, "duration_seconds is 3601; set it to more than 0 and at most 3600"),
    ({"timeout_seconds": 0}, "timeout_seconds is 0; set it to more than 0 and at most 600"),
    ({"rate_per_second": 50, "timeout_seconds": 11}, "so 550 questions could be under way at once; lower one of them until their product is at most 500"),
    ({"max_failed": -1}, "max_failed is -1; it cannot be less than 0"),
    ({"max_empty": -1}, "max_empty is -1; it cannot be less than 0"),
    ({"max_failed": "none"}, "max_failed"),
    ({"max_gap_seconds": 0.1}, "max_gap_seconds is 0.1, and questions are 0.1 s apart; set it to more than that, or raise rate_per_second"),
    ({"max_gap_seconds": "nan"}, "max_gap_seconds is nan, and questions are 0.1 s apart"),
    ({"stop_file": "stop"}, "stop_file is 'stop'; it has to be an absolute path"),
    ({"results_path": "watch.jsonl"}, "results_path is 'watch.jsonl'; it has to be an absolute path"),
    ({"stop_file": "/nonexistent/stop"}, "stop_file is /nonexistent/stop, and there is no directory /nonexistent; make it, or choose another"),
    ({"results_path": "/nonexistent/x"}, "results_path is /nonexistent/x, and there is no directory /nonexistent"),
    ({"stop_file": "/tmp"}, "stop_file is /tmp, which is no file; choose another"),
    ({"results_path": "/dev/null"}, "results_path is /dev/null, which is no file; choose another"),
    ({"stop_file": "/tmp/x", "results_path": "/tmp/x"}, "stop_file and results_path are both /tmp/x; choose another for one of them"),
    ({"duration": 5}, "Unsupported parameters"),
]


@pytest.mark.parametrize(("options", "words"), BAD)
def test_bad_inputs(run_host_module: Run, monkeypatch: pytest.MonkeyPatch, options: Object, words: str) -> None:
    def exchange(*_arguments: t.Any) -> t.NoReturn:
        raise AssertionError("something was sent")

    monkeypatch.setattr("ansible_collections.homelab.gpu.plugins.module_utils._endpoint.exchange", exchange)
    result = run_host_module("endpoint_watch", **{"url": "http://llm", "model": "m", **options})
    assert result["failed"]
    assert words in result["msg"]
