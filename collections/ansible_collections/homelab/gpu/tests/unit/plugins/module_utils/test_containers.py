# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._containers import container_names, instance, is_over, one_container, state
from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError

Object = dict[str, t.Any]


def pod(status: Object | None = None, annotations: Object | None = None, **names: list[str]) -> Object:
    spec = {section: [{"name": name} for name in entries] for section, entries in names.items()}
    statuses = {"containerStatuses": [{"name": "c", **status}]} if status is not None else {}
    return {"kind": "Pod", "metadata": {"name": "p", "namespace": "d", "annotations": annotations}, "spec": spec, "status": statuses}


def test_all_names_in_the_order_of_their_start() -> None:
    assert container_names(pod(containers=["b", "a"], initContainers=["i"], ephemeralContainers=["e"])) == ["i", "b", "a", "e"]
    assert container_names({}) == []


@pytest.mark.parametrize(
    ("found", "wanted", "meant"),
    [
        (pod(containers=["a"]), None, "a"),
        (pod(containers=["a"], initContainers=["i"]), None, "a"),
        (pod(containers=["a", "b"]), "b", "b"),
        (pod(containers=["a"], initContainers=["i"]), "i", "i"),
        (pod(containers=["a", "b"], annotations={"kubectl.kubernetes.io/default-container": "b"}), None, "b"),
        (pod(containers=["a"], annotations={"kubectl.kubernetes.io/default-container": "gone"}), None, "a"),
    ],
)
def test_the_container_that_is_meant(found: Object, wanted: str | None, meant: str) -> None:
    assert one_container(found, wanted) == meant


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (None, "container is not set, and Pod d/p has a, b; set container to one of them"),
        ("c", "container is 'c', but Pod d/p has a, b; set container to one of them"),
    ],
)
def test_nobody_knows_which_container_is_meant(wanted: str | None, words: str) -> None:
    with pytest.raises(InputError) as caught:
        one_container(pod(containers=["a", "b"]), wanted)
    assert str(caught.value) == words


RUN = {"terminated": {"exitCode": 1, "reason": "Error", "containerID": "old"}}


@pytest.mark.parametrize(
    ("status", "run", "told"),
    [
        (None, None, ("", "")),
        ({}, None, ("", "")),
        ({"state": {"waiting": {"reason": "ContainerCreating"}}}, None, ("waiting", "ContainerCreating")),
        ({"state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}, None, ("waiting", "ErrImagePull, not found")),
        ({"state": {"running": {}}, "containerID": "new"}, "new", ("running", "")),
        ({"state": {"running": {}}, "restartCount": 2}, "2", ("running", "")),
        ({"state": RUN}, "old", ("terminated", "exit code 1, Error")),
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": RUN}, "old", ("waiting", "CrashLoopBackOff")),
        ({"state": {"running": {}}, "containerID": "new", "lastState": RUN}, "new", ("running", "")),
    ],
)
def test_runs_and_states(status: Object | None, run: str | None, told: tuple[str, str]) -> None:
    found = pod(status, containers=["c"])
    assert (instance(found, "c"), state(found, "c")) == (run, told)


@pytest.mark.parametrize(("phase", "over"), [("Pending", False), ("Running", False), ("Succeeded", True), ("Failed", True), (None, False)])
def test_pods_that_are_over(phase: str | None, over: bool) -> None:
    assert is_over({"status": {"phase": phase}}) is over
