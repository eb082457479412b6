# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine: a process of its own, as vLLM's EngineCore is one. It has the model and the GPUs, and answers over a local socket.

One connection is one request: a line of JSON in, a line for each piece of the answer out, and last `{"end": null}` or why it failed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

PARENT_DEATH_SIGNAL: Final = 1
KEPT_TOKENS: Final = 4096
"""A context longer than this would only cost memory: the models of a lab are small."""


def main() -> None:
    """Arguments: the socket's name, the descriptor that tells when the model is loaded, and the settings as JSON."""
    address, ready, given = f"\0{sys.argv[1]}", int(sys.argv[2]), json.loads(sys.argv[3])
    ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    # The API decides when it ends
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    held = [os.open(path, os.O_RDWR) for path in given["gpus"]]
    time.sleep(given["load_seconds"])
    server = load(given)
    print(f"stand-in for vLLM: the engine has {given['file']}, and {len(held)} GPUs open: {', '.join(given['gpus'])}", flush=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(512)
    os.write(ready, b"1")
    os.close(ready)
    while True:
        connection, _peer = listener.accept()
        threading.Thread(target=answer, args=(connection, server, given["token_seconds"]), daemon=True).start()


def load(given: dict[str, Any]) -> Any:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = given["file"]
    parameters.hostnames, parameters.port = ["127.0.0.1"], 0
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.n_parallel = given["parallel"]
    parameters.n_ctx = min(given["context"] or KEPT_TOKENS, KEPT_TOKENS) * given["parallel"]
    parameters.ui, parameters.offline = False, True
    return xllamacpp.Server(parameters)


def answer(connection: socket.socket, server: Any, token_seconds: float) -> None:
    with connection, connection.makefile("rwb") as stream:
        request = json.loads(stream.readline())
        ask: Callable[..., None] = server.handle_chat_completions if request["chat"] else server.handle_completions

        def piece(chunk: Any) -> bool:
            """Whether to end early: nobody listens any more."""
            if (
                token_seconds
                and isinstance(chunk, dict)
                and any(choice.get("text") or (choice.get("delta") or {}).get("content") for choice in chunk["choices"])
            ):
                time.sleep(token_seconds)
            return not told(stream, chunk)

        try:
            ask(request["body"], piece)
            told(stream, {"end": None})
        except (RuntimeError, ValueError, KeyError) as error:
            told(stream, {"end": str(error) or type(error).__name__})


def told(stream: Any, message: Any) -> bool:
    try:
        stream.write(json.dumps(message).encode() + b"\n")
        stream.flush()
    except (OSError, ValueError):
        return False
    return True


if __name__ == "__main__":
    main()
