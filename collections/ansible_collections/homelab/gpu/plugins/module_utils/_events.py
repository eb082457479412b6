# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Events: of what, when, how often. The same events are served by two API groups, in two shapes. Pure, but for read_events and what it reads.

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._resources import BUILTIN, Resource, check_kind
from ansible_collections.homelab.gpu.plugins.module_utils._times import NANO, nanoseconds, since_of

if t.TYPE_CHECKING:
    from ansible_collections.homelab.gpu.plugins.module_utils._client import Client

__all__ = [
    "CORE",
    "EVENTS_GROUP",
    "EventQuery",
    "Seen",
    "Subject",
    "aggregated",
    "ordered",
    "query_of",
    "read_events",
    "refusal",
    "seen",
    "with_gone_relatives",
]

Object = t.Mapping[str, t.Any]

CORE: t.Final = "v1"
EVENTS_GROUP: t.Final = "events.k8s.io/v1"
_RESOURCES = {CORE: BUILTIN["Event"], EVENTS_GROUP: Resource(EVENTS_GROUP, "Event", "events", True)}
_SUBJECT_FIELD = {CORE: "involvedObject", EVENTS_GROUP: "regarding"}
# Which kinds the controllers of a workload make for it, directly or by what they made
_OWNED = {"CronJob": ("Job", "Pod"), "DaemonSet": ("Pod",), "Deployment": ("ReplicaSet", "Pod"), "Job": ("Pod",)}
_OWNED |= {"ReplicaSet": ("Pod",), "ReplicationController": ("Pod",), "StatefulSet": ("Pod",)}
_MAKES_PODS = re.compile(r"(?:Created|Deleted) pod: (?P<name>\S+)")
# How a controller tells what it made or removed: for what is gone there is no other trace of its owner
_MADE: dict[str, tuple[str, re.Pattern[str]]] = {
    "CronJob": ("Job", re.compile(r"(?:Created job|Deleted job|Saw completed job:) (?P<name>[^\s,]+)")),
    "DaemonSet": ("Pod", _MAKES_PODS),
    "Deployment": ("ReplicaSet", re.compile(r"Scaled (?:up|down) replica set (?P<name>\S+) ")),
    "Job": ("Pod", _MAKES_PODS),
    "ReplicaSet": ("Pod", _MAKES_PODS),
    "ReplicationController": ("Pod", _MAKES_PODS),
    "StatefulSet": ("Pod", re.compile(r"(?:create|delete) Pod (?P<name>\S+) in StatefulSet ")),
}


@dataclasses.dataclass(frozen=True)
class Subject:
    """What an event is about."""

    kind: str
    namespace: str
    name: str
    uid: str = ""
    api_version: str = ""

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]


@dataclasses.dataclass(frozen=True)
class Seen:
    """An event, or several alike."""

    subject: Subject
    field_path: str
    type: str
    reason: str
    message: str
    source: str
    node: str
    count: int
    first: str
    last: str

    @property
    def moment(self) -> int:
        return nanoseconds(self.last) or 0

    def as_result(self) -> dict[str, t.Any]:
        subject = {name: getattr(self.subject, name) for name in ("api_version", "kind", "namespace", "name", "uid")}
        told = {name: getattr(self, name) for name in ("type", "reason", "message", "count", "source", "node")}
        return {**told, "first_time": self.first, "last_time": self.last, "object": {**subject, "field_path": self.field_path}}

    def as_line(self) -> str:
        where = f"{self.subject.namespace}/" if self.subject.namespace else ""
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"{self.last} {self.type} {self.reason} {self.subject.kind} {where}{self.subject.name}: {self.message}{times}"


@dataclasses.dataclass(frozen=True)
class EventQuery:
    """Which events are wanted."""

    kind: str | None = None
    api_version: str | None = None
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None
    types: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    since_seconds: int | None = None
    since: int | None = None
    """Nanoseconds since the epoch."""
    related: bool = False
    events_api: str = CORE

    def field_selector(self) -> str | None:
        """What the server can choose. It knows no alternatives, and what is related is found out here."""
        if self.related:
            return None
        subject = _SUBJECT_FIELD[self.events_api]
        wanted = {f"{subject}.kind": self.kind, f"{subject}.name": self.name, f"{subject}.uid": self.uid}
        wanted["type"] = self.types[0] if len(self.types) == 1 else None
        wanted["reason"] = self.reasons[0] if len(self.reasons) == 1 else None
        return ",".join(f"{field}={value}" for field, value in wanted.items() if value) or None

    def takes(self, event: Seen, relatives: t.AbstractSet[tuple[str, str]] | None) -> bool:
        """C(relatives): kinds and names; None where the server has chosen the object already."""
        subject = event.subject
        if relatives is not None and (subject.kind, subject.name) not in relatives:
            return False
        is_itself = (subject.kind, subject.name) == (self.kind, self.name)
        if self.uid is not None and (relatives is None or is_itself) and subject.uid != self.uid:
            return False
        if self.api_version is not None and (relatives is None or is_itself) and subject.group != self.api_version.rpartition("/")[0]:
            return False
        return (not self.types or event.type in self.types) and (not self.reasons or event.reason in self.reasons)


def query_of(params: Object) -> EventQuery:
    """The options, checked."""
    for option in ("kind", "name", "namespace", "uid"):
        if params[option] == "":
            raise InputError(f"{option} is empty; give a value, or leave it out")
    if params["kind"] is not None:
        check_kind("kind", params["kind"])
    for option, needed in (("name", "kind"), ("api_version", "kind")):
        if params[option] is not None and params[needed] is None:
            raise InputError(f"{option} is given without kind, and names belong to kinds; add kind")
    for option in ("types", "reasons"):
        if params[option] is not None and not all(params[option] or [""]):
            raise InputError(f"{option} is empty or contains an empty value; give at least one value, or leave it out")
    for reason in params["reasons"] or []:
        if re.search(r"[,=\s]", reason):
            raise InputError(f"reasons contains {reason!r}; give single reasons such as BackOff, each as an element of the list")
    if params["related"] and (params["name"] is None or params["kind"] not in _OWNED):
        raise InputError(f"related needs name and kind of a workload; set both, kind to one of {', '.join(sorted(_OWNED))}, or leave related out")
    return EventQuery(
        kind=params["kind"],
        api_version=params["api_version"],
        namespace=params["namespace"],
        name=params["name"],
        uid=params["uid"],
        types=tuple(params["types"] or ()),
        reasons=tuple(params["reasons"] or ()),
        since_seconds=params["since_seconds"],
        since=since_of(params),
        related=params["related"],
        events_api=params["events_api"],
    )


def seen(event: Object) -> Seen:
    """An event of either API group."""
    about = event.get("involvedObject") or event.get("regarding") or {}
    series = event.get("series") or {}
    source = event.get("source") or event.get("deprecatedSource") or {}
    made = (event.get("metadata") or {}).get("creationTimestamp")
    first = event.get("firstTimestamp") or event.get("deprecatedFirstTimestamp") or event.get("eventTime") or made
    last = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("deprecatedLastTimestamp") or event.get("eventTime") or first
    return Seen(
        subject=Subject(
            kind=about.get("kind") or "",
            namespace=about.get("namespace") or "",
            name=about.get("name") or "",
            uid=about.get("uid") or "",
            api_version=about.get("apiVersion") or "",
        ),
        field_path=about.get("fieldPath") or "",
        type=event.get("type") or "",
        reason=event.get("reason") or "",
        message=str(event.get("message") or event.get("note") or "").strip(),
        source=event.get("reportingComponent") or event.get("reportingController") or source.get("component") or "",
        node=source.get("host") or "",
        count=int(series.get("count") or event.get("count") or event.get("deprecatedCount") or 1),
        first=first or "",
        last=last or "",
    )


def ordered(events: t.Iterable[Seen]) -> list[Seen]:
    return sorted(events, key=lambda event: (event.moment, nanoseconds(event.first) or 0))


def aggregated(events: t.Iterable[Seen]) -> list[Seen]:
    """One for all that tell the same of the same object, by the time of the last."""
    groups: dict[tuple[t.Any, ...], list[Seen]] = {}
    for event in events:
        groups.setdefault((event.subject, event.type, event.reason, event.message), []).append(event)
    return ordered(
        dataclasses.replace(
            max(alike, key=lambda event: event.moment),
            count=sum(event.count for event in alike),
            first=min((event.first for event in alike), key=lambda time: nanoseconds(time) or 0),
        )
        for alike in groups.values()
    )


def refusal(events: t.Iterable[Seen]) -> Seen | None:
    """Of the events of one workload, the last that says that a pod could not be made; None if one was made since."""
    last = {event.reason: event for event in ordered(events)}
    failed, made = last.get("FailedCreate"), last.get("SuccessfulCreate")
    return failed if failed is not None and (made is None or made.moment <= failed.moment) else None


def with_gone_relatives(events: t.Iterable[Seen], known: t.AbstractSet[tuple[str, str]]) -> set[tuple[str, str]]:
    """What C(known) objects made according to their events, and what those made, by kind and name."""
    by_owner: dict[tuple[str, str], list[Seen]] = {}
    for event in events:
        by_owner.setdefault((event.subject.kind, event.subject.name), []).append(event)
    found, fresh = set(known), set(known)
    while fresh:
        made = set()
        for owner in fresh & set(by_owner):
            if owner[0] in _MADE:
                kind, pattern = _MADE[owner[0]]
                made |= {(kind, match["name"]) for event in by_owner[owner] for match in [pattern.match(event.message)] if match}
        fresh = made - found
        found |= fresh
    return found


def read_events(client: Client, query: EventQuery) -> list[Seen]:
    """By time, the oldest first."""
    namespace = query.namespace
    if query.kind is not None:
        resource = client.resource(query.kind, query.api_version)
        if not resource.namespaced:
            # They are kept in default, or wherever whoever told them works
            namespace = None
        elif query.name is not None:
            namespace = namespace or "default"
    found = client.list_all(_RESOURCES[query.events_api], namespace, field_selector=query.field_selector()).items
    events = [seen(event) for event in found]
    oldest = query.since
    if query.since_seconds is not None:
        oldest = int((client.server_time() - query.since_seconds) * NANO)
    relatives = None
    if query.related:
        relatives = with_gone_relatives(events, _present_relatives(client, query, t.cast("str", namespace)))
    return ordered(event for event in events if query.takes(event, relatives) and (oldest is None or event.moment >= oldest))


def _present_relatives(client: Client, query: EventQuery, namespace: str) -> set[tuple[str, str]]:
    """The workload itself and what belongs to it by ownerReferences."""
    kind, name = t.cast("str", query.kind), t.cast("str", query.name)
    found = {(kind, name)}
    workload = client.get(client.resource(kind, query.api_version), name, namespace)
    if workload is None:
        return found
    owners = {workload["metadata"]["uid"]}
    for owned in _OWNED[kind]:
        for obj in client.list_all(BUILTIN[owned], namespace).items:
            if any(owner.get("uid") in owners for owner in obj["metadata"].get("ownerReferences") or []):
                owners.add(obj["metadata"]["uid"])
                found.add((owned, obj["metadata"]["name"]))
    return found
