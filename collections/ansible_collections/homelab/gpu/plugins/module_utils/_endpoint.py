# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
# What the modules have in common that ask an endpoint of a language model: options, their checks, one question.

from __future__ import annotations

import dataclasses
import json
import os
import re
import ssl
import time
import typing as t
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._http import Exchange, Request, Site, exchange, tls_context
from ansible_collections.homelab.gpu.plugins.module_utils._llm_api import ANSWERED, ENDPOINTS, Answer, body_of, judge_for

__all__ = ["OPTIONS", "Endpoint", "EndpointModule", "Patience", "by_backend", "endpoint_of", "within"]

# doc_fragments/_llm_endpoint.py
OPTIONS: t.Final[dict[str, dict[str, t.Any]]] = {
    "url": {"type": "str", "required": True},
    "endpoint": {"type": "str", "choices": ["chat", "completions", "generate"]},
    "model": {"type": "str"},
    "prompt": {"type": "str", "default": "Say hello."},
    "max_tokens": {"type": "int", "default": 16, "no_log": False},
    "stream": {"type": "bool", "default": False},
    "api_key": {"type": "str", "no_log": True},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "headers": {"type": "dict", "default": {}},
    "backend_header": {"type": "str", "default": "X-LLM-Backend"},
}

_LONGEST_TIMEOUT_SECONDS: t.Final = 600
_MOST_TOKENS: t.Final = 100_000
_PAUSE_SECONDS: t.Final = 0.5
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset({"connection", "content-length", "content-type", "expect", "transfer-encoding"})
_SECRET_NAME = re.compile(r"auth|cookie|key|secret|token|password", re.IGNORECASE)


class EndpointModule(AnsibleModule):
    """Keeps headers that are secrets out of the system log and of results."""

    def __init__(self, options: t.Mapping[str, t.Any], **more: t.Any) -> None:
        super().__init__(argument_spec={**OPTIONS, **options}, supports_check_mode=True, no_log=True, **more)
        self.no_log_values.update(str(value) for name, value in self.params["headers"].items() if _SECRET_NAME.search(str(name)) and value)
        # It is refused, but shown with the refusal
        self.no_log_values.update(re.findall(r"//[^/]*?:([^/]+)@", self.params["url"]))

    def fail_json(self, msg: str, **data: t.Any) -> None:
        # The constructor ends here if the options are wrong, and nobody knows yet which headers are secret
        if self.validation_result.error_messages:
            data.setdefault("invocation", {})
        super().fail_json(msg=msg, **data)


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """One question, ready to be asked any number of times, by several threads as well."""

    site: Site
    request: Request
    api: str
    stream: bool
    backend_header: str
    timeout_seconds: float

    def ask(self, timeout_seconds: float | None = None) -> tuple[Answer, Exchange]:
        judge = judge_for(self.api, self.stream)
        done = exchange(self.site, self.request, judge.receive, timeout_seconds or self.timeout_seconds)
        return judge.verdict(done, self.backend_header), done


class Patience:
    """Asks until the answer is good, or no time is left. The first question has all of its timeout, those after it what is left of the wait."""

    def __init__(
        self,
        ask: t.Callable[[float], Answer],
        *,
        timeout_seconds: float,
        wait_seconds: float,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._ask = ask
        self._timeout = timeout_seconds
        self._wait = wait_seconds
        self._clock = clock
        self._sleep = sleep
        self.questions = 0
        self.waited_seconds = 0.0
        self.transitions: list[dict[str, t.Any]] = []

    def answer(self) -> Answer:
        begun = self._clock()
        timeout = self._timeout
        while True:
            answer = self._ask(timeout)
            self.questions += 1
            self.waited_seconds = self._clock() - begun
            self._note(answer)
            timeout = min(self._timeout, self._wait - self.waited_seconds - _PAUSE_SECONDS)
            if answer.outcome == ANSWERED or timeout <= 0:
                return answer
            self._sleep(_PAUSE_SECONDS)

    def _note(self, answer: Answer) -> None:
        what = answer.outcome + (f" by {answer.backend}" if answer.backend else "") + (f": {answer.message}" if answer.message else "")
        if not self.transitions or self.transitions[-1]["what"] != what:
            self.transitions.append({"at_seconds": round(self.waited_seconds, 2), "what": what})


def by_backend(answer: Answer, wanted: str | None, header: str) -> Answer:
    """A good answer of another backend than the wanted one is none."""
    if answer.outcome != ANSWERED or wanted is None or answer.backend == wanted:
        return answer
    told = f"{answer.backend} answered" if answer.backend else f"the answer has no header {header}"
    return dataclasses.replace(answer, outcome="wrong_backend", message=f"{told}, and expected_backend is {wanted}")


def endpoint_of(params: t.Mapping[str, t.Any]) -> Endpoint:
    """From options to what is sent. Raises InputError; nothing is sent yet."""
    api = params["api"]
    site, path = _address(params["url"], api)
    within(params, "timeout_seconds", most=_LONGEST_TIMEOUT_SECONDS)
    within(params, "max_tokens", most=_MOST_TOKENS)
    if not _TOKEN.fullmatch(params["backend_header"]):
        raise InputError(f"backend_header is {params['backend_header']!r}; write the name of a header, as X-LLM-Backend")
    headers = _headers(params)
    body: bytes | None = None
    if api == "get":
        for option in ("model", "endpoint", "stream"):
            if params[option]:
                raise InputError(f"{option} is given, and api=get asks for a page, not for an answer of a model; leave {option} out, or set api")
    else:
        endpoint = _endpoint(api, params["endpoint"])
        path += ENDPOINTS[api][endpoint]
        for option in ("model", "prompt"):
            if not (params[option] or "").strip():
                raise InputError(f"{option} is {'empty' if params[option] is not None else 'missing'}; api={api} needs one: set {option}")
        question = {name: params[name] for name in ("model", "prompt", "max_tokens", "stream")}
        body = json.dumps(body_of(api, endpoint, **question)).encode()
        headers["Content-Type"] = "application/json"
    return Endpoint(
        site=dataclasses.replace(site, tls=_tls(params)),
        request=Request("GET" if body is None else "POST", path, headers, body),
        api=api,
        stream=params["stream"],
        backend_header=params["backend_header"],
        timeout_seconds=params["timeout_seconds"],
    )


def within(params: t.Mapping[str, t.Any], option: str, *, most: float, zero: bool = False) -> None:
    """More than zero, or zero as well; no number at all (nan) is refused, too."""
    if not (0 < params[option] <= most or (zero and params[option] == 0)):
        raise InputError(f"{option} is {params[option]:g}; set it to {'0, or to ' if zero else ''}more than 0 and at most {most:g}")


def _endpoint(api: str, endpoint: str | None) -> str:
    known = ENDPOINTS[api]
    if endpoint is not None and endpoint not in known:
        raise InputError(f"endpoint is {endpoint}, which api={api} does not have; use {' or '.join(known)}, or set api")
    return endpoint or "chat"


def _address(url: str, api: str) -> tuple[Site, str]:
    wanted = "write it as http://NAME:PORT or https://NAME"
    # Before it is split: Python drops line breaks from an address in silence
    if not re.fullmatch(r"[!-~]+", url):
        raise InputError(f"url is {url!r}; {wanted}, without blanks, and other than ASCII only as %XX")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"url is {url!r}: {error}; {wanted}") from error
    if parts.username is not None or parts.password is not None:
        raise InputError(f"url names a user (…@{url.rpartition('@')[2]}); give a key by api_key instead")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise InputError(f"url is {url!r}; {wanted}")
    if parts.fragment:
        raise InputError(f"url is {url!r}; leave #{parts.fragment} out: it is never sent")
    site = Site(parts.hostname, port or (443 if parts.scheme == "https" else 80))
    if api == "get":
        return site, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.query:
        raise InputError(f"url is {url!r}; leave ?{parts.query} out: the path of the question is added to url")
    path = parts.path.rstrip("/")
    for ending in (ending for known in ENDPOINTS.values() for ending in known.values()):
        if path.endswith(ending):
            raise InputError(f"url is {url!r}; leave {ending} out and choose it by api and endpoint")
    # Clients of OpenAI's API are given their address with it
    return site, path[: -len("/v1")] if api == "openai" and path.endswith("/v1") else path


def _headers(params: t.Mapping[str, t.Any]) -> dict[str, str]:
    headers = {"User-Agent": "homelab.gpu", "Accept": "text/event-stream, application/json" if params["stream"] else "application/json, */*"}
    for name, value in params["headers"].items():
        if not _TOKEN.fullmatch(str(name)):
            raise InputError(f"headers has the name {name!r}; a name of a header is made of letters, digits and -")
        if str(name).lower() in _OURS:
            raise InputError(f"headers has {name}, which is set by the module; leave it out")
        if isinstance(value, (dict, list)) or value is None or not _is_header_value(str(value)):
            raise InputError(f"headers[{name}] is no single line of text in Latin-1; write it so, or leave it out")
        headers[str(name)] = str(value)
    if params["api_key"]:
        if any(name.lower() == "authorization" for name in headers):
            raise InputError("api_key and headers[Authorization] exclude each other; leave one of them out")
        if not _is_header_value(params["api_key"]) or params["api_key"] != params["api_key"].strip():
            raise InputError("api_key holds a line break, a blank at its end, or signs outside Latin-1; give the key alone")
        headers["Authorization"] = f"Bearer {params['api_key']}"
    return headers


def _is_header_value(text: str) -> bool:
    return not re.search(r"[\x00-\x1f\x7f]|[^\x00-\xff]", text)


def _tls(params: t.Mapping[str, t.Any]) -> ssl.SSLContext | None:
    ca_path = params["ca_path"]
    if not params["url"].startswith("https:"):
        if ca_path:
            raise InputError(f"ca_path is given, and url is {params['url']!r}, without TLS; leave ca_path out, or write https into url")
        return None
    if ca_path and not params["validate_certs"]:
        raise InputError("ca_path and validate_certs=false exclude each other; leave one of them out")
    if ca_path and not os.path.isfile(ca_path):
        raise InputError(f"ca_path: there is no file {ca_path}")
    try:
        return tls_context(params["validate_certs"], ca_path)
    except OSError as error:
        raise InputError(f"ca_path: {ca_path} cannot be used, check that it is complete and PEM: {error}") from error
