# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._endpoint import Patience
from ansible_collections.homelab.gpu.plugins.module_utils._llm_api import Answer
from ansible_collections.homelab.gpu.tests.unit.loopback_server import (
    LoopbackServer,
    Turn,
    chunked,
    event,
    hangs_after,
    head,
    refusing_port,
    resets_after,
    says,
    whole,
)

Object = dict[str, t.Any]
Run = t.Callable[..., Object]

HELLO: Object = {"model": "m", "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}], "usage": {"completion_tokens": 2}}
GIVEN_UP: Object = {"model": "m", "choices": [{"message": {"content": ""}, "finish_reason": "abort"}]}
PIECES = [event({"choices": [{"delta": {"content": text}}]}) for text in ("Hel", "lo")]


@pytest.fixture
def probe(run_host_module: Run) -> Run:
    def run(url: str, **options: t.Any) -> Object:
        return run_host_module("llm_probe", url=url, **{"model": "m", **options})

    return run


def test_answer(probe: Run) -> None:
    with LoopbackServer(says(whole(HELLO, X_LLM_Backend="gpu"))) as server:
        result = probe(server.url)
    assert {name: result[name] for name in ("changed", "outcome", "message", "status", "backend", "model", "content", "has_content", "finish_reason")} == {
        "changed": False,
        "outcome": "answered",
        "message": "",
        "status": 200,
        "backend": "gpu",
        "model": "m",
        "content": "Hello",
        "has_content": True,
        "finish_reason": "stop",
    }
    assert result["completion_tokens"] == 2
    assert 0 < result["first_byte_seconds"] <= result["total_seconds"]
    assert "failed" not in result


def test_check_mode_asks_too(run_host_module: Run) -> None:
    with LoopbackServer(says(whole(HELLO))) as server:
        assert run_host_module("llm_probe", url=server.url, model="m", check_mode=True)["outcome"] == "answered"


@pytest.mark.parametrize(
    ("url", "options", "line"),
    [
        ("", {}, b"POST /v1/chat/completions HTTP/1.1"),
        ("/", {}, b"POST /v1/chat/completions HTTP/1.1"),
        ("/v1", {}, b"POST /v1/chat/completions HTTP/1.1"),
        ("/v1/", {"endpoint": "completions"}, b"POST /v1/completions HTTP/1.1"),
        ("/llm", {"endpoint": "chat"}, b"POST /llm/v1/chat/completions HTTP/1.1"),
        ("", {"api": "ollama"}, b"POST /api/chat HTTP/1.1"),
        ("/x/v1", {"api": "ollama", "endpoint": "generate"}, b"POST /x/v1/api/generate HTTP/1.1"),
    ],
)
def test_where_it_asks(probe: Run, url: str, options: Object, line: bytes) -> None:
    with LoopbackServer(says(whole({}))) as server:
        probe(server.url + url, fail_unless_answered=False, **options)
        assert server.requests[0].split(b"\r\n")[0] == line


def test_what_it_sends(probe: Run) -> None:
    with LoopbackServer(says(whole(HELLO))) as server:
        probe(server.url, prompt="Who?", max_tokens=3, api_key="sesame", headers={"X-Number": 7, "Host": "llm.example.org"})
        top, _blank, body = server.requests[0].partition(b"\r\n\r\n")
    assert {b"Authorization: Bearer sesame", b"X-Number: 7", b"Content-Type: application/json", b"User-Agent: homelab.gpu"} <= set(top.split(b"\r\n"))
    assert [line for line in top.split(b"\r\n") if line.lower().startswith(b"host:")] == [b"Host: llm.example.org"]
    assert json.loads(body) == {"model": "m", "stream": False, "max_tokens": 3, "messages": [{"role": "user", "content": "Who?"}]}


def test_stream(probe: Run) -> None:
    with LoopbackServer(says(chunked(*PIECES, event("[DONE]"), X_LLM_Backend="cpu"))) as server:
        result = probe(server.url, stream=True)
    assert (result["outcome"], result["content"], result["backend"]) == ("answered", "Hello", "cpu")
    assert 0 < result["first_byte_seconds"] <= result["first_token_seconds"] <= result["total_seconds"]


def test_ollama(probe: Run) -> None:
    lines = [{"model": "m", "message": {"content": "Hello"}, "done": False}, {"model": "m", "done": True, "done_reason": "stop", "eval_count": 2}]
    with LoopbackServer(says(chunked(*(json.dumps(line).encode() + b"\n" for line in lines)))) as server:
        result = probe(server.url, api="ollama", stream=True)
    assert (result["outcome"], result["content"], result["completion_tokens"]) == ("answered", "Hello", 2)


@pytest.mark.parametrize(
    ("turn", "options", "outcome"),
    [
        (says(whole(GIVEN_UP)), {}, "empty"),
        (says(whole(b"")), {}, "empty"),
        (says(chunked()), {"stream": True}, "empty"),
        (says(chunked(*PIECES)), {"stream": True}, "cut"),
        (says(chunked(*PIECES, end=False)), {"stream": True}, "cut"),
        (resets_after(head(Content_Length=100) + b'{"choices'), {}, "cut"),
        (says(), {}, "cut"),
        (hangs_after(), {"timeout_seconds": 0.2}, "timeout"),
        (hangs_after(head(Content_Length=100) + b'{"choices'), {"timeout_seconds": 0.2}, "timeout"),
        (says(whole(HELLO, "302 Found", Location="http://elsewhere/")), {}, "http_error"),
        (says(whole({"error": "no such model"}, "404 Not Found")), {}, "http_error"),
        (says(whole(b"<html>")), {}, "not_json"),
        (says(whole({"status": "ok"})), {}, "unexpected"),
        (says(b"220 mail.example.org ESMTP\r\n"), {}, "not_http"),
        (says(chunked(b'{"message": {"content": "a"}}\n{"error": "runner died"}\n')), {"api": "ollama", "stream": True}, "reported_error"),
    ],
)
@pytest.mark.parametrize("fail", [True, False])
def test_unwell_answers(probe: Run, turn: Turn, options: Object, outcome: str, fail: bool) -> None:
    with LoopbackServer(turn) as server:
        result = probe(server.url, fail_unless_answered=fail, **options)
    assert (result["outcome"], result.get("failed", False)) == (outcome, fail)
    assert result["message"]
    if fail:
        assert result["msg"] == f"{server.url} did not answer well ({outcome}): {result['message']}"


def test_redirects_are_not_followed(probe: Run) -> None:
    with LoopbackServer(says(whole(b"", "308 Permanent Redirect", Location="/elsewhere"))) as server:
        result = probe(server.url)
        assert len(server.requests) == 1
    assert "redirects are not followed; write the address /elsewhere into url" in result["msg"]


def test_nobody_listens(probe: Run) -> None:
    result = probe(f"http://127.0.0.1:{refusing_port()}")
    assert (result["failed"], result["outcome"], result["status"], result["first_byte_seconds"]) == (True, "refused", None, None)


def test_proxies_of_the_environment_are_not_used(probe: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{refusing_port()}")
    with LoopbackServer(says(whole(HELLO))) as server:
        assert probe(server.url)["outcome"] == "answered"


# Waiting


def test_it_asks_until_there_is_a_good_answer(probe: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.homelab.gpu.plugins.module_utils._endpoint._PAUSE_SECONDS", 0)
    down, cpu, gpu = (whole({"error": "no server"}, "503 Service Unavailable"), whole(HELLO, X_LLM_Backend="cpu"), whole(HELLO, X_LLM_Backend="gpu"))
    with LoopbackServer(says(down), says(down), says(cpu), says(gpu)) as server:
        result = probe(server.url, wait_seconds=60, expected_backend="gpu")
    assert (result["outcome"], result["backend"], result["questions"]) == ("answered", "gpu", 4)
    assert [change["what"] for change in result["transitions"]] == [
        "http_error: status 503: no server",
        "wrong_backend by cpu: cpu answered, and expected_backend is gpu",
        "answered by gpu",
    ]


@pytest.mark.parametrize(
    ("headers", "words"),
    [({"X_LLM_Backend": "cpu"}, "cpu answered, and expected_backend is gpu"), ({}, "the answer has no header X-LLM-Backend, and expected_backend is gpu")],
)
def test_answer_of_another_backend(probe: Run, headers: Object, words: str) -> None:
    with LoopbackServer(says(whole(HELLO, **headers))) as server:
        result = probe(server.url, expected_backend="gpu")
    assert (result["failed"], result["outcome"], result["questions"]) == (True, "wrong_backend", 1)
    assert result["msg"] == f"{server.url} did not answer well (wrong_backend): {words}"


# Seconds that each question takes, what each gets as its timeout, and how long it takes in all; with a timeout of 10 s and a pause of half a second
@pytest.mark.parametrize(
    ("wait", "takes", "timeouts", "waited"),
    [
        (0, [1], [10], 1),
        (0, [10], [10], 10),
        (3, [1, 1], [10, 1.5], 2.5),
        (3, [10], [10], 10),
        (25, [10, 10, 4], [10, 10, 4], 25),
        (1.5, [1], [10], 1),
    ],
)
def test_questions_end_with_the_wait(wait: float, takes: list[float], timeouts: list[float], waited: float) -> None:
    now = 100.0
    given: list[float] = []

    def pass_by(seconds: float) -> None:
        nonlocal now
        now += seconds

    def ask(timeout: float) -> Answer:
        given.append(timeout)
        pass_by(takes[len(given) - 1])
        return Answer("timeout", "no answer")

    patience = Patience(ask, timeout_seconds=10, wait_seconds=wait, clock=lambda: now, sleep=pass_by)
    assert patience.answer().outcome == "timeout"
    assert (given, patience.waited_seconds, patience.questions) == (timeouts, waited, len(takes))
    assert patience.transitions == [{"at_seconds": takes[0], "what": "timeout: no answer"}]


# Secrets


def test_secrets_are_not_in_results(probe: Run) -> None:
    tell = {"error": "the key sesame-street and the cookie c-is-for-cookie do not open this"}
    with LoopbackServer(says(whole(tell, "401 Unauthorized"))) as server:
        result = probe(server.url, api_key="sesame-street", headers={"Cookie": "c-is-for-cookie", "X-Room": "kitchen"})
    shown = json.dumps(result)
    assert "sesame-street" not in shown
    assert "c-is-for-cookie" not in shown
    assert result["invocation"]["module_args"]["headers"]["X-Room"] == "kitchen"


def test_secrets_are_not_in_refusals(probe: Run) -> None:
    for options in ({"max_tokens": "many"}, {"nonsense": 1}, {"max_tokens": 0}):
        result = probe("http://llm", headers={"X-Api-Key": "sesame-street"}, **options)
        assert result["failed"]
        assert "sesame-street" not in json.dumps(result)


def test_password_in_the_address_is_not_shown(probe: Run) -> None:
    result = probe("http://me:sesame-street@llm")
    assert "give a key by api_key instead" in result["msg"]
    assert "sesame-street" not in json.dumps(result)


def test_nothing_is_logged(probe: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible.module_utils.basic import AnsibleModule

    logged: list[str] = []
    monkeypatch.setattr(AnsibleModule, "log", lambda _module, message, **_more: logged.append(str(message)))
    probe(f"http://127.0.0.1:{refusing_port()}", headers={"X-Api-Key": "sesame-street"})
    assert "sesame-street" not in "".join(logged)


# Inputs that cannot be right, with words of the message
BAD: list[tuple[Object, str]] = [
    ({"url": "llm:8000"}, "url is 'llm:8000'; write it as http://NAME:PORT or https://NAME"),
    ({"url": "ftp://llm"}, "url is 'ftp://llm'; write it as"),
    ({"url": "http://"}, "url is 'http://'; write it as"),
    ({"url": ""}, "url is ''; write it as"),
    ({"url": None}, "url is ''; write it as"),
    ({"headers": None}, "argument 'headers' is of type NoneType"),
    ({"url": "http://llm:99999"}, "url is 'http://llm:99999': Port out of range 0-65535; write it as"),
    ({"url": "http://llm:0"}, "url is 'http://llm:0'; write it as"),
    ({"url": "http://[::1"}, "url is 'http://[::1': Invalid IPv6 URL; write it as"),
    ({"url": "http://llm/a b"}, "without blanks, and other than ASCII only as %XX"),
    ({"url": "http://llm/\r\nX: y"}, "without blanks"),
    ({"url": "http://llm/ö"}, "other than ASCII only as %XX"),
    ({"url": "http://llm/?a=b"}, "leave ?a=b out: the path of the question is added to url"),
    ({"url": "http://llm/#top"}, "leave #top out: it is never sent"),
    ({"url": "http://llm/v1/chat/completions"}, "leave /v1/chat/completions out and choose it by api and endpoint"),
    ({"url": "http://llm/api/generate", "api": "ollama"}, "leave /api/generate out and choose it by api and endpoint"),
    ({"api": "gemini"}, "value of api must be one of: openai, ollama, got: gemini"),
    ({"api": "get"}, "value of api must be one of: openai, ollama, got: get"),
    ({"endpoint": "generate"}, "endpoint is generate, which api=openai does not have; use chat or completions, or set api"),
    ({"endpoint": "completions", "api": "ollama"}, "endpoint is completions, which api=ollama does not have; use chat or generate, or set api"),
    ({"endpoint": "embeddings"}, "value of endpoint must be one of: chat, completions, generate"),
    ({"model": None}, "model is missing; api=openai needs one: set model"),
    ({"model": " "}, "model is empty; api=openai needs one: set model"),
    ({"prompt": ""}, "prompt is empty; api=openai needs one: set prompt"),
    ({"max_tokens": 0}, "max_tokens is 0; set it to more than 0 and at most 100000"),
    ({"max_tokens": "many"}, "max_tokens"),
    ({"timeout_seconds": 0}, "timeout_seconds is 0; set it to more than 0 and at most 600"),
    ({"timeout_seconds": -1}, "timeout_seconds is -1; set it to more than 0"),
    ({"timeout_seconds": 601}, "timeout_seconds is 601; set it to more than 0 and at most 600"),
    ({"timeout_seconds": "nan"}, "timeout_seconds is nan; set it to more than 0"),
    ({"timeout_seconds": "soon"}, "timeout_seconds"),
    ({"backend_header": "X LLM"}, "backend_header is 'X LLM'; write the name of a header, as X-LLM-Backend"),
    ({"backend_header": ""}, "backend_header is ''; write the name"),
    ({"headers": {"X Y": "1"}}, "headers has the name 'X Y'"),
    ({"headers": {"X": "1\r\nY: 2"}}, "headers[X] is no single line of text in Latin-1"),
    ({"headers": {"X": "❤"}}, "headers[X] is no single line of text in Latin-1"),
    ({"headers": {"X": None}}, "headers[X] is no single line"),
    ({"headers": {"X": ["a"]}}, "headers[X] is no single line"),
    ({"headers": {"Content-Length": "5"}}, "headers has Content-Length, which is set by the module; leave it out"),
    ({"headers": {"authorization": "Basic x"}, "api_key": "sesame-street"}, "api_key and headers[Authorization] exclude each other"),
    ({"headers": "X"}, "headers"),
    ({"api_key": "a\nb"}, "api_key holds a line break"),
    ({"api_key": "key\n"}, "api_key holds a line break"),
    ({"api_key": " key"}, "a blank at its end"),
    ({"ca_path": "/etc/hosts"}, "ca_path is given, and url is 'http://llm', without TLS"),
    ({"url": "https://llm", "ca_path": "/nonexistent/ca.pem"}, "ca_path: there is no file /nonexistent/ca.pem"),
    ({"url": "https://llm", "ca_path": "{tmp}/not-a-cert"}, "not-a-cert cannot be used, check that it is complete and PEM"),
    ({"url": "https://llm", "ca_path": "{tmp}/not-a-cert", "validate_certs": False}, "ca_path and validate_certs=false exclude each other"),
    ({"stream": "perhaps"}, "stream"),
    ({"wait_seconds": -1}, "wait_seconds is -1; set it to 0, or to more than 0 and at most 3600"),
    ({"wait_seconds": 3601}, "wait_seconds is 3601; set it to 0, or to more than 0"),
    ({"wait_seconds": "nan"}, "wait_seconds is nan; set it to 0"),
    ({"expected_backend": ""}, "expected_backend is empty; give the name of a backend, or leave it out"),
    ({"timeout": 5}, "Unsupported parameters"),
]


@pytest.mark.parametrize(("options", "words"), BAD)
def test_bad_inputs(run_host_module: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Object, words: str) -> None:
    def exchange(*_arguments: t.Any) -> t.NoReturn:
        raise AssertionError("something was sent")

    monkeypatch.setattr("ansible_collections.homelab.gpu.plugins.module_utils._endpoint.exchange", exchange)
    (tmp_path / "not-a-cert").write_text("no certificate")
    given = {name: value.replace("{tmp}", str(tmp_path)) if isinstance(value, str) else value for name, value in options.items()}
    result = run_host_module("llm_probe", **{"url": "http://llm", "model": "m", **given})
    assert result["failed"]
    assert words in result["msg"]
