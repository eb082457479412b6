# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._http import Exchange, Failure
from ansible_collections.homelab.gpu.plugins.module_utils._llm_api import Answer, body_of, judge_for
from ansible_collections.homelab.gpu.tests.unit.loopback_server import event

Object = dict[str, t.Any]
QUESTION: Object = {"model": "m", "prompt": "hello?", "max_tokens": 8}
CUT = Failure("cut", "the answer broke off")
LATE = Failure("timeout", "an answer began, but was not whole within 5 s")
DONE = event("[DONE]")


@pytest.mark.parametrize(
    ("api", "endpoint", "stream", "more"),
    [
        ("openai", "chat", False, {"messages": [{"role": "user", "content": "hello?"}], "max_tokens": 8}),
        ("openai", "chat", True, {"messages": [{"role": "user", "content": "hello?"}], "max_tokens": 8, "stream_options": {"include_usage": True}}),
        ("openai", "completions", False, {"prompt": "hello?", "max_tokens": 8}),
        ("ollama", "chat", True, {"messages": [{"role": "user", "content": "hello?"}], "options": {"num_predict": 8}}),
        ("ollama", "generate", False, {"prompt": "hello?", "options": {"num_predict": 8}}),
    ],
)
def test_questions(api: str, endpoint: str, stream: bool, more: Object) -> None:
    assert body_of(api, endpoint, stream=stream, **QUESTION) == {"model": "m", "stream": stream, **more}


def judged(api: str, body: bytes | Object | list[Object], *, status: int | None = 200, failure: Failure | None = None, **headers: str) -> Answer:
    """A stream if the body is bytes, or a list of what Ollama says; each line comes a second after the one before, the first at 2 s of a watch's 1 s."""
    stream = not isinstance(body, dict)
    if isinstance(body, list):
        body = b"".join(json.dumps(line).encode() + b"\n" for line in body)
    raw = json.dumps(body).encode() if isinstance(body, dict) else body
    judge = judge_for(api, stream)
    moment = 1.0
    for line in raw.splitlines(keepends=True):
        moment += 1 if line.strip() else 0
        if judge.receive(line, moment):
            break
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    done = Exchange(started=1.0, ended=moment, first_byte=1.5, status=status, headers=named, failure=failure)
    return judge.verdict(done, "X-LLM-Backend")


def message(content: t.Any, reason: str | None = "stop", **more: t.Any) -> Object:
    return {"model": "m", "choices": [{"message": {"role": "assistant", "content": content, **more}, "finish_reason": reason}]}


def text(content: t.Any, reason: str | None = "stop") -> Object:
    return {"model": "m", "choices": [{"text": content, "finish_reason": reason}]}


def delta(content: str | None = None, reason: str | None = None, **more: t.Any) -> bytes:
    piece = {**({} if content is None else {"content": content}), **more}
    return event({"model": "m", "choices": [{"delta": piece, "finish_reason": reason}], "usage": None})


def usage(tokens: int) -> bytes:
    return event({"model": "m", "choices": [], "usage": {"completion_tokens": tokens}})


def said(content: str = "", **more: t.Any) -> Object:
    return {"model": "m", "message": {"role": "assistant", "content": content}, "done": False, **more}


END: Object = {"done": True, "done_reason": "stop", "eval_count": 4, "eval_duration": 2 * 10**9}
FULL = delta(role="assistant", content="") + delta("H") + delta("el") + delta("lo") + delta(reason="stop") + usage(5) + DONE


# api, body, content, reason
GOOD: list[tuple[str, t.Any, str, str]] = [
    ("openai", message("Hello"), "Hello", "stop"),
    ("openai", message("Hel", "length"), "Hel", "length"),
    ("openai", text("Hello"), "Hello", "stop"),
    ("openai", message(None, "length", reasoning_content="Let me see"), "Let me see", "length"),
    ("openai", message("", "length", reasoning="Let me see"), "Let me see", "length"),
    ("openai", message("Hello", None), "Hello", ""),
    ("openai", {**message("Hello"), "error": None}, "Hello", "stop"),
    ("openai", FULL, "Hello", "stop"),
    ("openai", FULL.replace(b"\n", b"\r\n"), "Hello", "stop"),
    ("openai", b": keep-alive\n\nevent: x\nid: 1\nretry: 5\n" + FULL, "Hello", "stop"),
    ("openai", FULL.removesuffix(b"\n\n"), "Hello", "stop"),
    ("openai", event({"choices": []}) + FULL, "Hello", "stop"),
    ("openai", event(text("Hel", None)) + event(text("lo")) + DONE, "Hello", "stop"),
    ("openai", delta(reasoning_content="Let me see") + delta(reason="length") + DONE, "Let me see", "length"),
    ("ollama", said("Hello", **END), "Hello", "stop"),
    ("ollama", {"model": "m", "response": "Hello", **END}, "Hello", "stop"),
    ("ollama", {"model": "m", "response": "", "thinking": "Let me see", **END}, "Let me see", "stop"),
    ("ollama", [said("Hel"), said("lo"), said(**END)], "Hello", "stop"),
    ("ollama", [{"response": "Hel", "done": False}, {"response": "lo", "done": False}, {"response": "", **END}], "Hello", "stop"),
    ("ollama", [{"message": {"content": "", "thinking": "Let me see"}, "done": False}, said(**END)], "Let me see", "stop"),
]


@pytest.mark.parametrize(("api", "body", "content", "reason"), GOOD)
def test_good_answers(api: str, body: t.Any, content: str, reason: str) -> None:
    answer = judged(api, body)
    assert (answer.outcome, answer.message, answer.content, answer.finish_reason, answer.has_content) == ("answered", "", content, reason, True)


# api, body, how the exchange failed, outcome, words
BAD: list[tuple[str, t.Any, Failure | None, str, str]] = [
    # vLLM that is stopped: 200 all the same
    ("openai", message("", "abort"), None, "empty", "status 200, and the answer has no text (finish_reason abort)"),
    ("openai", text("", "abort"), None, "empty", "the answer has no text (finish_reason abort)"),
    ("openai", message("Hel", "abort"), None, "cut", "the server gave up amid the text (finish_reason abort)"),
    ("openai", delta(content="", reason="abort") + DONE, None, "empty", "the stream has no text (finish_reason abort)"),
    ("openai", delta("Hel") + delta(reason="abort") + DONE, None, "cut", "the server gave up amid the text"),
    ("openai", message("Hel", "error"), None, "cut", "the server gave up amid the text"),
    # Nothing in it
    ("openai", message(None), None, "empty", "the answer has no text (finish_reason stop)"),
    ("openai", message(" \n"), None, "empty", "no text"),
    ("openai", {"choices": []}, None, "empty", "no text"),
    ("openai", b"", None, "empty", "status 200, and nothing in the stream"),
    ("openai", b": keep-alive\n\n", None, "empty", "nothing in the stream"),
    ("openai", DONE, None, "empty", "the stream has no text"),
    ("ollama", [], None, "empty", "nothing in the stream"),
    ("ollama", said(**END), None, "empty", "the answer has no text (finish_reason stop)"),
    ("ollama", {"model": "m", "response": "", "done": True, "done_reason": "load"}, None, "empty", "(finish_reason load)"),
    # Streams that end too early, some of them as if they were complete
    ("openai", delta("Hel"), None, "cut", "the stream ended without [DONE]"),
    ("openai", delta("Hello") + delta(reason="stop"), None, "cut", "without [DONE]"),
    ("openai", delta("Hel") + b'data: {"choices": [{"de', None, "cut", "the stream ended amid a line"),
    ("openai", delta("Hel"), CUT, "cut", "the answer broke off"),
    ("openai", delta("Hel") + b'data: {"choices": [{"de', CUT, "cut", "the answer broke off"),
    ("openai", delta("Hel"), LATE, "timeout", "not whole within 5 s"),
    ("ollama", [said("Hel")], None, "cut", "the stream ended without done: true"),
    ("ollama", [said("Hel")], CUT, "cut", "the answer broke off"),
    ("ollama", said("Hel"), None, "cut", "the answer ended without done: true"),
    # The server says so, within a 200
    (
        "ollama",
        [said("Hel"), {"error": "llama runner process has terminated"}],
        None,
        "reported_error",
        "within its answer: llama runner process has terminated",
    ),
    ("ollama", [{"error": "model not found"}], CUT, "reported_error", "model not found"),
    ("openai", event({"error": {"message": "EngineCore died", "code": 500}}) + DONE, None, "reported_error", "EngineCore died"),
    ("openai", {"error": {"code": 500}}, None, "reported_error", '{"code": 500}'),
    # Something else
    ("openai", b"<html>hello</html>\n", None, "not_json", "a line that is no event: '<html>hello</html>'"),
    ("openai", event("<html>"), None, "not_json", "the answer is no JSON: '<html>'"),
    ("ollama", b"hello\n", None, "not_json", "the answer is no JSON: 'hello'"),
    ("ollama", b"[1]\n", None, "unexpected", "the answer is JSON, but no object: [1]"),
    ("ollama", b"[" * 100_000 + b"\n", None, "not_json", "the answer is no JSON"),
    ("openai", {"status": "ok"}, None, "unexpected", 'JSON came without choices, so it is no answer of OpenAI\'s API: {"status": "ok"}'),
    ("openai", {"choices": "many"}, None, "unexpected", "without choices"),
    ("openai", {"choices": [1]}, None, "unexpected", "choices holds no object"),
    ("openai", {"choices": [{"message": "Hello"}]}, None, "unexpected", 'the text is in no object: "Hello"'),
    ("openai", said("Hello", **END), None, "unexpected", "without choices"),
    ("ollama", message("Hello"), None, "unexpected", "no answer of Ollama's API"),
]


@pytest.mark.parametrize(("api", "body", "failure", "outcome", "words"), BAD)
def test_bad_answers(api: str, body: t.Any, failure: Failure | None, outcome: str, words: str) -> None:
    answer = judged(api, body, failure=failure)
    assert answer.outcome == outcome, answer.message
    assert words in answer.message


@pytest.mark.parametrize("raw", [b"", b" \n"])
def test_status_200_with_no_body(raw: bytes) -> None:
    judge = judge_for("openai", False)
    judge.receive(raw, 2.0)
    answer = judge.verdict(Exchange(started=1.0, ended=2.0, status=200), "X-LLM-Backend")
    assert (answer.outcome, answer.message) == ("empty", "status 200, and nothing in the answer")


def test_garbage_in_place_of_an_answer() -> None:
    judge = judge_for("openai", False)
    judge.receive(b"\xff\xfe<html>" + b"x" * 500, 2.0)
    answer = judge.verdict(Exchange(started=1.0, ended=2.0, status=200), "X-LLM-Backend")
    assert answer.outcome == "not_json"
    assert len(answer.message) < 300


@pytest.mark.parametrize(
    ("status", "body", "headers", "words"),
    [
        (500, {"error": {"message": "boom"}}, {}, "status 500: boom"),
        (404, {"error": "model 'm' not found"}, {}, "status 404: model 'm' not found"),
        (422, {"detail": "no such field"}, {}, "status 422: no such field"),
        (400, {"object": "error", "message": "too long"}, {}, "status 400: too long"),
        (503, {"x": 1}, {}, "status 503: '{\"x\": 1}'"),
        (401, {"error": "Unauthorized"}, {}, "status 401: Unauthorized; check api_key"),
        (301, {}, {"location": "https://llm/v1"}, "status 301: redirects are not followed; write the address https://llm/v1 into url"),
        (304, {}, {}, "status 304"),
    ],
)
@pytest.mark.parametrize("api", ["openai", "ollama", "get"])
def test_statuses(api: str, status: int, body: Object, headers: dict[str, str], words: str) -> None:
    answer = judged(api, body, status=status, **headers)
    assert (answer.outcome, answer.message, answer.status) == ("http_error", words, status)


def test_an_error_page_that_is_no_json() -> None:
    judge = judge_for("get", False)
    judge.receive(b"<html><body><h1>503 Service Unavailable</h1>", 2.0)
    answer = judge.verdict(Exchange(started=1.0, ended=2.0, status=503), "X-LLM-Backend")
    assert answer.message == "status 503: '<html><body><h1>503 Service Unavailable</h1>'"


@pytest.mark.parametrize("api", ["openai", "ollama", "get"])
def test_no_answer_at_all(api: str) -> None:
    judge = judge_for(api, False)
    refused = Failure("refused", "no connection to 127.0.0.1:1: Connection refused")
    answer = judge.verdict(Exchange(started=1.0, ended=1.25, failure=refused), "X-LLM-Backend")
    assert (answer.outcome, answer.message, answer.status) == ("refused", str(refused), None)
    assert (answer.first_byte_seconds, answer.total_seconds) == (None, 0.25)


def test_a_page_needs_no_text() -> None:
    judge = judge_for("get", False)
    answer = judge.verdict(Exchange(started=1.0, ended=1.5, status=204, headers={"x-llm-backend": "gpu"}), "X-LLM-Backend")
    assert (answer.outcome, answer.backend) == ("answered", "gpu")


def test_figures_of_a_stream() -> None:
    answer = judged("openai", FULL, x_llm_backend="gpu")
    # "H" is in the second event, at 3 s of the clock, "lo" in the fourth, [DONE] in the seventh
    assert (answer.first_byte_seconds, answer.first_token_seconds, answer.total_seconds) == (0.5, 2.0, 7.0)
    assert (answer.completion_tokens, answer.tokens_per_second) == (5, 2.0)
    assert (answer.backend, answer.model) == ("gpu", "m")


def test_figures_without_a_stream() -> None:
    answer = judged("openai", {**message("Hello"), "usage": {"completion_tokens": 5}})
    assert (answer.first_token_seconds, answer.total_seconds) == (None, 1.0)
    assert (answer.completion_tokens, answer.tokens_per_second) == (5, 5.0)


@pytest.mark.parametrize(
    ("api", "body"),
    [("openai", message("Hello")), ("openai", {**message("Hello"), "usage": {"completion_tokens": True}}), ("openai", delta("Hello") + usage(1) + DONE)],
    ids=["tells none", "nonsense", "only one"],
)
def test_rate_that_nobody_can_tell(api: str, body: t.Any) -> None:
    assert judged(api, body).tokens_per_second is None


def test_rate_of_a_stream_that_was_held_back_and_let_go_at_once() -> None:
    judge = judge_for("openai", True)
    judge.receive(FULL, 2.0)
    answer = judge.verdict(Exchange(started=1.0, ended=2.0, status=200), "X-LLM-Backend")
    assert (answer.completion_tokens, answer.first_token_seconds, answer.tokens_per_second) == (5, 1.0, None)


@pytest.mark.parametrize("body", [said("Hello", **END), [said("Hel"), said("lo"), said(**END)]])
def test_ollamas_own_figures(body: t.Any) -> None:
    answer = judged("ollama", body)
    assert (answer.completion_tokens, answer.tokens_per_second) == (4, 2.0)


def test_stream_says_when_it_is_complete() -> None:
    judge = judge_for("openai", True)
    assert [judge.receive(block, 1.0) for block in (delta("Hel"), DONE[:8], DONE[8:])] == [False, False, True]


def test_pieces_may_be_torn_anywhere() -> None:
    body = FULL.replace(b"lo", "lö".encode())
    for size in (1, 2, 3, 7, 64):
        judge = judge_for("openai", True)
        for start in range(0, len(body), size):
            judge.receive(body[start : start + size], 1.0)
        assert judge.verdict(Exchange(started=0.0, ended=1.0, status=200), "x").content == "Hellö"
