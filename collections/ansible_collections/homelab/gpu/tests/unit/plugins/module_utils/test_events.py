# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._events import Seen, Subject, aggregated, refusal, seen, with_gone_relatives

Object = dict[str, t.Any]

MADE = {"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize(
    ("event", "first", "last", "count"),
    [
        (MADE, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", 1),
        ({**MADE, "eventTime": "2026-01-01T00:00:01.5Z"}, "2026-01-01T00:00:01.5Z", "2026-01-01T00:00:01.5Z", 1),
        (
            {**MADE, "eventTime": "2026-01-01T00:00:01.5Z", "series": {"count": 4, "lastObservedTime": "2026-01-01T00:00:03.5Z"}},
            "2026-01-01T00:00:01.5Z",
            "2026-01-01T00:00:03.5Z",
            4,
        ),
        (
            {**MADE, "eventTime": None, "firstTimestamp": "2026-01-01T00:00:01Z", "lastTimestamp": "2026-01-01T00:00:02Z", "count": 2},
            "2026-01-01T00:00:01Z",
            "2026-01-01T00:00:02Z",
            2,
        ),
        (
            {**MADE, "deprecatedFirstTimestamp": "2026-01-01T00:00:01Z", "deprecatedLastTimestamp": "2026-01-01T00:00:02Z", "deprecatedCount": 2},
            "2026-01-01T00:00:01Z",
            "2026-01-01T00:00:02Z",
            2,
        ),
        ({"firstTimestamp": "2026-01-01T00:00:01Z", "lastTimestamp": None}, "2026-01-01T00:00:01Z", "2026-01-01T00:00:01Z", 1),
        ({}, "", "", 1),
    ],
)
def test_times(event: Object, first: str, last: str, count: int) -> None:
    found = seen(event)
    assert (found.first, found.last, found.count) == (first, last, count)


@pytest.mark.parametrize(
    ("event", "source", "node"),
    [
        ({"source": {"component": "kubelet", "host": "n"}}, "kubelet", "n"),
        ({"reportingComponent": "kubelet", "source": {"component": "kubelet", "host": "n"}}, "kubelet", "n"),
        ({"reportingComponent": "default-scheduler", "source": {}}, "default-scheduler", ""),
        ({"reportingController": "default-scheduler", "deprecatedSource": {}}, "default-scheduler", ""),
        ({"reportingComponent": "", "source": None}, "", ""),
    ],
)
def test_sources(event: Object, source: str, node: str) -> None:
    assert (seen(event).source, seen(event).node) == (source, node)


def test_both_shapes_are_one() -> None:
    about = {"apiVersion": "v1", "kind": "Pod", "namespace": "d", "name": "a", "uid": "u", "fieldPath": "spec.containers{c}"}
    common: Object = {"reason": "Failed", "type": "Warning", **MADE}
    assert seen({**common, "involvedObject": about, "message": "text\n"}) == seen({**common, "regarding": about, "note": "text"})


def told(kind: str, name: str, message: str, last: str = "2026-01-01T00:00:00Z", count: int = 1) -> Seen:
    return Seen(Subject(kind, "d", name), "", "Normal", "Told", message, "", "", count, last, last)


@pytest.mark.parametrize(
    ("owner", "message", "made"),
    [
        ("Deployment", "Scaled up replica set web-1 from 0 to 1", ("ReplicaSet", "web-1")),
        ("Deployment", "Scaled down replica set web-1 to 0 from 1", ("ReplicaSet", "web-1")),
        ("ReplicaSet", "Created pod: web-1-x", ("Pod", "web-1-x")),
        ("ReplicaSet", "Deleted pod: web-1-x", ("Pod", "web-1-x")),
        ("DaemonSet", "Created pod: web-1-x", ("Pod", "web-1-x")),
        ("Job", "Created pod: web-1-x", ("Pod", "web-1-x")),
        ("StatefulSet", "create Pod web-0 in StatefulSet web successful", ("Pod", "web-0")),
        ("StatefulSet", "delete Pod web-0 in StatefulSet web successful", ("Pod", "web-0")),
        ("CronJob", "Created job web-29", ("Job", "web-29")),
        ("CronJob", "Saw completed job: web-29, condition: Complete", ("Job", "web-29")),
        ("CronJob", "Deleted job web-29", ("Job", "web-29")),
        ("ReplicaSet", "Error creating: pods is forbidden", None),
        ("Pod", "Created pod: web-1-x", None),
    ],
)
def test_what_controllers_tell_of_what_they_made(owner: str, message: str, made: tuple[str, str] | None) -> None:
    assert with_gone_relatives([told(owner, "web", message)], {(owner, "web")}) == {(owner, "web")} | ({made} if made else set())
    assert with_gone_relatives([told(owner, "other", message)], {(owner, "web")}) == {(owner, "web")}


def test_aggregation_keeps_the_last_and_counts_all() -> None:
    one, two = told("Pod", "a", "x", "2026-01-01T00:00:01Z", 2), told("Pod", "a", "x", "2026-01-01T00:00:05.5Z", 3)
    (found,) = aggregated([two, one])
    assert (found.count, found.first, found.last) == (5, one.first, two.last)
    assert aggregated([]) == []


@pytest.mark.parametrize(
    ("reasons", "found"),
    [
        ([], None),
        (["SuccessfulCreate"], None),
        (["FailedCreate"], 0),
        (["FailedCreate", "FailedCreate"], 1),
        (["SuccessfulCreate", "FailedCreate"], 1),
        (["FailedCreate", "SuccessfulCreate"], None),
        (["FailedCreate", "SuccessfulCreate", "FailedCreate"], 2),
        (["FailedCreate", "FailedDaemonPod"], 0),
    ],
)
def test_a_refusal_has_passed_when_a_pod_was_made_since(reasons: list[str], found: int | None) -> None:
    events = [dataclasses.replace(told("Job", "j", "x", f"2026-01-01T00:00:0{at}Z"), reason=reason) for at, reason in enumerate(reasons)]
    assert refusal(reversed(events)) == (None if found is None else events[found])


def test_of_one_second_the_refusal_counts() -> None:
    """A controller makes what it can, and is refused the rest."""
    made, refused = (dataclasses.replace(told("Job", "j", "x"), reason=reason) for reason in ("SuccessfulCreate", "FailedCreate"))
    assert refusal([refused, made]) == refused
