# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it costs to watch an endpoint, and whether the rate is kept, against the loop over curl that people write for it. Needs no lab."""

from __future__ import annotations

import contextlib
import http.server
import json
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from benchmarks.measured_lab import BenchmarkError, environment, log, machine

TITLE = "Watching an endpoint"
SECONDS: Final = 20
RATES: Final = (10, 50)
HANG_SECONDS: Final = 3
ANSWER: Final = json.dumps({"model": "m", "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}).encode()
# As Ansible runs a module, but without Ansible's own start
MODULE: Final = """
import json, sys
from ansible.module_utils.testing import patch_module_args
from ansible_collections.homelab.gpu.plugins.modules import endpoint_watch
with patch_module_args(json.loads(sys.argv[1])):
    endpoint_watch.main()
"""
LOOP: Final = """
end=$((SECONDS + $3))
while [ "$SECONDS" -lt "$end" ]; do
  curl --silent --output /dev/null --max-time 5 --write-out '%{http_code}\\n' --json "$4" "$1"
  sleep "$2"
done
"""


class Endpoint:
    """Answers at once, or, while it hangs, not yet."""

    def __init__(self) -> None:
        self.going = threading.Event()
        self.going.set()
        going = self.going

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                going.wait()
                with contextlib.suppress(ConnectionError):
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(ANSWER)))
                    self.end_headers()
                    self.wfile.write(ANSWER)

            def log_message(self, *_arguments: object) -> None:
                """Quiet."""

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def hang_soon(self) -> None:
        """For a while in the middle of a watch."""
        threading.Timer(SECONDS / 2, self.going.clear).start()
        threading.Timer(SECONDS / 2 + HANG_SECONDS, self.going.set).start()


@contextlib.contextmanager
def endpoint() -> Iterator[Endpoint]:
    opened = Endpoint()
    threading.Thread(target=opened.server.serve_forever, daemon=True).start()
    try:
        yield opened
    finally:
        opened.going.set()
        opened.server.shutdown()
        opened.server.server_close()


def run(*command: str) -> tuple[str, float]:
    """What it says, and the processor time that it and its children took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment({"PYTHONPATH": environment({})["ANSIBLE_COLLECTIONS_PATH"]}), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{command[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def watched(url: str, rate: int) -> dict[str, Any]:
    output, processor = run(sys.executable, "-c", MODULE, json.dumps({"url": url, "model": "m", "rate_per_second": rate, "duration_seconds": SECONDS}))
    result = json.loads(output)
    return {
        **{name: result[name] for name in ("asked", "answered", "longest_delay_seconds", "longest_gap_seconds")},
        "processor_seconds": round(processor, 2),
        "own_processor_seconds": result["processor_seconds"],
    }


def looped(url: str, rate: int) -> dict[str, Any]:
    question = json.dumps({"model": "m", "stream": False, "max_tokens": 16, "messages": [{"role": "user", "content": "Say hello."}]})
    output, processor = run("bash", "-c", LOOP, "loop", f"{url}/v1/chat/completions", str(1 / rate), str(SECONDS), question)
    codes = output.split()
    return {"asked": len(codes), "answered": codes.count("200"), "processor_seconds": round(processor, 2)}


def measure() -> dict[str, Any]:
    if shutil.which("curl") is None:
        raise BenchmarkError("curl is missing: install it")
    ways: dict[str, Callable[[str, int], dict[str, Any]]] = {"watch": watched, "loop": looped}
    result: dict[str, Any] = {**machine(), "seconds": SECONDS, "hang_seconds": HANG_SECONDS, "rates": {}, "hanging": {}}
    with endpoint() as opened:
        for rate in RATES:
            result["rates"][str(rate)] = {name: way(opened.url, rate) for name, way in ways.items()}
            log(f"  {rate}/s: {result['rates'][str(rate)]}")
        for name, way in ways.items():
            opened.hang_soon()
            result["hanging"][name] = way(opened.url, RATES[0])
            log(f"  hanging, {name}: {result['hanging'][name]}")
    return result
