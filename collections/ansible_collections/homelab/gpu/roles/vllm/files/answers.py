# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether vLLM answers: its /health says 200 even if its engine hangs. Asks for one token; arguments are port, model and deadline in seconds.

Where many wait, one more request has to wait, too. So if no answer came in time, it is enough that tokens were made for others meanwhile.
"""

import json
import os
import re
import sys
import urllib.error
import urllib.request

PORT, MODEL, DEADLINE = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])


def ask(path, seconds, body=None):
    headers = {"Content-Type": "application/json"}
    if os.environ.get("VLLM_API_KEY"):
        headers["Authorization"] = "Bearer " + os.environ["VLLM_API_KEY"]
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", body and json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return answer.read().decode()


def tokens():
    return sum(float(value) for value in re.findall(r"^vllm:generation_tokens_total\{.*\} (\S+)$", ask("/metrics", 1), re.MULTILINE))


def main():
    before = None
    try:
        before = tokens()
        answer = json.loads(ask("/v1/completions", DEADLINE, {"model": MODEL, "prompt": "1", "max_tokens": 1, "temperature": 0}))
        if answer["choices"][0]["finish_reason"] != "abort":
            return 0
        print("the answer was aborted")
    except urllib.error.HTTPError as error:
        print(f"{error.code} {error.reason}: {error.read(500).decode(errors='replace')}")
    except (OSError, ValueError, KeyError, IndexError) as error:
        try:
            if before is not None and tokens() > before:
                return 0
        except (OSError, ValueError):
            pass
        print(f"no token within {DEADLINE:g} s, neither for this request nor for others: {error}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
