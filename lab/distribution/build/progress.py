# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say which step of how many runs, for how long, and how much time is still to be expected."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO


@dataclass(frozen=True)
class Step:
    """A step and how long it takes, in seconds, where no earlier run tells: on two cores, nothing compiled yet."""

    name: str
    title: str
    estimate: float


def spell_seconds(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


class Durations:
    """How long each step took when it last ran on this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            self.seconds = {str(name): float(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}

    def record(self, name: str, seconds: float) -> None:
        self.seconds[name] = round(seconds, 1)
        handle, scratch = tempfile.mkstemp(dir=self.path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(self.seconds, out, indent=1, sort_keys=True)
        os.replace(scratch, self.path)


class Progress:
    """One line when a step begins or ends, and a sign of life between: every second on a terminal, else every 15."""

    def __init__(self, steps: Sequence[Step], durations: Durations, stream: TextIO = sys.stderr, clock: Callable[[], float] = time.monotonic) -> None:
        self.steps = list(steps)
        self.durations = durations
        self.stream = stream
        self.clock = clock
        self.begun = clock()

    def expected(self, step: Step) -> float:
        return self.durations.seconds.get(step.name, step.estimate)

    def remaining(self, position: int, elapsed: float = 0.0) -> float:
        """Seconds to go while the step at this position has run for ``elapsed``."""
        rest = sum(self.expected(step) for step in self.steps[position + 1 :])
        return max(self.expected(self.steps[position]) - elapsed, 0.0) + rest

    def line(self, position: int, elapsed: float) -> str:
        step = self.steps[position]
        to_go = self.remaining(position, elapsed)
        slow = f" instead of the expected {spell_seconds(self.expected(step))}" if elapsed > self.expected(step) + 1 else ""
        after = "after this step" if slow else "to go"
        return f"[{position + 1}/{len(self.steps)}] {step.title}: {spell_seconds(elapsed)}{slow}, about {spell_seconds(to_go)} {after}"

    def say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        position = [step.name for step in self.steps].index(name)
        begun = self.clock()
        terminal = self.stream.isatty()
        done = threading.Event()

        def live() -> None:
            while not done.wait(1 if terminal else 15):
                text = self.line(position, self.clock() - begun)
                if terminal:
                    self.stream.write(f"\r\x1b[K{text}")
                    self.stream.flush()
                else:
                    self.say(text)

        if not terminal:
            self.say(f"[{position + 1}/{len(self.steps)}] {self.steps[position].title} (about {spell_seconds(self.remaining(position))} to go)")
        signs = threading.Thread(target=live, daemon=True)
        signs.start()
        try:
            yield
        finally:
            done.set()
            signs.join()
            if terminal:
                self.stream.write("\r\x1b[K")
        took = self.clock() - begun
        self.durations.record(name, took)
        self.say(f"[{position + 1}/{len(self.steps)}] {self.steps[position].title}: done in {spell_seconds(took)}")
