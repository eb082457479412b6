# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._ping import failing_checks, node_answers

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ok", []),
        ("[+]ping ok\n[+]etcd ok\nreadyz check passed\n", []),
        (
            "[+]ping ok\n[-]etcd failed: reason withheld\n[-]poststarthook/rbac/bootstrap-roles failed: x\nreadyz check failed",
            ["etcd", "poststarthook/rbac/bootstrap-roles"],
        ),
        ("", []),
    ],
    ids=["short", "all well", "two fail", "nothing"],
)
def test_failing_checks(text, expected):
    assert failing_checks(text) == expected


def node(name: str, ready: str = "True") -> dict:
    condition = {"type": "Ready", "status": ready}
    if ready != "True":
        condition["reason"] = "NodeStatusUnknown"
    return {"kind": "Node", "metadata": {"name": name}, "status": {"conditions": [condition]}}


def lease(name: str, renewed: str | None) -> dict:
    return {"metadata": {"name": name}, "spec": {"renewTime": renewed} if renewed else {}}


@pytest.mark.parametrize(
    ("ready", "renewed", "age", "problem"),
    [
        ("True", "2027-01-15T07:59:55.500000Z", 4.5, None),
        ("True", "2027-01-15T07:59:20.000000Z", 40.0, None),
        ("True", "2027-01-15T07:59:19.000000Z", 41.0, "last heartbeat 41 s ago"),
        ("True", "2027-01-15T08:00:03.000000Z", 0.0, None),
        ("True", None, None, "has never renewed its lease"),
        ("Unknown", "2027-01-15T07:59:55.000000Z", 5.0, "Ready=Unknown (NodeStatusUnknown)"),
    ],
    ids=["young", "just young enough", "old", "clock behind", "never", "not ready"],
)
def test_a_node_answers_if_it_is_ready_and_its_heartbeat_young(ready, renewed, age, problem):
    assert node_answers([node("a", ready)], [lease("a", renewed)], NOW, 40) == [
        {"name": "a", "answers": problem is None, "heartbeat_age_seconds": age, "problem": problem}
    ]


def test_nodes_come_by_name_and_with_their_own_lease_only():
    answers = node_answers([node("b"), node("a")], [lease("b", "2027-01-15T08:00:00.000000Z"), lease("gone", "2027-01-15T08:00:00.000000Z")], NOW, 40)
    assert [(answer["name"], answer["answers"]) for answer in answers] == [("a", False), ("b", True)]
