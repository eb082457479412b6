# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._endpoint_watch import Crew, Schedule, Seen, Tally, Watch, broken_limits, latencies

Object = dict[str, t.Any]
NO_LIMITS: dict[str, float | None] = {"max_failed": None, "max_empty": None, "max_gap_seconds": None}


def seen(at: float, took: float = 0.1, outcome: str = "answered", backend: str = "gpu", message: str = "") -> Seen:
    return Seen(round(at * 10), at, took, outcome, 200, backend, message)


def summary(*all_seen: Seen) -> Object:
    tally = Tally()
    for one in all_seen:
        tally.add(one)
    return tally.summary()


# When to ask


@pytest.mark.parametrize(
    ("rate", "duration", "count"), [(10, 60, 600), (10, 0.1, 1), (0.5, 1, 1), (3, 1, 3), (10, 0.3, 3), (10, 0.35, 4), (100, 3600, 360_000)]
)
def test_how_many_questions(rate: float, duration: float, count: int) -> None:
    assert Schedule(rate, duration).count == count


@pytest.mark.parametrize(
    ("moments", "taken", "not_asked", "delay"),
    [
        ([0, 0.1, 0.2, 0.3, 0.4], [[0], [1], [2], [3], [4]], 0, 0.0),
        ([0, 0.05, 0.1], [[0], [], [1]], 0, 0.0),
        ([0, 0.35], [[0], [1, 2, 3]], 0, 0.25),
        # The machine stood still: no burst of what was missed
        ([0, 1.25], [[0], [3, 4, 5, 6, 7, 8, 9]], 2, 1.15),
        ([0, 60], [[0], []], 9, 59.9),
    ],
)
def test_due_questions(moments: list[float], taken: list[list[int]], not_asked: int, delay: float) -> None:
    schedule = Schedule(10, 1)
    # Moments of a real clock lie a little after those that are due
    assert [schedule.take(moment + 1e-6) for moment in moments] == taken
    assert (schedule.skipped, round(schedule.longest_delay, 2)) == (not_asked, delay)


def test_schedule_does_not_drift() -> None:
    schedule = Schedule(50, 3600)
    schedule.next = 179_999
    assert schedule.due() == pytest.approx(3599.98)
    assert schedule.take(3599.99) == [179_999]
    assert schedule.over


# What is said of the answers


def test_counts() -> None:
    found = summary(seen(0), seen(0.1, outcome="empty"), seen(0.2, outcome="timeout"), seen(0.3, outcome="http_error"), seen(0.4))
    assert {name: found[name] for name in ("asked", "answered", "failures", "empty")} == {"asked": 5, "answered": 2, "failures": 2, "empty": 1}
    assert found["outcomes"] == {"answered": 2, "empty": 1, "http_error": 1, "timeout": 1}
    assert (found["first_failure"]["outcome"], found["last_failure"]["outcome"]) == ("empty", "http_error")
    assert found["first_failure"] == {
        "number": 1,
        "at_seconds": 0.1,
        "duration_seconds": 0.1,
        "outcome": "empty",
        "status": 200,
        "backend": "gpu",
        "message": "",
    }


@pytest.mark.parametrize(
    ("answers", "gap", "begun"),
    [
        ([seen(0), seen(0.1, took=0.15), seen(0.2, took=0.15)], 0.15, 0.1),
        # Failures amid good answers
        ([seen(0), seen(0.1, outcome="refused"), seen(0.2, outcome="refused"), seen(0.5)], 0.5, 0.1),
        # A slow answer holds up nobody
        ([seen(0), seen(0.2), seen(0.3), seen(0.1, took=2)], 1.7, 0.4),
        # No good answer at first
        ([seen(0, took=3, outcome="timeout"), seen(3), seen(3.1)], 3.1, 0.0),
        # None any more: until the last question was given up
        ([seen(0), seen(0.1, took=5, outcome="timeout"), seen(0.2, took=5, outcome="timeout")], 5.1, 0.1),
        # None at all
        ([seen(0, outcome="refused"), seen(1, outcome="refused")], 1.1, 0.0),
        # An empty answer is none
        ([seen(0), seen(0.1, outcome="empty"), seen(0.2)], 0.2, 0.1),
        ([], 0.0, 0.0),
    ],
)
def test_longest_gap(answers: list[Seen], gap: float, begun: float) -> None:
    found = summary(*answers)
    assert (found["longest_gap_seconds"], found["longest_gap_at_seconds"]) == (pytest.approx(gap), pytest.approx(begun))


def test_gaps_do_not_depend_on_how_often_somebody_looks() -> None:
    tally = Tally()
    tally.add(seen(0))
    tally.add(seen(0.1, took=5, outcome="timeout"))
    assert tally.summary() == tally.summary()


def test_backends() -> None:
    found = summary(seen(0), seen(0.1), seen(0.2, backend="", outcome="http_error"), seen(0.3, backend="cpu"), seen(0.4, backend="cpu"), seen(0.5))
    assert found["backends"] == {"gpu": 3, "cpu": 2}
    assert list(found["backends"]) == ["gpu", "cpu"]
    assert found["backend_changes"] == [{"at_seconds": 0.4, "from": "gpu", "to": "cpu"}, {"at_seconds": 0.6, "from": "cpu", "to": "gpu"}]


def test_endpoint_that_tells_no_backend() -> None:
    found = summary(seen(0, backend=""), seen(0.1, backend=""))
    assert (found["backends"], found["backend_changes"]) == ({"": 2}, [])


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], {}),
        ([0.5], {"min": 0.5, "p50": 0.5, "p90": 0.5, "p95": 0.5, "p99": 0.5, "max": 0.5}),
        ([number / 100 for number in range(100, 0, -1)], {"min": 0.01, "p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}),
        ([1.0, 2.0, 3.0], {"min": 1.0, "p50": 2.0, "p90": 3.0, "p95": 3.0, "p99": 3.0, "max": 3.0}),
    ],
)
def test_latencies(values: list[float], found: Object) -> None:
    assert latencies(values) == found


def test_latencies_are_those_of_good_answers() -> None:
    assert summary(seen(0), seen(0.1, took=5, outcome="timeout"))["latency_seconds"]["max"] == 0.1


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({}, []),
        ({"max_failed": 1, "max_empty": 1, "max_gap_seconds": 0.5}, []),
        ({"max_failed": 0}, ["max_failed is 0, and of 5 questions 1 failed (the first timeout, at 0.100 s: no answer)"]),
        ({"max_empty": 0}, ["max_empty is 0, and of 5 questions 1 were answered with no text (the first timeout, at 0.100 s: no answer)"]),
        ({"max_gap_seconds": 0.2}, ["max_gap_seconds is 0.2, and the longest gap between good answers was 0.3 s, from 0.1 s on"]),
        ({"max_failed": 0, "max_gap_seconds": 0.2}, ["max_failed is 0", "max_gap_seconds is 0.2"]),
    ],
)
def test_limits(limits: dict[str, float | None], words: list[str]) -> None:
    found = summary(seen(0), seen(0.1, outcome="timeout", message="no answer"), seen(0.2, outcome="empty"), seen(0.3), seen(0.4))
    broken = broken_limits(found, {**NO_LIMITS, **limits})
    assert len(broken) == len(words)
    for sentence, beginning in zip(broken, words):
        assert sentence.startswith(beginning)


def test_result_has_no_name_that_means_something_to_ansible() -> None:
    assert not set(summary(seen(0))) & {"failed", "skipped", "changed", "finished", "started", "unreachable", "warnings", "exception", "msg", "rc", "results"}


# Asking


def test_crew_grows_only_when_all_are_busy() -> None:
    done, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def work(_number: int) -> None:
        done.release()
        go_on.acquire()

    crew = Crew(work, 2)
    assert [crew.give(0), crew.give(1), crew.give(2)] == [True, True, False]
    assert crew.size == 2
    for _number in range(2):
        done.acquire()
    go_on.release(2)
    crew.finish()
    assert crew.size == 2


def test_crew_uses_again_who_is_free() -> None:
    crew = Crew(lambda _number: None, 5)
    for number in range(20):
        assert crew.give(number)
        while crew.busy:
            pass
    assert crew.size == 1
    crew.finish()


def test_system_that_gives_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    crew = Crew(lambda _number: None, 5)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        assert not crew.give(0)
    assert crew.give(1)
    crew.finish()


class Time:
    """A clock that goes on only when somebody waits."""

    def __init__(self, stop_at: float = float("inf")) -> None:
        self.now = 1000.0
        self._stop_at = stop_at + self.now

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds + 1e-6
        return self.now >= self._stop_at


def watch(time: Time, ask: t.Callable[[int], Seen], *, rate: float = 10, duration: float = 1, most: int = 50) -> tuple[Watch, list[Seen]]:
    noted: list[Seen] = []
    under_way = Watch(ask, noted.append, Schedule(rate, duration), most_at_once=most, clock=time.clock, wait=time.wait)
    under_way.run()
    return under_way, noted


def test_watch_asks_in_time() -> None:
    time = Time()
    asked: list[tuple[int, float]] = []

    def ask(number: int) -> Seen:
        return seen(number / 10)

    under_way, noted = watch(time, lambda number: (asked.append((number, time.now)), ask(number))[1])
    assert sorted(number for number, _now in asked) == list(range(10))
    assert len(noted) == 10
    assert under_way.tally.summary()["answered"] == 10
    assert time.now == pytest.approx(1000.9, abs=0.001)


def test_slow_answers_do_not_delay_questions() -> None:
    """No answer comes before the last question is asked."""
    barrier = threading.Barrier(10)

    def ask(number: int) -> Seen:
        barrier.wait(30)
        return seen(number / 10)

    under_way, noted = watch(Time(), ask)
    assert (len(noted), under_way.threads, under_way.not_given) == (10, 10, 0)


def test_no_more_than_so_many_at_once() -> None:
    first_over = threading.Event()

    class LateTime(Time):
        def wait(self, seconds: float) -> bool:
            if self.now > 1000.75:
                first_over.set()
            return super().wait(seconds)

    def ask(number: int) -> Seen:
        assert first_over.wait(30)
        return seen(number / 10)

    under_way, noted = watch(LateTime(), ask, most=3)
    assert len(noted) + under_way.not_given == 10
    assert under_way.threads == 3


def test_watch_can_be_ended_early() -> None:
    under_way, noted = watch(Time(stop_at=0.35), lambda number: seen(number / 10))
    assert under_way.stopped
    assert sorted(one.number for one in noted) == [0, 1, 2, 3]


def test_somebody_who_wants_to_end_it_is_looked_for_often_enough() -> None:
    time = Time()
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return Time.wait(time, seconds)

    Watch(seen, lambda _seen: None, Schedule(0.1, 20), most_at_once=5, clock=time.clock, wait=wait).run()
    assert max(waited) <= 0.2


def test_watch_that_cannot_keep_up_can_be_ended_all_the_same() -> None:
    class BusyTime(Time):
        def clock(self) -> float:
            self.now += 0.3
            return self.now

    under_way, _noted = watch(BusyTime(stop_at=0), lambda number: seen(number / 10), duration=100)
    assert under_way.stopped
