# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# One list, then one watch for each kind that is waited for. Tracker is the pure part: what has been seen, is it enough, since when.
# Source does the input and output in a thread of its own, so that a deadline ends a silent watch at once.

from __future__ import annotations

import contextlib
import dataclasses
import math
import queue
import threading
import time
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._client import KindNotServed
from ansible_collections.homelab.gpu.plugins.module_utils._definitions import without_secrets
from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, KubeError, WaitFailed
from ansible_collections.homelab.gpu.plugins.module_utils._events import refusal, seen
from ansible_collections.homelab.gpu.plugins.module_utils._ready import Verdict, is_leftover, readiness
from ansible_collections.homelab.gpu.plugins.module_utils._resources import BUILTIN
from ansible_collections.homelab.gpu.plugins.module_utils._times import NANO, nanoseconds

if t.TYPE_CHECKING:
    from ansible_collections.homelab.gpu.plugins.module_utils._client import Client, Stream

__all__ = ["Clock", "Judge", "Selection", "Source", "Timeline", "Tracker", "WaitResult", "heartbeats", "judge_for", "trim", "wait_for"]

Object = dict[str, t.Any]
Judge = t.Callable[[Object], Verdict]
Clock = t.Callable[[], float]

_LONGEST_REQUEST = 10.0
# A watch is renewed this often, so that a connection whose other end vanished is not trusted for longer
_WATCH_SECONDS = 20
_LONGEST_BACKOFF = 0.5
_MOST_TRANSITIONS = 1000
_NO_MORE_TRANSITIONS = "further changes are not listed"
_MOST_NAMED = 10
# Others tell in a condition what keeps them from making pods
_TELL_BY_EVENTS_ONLY = frozenset({"DaemonSet", "Job", "StatefulSet"})
# For the questions that a wait that has failed still asks, all of them together
_AFTERWARDS_SECONDS = 3.0


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which objects are waited for, and for what."""

    kind: str
    judge: Judge | None
    """None: the objects have to be gone."""
    api_version: str | None = None
    namespace: str | None = None
    names: tuple[str, ...] = ()
    label_selector: str | None = None
    field_selector: str | None = None
    at_least: int = 1
    """How many objects have to be there, where no names are given and they do not have to be gone."""
    only_watch: bool = False
    """Nobody waits for these objects, but they can make the wait fail, and their story is told."""

    @property
    def server_side_fields(self) -> str | None:
        parts = [self.field_selector] if self.field_selector else []
        if len(self.names) == 1:
            parts.append(f"metadata.name={self.names[0]}")
        return ",".join(parts) or None

    def describe(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        if self.names:
            return f"{self.kind} {', '.join(self.names)}{where}"
        chosen = [f"labels {self.label_selector}" if self.label_selector else "", f"fields {self.field_selector}" if self.field_selector else ""]
        return f"{self.kind} {'with ' + ' and '.join(filter(None, chosen)) if any(chosen) else '(all)'}{where}"


class Timeline:
    """What happened when, seen from one start."""

    def __init__(self, start: float) -> None:
        self._start = start
        self.entries: list[dict[str, t.Any]] = []

    def add(self, now: float, what: str) -> None:
        if len(self.entries) < _MOST_TRANSITIONS:
            last = len(self.entries) == _MOST_TRANSITIONS - 1
            self.entries.append({"at_seconds": round(max(now - self._start, 0.0), 3), "what": _NO_MORE_TRANSITIONS if last else what})


class Tracker:
    """The state of one selection as the API server told it."""

    def __init__(self, selection: Selection, timeline: Timeline, *, name_kind: bool = False, name_namespace: bool = False) -> None:
        self.selection = selection
        self.satisfied_since: float | None = None
        self._failed_since: dict[str, float] = {}
        self._timeline = timeline
        self._prefix = f"{selection.kind} " if name_kind else ""
        if name_namespace and selection.namespace:
            self._prefix += f"{selection.namespace}/"
        self._objects: dict[str, Object] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._first_uids: dict[str, str] = {}
        self._listed = False
        self._not_served: str | None = None

    # What the source tells

    def listed(self, objects: t.Iterable[Object], now: float) -> None:
        """A complete list; what happened since the last one is unknown, so nothing has been stable for any time."""
        self.satisfied_since = None
        self._not_served = None
        fresh = {self._key(obj): obj for obj in objects if self._wanted(obj)}
        self._listed = True
        for key in [key for key in self._objects if key not in fresh]:
            self._forget(key, now)
        for key in self.selection.names:
            if key not in fresh and key not in self._verdicts:
                self._judge(key, None, now)
        for key, obj in fresh.items():
            self._judge(key, obj, now)
        self.settle(now)

    def event(self, kind: str, obj: Object, now: float) -> None:
        key = self._key(obj)
        if kind == "DELETED" or not self._wanted(obj):
            self._forget(key, now)
        elif kind in ("ADDED", "MODIFIED"):
            self._judge(key, obj, now)
        self.settle(now)

    def not_served(self, why: str, now: float) -> None:
        """The kind itself is not there (yet), so there are no objects of it."""
        if not self._listed:
            self._timeline.add(now, why)
        self.listed([], now)
        self._not_served = why

    def lost(self) -> None:
        """The server cannot be asked: what was seen is history, not state."""
        self.satisfied_since = None

    # What is concluded

    @property
    def listed_once(self) -> bool:
        return self._listed

    @property
    def objects(self) -> list[Object]:
        order = {name: position for position, name in enumerate(self.selection.names)}
        return [self._objects[key] for key in sorted(self._objects, key=lambda key: (order.get(key, len(order)), key))]

    @property
    def unsatisfied(self) -> list[Object]:
        """Those of the objects that are not as wanted."""
        return [obj for key, obj in self._objects.items() if not self._verdicts[key].ok]

    def missing(self) -> str:
        """What is not as wanted, as last seen."""
        if self._not_served and self.selection.judge is not None:
            return self._not_served
        if not self._listed:
            return f"nothing was seen of {self.selection.describe()}"
        bad = [f"{self._prefix}{key}: {verdict.what}" for key, verdict in self._verdicts.items() if verdict.failed or not verdict.ok]
        if not self._enough() and not self.selection.only_watch:
            few = f"only {len(self._verdicts)} of at least {self.selection.at_least}" if self._verdicts else "no"
            bad.insert(0, f"{few} {self.selection.describe()} found")
        if len(bad) > _MOST_NAMED:
            bad[_MOST_NAMED:] = [f"and {len(bad) - _MOST_NAMED} more"]
        return "; ".join(bad)

    def _wanted(self, obj: Object) -> bool:
        if self.selection.names:
            return obj["metadata"]["name"] in self.selection.names
        return self.selection.judge is None or not is_leftover(obj)

    def _key(self, obj: Object) -> str:
        metadata = obj["metadata"]
        if self.selection.namespace or self.selection.names or not metadata.get("namespace"):
            return str(metadata["name"])
        return f"{metadata['namespace']}/{metadata['name']}"

    def _judge(self, key: str, obj: Object | None, now: float) -> None:
        if obj is None:
            gone = self.selection.judge is None
            verdict = Verdict(gone, "gone" if gone else "not found")
        elif self.selection.judge is not None:
            self._objects[key] = obj
            verdict = self.selection.judge(obj)
        else:
            uid = obj["metadata"].get("uid", "")
            if self._first_uids.setdefault(key, uid) == uid:
                self._objects[key] = obj
                deleting = obj["metadata"].get("deletionTimestamp")
                finalizers = obj["metadata"].get("finalizers")
                held = f", held by finalizers {', '.join(finalizers)}" if deleting and finalizers else ""
                verdict = Verdict(False, f"being deleted since {deleting}{held}" if deleting else "still there")
            else:
                self._objects.pop(key, None)
                verdict = Verdict(True, "gone, and made anew since")
        before = self._verdicts.get(key)
        if before != verdict:
            self._verdicts[key] = verdict
            self._tell(key, verdict.what, now)
        if not verdict.failed:
            self._failed_since.pop(key, None)
        elif before is None or not before.failed or before.patience != verdict.patience:
            self._failed_since[key] = now

    def _tell(self, key: str, what: str, now: float) -> None:
        self._timeline.add(now, f"{self._prefix}{key}: {what}")

    def _forget(self, key: str, now: float) -> None:
        self._objects.pop(key, None)
        if key in self.selection.names:
            self._judge(key, None, now)
        elif key in self._verdicts:
            del self._verdicts[key]
            self._failed_since.pop(key, None)
            self._tell(key, "gone", now)

    def _enough(self) -> bool:
        return bool(self.selection.names) or self.selection.judge is None or len(self._verdicts) >= self.selection.at_least

    def settle(self, now: float) -> None:
        if not (self._listed and self._enough() and all(verdict.ok for verdict in self._verdicts.values())):
            self.satisfied_since = None
        elif self.satisfied_since is None:
            self.satisfied_since = now

    def failure(self, now: float) -> str | None:
        """Why it cannot come true any more."""
        failed = [key for key, since in self._failed_since.items() if now - since >= self._verdicts[key].patience]
        return "; ".join(f"{self._prefix}{key}: {self._verdicts[key].what}" for key in failed) or None

    @property
    def fails_at(self) -> float:
        """When it fails if nothing changes."""
        return min((since + self._verdicts[key].patience for key, since in self._failed_since.items()), default=math.inf)


class Source:
    """Lists and watches for one selection, and tells what it sees through C(emit): list, event, lost, back, not served, fatal."""

    def __init__(self, client: Client, selection: Selection, cluster_uid: str | None, emit: t.Callable[[str, t.Any], None], deadline: float, clock: Clock):
        self._client = client
        self._selection = selection
        self._cluster_uid = cluster_uid
        self._emit = emit
        self._deadline = deadline
        self._clock = clock
        self._version = ""
        self._path = ""
        self._failures = 0
        self._stop = threading.Event()
        self._stream: Stream | None = None

    def run(self) -> None:
        while not self._stop.is_set():
            self.step(self._watch if self._version else self._list)

    def first(self) -> None:
        """The list alone, in the caller's thread: often it is all that is needed."""
        self.step(self._list)

    def close(self) -> None:
        self._stop.set()
        stream = self._stream
        if stream is not None:
            stream.close()

    def step(self, action: t.Callable[[], None]) -> None:
        try:
            action()
            self._failures = 0
            return
        except ApiError as error:
            if error.status == 410:
                self._version = ""
                return
            if error.status == 404:
                self._not_served(f"the API server does not serve {self._path}")
                return
            failure: KubeError = error
        except KindNotServed as error:
            self._not_served(str(error))
            return
        except KubeError as error:
            failure = error
        if not failure.transient:
            self._emit("fatal", failure)
            self._stop.set()
            return
        self._failures += 1
        # A watch that is cut is an everyday matter; only a server that cannot be asked is news
        if self._failures > 1 or not self._version:
            self._emit("lost", str(failure))
        asked = getattr(failure, "retry_after", None)
        self._pause(min(asked, _LONGEST_REQUEST) if asked is not None else self._backoff())

    def _backoff(self) -> float:
        return min(0.025 * 2 ** (self._failures - 1), _LONGEST_BACKOFF)

    def _not_served(self, why: str) -> None:
        self._version = ""
        self._failures += 1
        self._client.forget_discovery()
        self._emit("not served", why)
        self._pause(self._backoff())

    def _pause(self, seconds: float) -> None:
        self._stop.wait(max(min(seconds, self._remaining()), 0.0))

    def _remaining(self) -> float:
        return self._deadline - self._clock()

    def _timeout(self) -> float:
        return max(min(self._remaining(), _LONGEST_REQUEST), 0.5)

    def _list(self) -> None:
        self._client.require_cluster(self._cluster_uid, timeout=self._timeout(), retry=False)
        wanted = self._selection
        resource = self._client.resource(wanted.kind, wanted.api_version, retry=False)
        namespace = wanted.namespace if resource.namespaced else None
        self._path = resource.path(namespace)
        page = self._client.list_all(
            resource,
            namespace,
            label_selector=wanted.label_selector,
            field_selector=wanted.server_side_fields,
            timeout=self._timeout(),
            retry=False,
        )
        self._version = page.resource_version
        self._emit("list", page.items)

    def _watch(self) -> None:
        if self._failures > 1 and self._went_back():
            self._version = ""
            return
        seconds = max(1, min(_WATCH_SECONDS, int(self._remaining()) + 1))
        query = {
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": seconds,
            "labelSelector": self._selection.label_selector,
            "fieldSelector": self._selection.server_side_fields,
        }
        stream = self._client.stream(self._path, query, timeout=seconds + 5.0)
        self._stream = stream
        if self._stop.is_set():
            stream.close()
            return
        if self._failures:
            self._failures = 0
            self._emit("back", None)
        for event in stream:
            kind, obj = event.get("type"), event.get("object") or {}
            if kind == "ERROR":
                raise ApiError.from_response(int(obj.get("code") or 500), "WATCH", self._path, obj)
            version = (obj.get("metadata") or {}).get("resourceVersion")
            if version:
                self._version = version
            if kind != "BOOKMARK":
                self._emit("event", event)

    def _went_back(self) -> bool:
        """Whether an outage has left the server at an older state, from a backup of its data: a watch from the future would be silent."""
        answer = self._client.request("GET", self._path, query={"limit": 1}, timeout=self._timeout(), retry=False)
        found = str((answer.get("metadata") or {}).get("resourceVersion", ""))
        return found.isdigit() and self._version.isdigit() and int(found) < int(self._version)


@dataclasses.dataclass(frozen=True)
class WaitResult:
    waited_seconds: float
    transitions: list[dict[str, t.Any]]
    objects: list[Object]


class _Wait:
    """Sources, trackers and the clock of one wait."""

    def __init__(
        self,
        client: Client,
        selections: t.Sequence[Selection],
        timeout_seconds: float,
        what: str,
        stable_seconds: float,
        cluster_uid: str | None,
        clock: Clock,
    ) -> None:
        self._client = client
        self._what = what
        self._timeout_seconds = timeout_seconds
        self._stable_seconds = stable_seconds
        self._clock = clock
        self._start = clock()
        self._deadline = self._start + timeout_seconds
        self._timeline = Timeline(self._start)
        several = {"name_kind": len(selections) > 1, "name_namespace": len({selection.namespace for selection in selections if selection.namespace}) > 1}
        self._trackers = [Tracker(selection, self._timeline, **several) for selection in selections]
        self._awaited = [tracker for tracker in self._trackers if not tracker.selection.only_watch]
        self._news: queue.SimpleQueue[tuple[float, int, str, t.Any]] = queue.SimpleQueue()
        self._outages: dict[int, str] = {}
        self._watching = False
        self._sources = [Source(client, selection, cluster_uid, self._emitter(index), self._deadline, clock) for index, selection in enumerate(selections)]

    def _emitter(self, index: int) -> t.Callable[[str, t.Any], None]:
        return lambda kind, payload: self._news.put((self._clock(), index, kind, payload))

    def run(self) -> WaitResult:
        try:
            self._ask_once(only_watch=False)
            while True:
                self._take_all()
                now = self._clock()
                settled = self._settled_since()
                if settled is not None and now - settled >= self._stable_seconds:
                    return WaitResult(round(now - self._start, 3), self._timeline.entries, self._objects())
                self._give_up_if_hopeless(now)
                if now >= self._deadline:
                    raise WaitFailed(self._too_late(now, settled), timed_out=True, **self._result())
                self._watch()
                wake = min(self._deadline, math.inf if settled is None else settled + self._stable_seconds, *(tracker.fails_at for tracker in self._trackers))
                with contextlib.suppress(queue.Empty):
                    self._take(*self._news.get(timeout=max(wake - self._clock(), 0.0)))
        finally:
            for source in self._sources:
                source.close()

    def _ask_once(self, only_watch: bool) -> None:
        for source, tracker in zip(self._sources, self._trackers):
            if tracker.selection.only_watch == only_watch:
                source.first()

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            for source in self._sources:
                threading.Thread(target=source.run, daemon=True, name="kube-watch").start()

    def _take_all(self) -> None:
        """What has come in; without C(stable_seconds), only until a moment at which all was as wanted."""
        with contextlib.suppress(queue.Empty):
            while self._stable_seconds or self._settled_since() is None:
                self._take(*self._news.get_nowait())

    def _take(self, now: float, index: int, kind: str, payload: t.Any) -> None:
        tracker = self._trackers[index]
        if kind in ("fatal", "lost") and tracker.selection.only_watch:
            # Nobody waits for it; what one waits for has a source of its own, which tells the same if it is so
            self._timeline.add(now, str(payload))
            return
        if kind == "fatal":
            payload.data.update(self._result())
            raise payload
        if kind == "lost":
            if not self._outages:
                self._timeline.add(now, payload)
            self._outages[index] = payload
            for other in self._trackers:
                other.lost()
            return
        if kind in ("list", "back", "not served") and self._outages.pop(index, "") and not self._outages:
            self._timeline.add(now, "the API server answers again")
            # Watches that were not cut go on where they stood
            for other in self._trackers:
                other.settle(now)
        if kind == "list":
            tracker.listed(payload, now)
        elif kind == "event":
            tracker.event(payload["type"], payload["object"], now)
        elif kind == "not served":
            tracker.not_served(payload, now)

    def _settled_since(self) -> float | None:
        since = [tracker.satisfied_since for tracker in self._awaited]
        return None if self._outages or None in since else max(t.cast("list[float]", since))

    def _give_up_if_hopeless(self, now: float) -> None:
        failures = list(filter(None, (tracker.failure(now) for tracker in self._trackers)))
        if not failures:
            return
        if not self._watching:
            # Failed from the start: those who can tell why have not been asked yet
            self._ask_once(only_watch=True)
            with contextlib.suppress(queue.Empty):
                while True:
                    self._take(*self._news.get_nowait())
        failures += [tracker.missing() for tracker in self._trackers if tracker.selection.only_watch and not tracker.failure(now)]
        failures += self._refusals()
        raise WaitFailed(f"waiting for {self._what} is of no use any more: {'; '.join(filter(None, failures))}", timed_out=False, **self._result())

    def _too_late(self, now: float, settled: float | None) -> str:
        if settled is not None:
            last = f"so since {now - settled:.1f} s, which is less than stable_seconds={self._stable_seconds:g}"
        else:
            parts = [tracker.missing() for tracker in self._trackers if tracker.listed_once or not self._outages]
            last = "; ".join(filter(None, [*parts, *self._refusals()]))
        if self._outages:
            last = "; before that: ".join(filter(None, (next(iter(self._outages.values())), last)))
        return f"timed out after {self._timeout_seconds:g} s waiting for {self._what}: {last}"

    def _refusals(self) -> list[str]:
        """What controllers say of pods that they could not make. It ends no wait, for nobody says when it has passed; so it is asked for only now."""
        awaited = [obj for tracker in self._awaited if tracker.selection.judge is not None for obj in tracker.unsatisfied]
        owners = {obj["metadata"].get("uid"): obj for obj in awaited if obj.get("kind") in _TELL_BY_EVENTS_ONLY}
        found: list[str] = []
        end = self._clock() + _AFTERWARDS_SECONDS
        # Who may read workloads need not be allowed to read events
        with contextlib.suppress(KubeError):
            for uid, obj in [] if self._outages else list(owners.items())[:_MOST_NAMED]:
                namespace, left = obj["metadata"].get("namespace"), end - self._clock()
                if left <= 0:
                    break
                events = self._client.list_all(BUILTIN["Event"], namespace, field_selector=f"involvedObject.uid={uid}", timeout=left, retry=False).items
                last = refusal(map(seen, events))
                if last is not None:
                    times = f", {last.count} times" if last.count > 1 else ""
                    found.append(f"{obj['kind']} {namespace}/{obj['metadata']['name']}: {last.message} ({last.reason}{times}, last at {last.last})")
        return found

    def _objects(self) -> list[Object]:
        return [obj for tracker in self._awaited for obj in tracker.objects]

    def _result(self) -> dict[str, t.Any]:
        return {
            "waited_seconds": round(self._clock() - self._start, 3),
            "transitions": self._timeline.entries,
            "resources": [trim(obj) for obj in self._objects()],
        }


def wait_for(
    client: Client,
    selections: t.Sequence[Selection],
    *,
    timeout_seconds: float,
    what: str,
    stable_seconds: float = 0.0,
    cluster_uid: str | None = None,
    clock: Clock = time.monotonic,
) -> WaitResult:
    """Waits until every selection is as wanted, all of them at the same time, for C(stable_seconds).

    Outages of the API server are sat out until the deadline. C(what) completes "timed out waiting for ...".
    """
    return _Wait(client, selections, timeout_seconds, what, stable_seconds, cluster_uid, clock).run()


def judge_for(until: str, *, kubelet_version: str | None = None) -> Judge | None:
    """The states that every object can be waited for."""
    if until == "gone":
        return None
    if until == "exists":
        return lambda obj: Verdict(True, "exists")
    return lambda obj: readiness(obj, kubelet_version=kubelet_version)


def heartbeats(client: Client, nodes: tuple[str, ...], seconds: float) -> Selection:
    """The leases that the kubelets of C(nodes) renew, wanted to have been renewed within C(seconds)."""

    def judge(lease: Object) -> Verdict:
        renewed = (lease.get("spec") or {}).get("renewTime")
        moment = nanoseconds(renewed)
        if moment is None:
            return Verdict(False, "never renewed its lease")
        # Whole seconds on the server's side
        if client.server_time() - moment / NANO <= seconds + 1:
            return Verdict(True, "renews its lease")
        return Verdict(False, f"has not renewed its lease since {renewed}")

    return Selection(kind="Lease", judge=judge, namespace="kube-node-lease", names=nodes)


def trim(obj: Object) -> Object:
    """An object without what is long and of no use to a reader, and without the values of Secrets: failures are shown to everybody."""
    trimmed = without_secrets(obj)
    if trimmed.get("kind") == "Node":
        trimmed.get("status", {}).pop("images", None)
    return trimmed
