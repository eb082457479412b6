# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Questions at a fixed rate that slow answers do not delay, and what can be said of the answers. The tally is pure; Crew and Watch take what asks, the clock
# and the wait from outside.

from __future__ import annotations

import array
import math
import queue
import threading
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._llm_api import ANSWERED, EMPTY

__all__ = ["Crew", "Schedule", "Seen", "Tally", "Watch", "broken_limits"]

# Questions that are later than this are not made up for: after a pause of the whole machine they would be a burst
_LATEST_SECONDS: t.Final = 1.0
# How often somebody who wants to end the watch is looked for
_LONGEST_NAP_SECONDS: t.Final = 0.2
_QUANTILES: t.Final = (50, 90, 95, 99)


class Seen(t.NamedTuple):
    """One question and what came of it; seconds since the start of the watch."""

    number: int
    at_seconds: float
    duration_seconds: float
    outcome: str
    status: int | None
    backend: str
    message: str

    @property
    def ended(self) -> float:
        return self.at_seconds + self.duration_seconds

    def record(self) -> dict[str, t.Any]:
        return {**self._asdict(), "at_seconds": round(self.at_seconds, 6), "duration_seconds": round(self.duration_seconds, 6)}


class Schedule:
    """When which question is due. The n-th is due at n/rate, whatever became of those before."""

    def __init__(self, rate: float, duration: float) -> None:
        self.rate = rate
        self.count = max(1, math.ceil(duration * rate - 1e-9))
        self.next = 0
        self.skipped = 0
        self.longest_delay = 0.0

    @property
    def over(self) -> bool:
        return self.next >= self.count

    def due(self) -> float:
        return self.next / self.rate

    def take(self, now: float) -> list[int]:
        """Numbers of the questions to ask now."""
        taken = []
        while not self.over and self.due() <= now:
            delay = now - self.due()
            if delay > _LATEST_SECONDS:
                self.skipped += 1
            else:
                taken.append(self.next)
            self.longest_delay = max(self.longest_delay, delay)
            self.next += 1
        return taken


class Tally:
    """What is said of all questions, whose answers are added in the order in which they end."""

    def __init__(self) -> None:
        self._outcomes: dict[str, int] = {}
        self._backends: dict[str, int] = {}
        self._changes: list[dict[str, t.Any]] = []
        self._first: dict[str, t.Any] | None = None
        self._last: dict[str, t.Any] | None = None
        self._latencies = array.array("d")
        self._backend: str | None = None
        self._last_good = 0.0
        self._end = 0.0
        self._gap = 0.0
        self._gap_at = 0.0

    def add(self, seen: Seen) -> None:
        self._outcomes[seen.outcome] = self._outcomes.get(seen.outcome, 0) + 1
        self._end = max(self._end, seen.ended)
        if seen.outcome != ANSWERED:
            self._last = seen.record()
            self._first = self._first or self._last
            return
        self._latencies.append(seen.duration_seconds)
        self._note_gap(seen.ended)
        self._last_good = max(self._last_good, seen.ended)
        self._backends[seen.backend] = self._backends.get(seen.backend, 0) + 1
        if self._backend is not None and seen.backend != self._backend:
            self._changes.append({"at_seconds": round(seen.ended, 3), "from": self._backend, "to": seen.backend})
        self._backend = seen.backend

    def _note_gap(self, until: float) -> None:
        if until - self._last_good > self._gap:
            self._gap, self._gap_at = until - self._last_good, self._last_good

    def summary(self) -> dict[str, t.Any]:
        self._note_gap(self._end)
        asked = sum(self._outcomes.values())
        answered, empty = self._outcomes.get(ANSWERED, 0), self._outcomes.get(EMPTY, 0)
        return {
            "asked": asked,
            "answered": answered,
            "failures": asked - answered - empty,
            "empty": empty,
            "outcomes": dict(sorted(self._outcomes.items())),
            "longest_gap_seconds": round(self._gap, 3),
            "longest_gap_at_seconds": round(self._gap_at, 3),
            "first_failure": self._first,
            "last_failure": self._last,
            "backends": self._backends,
            "backend_changes": self._changes,
            "latency_seconds": latencies(self._latencies),
            "watched_seconds": round(self._end, 3),
        }


def latencies(values: t.Sequence[float]) -> dict[str, float]:
    """Nearest rank: each is a time that a question took."""
    if not values:
        return {}
    ordered = sorted(values)
    found = {f"p{share}": ordered[max(0, math.ceil(share * len(ordered) / 100) - 1)] for share in _QUANTILES}
    return {name: round(value, 6) for name, value in {"min": ordered[0], **found, "max": ordered[-1]}.items()}


def broken_limits(summary: t.Mapping[str, t.Any], limits: t.Mapping[str, float | None]) -> list[str]:
    """What was not kept, as sentences with option and value."""
    broken = []
    first = summary["first_failure"]
    shown = f" (the first {first['outcome']}, at {first['at_seconds']:.3f} s: {first['message']})" if first else ""
    for option, figure, verb in (("max_failed", "failures", "failed"), ("max_empty", "empty", "were answered with no text")):
        limit = limits[option]
        if limit is not None and summary[figure] > limit:
            broken.append(f"{option} is {limit}, and of {summary['asked']} questions {summary[figure]} {verb}{shown}")
    limit = limits["max_gap_seconds"]
    if limit is not None and summary["longest_gap_seconds"] > limit:
        told = f"the longest gap between good answers was {summary['longest_gap_seconds']} s, from {summary['longest_gap_at_seconds']} s on"
        broken.append(f"max_gap_seconds is {limit:g}, and {told}")
    return broken


class Crew:
    """Threads that ask, made when all others are busy, up to a number that the timeout of a question lets suffice."""

    def __init__(self, work: t.Callable[[int], None], most: int) -> None:
        self._work = work
        self._most = most
        self._tasks: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.busy = 0

    @property
    def size(self) -> int:
        return len(self._threads)

    def give(self, number: int) -> bool:
        """False if all are busy, and no more can be had."""
        with self._lock:
            if self.busy == self._most:
                return False
            self.busy += 1
            more = self.busy > len(self._threads)
        if more:
            thread = threading.Thread(target=self._run, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The system gives no more threads
                with self._lock:
                    self.busy -= 1
                return False
            self._threads.append(thread)
        self._tasks.put(number)
        return True

    def _run(self) -> None:
        while True:
            number = self._tasks.get()
            if number is None:
                return
            try:
                self._work(number)
            finally:
                with self._lock:
                    self.busy -= 1

    def finish(self) -> None:
        """Once all questions under way have ended."""
        for _thread in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()


class Watch:
    """C(ask) is called in threads; C(note) for one result at a time, in the order in which they end."""

    def __init__(
        self,
        ask: t.Callable[[int], Seen],
        note: t.Callable[[Seen], None],
        schedule: Schedule,
        *,
        most_at_once: int,
        clock: t.Callable[[], float],
        wait: t.Callable[[float], bool],
    ) -> None:
        self._ask = ask
        self._note = note
        self._schedule = schedule
        self._clock = clock
        self._wait = wait
        """For so many seconds, or until somebody wants to end the watch: then it is true."""
        self._lock = threading.Lock()
        self._crew = Crew(self._one, most_at_once)
        self.tally = Tally()
        self.not_given = 0
        self.stopped = False

    @property
    def threads(self) -> int:
        return self._crew.size

    def _one(self, number: int) -> None:
        seen = self._ask(number)
        with self._lock:
            self.tally.add(seen)
            self._note(seen)

    def run(self) -> None:
        started = self._clock()
        schedule = self._schedule
        while not schedule.over:
            for number in schedule.take(self._clock() - started):
                if not self._crew.give(number):
                    self.not_given += 1
            if schedule.over:
                break
            left = started + schedule.due() - self._clock()
            if self._wait(max(0.0, min(left, _LONGEST_NAP_SECONDS))):
                self.stopped = True
                break
        self._crew.finish()
