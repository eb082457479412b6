# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Logs of containers. They are always asked for with their timestamps: those put the lines of several containers into one order, and tell
# where to go on after a connection broke. Log and merge are the pure part; read_logs reads what is there, Follower stays for what comes.

from __future__ import annotations

import contextlib
import dataclasses
import queue
import re
import threading
import time
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._containers import container_names, container_status, instance, is_over, one_container, state
from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, InputError, KubeError, Unreachable
from ansible_collections.homelab.gpu.plugins.module_utils._ready import readiness
from ansible_collections.homelab.gpu.plugins.module_utils._resources import BUILTIN
from ansible_collections.homelab.gpu.plugins.module_utils._times import nanoseconds, rfc3339
from ansible_collections.homelab.gpu.plugins.module_utils._wait import Clock, Selection, Source, Timeline
from ansible_collections.homelab.gpu.plugins.module_utils._workloads import label_selector

if t.TYPE_CHECKING:
    from ansible_collections.homelab.gpu.plugins.module_utils._client import Client, Lines
    from ansible_collections.homelab.gpu.plugins.module_utils._resources import Resource

__all__ = [
    "Follower",
    "LeftOut",
    "Line",
    "Log",
    "LogQuery",
    "Match",
    "merge",
    "presented",
    "read_logs",
    "split_stamp",
    "wanted_containers",
    "workload_selector",
]

Object = dict[str, t.Any]

_PODS = BUILTIN["Pod"]
# What the kubelet writes, with status 200, where the log itself should be
_UNAVAILABLE = re.compile(r"(unable to retrieve container logs for|failed to try resolving symlinks in path) .*")
_LONGEST_PAUSE = 0.5
_MOST_NAMED = 10


@dataclasses.dataclass(frozen=True)
class LogQuery:
    """Which part of the logs is wanted."""

    container: str | None = None
    all_containers: bool = False
    previous: bool = False
    tail_lines: int | None = None
    since_seconds: int | None = None
    since: int | None = None
    """Nanoseconds since the epoch."""
    limit_bytes: int = 1048576

    def parameters(self, container: str) -> Object:
        return {
            "container": container,
            "timestamps": "true",
            "previous": "true" if self.previous else None,
            "tailLines": self.tail_lines,
            "sinceSeconds": self.since_seconds,
            "sinceTime": None if self.since is None else rfc3339(self.since),
        }

    def is_too_old(self, moment: int | None) -> bool:
        """The API takes whole seconds only; the rest is left to us."""
        return self.since is not None and moment is not None and moment < self.since


@dataclasses.dataclass(frozen=True)
class Line:
    moment: int
    """Never less than that of the line before it in the same run."""
    stamp: str
    text: str


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A container that has no log to give, or a pod that is not there."""

    namespace: str
    pod: str
    container: str
    reason: str

    def __str__(self) -> str:
        where = f"pod {self.namespace}/{self.pod}"
        return f"{where}, container {self.container}: {self.reason}" if self.container else f"{where}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class Match:
    log: Log
    line: Line
    at_seconds: float


class Log:
    """What was read of the log of one container, all of its runs together, within a limit."""

    def __init__(self, pod: Object, container: str, limit_bytes: int) -> None:
        self.namespace = str(pod["metadata"]["namespace"])
        self.pod = str(pod["metadata"]["name"])
        self.container = container
        self.truncated = False
        self.unavailable = ""
        """Why the kubelet could not give what there was."""
        self._room = limit_bytes
        self._lines: list[Line] = []
        self._moments: dict[str, int] = {}

    @property
    def lines(self) -> list[Line]:
        """By time: what is left of one run may be read after the next one has begun."""
        return sorted(self._lines, key=lambda line: line.moment)

    def add(self, raw: bytes, run: str = "") -> Line:
        """The line, which is kept while there is room for all of it."""
        stamp, text = split_stamp(raw)
        if not stamp and _UNAVAILABLE.fullmatch(text):
            self.unavailable = text
        self._moments[run] = max(self._moments.get(run, 0), nanoseconds(stamp) or 0)
        line = Line(self._moments[run], stamp, text)
        # Without the timestamp and the space behind it, but with the end of the line
        size = len(raw) - len(stamp) + (0 if stamp else 1)
        if size > self._room or self.truncated:
            self.truncated = True
        elif not self.unavailable:
            self._room -= size
            self._lines.append(line)
        return line


def split_stamp(raw: bytes) -> tuple[str, str]:
    """Timestamp and text; the former is empty where there is none. What is not UTF-8 is replaced."""
    line = raw.decode(errors="replace").rstrip("\r")
    stamp, _space, text = line.partition(" ")
    return (stamp, text) if nanoseconds(stamp) is not None else ("", line)


def merge(logs: t.Sequence[Log]) -> list[tuple[Log, Line]]:
    """All lines by time; those of one log keep their order."""
    return sorted(((log, line) for log in logs for line in log.lines), key=lambda entry: entry[1].moment)


def presented(log: Log, line: Line, *, timestamps: bool, prefix: bool, namespaces: bool = False) -> str:
    pod = f"{log.namespace}/{log.pod}" if namespaces else log.pod
    return (f"[{pod}/{log.container}] " if prefix else "") + (f"{line.stamp} " if timestamps and line.stamp else "") + line.text


def workload_selector(workload: Object) -> str:
    """The labels by which a workload knows its pods."""
    selector = label_selector(workload)
    if not selector:
        raise InputError(f"kind is {workload['kind']}, which has no selector for pods; give a workload such as a Deployment or a Job, or label_selectors")
    return selector


def wanted_containers(pods: t.Iterable[Object], query: LogQuery) -> tuple[list[tuple[Object, str]], list[LeftOut]]:
    """The containers meant in each pod, and the pods that have no container of that name; at least one has to have it."""
    wanted: list[tuple[Object, str]] = []
    left_out: list[LeftOut] = []
    refusal: InputError | None = None
    for pod in pods:
        try:
            wanted += [(pod, name) for name in _containers_of(pod, query)]
        except InputError as error:
            if query.container is None:
                raise
            refusal = refusal or error
            left_out.append(_left_out(pod, query.container, f"this pod has only {', '.join(container_names(pod))}"))
    if refusal is not None and not wanted:
        raise refusal
    return wanted, left_out


def _containers_of(pod: Object, query: LogQuery) -> list[str]:
    if query.all_containers:
        return container_names(pod)
    return [one_container(pod, query.container, "set container to one of them, or all_containers=true")]


def _left_out(pod: Object, container: str, reason: str) -> LeftOut:
    return LeftOut(pod["metadata"]["namespace"], pod["metadata"]["name"], container, reason)


def _not_started(pod: Object, container: str) -> LeftOut:
    return _left_out(pod, container, f"not started: {state(pod, container)[1] or readiness(pod).what}")


def read_logs(client: Client, pods: t.Sequence[Object], query: LogQuery) -> tuple[list[Log], list[LeftOut]]:
    """The logs as they are now, and the containers that have none to give."""
    logs: list[Log] = []
    wanted, left_out = wanted_containers(pods, query)
    for pod, container in wanted:
        if not query.previous and instance(pod, container) is None:
            left_out.append(_not_started(pod, container))
            continue
        try:
            log = client.retried(lambda pod=pod, container=container: _read(client, Log(pod, container, query.limit_bytes), query))  # type: ignore[misc]
        except ApiError as error:
            # The kubelet of one node does not answer, or the container is gone: the others have their logs nevertheless
            if error.status in (401, 403, 429):
                raise
            left_out.append(_left_out(pod, container, error.message or error.reason))
            continue
        if log.unavailable:
            left_out.append(_left_out(pod, container, log.unavailable))
        else:
            logs.append(log)
    return logs, left_out


def _read(client: Client, log: Log, query: LogQuery) -> Log:
    """Reads until the end or the limit."""
    lines = client.lines(_PODS.path(log.namespace, log.pod, "log"), query.parameters(log.container))
    for raw in lines:
        if query.is_too_old(nanoseconds(split_stamp(raw)[0])):
            continue
        log.add(raw)
        if log.truncated:
            lines.close()
            break
    return log


class _Reader:
    """Reads one run of one container, in a thread of its own, and goes on after a cut where it stood."""

    def __init__(
        self, client: Client, log: Log, run: str, parameters: Object, emit: t.Callable[[str, _Reader, t.Any], None], deadline: float, clock: Clock
    ) -> None:
        self.log = log
        self._client = client
        self.run = run
        self._parameters = parameters
        self._emit = emit
        self._deadline = deadline
        self._clock = clock
        self._stop = threading.Event()
        self._lines: Lines | None = None
        self._moment = 0
        self._lines_at_moment = 0
        self._opened = False
        self._failures = 0

    def start(self) -> None:
        threading.Thread(target=self._read, daemon=True, name="kube-log").start()

    def close(self) -> None:
        self._stop.set()
        lines = self._lines
        if lines is not None:
            lines.close()

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                if self._step():
                    self._emit("end", self, "")
                    return
            except ApiError as error:
                if error.status == 404:
                    self._emit("end", self, error.message)
                    return
                if error.status == 400:
                    self._emit("refused", self, error.message)
                elif not error.transient:
                    self._emit("fatal", self, error)
                    return
            except KubeError as error:
                if not error.transient:
                    self._emit("fatal", self, error)
                    return
            self._failures += 1
            self._stop.wait(min(0.025 * 2**self._failures, _LONGEST_PAUSE))

    def _step(self) -> bool:
        """One connection; whether nothing more can come of this run.

        A log that ends may have been cut: that the run is over is known of the pod alone. And the log of the next run has the same address.
        """
        parameters = {**self._parameters, "follow": "true"}
        if self._moment:
            parameters.update(tailLines=None, sinceSeconds=None, sinceTime=rfc3339(self._moment))
        if not self._opened:
            self._follow(parameters)
            return False
        pod = self._client.request("GET", _PODS.path(self.log.namespace, self.log.pod), retry=False)
        run = instance(pod, self.log.container)
        if run == self.run:
            is_running = state(pod, self.log.container)[0] == "running"
            self._follow(parameters)
            return not is_running
        last = ((container_status(pod, self.log.container).get("lastState") or {}).get("terminated") or {}).get("containerID")
        if last == self.run:
            self._follow({**parameters, "follow": None, "previous": "true"})
        return True

    def _follow(self, parameters: Object) -> None:
        known, already = self._moment, self._lines_at_moment
        silence = max(self._deadline - self._clock(), 0.0) + 5.0
        lines = self._client.lines(_PODS.path(self.log.namespace, self.log.pod, "log"), parameters, timeout=silence)
        self._opened = True
        self._lines = lines
        if self._stop.is_set():
            lines.close()
            return
        for raw in lines:
            moment = nanoseconds(split_stamp(raw)[0])
            if moment is not None and known:
                if moment < known:
                    continue
                if moment == known and already:
                    already -= 1
                    continue
            if moment is not None:
                self._lines_at_moment = self._lines_at_moment + 1 if moment == self._moment else 1
                self._moment = moment
            self._failures = 0
            self._emit("line", self, raw)


class Follower:
    """Reads the logs of a selection of pods as they grow, pods and containers that start meanwhile included."""

    def __init__(
        self,
        client: Client,
        selection: Selection,
        query: LogQuery,
        *,
        follow_seconds: float,
        pattern: re.Pattern[str] | None = None,
        job: tuple[Resource, str, str] | None = None,
        cluster_uid: str | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._client = client
        self._selection = selection
        self._query = query
        self._pattern = pattern
        self._job = job
        self._clock = clock
        self._start = clock()
        self._deadline = self._start + follow_seconds
        self._news: queue.SimpleQueue[tuple[str, t.Any, t.Any]] = queue.SimpleQueue()
        self._source = Source(client, selection, cluster_uid, lambda kind, payload: self._news.put((kind, None, payload)), self._deadline, clock)
        self._timeline = Timeline(self._start)
        self._pods: dict[str, Object] = {}
        self._logs: dict[tuple[str, str], Log] = {}
        self._readers: dict[tuple[str, str, str], _Reader] = {}
        self._reading: set[_Reader] = set()
        self._told: dict[tuple[str, str, str], str] = {}
        self._refused: dict[Log, str] = {}
        self._lost = ""
        self._listed = False
        self.match: Match | None = None
        self.over = False
        """Whether nothing more can come, because everything that was followed has ended."""

    def run(self) -> None:
        """Until the pattern is found, the deadline passes, or nothing more can come."""
        try:
            self._source.first()
            self._take_all()
            threading.Thread(target=self._source.run, daemon=True, name="kube-watch").start()
            while self.match is None and self._clock() < self._deadline:
                if self._nothing_more():
                    self.over = True
                    self._timeline.add(self._clock(), "nothing more can come: all containers have ended")
                    return
                wake = self._deadline - self._clock()
                with contextlib.suppress(queue.Empty):
                    self._take(*self._news.get(timeout=max(min(wake, _LONGEST_PAUSE) if self._quiet() else wake, 0.0)))
            self._take_all()
        finally:
            self._source.close()
            for reader in self._readers.values():
                reader.close()

    @property
    def waited_seconds(self) -> float:
        return round(self._clock() - self._start, 3)

    @property
    def transitions(self) -> list[Object]:
        return self._timeline.entries

    def logs(self) -> tuple[list[Log], list[LeftOut]]:
        """What was read, and what had nothing to give."""
        logs = [log for log in self._logs.values() if not log.unavailable and (log.lines or log.truncated or log not in self._refused)]
        left_out = [LeftOut(log.namespace, log.pod, log.container, log.unavailable or self._refused[log]) for log in self._logs.values() if log not in logs]
        for uid, pod in self._pods.items():
            wanted, missing = self._wanted(pod)
            left_out += missing
            left_out += [_not_started(pod, container) for container in wanted if (uid, container) not in self._logs]
        seen = {pod["metadata"]["name"] for pod in self._pods.values()} | {log.pod for log in self._logs.values()}
        left_out += [LeftOut(self._selection.namespace or "", name, "", "not found") for name in self._selection.names if name not in seen]
        return logs, left_out

    def describe(self) -> str:
        """What was seen last, for the message of a failure."""
        logs, left_out = self.logs()
        if self._lost:
            return self._lost
        if not logs and not left_out:
            return f"no {self._selection.describe()} found"
        seen = [f"{sum(len(log.lines) for log in logs)} lines of {', '.join(f'{log.pod}/{log.container}' for log in logs[:_MOST_NAMED])}"] if logs else []
        return "; ".join(seen + [str(entry) for entry in left_out[:_MOST_NAMED]])

    # What comes in

    def _take_all(self) -> None:
        with contextlib.suppress(queue.Empty):
            while self.match is None:
                self._take(*self._news.get_nowait())

    def _take(self, kind: str, reader: _Reader | None, payload: t.Any) -> None:
        now = self._clock()
        if reader is not None:
            self._take_from(reader, kind, payload, now)
        elif kind == "list":
            self._answered(now)
            found = {pod["metadata"]["uid"]: pod for pod in payload if self._is_meant(pod)}
            for uid in [uid for uid in self._pods if uid not in found]:
                self._forget(uid, now)
            for pod in found.values():
                self._look(pod, now)
            self._listed = True
        elif kind == "event":
            if self._is_meant(payload["object"]):
                if payload["type"] == "DELETED":
                    self._forget(payload["object"]["metadata"]["uid"], now)
                else:
                    self._look(payload["object"], now)
        elif kind == "lost":
            if not self._lost:
                self._timeline.add(now, payload)
            self._lost = payload
        elif kind == "back":
            self._answered(now)
        else:
            raise payload if isinstance(payload, KubeError) else Unreachable(payload)

    def _answered(self, now: float) -> None:
        if self._lost:
            self._lost = ""
            self._timeline.add(now, "the API server answers again")

    def _take_from(self, reader: _Reader, kind: str, payload: t.Any, now: float) -> None:
        log = reader.log
        if kind == "line":
            self._refused.pop(log, None)
            if self._query.is_too_old(nanoseconds(split_stamp(payload)[0])):
                return
            was_truncated = log.truncated
            line = log.add(payload, reader.run)
            if log.truncated and not was_truncated:
                self._timeline.add(now, f"{log.pod}/{log.container}: limit_bytes reached, nothing more is kept")
            if self._pattern is not None and self._pattern.search(line.text):
                self.match = Match(log, line, round(now - self._start, 3))
                self._timeline.add(now, f"{log.pod}/{log.container}: the pattern was found")
        elif kind == "refused":
            self._refused[log] = payload
            self._tell(log.namespace, log.pod, log.container, payload, now)
        elif kind == "end":
            self._reading.discard(reader)
            self._tell(log.namespace, log.pod, log.container, payload or "the log has ended", now)
        else:
            raise payload

    def _is_meant(self, pod: Object) -> bool:
        return not self._selection.names or pod["metadata"]["name"] in self._selection.names

    def _wanted(self, pod: Object) -> tuple[list[str], list[LeftOut]]:
        try:
            return [container for _pod, container in wanted_containers([pod], self._query)[0]], []
        except InputError as error:
            # Another pod may have the container; a name that no pod has is told of in the end
            if self._query.container is None:
                raise
            return [], [_left_out(pod, self._query.container, str(error))]

    def _forget(self, uid: str, now: float) -> None:
        pod = self._pods.pop(uid, None)
        if pod is not None:
            self._timeline.add(now, f"{pod['metadata']['name']}: gone")

    def _look(self, pod: Object, now: float) -> None:
        """Starts to read what has been started."""
        metadata = pod["metadata"]
        uid, namespace, name = metadata["uid"], metadata["namespace"], metadata["name"]
        self._pods[uid] = pod
        for container in self._wanted(pod)[0]:
            run = instance(pod, container)
            if run is None:
                self._tell(namespace, name, container, f"waiting to start ({state(pod, container)[1] or readiness(pod).what})", now)
                continue
            key = (uid, container, run)
            if key in self._readers:
                continue
            log = self._logs.setdefault((uid, container), Log(pod, container, self._query.limit_bytes))
            parameters = self._query.parameters(container)
            if self._listed:
                # Started after we did: all of it is new
                parameters.update(tailLines=None)
            self._tell(namespace, name, container, f"reading ({state(pod, container)[0]})", now)
            emit: t.Callable[[str, _Reader, t.Any], None] = lambda kind, source, payload: self._news.put((kind, source, payload))  # noqa: E731
            reader = _Reader(self._client, log, run, parameters, emit, self._deadline, self._clock)
            self._readers[key] = reader
            self._reading.add(reader)
            reader.start()

    def _tell(self, namespace: str, pod: str, container: str, what: str, now: float) -> None:
        if self._told.get((namespace, pod, container)) != what:
            self._told[namespace, pod, container] = what
            self._timeline.add(now, f"{pod}/{container}: {what}")

    # When it is over

    def _quiet(self) -> bool:
        return self._listed and not self._reading and all(is_over(pod) for pod in self._pods.values())

    def _nothing_more(self) -> bool:
        """Pods given by name end for good, and a Job says when it has. Everything else may get new pods at any time."""
        if not self._quiet() or not self._news.empty():
            return False
        if self._job is not None:
            resource, namespace, name = self._job
            try:
                job = self._client.get(resource, name, namespace, retry=False)
            except KubeError:
                return False
            verdict = readiness(job) if job is not None else None
            return verdict is None or verdict.ok or verdict.failed
        ended = {log.pod for log in self._logs.values()} | {pod["metadata"]["name"] for pod in self._pods.values()}
        return bool(self._selection.names) and ended >= set(self._selection.names)
