# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that wait and run, and what /metrics says of them, by vLLM's names."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Counts:
    """How many requests there are, and room for as many at once as the engine takes."""

    def __init__(self, model: str, most: int) -> None:
        self.model = model
        self.lock = threading.Condition()
        self.most = most
        self.running = 0
        self.waiting = 0
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished: Counter[str] = Counter()

    @contextmanager
    def turn(self) -> Iterator[None]:
        with self.lock:
            self.waiting += 1
            self.lock.wait_for(lambda: self.running < self.most)
            self.waiting -= 1
            self.running += 1
        try:
            yield
        finally:
            with self.lock:
                self.running -= 1
                self.lock.notify_all()

    def generated(self, tokens: int) -> None:
        with self.lock:
            self.generation_tokens += tokens

    def ended(self, reason: str, prompt_tokens: int) -> None:
        with self.lock:
            self.finished[reason] += 1
            self.prompt_tokens += prompt_tokens

    def idle(self, seconds: float) -> bool:
        """Whether nothing waits or runs, at the latest after so long."""
        with self.lock:
            return self.lock.wait_for(lambda: self.running + self.waiting == 0, seconds)

    def text(self) -> str:
        labels = f'engine="0",model_name="{self.model}"'
        with self.lock:
            series: list[tuple[str, str, str, dict[str, float]]] = [
                ("num_requests_running", "gauge", "Number of requests in model execution batches.", {"": self.running}),
                ("num_requests_waiting", "gauge", "Number of requests waiting to be processed.", {"": self.waiting}),
                (
                    "num_requests_waiting_by_reason",
                    "gauge",
                    "Number of requests waiting to be processed, by reason.",
                    {',reason="capacity"': self.waiting, ',reason="deferred"': 0},
                ),
                ("kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.", {"": self.running / self.most}),
                ("num_preemptions_total", "counter", "Cumulative number of preemption from the engine.", {"": 0}),
                ("prompt_tokens_total", "counter", "Number of prefill tokens processed.", {"": self.prompt_tokens}),
                ("generation_tokens_total", "counter", "Number of generation tokens processed.", {"": self.generation_tokens}),
                (
                    "request_success_total",
                    "counter",
                    "Count of successfully processed requests.",
                    {f',finished_reason="{reason}"': self.finished[reason] for reason in ("stop", "length", "abort", "error")},
                ),
            ]
        lines = []
        for name, kind, said, values in series:
            lines += [f"# HELP vllm:{name} {said}", f"# TYPE vllm:{name} {kind}"]
            lines += [f"vllm:{name}{{{labels}{more}}} {float(value)}" for more, value in values.items()]
        return "\n".join(lines) + "\n"
