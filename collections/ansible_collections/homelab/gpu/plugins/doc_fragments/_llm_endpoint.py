# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.

from __future__ import annotations


class ModuleDocFragment:
    # module_utils/_endpoint.py: OPTIONS
    DOCUMENTATION = r"""
options:
  url:
    description:
      - Where the endpoint is, as C(http://NAME:PORT) or C(https://NAME). A path before that of the API may follow, and with OpenAI's API C(/v1) may be given or
        left out.
    type: str
    required: true
  endpoint:
    description:
      - What is asked for. OpenAI's API has V(chat) (C(/v1/chat/completions)) and V(completions) (C(/v1/completions)), Ollama's V(chat) (C(/api/chat)) and
        V(generate) (C(/api/generate)). By default V(chat).
    type: str
    choices: [chat, completions, generate]
  model:
    description:
      - Name of the model. A question to a model has to have one.
    type: str
  prompt:
    description:
      - The question.
    type: str
    default: Say hello.
  max_tokens:
    description:
      - How many tokens the answer may have. More than 0, at most 100000.
    type: int
    default: 16
  stream:
    description:
      - Whether the answer shall come in pieces.
    type: bool
    default: false
  api_key:
    description:
      - The endpoint's key, sent as a bearer token.
    type: str
  validate_certs:
    description:
      - Whether the endpoint's certificate is verified.
    type: bool
    default: true
  ca_path:
    description:
      - Path of the CA certificate that signed the endpoint's certificate, on the host that asks. By default those of the host are trusted.
    type: path
  headers:
    description:
      - More headers of the question. Values are hidden in results if their name lets expect a secret (C(auth), C(cookie), C(key), C(password), C(secret),
        C(token)).
    type: dict
    default: {}
  backend_header:
    description:
      - The header of an answer by which a gateway tells who gave it.
    type: str
    default: X-LLM-Backend
notes:
  - Asks from the host on which it runs; use C(delegate_to=localhost) to ask from the control machine.
  - Connects to O(url) itself. Proxies that the environment names are not used.
"""
