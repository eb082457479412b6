#!/usr/bin/env python3
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve one GGUF model by llama.cpp's own HTTP server: OpenAI API, /health, /metrics, /slots."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xllamacpp


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--model", type=Path, default=Path("/models/homelab-tiny.gguf"), help="the GGUF file")
    parser.add_argument("--alias", default=None, help="model name in the API (the file's name without its suffix)")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--threads", type=int, default=1, help="threads that compute")
    parser.add_argument("--parallel", type=int, default=2, help="requests answered at once")
    parser.add_argument("--context", type=int, default=1024, help="tokens of context, shared by the parallel requests")
    parser.add_argument("--question", default=None, help="answer this one question on standard output and leave")
    chosen = parser.parse_args(arguments)
    if not chosen.model.is_file():
        parser.error(f"argument --model: {chosen.model} is not a file")
    if not 1 <= chosen.port <= 65535:
        parser.error(f"argument --port: {chosen.port} is outside 1-65535")
    for name in ("threads", "parallel", "context"):
        if getattr(chosen, name) < 1:
            parser.error(f"argument --{name}: must be 1 or more")
    return chosen


def answer(server: xllamacpp.Server, question: str) -> str:
    reply = server.handle_chat_completions({"messages": [{"role": "user", "content": question}], "temperature": 0})
    return str(reply["choices"][0]["message"]["content"])


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = options(arguments)
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(chosen.model)
    parameters.model_alias = {chosen.alias or chosen.model.stem}
    parameters.hostnames = [chosen.host]
    parameters.port = chosen.port
    parameters.cpuparams.n_threads = chosen.threads
    parameters.cpuparams_batch.n_threads = chosen.threads
    parameters.n_parallel = chosen.parallel
    parameters.n_ctx = chosen.context
    parameters.endpoint_metrics = True
    parameters.endpoint_slots = True
    parameters.ui = False
    parameters.offline = True

    # A container's first process ignores signals it has no handler for.
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: stopped.append(number))
    try:
        server = xllamacpp.Server(parameters)
    except (RuntimeError, OSError) as error:
        print(f"error: cannot serve {chosen.model}: {error}", file=sys.stderr)
        return 1
    if chosen.question is not None:
        print(answer(server, chosen.question), flush=True)
        os._exit(0)
    print(f"serving {chosen.model} at {server.listening_address}", flush=True)
    # The kernel may give a signal to any thread, and Python handles it in this one, which has to be awake for that.
    while not stopped:
        time.sleep(0.1)
    print("stopped by signal", flush=True)
    # The server's threads have no way to be joined from Python; leaving at once frees all they hold.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
