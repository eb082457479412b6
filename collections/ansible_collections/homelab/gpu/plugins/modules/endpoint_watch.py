#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint_watch
short_description: Ask an endpoint at a fixed rate for a while, and tell what failed, the longest gap, and who answered when
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Asks in one process, for a bounded time. A slow answer does not delay the next question, and each question has a connection of its own, so that
    a gateway decides anew.
  - Meant to be started with C(async) and C(poll=0) before something is unplugged, killed or replaced, and collected by M(ansible.builtin.async_status)
    afterwards.
  - Answers are judged as M(homelab.gpu.llm_probe) does. With O(api=get) a page is enough that has a status of 2xx.
  - On C(SIGTERM), as at the end, what is under way is waited for, and the result is whole.
extends_documentation_fragment:
  - homelab.gpu._attributes
  - homelab.gpu._llm_endpoint
attributes:
  check_mode:
    support: full
    details:
      - Asks one question and ends, since nothing happens that could be watched. O(results_path) is not written.
  diff_mode:
    support: N/A
    details:
      - Nothing is changed but O(results_path), which is new each time.
  idempotent:
    support: partial
    details:
      - With O(results_path), each call writes that file anew.
options:
  api:
    description:
      - Which API is spoken. V(get) asks for the page O(url), as C(/health), and takes neither O(model) nor O(endpoint) nor O(stream).
    type: str
    choices: [openai, ollama, get]
    default: openai
  timeout_seconds:
    description:
      - How long one question may take, in seconds. More than 0, at most 600. With O(rate_per_second) it bounds how many questions can be under way at once,
        at most 500.
    type: float
    default: 5
  rate_per_second:
    description:
      - Questions a second. More than 0, at most 100.
    type: float
    default: 10
  duration_seconds:
    description:
      - How long questions are asked. More than 0, at most 3600. The watch then ends once the last of them is answered or given up.
    type: float
    default: 60
  stop_file:
    description:
      - A file that ends the watch when it appears. One that is there at the start counts as soon as it is touched or made anew.
      - An absolute path, in a directory that exists.
    type: path
  results_path:
    description:
      - A file that gets a line of JSON for each question when it ends, so that a watch that is killed leaves what it saw.
      - Its first line has RV(started_at), RV(monotonic_start) and C(pid), the others what RV(first_failure) has.
      - An absolute path, in a directory that exists. Mode C(0600); a file that is there is written anew.
    type: path
  max_failed:
    description:
      - The task fails at the end if more questions failed. Empty answers are counted by O(max_empty). Without a limit, it does not fail for that.
    type: int
  max_empty:
    description:
      - The task fails at the end if more answers were empty.
    type: int
  max_gap_seconds:
    description:
      - The task fails at the end if RV(longest_gap_seconds) is more. Has to be more than the time between two questions.
    type: float
"""

EXAMPLES = r"""
- name: Watch the gateway while the GPU is unplugged
  homelab.gpu.endpoint_watch:
    url: http://192.168.1.10:30080
    model: assistant
    duration_seconds: 600
    stop_file: /run/user/1000/watch.stop
    results_path: /run/user/1000/watch.jsonl
    max_failed: 0
    max_empty: 0
    max_gap_seconds: 1
  delegate_to: localhost
  async: 660
  poll: 0
  register: watch

# what is watched happens here

- name: End the watch
  ansible.builtin.file:
    path: /run/user/1000/watch.stop
    state: touch
    mode: '0600'
  delegate_to: localhost

- name: Collect what it saw; fails if a limit was broken
  ansible.builtin.async_status:
    jid: "{{ watch.ansible_job_id }}"
  delegate_to: localhost
  register: seen
  until: seen is finished
  retries: 30
  delay: 1

- name: Watch a health page for ten seconds
  homelab.gpu.endpoint_watch:
    url: http://192.168.1.10:30080/health
    api: get
    duration_seconds: 10
"""

RETURN = r"""
asked:
  description: Questions that were asked.
  returned: always
  type: int
answered:
  description: Good answers.
  returned: always
  type: int
failures:
  description: Questions with another outcome than V(answered) and V(empty).
  returned: always
  type: int
empty:
  description: Answers with a status of 200 and no text.
  returned: always
  type: int
outcomes:
  description: How many questions had which outcome, by the names that M(homelab.gpu.llm_probe) returns.
  returned: always
  type: dict
  sample: {answered: 598, timeout: 2}
longest_gap_seconds:
  description:
    - The longest time without a good answer. Times without one lie between the moments at which the watch started, each good answer was complete, and the last
      question was answered or given up.
    - It cannot be less than the time between two questions.
  returned: always
  type: float
longest_gap_at_seconds:
  description: When that began, in seconds since the start.
  returned: always
  type: float
first_failure:
  description: The failed question, or empty answer, that ended first.
  returned: always
  type: dict
  contains:
    number:
      description: The how many-th question, from 0.
      type: int
    at_seconds:
      description: When it was asked, in seconds since the start.
      type: float
    duration_seconds:
      description: How long it took.
      type: float
    outcome:
      description: Its outcome.
      type: str
    status:
      description: The HTTP status, if there was one.
      type: int
    backend:
      description: What O(backend_header) of the answer says.
      type: str
    message:
      description: What tells the outcome.
      type: str
last_failure:
  description: The one that ended last, like RV(first_failure).
  returned: always
  type: dict
backends:
  description: How many good answers each backend gave; the first to answer stands first.
  returned: always
  type: dict
  sample: {gpu: 311, cpu: 289}
backend_changes:
  description: When a good answer came from another backend than the good answer before it.
  returned: always
  type: list
  elements: dict
  contains:
    at_seconds:
      description: When it was complete, in seconds since the start.
      type: float
    from:
      description: The backend before.
      type: str
    to:
      description: The backend that gave it.
      type: str
latency_seconds:
  description: How long good answers took, as C(min), C(p50), C(p90), C(p95), C(p99) and C(max), each the time of one of them.
  returned: always
  type: dict
watched_seconds:
  description: From the start until the last question was answered or given up.
  returned: always
  type: float
started_at:
  description: The start by the wall clock, in UTC.
  returned: always
  type: str
  sample: '2026-01-31T15:04:05.123456Z'
monotonic_start:
  description: The start by C(CLOCK_MONOTONIC), in seconds, which other processes of the same host read alike.
  returned: always
  type: float
longest_delay_seconds:
  description: How late a question was asked at worst. A gap may be this watch's own by so much.
  returned: always
  type: float
not_asked:
  description: Questions that were not asked, because they were more than a second late. The machine was too busy, or stood still.
  returned: always
  type: int
stopped:
  description: What ended the watch early, V(stop_file) or V(SIGTERM); else empty.
  returned: always
  type: str
processor_seconds:
  description: Processor time that the watch took.
  returned: always
  type: float
"""

import contextlib
import datetime
import json
import os
import signal
import time
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._endpoint import Endpoint, EndpointModule, endpoint_of, within
from ansible_collections.homelab.gpu.plugins.module_utils._endpoint_watch import Schedule, Seen, Watch, broken_limits
from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError

_MOST_AT_ONCE: t.Final = 500
_LIMITS: t.Final = ("max_failed", "max_empty", "max_gap_seconds")


def check(params: t.Mapping[str, t.Any]) -> Endpoint:
    endpoint = endpoint_of(params)
    rate, timeout = params["rate_per_second"], params["timeout_seconds"]
    within(params, "rate_per_second", most=100)
    within(params, "duration_seconds", most=3600)
    if rate * timeout > _MOST_AT_ONCE:
        raise InputError(
            f"rate_per_second is {rate:g} and timeout_seconds {timeout:g}, so {rate * timeout:.0f} questions could be under way at once; "
            f"lower one of them until their product is at most {_MOST_AT_ONCE}"
        )
    for option in ("max_failed", "max_empty"):
        if params[option] is not None and params[option] < 0:
            raise InputError(f"{option} is {params[option]}; it cannot be less than 0")
    gap = params["max_gap_seconds"]
    if gap is not None and not gap > 1 / rate:
        raise InputError(f"max_gap_seconds is {gap:g}, and questions are {1 / rate:g} s apart; set it to more than that, or raise rate_per_second")
    for option in ("stop_file", "results_path"):
        path = params[option]
        if path is None:
            continue
        if not os.path.isabs(path):
            raise InputError(f"{option} is {path!r}; it has to be an absolute path")
        if not os.path.isdir(os.path.dirname(path)):
            raise InputError(f"{option} is {path}, and there is no directory {os.path.dirname(path)}; make it, or choose another")
        if os.path.lexists(path) and not os.path.isfile(path):
            raise InputError(f"{option} is {path}, which is no file; choose another")
    if params["stop_file"] is not None and params["stop_file"] == params["results_path"]:
        raise InputError(f"stop_file and results_path are both {params['stop_file']}; choose another for one of them")
    return endpoint


class Stop:
    """Looks for whoever wants to end the watch."""

    def __init__(self, path: str | None, sleep: t.Callable[[float], None] = time.sleep) -> None:
        self._path = path
        self._sleep = sleep
        self._before = self._state()
        self.reason = ""

    def _state(self) -> tuple[int, int] | None:
        if self._path is None:
            return None
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def signalled(self, *_arguments: t.Any) -> None:
        # No more than this: an Event's lock may be held by what the signal interrupts
        self.reason = "SIGTERM"

    def wait(self, seconds: float) -> bool:
        self._sleep(seconds)
        if not self.reason and self._state() not in (None, self._before):
            self.reason = "stop_file"
        return bool(self.reason)


class Results:
    """The file of lines. What goes wrong with it does not end the watch, but is told."""

    def __init__(self, path: str | None) -> None:
        self.problem = ""
        self._descriptor: int | None = None
        if path is not None:
            try:
                self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                os.fchmod(self._descriptor, 0o600)
            except OSError as error:
                raise InputError(f"results_path: {path} cannot be written: {error.strerror}; choose another, or run as a user who may") from error

    def write(self, record: t.Mapping[str, t.Any]) -> None:
        if self._descriptor is None:
            return
        line = json.dumps(record).encode() + b"\n"
        try:
            # A short write means that the disk is full, and the rest of the line would fail
            if os.write(self._descriptor, line) < len(line):
                raise OSError(None, "no space is left")
        except OSError as error:
            self.problem = f"results_path is not complete: {error.strerror}"
            self.close()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextlib.contextmanager
def stopped_by_signal(stop: Stop) -> t.Iterator[None]:
    before = signal.signal(signal.SIGTERM, stop.signalled)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def watch(endpoint: Endpoint, params: t.Mapping[str, t.Any], results: Results, duration: float) -> dict[str, t.Any]:
    stop = Stop(params["stop_file"])
    schedule = Schedule(params["rate_per_second"], duration)
    processor = time.process_time()
    started_at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
    start = time.monotonic()

    def ask(number: int) -> Seen:
        answer, done = endpoint.ask()
        return Seen(number, done.started - start, done.ended - done.started, answer.outcome, answer.status, answer.backend, answer.message)

    under_way = Watch(
        ask,
        lambda seen: results.write(seen.record()),
        schedule,
        most_at_once=_MOST_AT_ONCE + 1,
        clock=time.monotonic,
        wait=stop.wait,
    )
    times = {"started_at": started_at, "monotonic_start": start}
    results.write({**times, "pid": os.getpid()})
    with stopped_by_signal(stop):
        under_way.run()
    return {
        **under_way.tally.summary(),
        **times,
        "longest_delay_seconds": round(schedule.longest_delay, 3),
        "not_asked": schedule.skipped + under_way.not_given,
        "stopped": stop.reason if under_way.stopped else "",
        "processor_seconds": round(time.process_time() - processor, 3),
    }


def main() -> None:
    module = EndpointModule(
        {
            "api": {"type": "str", "choices": ["openai", "ollama", "get"], "default": "openai"},
            "timeout_seconds": {"type": "float", "default": 5},
            "rate_per_second": {"type": "float", "default": 10},
            "duration_seconds": {"type": "float", "default": 60},
            "stop_file": {"type": "path"},
            "results_path": {"type": "path"},
            "max_failed": {"type": "int"},
            "max_empty": {"type": "int"},
            "max_gap_seconds": {"type": "float"},
        }
    )
    try:
        endpoint = check(module.params)
        results = Results(None if module.check_mode else module.params["results_path"])
    except InputError as error:
        module.fail_json(msg=str(error))
    # Nothing happens in check mode that could be watched, and nobody makes the stop_file
    summary = watch(endpoint, module.params, results, 0 if module.check_mode else module.params["duration_seconds"])
    results.close()
    if results.problem:
        module.warn(results.problem)
    result = {"changed": module.params["results_path"] is not None, **summary}
    broken = broken_limits(summary, {option: module.params[option] for option in _LIMITS})
    if broken:
        module.fail_json(msg=f"{module.params['url']}: {'; '.join(broken)}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
