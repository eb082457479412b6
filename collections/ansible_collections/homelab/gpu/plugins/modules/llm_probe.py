#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: llm_probe
short_description: Ask a language model one question, and tell who answered, how fast, and whether there is anything in the answer
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Asks an endpoint with OpenAI's API (vLLM, llama.cpp, Ollama, a gateway in front of them) or with Ollama's own, over a new connection. It asks once, or
    with O(wait_seconds) until there is a good answer.
  - A status of 200 is not enough. A server that is stopped may give 200 with an empty text, and a stream may end early as if it were complete;
    RV(outcome) names such answers.
  - O(timeout_seconds) bounds each question, even with a server that sends a byte a second.
extends_documentation_fragment:
  - homelab.gpu._attributes
  - homelab.gpu._attributes.info
  - homelab.gpu._llm_endpoint
options:
  api:
    description:
      - Which API is spoken.
    type: str
    choices: [openai, ollama]
    default: openai
  timeout_seconds:
    description:
      - How long one question may take, in seconds. The name's lookup, the connection and TLS count. More than 0, at most 600.
    type: float
    default: 10
  wait_seconds:
    description:
      - Ask again, half a second after an answer that is not V(answered), for so long at most. At most 3600. V(0) asks once.
      - All of it takes at most the longer of O(wait_seconds) and O(timeout_seconds).
    type: float
    default: 0
  expected_backend:
    description:
      - Who has to answer, as O(backend_header) names it. A good answer of another one is V(wrong_backend).
    type: str
  fail_unless_answered:
    description:
      - Whether the task fails if RV(outcome) is not V(answered). The figures are returned in any case.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Prove that the fallback answers before the GPU is unplugged
  homelab.gpu.llm_probe:
    url: http://ollama.ml.svc:11434
    model: assistant
    timeout_seconds: 5

- name: Wait until the GPU answers again behind the gateway
  homelab.gpu.llm_probe:
    url: http://192.168.1.10:30080
    model: assistant
    expected_backend: gpu
    wait_seconds: 120
  delegate_to: localhost

- name: Look without failing
  homelab.gpu.llm_probe:
    url: https://llm.example.org/v1
    api_key: "{{ vault_llm_key }}"
    ca_path: /etc/ssl/site-ca.pem
    model: assistant
    fail_unless_answered: false
  register: answer
"""

RETURN = r"""
outcome:
  description:
    - V(answered) (whole, with text in it); V(empty) (status 200 and no text); V(cut) (the connection or the text ended too early);
      V(timeout); V(refused) (nobody listens there); V(unreachable) (no route, or no address for the name); V(tls_error); V(http_error) (a status outside 2xx;
      redirects are not followed); V(wrong_backend) (not O(expected_backend)); V(reported_error) (the server says so within a 200);
      V(not_http), V(not_json), V(unexpected) (JSON, but not of this API), or V(too_long) (more than 8 MiB).
  returned: always
  type: str
message:
  description: What tells that; empty if it is V(answered).
  returned: always
  type: str
status:
  description: The HTTP status, if there was one.
  returned: always
  type: int
backend:
  description: What O(backend_header) of the answer says; empty without it.
  returned: always
  type: str
model:
  description: The model, as the answer names it.
  returned: always
  type: str
content:
  description: The text. If a model was still thinking when O(max_tokens) were used up, what it thought.
  returned: always
  type: str
has_content:
  description: Whether there is more in it than white space.
  returned: always
  type: bool
finish_reason:
  description: Why the text ended, as the server says. V(abort) means that vLLM gave up on it.
  returned: always
  type: str
completion_tokens:
  description: Tokens of the answer, if the server tells.
  returned: always
  type: int
tokens_per_second:
  description:
    - By Ollama's own figures with its own API. Else, in a stream, the tokens after the first by the time after the first; without a stream, all tokens by
      RV(total_seconds). None if the server tells no tokens, or if the text of a stream came in fewer than three pieces.
  returned: always
  type: float
first_byte_seconds:
  description: Until the first byte of the answer, its header included.
  returned: always
  type: float
first_token_seconds:
  description: In a stream, until the first text.
  returned: always
  type: float
total_seconds:
  description: Until the answer was whole, or given up.
  returned: always
  type: float
questions:
  description: How many questions were asked. What else is returned is of the last one.
  returned: always
  type: int
waited_seconds:
  description: How long all of them took.
  returned: always
  type: float
transitions:
  description: What the answers were, each time they changed.
  returned: always
  type: list
  elements: dict
  contains:
    at_seconds:
      description: Seconds since the start.
      type: float
    what:
      description: The outcome, with backend and message.
      type: str
"""

import dataclasses
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._endpoint import EndpointModule, Patience, by_backend, endpoint_of, within
from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._llm_api import ANSWERED, Answer


def main() -> None:
    module = EndpointModule(
        {
            "api": {"type": "str", "choices": ["openai", "ollama"], "default": "openai"},
            "timeout_seconds": {"type": "float", "default": 10},
            "wait_seconds": {"type": "float", "default": 0},
            "expected_backend": {"type": "str"},
            "fail_unless_answered": {"type": "bool", "default": True},
        }
    )
    params = module.params
    try:
        endpoint = endpoint_of(params)
        within(params, "wait_seconds", most=3600, zero=True)
        if params["expected_backend"] is not None and not params["expected_backend"].strip():
            raise InputError("expected_backend is empty; give the name of a backend, or leave it out")
    except InputError as error:
        module.fail_json(msg=str(error))

    def ask(timeout_seconds: float) -> Answer:
        answer, _done = endpoint.ask(timeout_seconds)
        return by_backend(answer, params["expected_backend"], endpoint.backend_header)

    patience = Patience(ask, timeout_seconds=endpoint.timeout_seconds, wait_seconds=params["wait_seconds"])
    answer = patience.answer()
    result: dict[str, t.Any] = {
        "changed": False,
        **dataclasses.asdict(answer),
        "has_content": answer.has_content,
        "questions": patience.questions,
        "waited_seconds": round(patience.waited_seconds, 3),
        "transitions": patience.transitions,
    }
    if answer.outcome != ANSWERED and params["fail_unless_answered"]:
        waited = f" within {params['wait_seconds']:g} s" if params["wait_seconds"] else ""
        module.fail_json(msg=f"{params['url']} did not answer well{waited} ({answer.outcome}): {answer.message}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
