# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._node import check_wishes, node_patch

Object = dict[str, t.Any]

LONG = "a" * 64


def wish(**fields: t.Any) -> Object:
    return check_wishes([{"name": "n", **fields}])[0]


def node(taints: list[Object] | None = None, unschedulable: bool | None = None, **metadata: t.Any) -> Object:
    spec: Object = {}
    if taints is not None:
        spec["taints"] = taints
    if unschedulable is not None:
        spec["unschedulable"] = unschedulable
    return {"metadata": {"name": "n", "resourceVersion": "7", **metadata}, "spec": spec}


OTHERS = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}
MINE = {"key": "example.com/gpu", "value": "present", "effect": "NoSchedule"}

# node, wish, patch without the resource version
TABLE: list[tuple[str, Object, Object, Object | None]] = [
    ("nothing wished", node(), wish(), None),
    ("label set", node(), wish(labels={"a": "b"}), {"metadata": {"labels": {"a": "b"}}}),
    ("label there", node(labels={"a": "b"}), wish(labels={"a": "b"}), None),
    ("label of another value", node(labels={"a": "c"}), wish(labels={"a": "b"}), {"metadata": {"labels": {"a": "b"}}}),
    ("other labels left alone", node(labels={"x": "y"}), wish(labels={"a": "b"}), {"metadata": {"labels": {"a": "b"}}}),
    ("label removed", node(labels={"a": "b"}), wish(labels={"a": None}), {"metadata": {"labels": {"a": None}}}),
    ("label absent", node(), wish(labels={"a": None}), None),
    ("empty label is a label", node(), wish(labels={"a": ""}), {"metadata": {"labels": {"a": ""}}}),
    ("booleans as kubectl writes them", node(labels={"a": "true"}), wish(labels={"a": True}), None),
    ("numbers", node(), wish(labels={"a": 4}), {"metadata": {"labels": {"a": "4"}}}),
    ("annotation of any text", node(), wish(annotations={"a/b": "any text: {}"}), {"metadata": {"annotations": {"a/b": "any text: {}"}}}),
    ("taint added after the others", node([OTHERS]), wish(taints=[MINE]), {"spec": {"taints": [OTHERS, MINE]}}),
    ("taint there", node([MINE, OTHERS]), wish(taints=[MINE]), None),
    (
        "taint without a value",
        node(),
        wish(taints=[{"key": "a", "effect": "NoExecute"}]),
        {"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}},
    ),
    (
        "value changed in place, time kept",
        node([{**MINE, "timeAdded": "T"}, OTHERS]),
        wish(taints=[{**MINE, "value": "gone"}]),
        {"spec": {"taints": [{**MINE, "value": "gone", "timeAdded": "T"}, OTHERS]}},
    ),
    (
        "value removed",
        node([MINE]),
        wish(taints=[{"key": "example.com/gpu", "effect": "NoSchedule"}]),
        {"spec": {"taints": [{"key": "example.com/gpu", "effect": "NoSchedule"}]}},
    ),
    (
        "another effect is another taint",
        node([MINE]),
        wish(taints=[{"key": "example.com/gpu", "effect": "NoExecute"}]),
        {"spec": {"taints": [MINE, {"key": "example.com/gpu", "effect": "NoExecute"}]}},
    ),
    ("last taint removed", node([MINE]), wish(taints=[{"key": "example.com/gpu", "state": "absent"}]), {"spec": {"taints": None}}),
    ("taint removed, others kept", node([OTHERS, MINE]), wish(taints=[{"key": "example.com/gpu", "state": "absent"}]), {"spec": {"taints": [OTHERS]}}),
    (
        "one effect removed",
        node([MINE, {**MINE, "effect": "NoExecute"}]),
        wish(taints=[{"key": "example.com/gpu", "effect": "NoExecute", "state": "absent"}]),
        {"spec": {"taints": [MINE]}},
    ),
    ("taint absent", node([OTHERS]), wish(taints=[{"key": "example.com/gpu", "state": "absent"}]), None),
    ("cordoned", node(), wish(unschedulable=True), {"spec": {"unschedulable": True}}),
    ("cordoned already", node(unschedulable=True), wish(unschedulable=True), None),
    ("uncordoned", node(unschedulable=True), wish(unschedulable=False), {"spec": {"unschedulable": None}}),
    ("never cordoned", node(), wish(unschedulable=False), None),
    ("schedulability left alone", node(unschedulable=True), wish(), None),
]


@pytest.mark.parametrize(("current", "wished", "patch"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_patch(current: Object, wished: Object, patch: Object | None) -> None:
    expected = None if patch is None else {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": "7"}}
    assert node_patch(current, wished) == expected


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([], "nodes is empty"),
        ([{"name": ""}], "nodes[0].name is empty"),
        ([{"name": "a"}, {"name": "a"}], "nodes[1].name: a is listed twice"),
        ([{"name": "a", "labels": {"a b": "c"}}], "nodes[0].labels['a b']: 'a b' is not a valid key"),
        ([{"name": "a", "labels": {"": "c"}}], "nodes[0].labels['']: '' is not a valid key"),
        ([{"name": "a", "labels": {LONG: "c"}}], "is not a valid key"),
        ([{"name": "a", "labels": {"Example.com/x": "c"}}], "'Example.com' is not a DNS name"),
        ([{"name": "a", "labels": {"/x": "c"}}], "'' is not a DNS name"),
        ([{"name": "a", "labels": {"x": "a b"}}], "nodes[0].labels['x']: 'a b' is not a valid value"),
        ([{"name": "a", "labels": {"x": LONG}}], "is not a valid value"),
        ([{"name": "a", "labels": {"x": ["y"]}}], "nodes[0].labels['x'] is a list; give a string, or null to remove it"),
        ([{"name": "a", "annotations": {"x y": "z"}}], "nodes[0].annotations['x y']"),
        ([{"name": "a", "taints": [{"key": "x"}]}], "nodes[0].taints[0].effect is missing"),
        ([{"name": "a", "taints": [{"key": "x y", "effect": "NoExecute"}]}], "nodes[0].taints[0].key: 'x y' is not a valid key"),
        ([{"name": "a", "taints": [{"key": "x", "effect": "NoExecute", "value": "a b"}]}], "nodes[0].taints[0].value: 'a b'"),
        ([{"name": "a", "taints": [{"key": "x", "value": "y", "state": "absent"}]}], "leave value out"),
        (
            [{"name": "a", "taints": [{"key": "x", "effect": "NoExecute"}, {"key": "x", "effect": "NoExecute", "state": "absent"}]}],
            "nodes[0].taints[1]: x:NoExecute is listed twice",
        ),
        ([{"name": "a", "taints": [{"key": "x", "effect": "NoExecute"}, {"key": "x", "state": "absent"}]}], "nodes[0].taints[1]: x is listed twice"),
    ],
)
def test_wishes_that_cannot_be_right(nodes: list[Object], words: str) -> None:
    with pytest.raises(InputError) as caught:
        check_wishes(nodes)
    assert words in str(caught.value)
