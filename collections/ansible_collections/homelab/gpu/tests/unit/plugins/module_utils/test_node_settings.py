# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._node_settings import (
    SettingError,
    label_problems,
    parse_taint,
    plan,
    registration_labels,
    taint_problems,
)

LABELS_ANNOTATION, TAINTS_ANNOTATION = "homelab.gpu/managed-labels", "homelab.gpu/managed-taints"


@pytest.mark.parametrize("labels", [{}, {"a": "b"}, {"a": ""}, {"example.com/a.b_c-d": "V.1_x-2"}, {"a" * 63: "b" * 63}])
def test_right_labels(labels: dict[str, str]) -> None:
    assert list(label_problems(labels)) == []


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ({"a b": "c"}, "'a b' must have a name"),
        ({"": "c"}, "must have a name"),
        ({"a" * 64: "c"}, "must have a name"),
        ({"-a": "c"}, "must have a name"),
        ({"Example.com/a": "c"}, "prefix 'Example.com'"),
        ({"/a": "c"}, "prefix ''"),
        ({"a": "b c"}, "value 'b c'"),
        ({"a": "b" * 64}, "has the value"),
        ({"a": True}, "no text"),
        ({"a": 1}, "no text"),
        ({1: "a"}, "is not text"),
    ],
)
def test_wrong_labels(labels: dict[Any, Any], what: str) -> None:
    [(fact, fix)] = label_problems(labels)
    assert what in fact
    assert fix


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b:NoSchedule", {"key": "a", "value": "b", "effect": "NoSchedule"}),
        ("a:NoExecute", {"key": "a", "value": "", "effect": "NoExecute"}),
        ("example.com/a=:PreferNoSchedule", {"key": "example.com/a", "value": "", "effect": "PreferNoSchedule"}),
    ],
)
def test_taint(text: str, expected: dict[str, str]) -> None:
    assert parse_taint(text) == expected


@pytest.mark.parametrize(
    ("text", "what"),
    [("a=b", "no effect"), ("a=b:Never", "no effect"), ("=b:NoSchedule", "key of the taint"), ("a=b c:NoSchedule", "value of")],
)
def test_wrong_taint(text: str, what: str) -> None:
    with pytest.raises(SettingError, match=what):
        parse_taint(text)
    assert len(list(taint_problems([text]))) == 1


@pytest.mark.parametrize("taint", [None, 1, {"key": "a", "effect": "NoSchedule"}])
def test_taint_that_is_no_text(taint: Any) -> None:
    [(fact, fix)] = taint_problems([taint, "a=b:NoSchedule"])
    assert fact == f"the taint {taint!r} is not text"
    assert "write it as key=value:Effect" in fix


def test_a_taint_twice() -> None:
    [(fact, _fix)] = taint_problems(["a=b:NoSchedule", "a=c:NoExecute", "a=c:NoSchedule"])
    assert "a:NoSchedule is listed twice" in fact


def test_labels_that_a_kubelet_may_not_give_itself_wait_for_the_api() -> None:
    labels = {
        "disk": "ssd",
        "example.com/x": "1",
        "node-role.kubernetes.io/gpu": "",
        "kubernetes.io/custom": "x",
        "foo.k8s.io/x": "1",
        "topology.kubernetes.io/zone": "a",
        "node.kubernetes.io/pool": "p",
        "x.kubelet.kubernetes.io/y": "z",
    }
    assert registration_labels(labels) == [
        "disk=ssd",
        "example.com/x=1",
        "node.kubernetes.io/pool=p",
        "topology.kubernetes.io/zone=a",
        "x.kubelet.kubernetes.io/y=z",
    ]


def node(name: str, **annotations: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": annotations}}


def setting(name: str, labels: dict[str, str] | None = None, taints: list[str] | None = None) -> dict[str, Any]:
    return {"name": name, "labels": labels or {}, "taints": taints or []}


def test_plan_for_a_new_node() -> None:
    assert plan([node("a")], [setting("a", {"x": "1", "b": "2"}, ["k=v:NoSchedule"])]) == [
        {
            "name": "a",
            "labels": {"x": "1", "b": "2"},
            "annotations": {LABELS_ANNOTATION: "b,x", TAINTS_ANNOTATION: "k:NoSchedule"},
            "taints": [{"key": "k", "value": "v", "effect": "NoSchedule", "state": "present"}],
        }
    ]


def test_plan_without_settings_touches_nothing() -> None:
    assert plan([node("a"), {"metadata": {"name": "b"}}], [setting("a"), setting("b")]) == []


def test_plan_removes_what_former_settings_put_there_and_nothing_else() -> None:
    former = node("a", **{LABELS_ANNOTATION: "gone,kept", TAINTS_ANNOTATION: "k:NoExecute,k:NoSchedule", "other": "x"})
    former["metadata"]["labels"] = {"gone": "1", "kept": "1", "foreign": "1"}
    assert plan([former], [setting("a", {"kept": "2"}, ["k=v:NoSchedule"])]) == [
        {
            "name": "a",
            "labels": {"kept": "2", "gone": None},
            "annotations": {LABELS_ANNOTATION: "kept", TAINTS_ANNOTATION: "k:NoSchedule"},
            "taints": [
                {"key": "k", "value": "v", "effect": "NoSchedule", "state": "present"},
                {"key": "k", "effect": "NoExecute", "state": "absent"},
            ],
        }
    ]


def test_plan_forgets_when_nothing_is_left() -> None:
    former = node("a", **{LABELS_ANNOTATION: "gone", TAINTS_ANNOTATION: "k:NoSchedule"})
    [entry] = plan([former], [setting("a")])
    assert entry["annotations"] == {LABELS_ANNOTATION: None, TAINTS_ANNOTATION: None}


def test_each_owner_removes_only_its_own() -> None:
    former = node("a", **{LABELS_ANNOTATION: "theirs", "homelab.gpu/managed-gpu-labels": "gone"})
    (entry,) = plan([former], [{"name": "a", "labels": {"new": "x"}, "taints": []}], owner="gpu")
    assert entry["labels"] == {"new": "x", "gone": None}
    assert entry["annotations"] == {"homelab.gpu/managed-gpu-labels": "new"}
