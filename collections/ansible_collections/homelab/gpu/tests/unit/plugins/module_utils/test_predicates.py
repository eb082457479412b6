# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._expressions import Expression
from ansible_collections.homelab.gpu.plugins.module_utils._predicates import all_of, has_condition, has_replicas, offers, satisfies
from ansible_collections.homelab.gpu.plugins.module_utils._quantity import quantity
from ansible_collections.homelab.gpu.plugins.module_utils._ready import Verdict

Object = dict[str, t.Any]


def thing(kind: str = "Deployment", generation: int = 1, **status: t.Any) -> Object:
    return {"kind": kind, "metadata": {"name": "x", "generation": generation}, "status": status}


def conditions(*entries: str) -> list[Object]:
    """C(Type=Status:Reason)."""
    found = []
    for entry in entries:
        name, _equals, rest = entry.partition("=")
        status, _colon, reason = rest.partition(":")
        found.append({"type": name, "status": status, **({"reason": reason} if reason else {})})
    return found


@pytest.mark.parametrize(
    ("given", "wanted", "ok", "words"),
    [
        (["Available=True"], ("Available", "True", None), True, "Available=True"),
        (["Available=False:MinimumReplicasUnavailable"], ("Available", "True", None), False, "Available=False (MinimumReplicasUnavailable)"),
        (["Available=False"], ("Available", "False", None), True, "Available=False"),
        (["Available=Unknown"], ("Available", "Unknown", None), True, "Available=Unknown"),
        ([], ("Available", "True", None), False, "no condition Available yet"),
        # What is not known yet is not false either
        ([], ("Available", "False", None), False, "no condition Available yet"),
        (["Progressing=True:NewReplicaSetAvailable"], ("Progressing", "True", "NewReplicaSetAvailable"), True, "Progressing=True"),
        (
            ["Progressing=True:ReplicaSetUpdated"],
            ("Progressing", "True", "NewReplicaSetAvailable"),
            False,
            "Progressing=True, but with the reason ReplicaSetUpdated, not NewReplicaSetAvailable",
        ),
        (["Progressing=True"], ("Progressing", "True", "X"), False, "Progressing=True, but with the reason (none), not X"),
        (["Progressing=False:Y"], ("Progressing", "True", "X"), False, "Progressing=False (Y)"),
    ],
)
def test_conditions(given: list[str], wanted: tuple[str, str, str | None], ok: bool, words: str) -> None:
    assert has_condition(*wanted)(thing(conditions=conditions(*given))) == Verdict(ok, words)


def test_conditions_of_an_older_generation_do_not_count() -> None:
    seen = has_condition("Available", "True", None)(thing(generation=2, observedGeneration=1, conditions=conditions("Available=True")))
    assert seen == Verdict(False, "the controller has seen generation 1 of 2")


@pytest.mark.parametrize(
    ("kind", "status", "wanted", "failed"),
    [
        ("Job", {"conditions": conditions("Failed=True:BackoffLimitExceeded")}, "Complete", True),
        ("Job", {"conditions": conditions("Failed=True:BackoffLimitExceeded")}, "Failed", False),
        ("Job", {"active": 1}, "Complete", False),
        ("Pod", {"phase": "Failed"}, "Ready", True),
        # It may still come
        ("Deployment", {"observedGeneration": 1, "conditions": conditions("Progressing=False:ProgressDeadlineExceeded")}, "Available", False),
    ],
)
def test_what_has_failed_will_not_get_its_condition(kind: str, status: Object, wanted: str, failed: bool) -> None:
    assert has_condition(wanted, "True", None)(thing(kind, **status)).failed is failed


@pytest.mark.parametrize(
    ("found", "wanted", "ok", "words"),
    [
        ({"nvidia.com/gpu": "4"}, {"nvidia.com/gpu": 4}, True, "nvidia.com/gpu: 4"),
        ({"nvidia.com/gpu": "4"}, {"nvidia.com/gpu": "4000m"}, True, "nvidia.com/gpu: 4"),
        ({"nvidia.com/gpu": "3"}, {"nvidia.com/gpu": "4"}, False, "nvidia.com/gpu: 3, not 4"),
        ({"nvidia.com/gpu": "40"}, {"nvidia.com/gpu": 400}, False, "nvidia.com/gpu: 40, not 400"),
        ({}, {"nvidia.com/gpu": 4}, False, "nvidia.com/gpu: 0, not 4"),
        ({}, {"nvidia.com/gpu": 0}, True, "nvidia.com/gpu: 0"),
        ({"memory": "1048576Ki"}, {"memory": "1Gi"}, True, "memory: 1048576Ki"),
        ({"cpu": "1950m"}, {"cpu": "1.95"}, True, "cpu: 1950m"),
        ({"cpu": "2", "memory": "1Gi"}, {"cpu": 2, "memory": "2Gi"}, False, "cpu: 2, memory: 1Gi, not 2147483648"),
        ({"cpu": "nonsense"}, {"cpu": 2}, False, "cpu: nonsense, not 2"),
    ],
)
def test_allocatable_is_compared_by_value(found: Object, wanted: Object, ok: bool, words: str) -> None:
    verdict = offers({resource: quantity(amount) for resource, amount in wanted.items()})(thing("Node", allocatable=found))
    assert verdict == Verdict(ok, words)


def test_a_node_without_status_offers_nothing() -> None:
    assert not offers({"cpu": quantity(1)})({"kind": "Node", "metadata": {"name": "x"}}).ok


@pytest.mark.parametrize(
    ("kind", "status", "ok", "words"),
    [
        ("Deployment", {"replicas": 2, "readyReplicas": 2}, True, "replicas: 2"),
        ("Deployment", {"replicas": 2, "readyReplicas": 1}, False, "replicas: 2, ready: 1, not 2"),
        ("Deployment", {"replicas": 3, "readyReplicas": 3}, False, "replicas: 3, ready: 3, not 2"),
        ("StatefulSet", {}, False, "replicas: 0, ready: 0, not 2"),
        ("DaemonSet", {"currentNumberScheduled": 2, "numberReady": 2}, True, "replicas: 2"),
    ],
)
def test_replicas(kind: str, status: Object, ok: bool, words: str) -> None:
    assert has_replicas(2)(thing(kind, **status)) == Verdict(ok, words)


@pytest.mark.parametrize(
    ("expression", "ok", "words"),
    [
        ("status.x == '4'", True, "expression gives True"),
        ("status.x", True, "expression gives '4'"),
        ("status.y", False, "expression gives None"),
        ("status.list", False, "expression gives []"),
        ("length(status.y)", False, "expression 'length(status.y)' cannot be evaluated: "),
    ],
)
def test_expressions(expression: str, ok: bool, words: str) -> None:
    verdict = satisfies(Expression("expression", expression))(thing(x="4", list=[]))
    assert verdict.ok is ok
    assert verdict.what.startswith(words)


def test_long_values_are_cut() -> None:
    assert len(satisfies(Expression("expression", "status.x"))(thing(x="y" * 999)).what) < 250


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [
        ([Verdict(True, "a"), Verdict(True, "b")], Verdict(True, "a, b")),
        ([Verdict(True, "a"), Verdict(False, "b")], Verdict(False, "a, b")),
        ([Verdict(False, "a", failed=True, patience=30.0), Verdict(True, "b")], Verdict(False, "a, b", failed=True, patience=30.0)),
        ([Verdict(False, "a", failed=True, patience=30.0), Verdict(False, "b", failed=True)], Verdict(False, "a, b", failed=True)),
        ([Verdict(False, "a")], Verdict(False, "a")),
    ],
)
def test_all_of(verdicts: list[Verdict], together: Verdict) -> None:
    given = iter(verdicts)
    assert all_of([lambda _obj: next(given)] * len(verdicts))({}) == together
