# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
# Pure: questions for OpenAI's and Ollama's APIs, and what an answer is worth. A status of 200 says little: a server that was stopped may give 200 with an
# empty text, and a stream may end as if it were complete.

from __future__ import annotations

import dataclasses
import json
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._http import Exchange, Failure

__all__ = ["ANSWERED", "EMPTY", "ENDPOINTS", "Answer", "Judge", "body_of", "judge_for"]

ANSWERED: t.Final = "answered"
EMPTY: t.Final = "empty"

ENDPOINTS: t.Final[dict[str, dict[str, str]]] = {
    "openai": {"chat": "/v1/chat/completions", "completions": "/v1/completions"},
    "ollama": {"chat": "/api/chat", "generate": "/api/generate"},
}
# Reasons of a server that gave up; all others belong to a complete answer
_BROKEN_OFF = frozenset({"abort", "error"})
_NANO = 10**9
# A stream that somebody held back and let go at once tells nothing of the time between tokens
_FEWEST_MOMENTS = 3


def body_of(api: str, endpoint: str, *, model: str, prompt: str, max_tokens: int, stream: bool) -> dict[str, t.Any]:
    """The question as JSON. No more options than needed: not every server knows every one."""
    body: dict[str, t.Any] = {"model": model, "stream": stream}
    if endpoint == "chat":
        body["messages"] = [{"role": "user", "content": prompt}]
    else:
        body["prompt"] = prompt
    if api == "ollama":
        body["options"] = {"num_predict": max_tokens}
    else:
        body["max_tokens"] = max_tokens
        if stream:
            body["stream_options"] = {"include_usage": True}
    return body


@dataclasses.dataclass
class Answer:
    """What came back, and its worth."""

    outcome: str
    message: str
    status: int | None = None
    backend: str = ""
    model: str = ""
    content: str = ""
    finish_reason: str = ""
    completion_tokens: int | None = None
    tokens_per_second: float | None = None
    first_byte_seconds: float | None = None
    first_token_seconds: float | None = None
    total_seconds: float = 0.0

    @property
    def has_content(self) -> bool:
        return bool(self.content.strip())


class Judge:
    """Takes the body of one answer as it comes; on its own it wants nothing of it but its status."""

    def __init__(self) -> None:
        self._raw = bytearray()

    def receive(self, block: bytes, _moment: float) -> bool:
        """Whether the answer has said all."""
        self._raw += block
        return False

    def verdict(self, done: Exchange, backend_header: str) -> Answer:
        answer = Answer(
            ANSWERED,
            "",
            status=done.status,
            backend=done.headers.get(backend_header.lower(), ""),
            first_byte_seconds=_span(done.started, done.first_byte),
            total_seconds=round(done.ended - done.started, 6),
        )
        if done.status is not None and not 200 <= done.status < 300:
            answer.outcome, answer.message = "http_error", _http_error(done, bytes(self._raw))
            return answer
        failure: Failure | None = None
        try:
            self._fill(answer, done)
        except Failure as error:
            failure = error
        # What the server said of itself tells more than the way in which it then hung up, and that tells more than an unfinished text
        if done.failure is not None and (failure is None or failure.outcome != "reported_error"):
            failure = done.failure
        if failure is not None:
            answer.outcome, answer.message = failure.outcome, str(failure)
        return answer

    def _fill(self, answer: Answer, done: Exchange) -> None:
        """Raises Failure if it is none."""


def judge_for(api: str, stream: bool) -> Judge:
    if api == "get":
        return Judge()
    return _Question(api, stream)


class _Question(Judge):
    def __init__(self, api: str, stream: bool) -> None:
        super().__init__()
        self._api = api
        self._stream = stream
        self._events = _server_sent_events if api == "openai" else _json_lines
        self._rest = b""
        self._failure: Failure | None = None
        self._complete = False
        self._seen = 0
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._model = ""
        self._finish_reason = ""
        self._tokens: int | None = None
        self._own_rate: float | None = None
        self._moments: list[float] = []

    # The body

    def receive(self, block: bytes, moment: float) -> bool:
        super().receive(block, moment)
        if not self._stream or self._failure is not None:
            return False
        *lines, self._rest = (self._rest + block).split(b"\n")
        try:
            for line in lines:
                self._line(line, moment)
        except Failure as failure:
            self._failure = failure
        return self._complete

    def _line(self, line: bytes, moment: float | None) -> None:
        for event in self._events(line.strip()):
            self._seen += 1
            if event == b"[DONE]":
                self._complete = True
            else:
                self._piece(_parsed(event), moment)

    def _piece(self, document: dict[str, t.Any], moment: float | None) -> None:
        _refuse_error(document)
        self._model = _text(document.get("model")) or self._model
        said = self._openai(document) if self._api == "openai" else self._ollama(document)
        if said and moment is not None and self._moments[-1:] != [moment]:
            self._moments.append(moment)

    def _openai(self, document: dict[str, t.Any]) -> bool:
        usage = document.get("usage")
        if isinstance(usage, dict):
            self._tokens = _count(usage.get("completion_tokens"), self._tokens)
        choices = document.get("choices")
        if not isinstance(choices, list):
            raise Failure("unexpected", f"JSON came without choices, so it is no answer of OpenAI's API: {_shown(document)}")
        said = False
        for choice in choices[:1]:
            if not isinstance(choice, dict):
                raise Failure("unexpected", f"choices holds no object: {_shown(document)}")
            self._finish_reason = _text(choice.get("finish_reason")) or self._finish_reason
            said = self._add(choice.get("delta") or choice.get("message") or {"content": choice.get("text")})
        return said

    def _ollama(self, document: dict[str, t.Any]) -> bool:
        if not {"message", "response", "done"} & set(document):
            raise Failure("unexpected", f"JSON came without message or response, so it is no answer of Ollama's API: {_shown(document)}")
        said = self._add(document.get("message") or {"content": document.get("response"), "thinking": document.get("thinking")})
        if document.get("done") is True:
            self._complete = True
            self._finish_reason = _text(document.get("done_reason"))
            self._tokens = _count(document.get("eval_count"), None)
            took = document.get("eval_duration")
            if self._tokens and isinstance(took, (int, float)) and took > 0:
                self._own_rate = self._tokens * _NANO / took
        return said

    def _add(self, piece: t.Any) -> bool:
        if not isinstance(piece, dict):
            raise Failure("unexpected", f"the text is in no object: {_shown(piece)}")
        content = _text(piece.get("content"))
        # Thinking, by the names of different servers
        reasoning = _text(piece.get("reasoning_content") or piece.get("reasoning") or piece.get("thinking"))
        self._content.append(content)
        self._reasoning.append(reasoning)
        return bool(content or reasoning)

    # The verdict

    def _fill(self, answer: Answer, done: Exchange) -> None:
        try:
            if self._failure is not None:
                raise self._failure
            if self._stream:
                if self._rest.strip():
                    self._last_line()
            elif done.failure is None and self._raw.strip():
                self._piece(_parsed(bytes(self._raw)), None)
                self._complete = self._complete or self._api == "openai"
                self._seen = 1
        finally:
            answer.model = self._model
            # A model that was still thinking when its tokens were used up is alive
            answer.content = "".join(self._content) or "".join(self._reasoning)
            answer.finish_reason = self._finish_reason
            answer.completion_tokens = self._tokens
            answer.first_token_seconds = _span(done.started, self._moments[0] if self._moments else None)
            answer.tokens_per_second = self._rate(done)
        kind = "stream" if self._stream else "answer"
        because = f" (finish_reason {self._finish_reason})" if self._finish_reason else ""
        if not self._seen:
            raise Failure(EMPTY, f"status {done.status}, and nothing in the {kind}")
        if not self._complete:
            end = "[DONE]" if self._api == "openai" else "done: true"
            raise Failure("cut", f"the {kind} ended without {end}")
        if not answer.has_content:
            raise Failure(EMPTY, f"status {done.status}, and the {kind} has no text{because}")
        if self._finish_reason in _BROKEN_OFF:
            raise Failure("cut", f"the server gave up amid the text{because}")

    def _last_line(self) -> None:
        try:
            self._line(self._rest, None)
        except Failure as failure:
            if failure.outcome == "not_json" and self._seen:
                raise Failure("cut", f"the stream ended amid a line: {_shown_bytes(self._rest)}") from failure
            raise

    def _rate(self, done: Exchange) -> float | None:
        if self._own_rate is not None:
            return round(self._own_rate, 1)
        if not self._tokens:
            return None
        if not self._stream:
            tokens, seconds = self._tokens, done.ended - done.started
        elif len(self._moments) >= _FEWEST_MOMENTS:
            tokens, seconds = self._tokens - 1, self._moments[-1] - self._moments[0]
        else:
            return None
        return round(tokens / seconds, 1) if seconds > 0 else None


def _server_sent_events(line: bytes) -> t.Iterator[bytes]:
    field, colon, value = line.partition(b":")
    if field == b"data" and colon:
        yield value.strip()
    elif line and field not in (b"", b"event", b"id", b"retry"):
        raise Failure("not_json", f"the stream has a line that is no event: {_shown_bytes(line)}")


def _json_lines(line: bytes) -> t.Iterator[bytes]:
    if line:
        yield line


def _parsed(raw: bytes) -> dict[str, t.Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Failure("not_json", f"the answer is no JSON: {_shown_bytes(raw)}") from error
    if not isinstance(document, dict):
        raise Failure("unexpected", f"the answer is JSON, but no object: {_shown(document)}")
    return document


def _refuse_error(document: t.Mapping[str, t.Any]) -> None:
    told = _error_in(document)
    if told:
        raise Failure("reported_error", f"the server says within its answer: {told}")


def _error_in(document: t.Mapping[str, t.Any]) -> str:
    """OpenAI has an object there, Ollama a text, FastAPI C(detail)."""
    error = document.get("error")
    if isinstance(error, dict):
        error = error.get("message") or json.dumps(error)
    return _cut(str(error).strip()) if error else ""


def _http_error(done: Exchange, raw: bytes) -> str:
    location = done.headers.get("location")
    if done.status is not None and 300 <= done.status < 400:
        return f"status {done.status}: redirects are not followed; write the address {location} into url" if location else f"status {done.status}"
    try:
        document = json.loads(raw)
        told = (_error_in(document) or _text(document.get("message")) or _text(document.get("detail"))) if isinstance(document, dict) else ""
    except (ValueError, RecursionError):
        told = ""
    hint = "; check api_key" if done.status in (401, 403) else ""
    told = _cut(told) or (_shown_bytes(raw) if raw.strip() else "")
    return f"status {done.status}" + (f": {told}" if told else "") + hint


def _span(started: float, moment: float | None) -> float | None:
    return None if moment is None else round(moment - started, 6)


def _text(value: t.Any) -> str:
    return value if isinstance(value, str) else ""


def _count(value: t.Any, otherwise: int | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."


def _shown(value: t.Any) -> str:
    return _cut(json.dumps(value))


def _shown_bytes(raw: bytes) -> str:
    return repr(_cut(raw.decode(errors="replace").strip()))
