# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._errors import KubeError
from ansible_collections.homelab.gpu.plugins.module_utils._rollout import Revision, advice_for, difference, history_of, rolled_out, target_of
from ansible_collections.homelab.gpu.plugins.module_utils._workloads import made_since
from ansible_collections.homelab.gpu.tests.unit.fake_api import merge_patch

Object = dict[str, t.Any]


@pytest.mark.parametrize(
    ("current", "wanted", "patch"),
    [
        ({}, {}, {}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {}, {"a": None}),
        ({}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}, {"a": {"b": None}}),
        ({"a": {"b": 1}}, {"a": [1]}, {"a": [1]}),
        ({"a": [1, 2]}, {"a": [2]}, {"a": [2]}),
        ({"a": {"b": {"c": 1, "d": [1]}}}, {"a": {"b": {"d": [1]}}, "e": 1}, {"a": {"b": {"c": None}}, "e": 1}),
    ],
)
def test_difference(current: Object, wanted: Object, patch: Object) -> None:
    assert difference(current, wanted) == patch
    assert merge_patch(current, patch) == wanted


def kept(kind: str, number: int, image: str, owner: str = "u", *, controller: bool = True) -> Object:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"image": image}]}}
    references = [{"uid": owner, "controller": controller}]
    metadata: Object = {"name": f"web-{number}", "creationTimestamp": "then", "ownerReferences": references, "labels": {"controller-revision-hash": "h"}}
    if kind != "Deployment":
        return {"metadata": metadata, "revision": number, "data": {"spec": {"template": {"$patch": "replace", **template}}}}
    metadata["annotations"] = {"deployment.kubernetes.io/revision": str(number)} if number else {}
    metadata["labels"] = {"pod-template-hash": "h"}
    return {"metadata": metadata, "spec": {"template": {**template, "metadata": {"labels": {"app": "web", "pod-template-hash": "h"}}}}}


def workload(kind: str, image: str = "two", **spec: t.Any) -> Object:
    template = {"metadata": {"labels": {"app": "web"}, "creationTimestamp": None}, "spec": {"containers": [{"image": image}]}}
    return {"kind": kind, "metadata": {"uid": "u"}, "spec": {"template": template, **spec}}


@pytest.mark.parametrize(("kind", "label"), [("Deployment", "h"), ("DaemonSet", "h"), ("StatefulSet", "web-2")])
def test_history(kind: str, label: str) -> None:
    found = [kept(kind, 10, "ten"), kept(kind, 2, "two"), kept(kind, 3, "x", "another"), kept(kind, 4, "x", controller=False), kept(kind, 0, "new")]
    history = history_of(workload(kind), found)
    assert [(revision.number, revision.current) for revision in history] == [(2, True), (10, False)]
    assert history[0].pod_label[1] == label
    shown = {"revision": 2, "current": True, "created": "then", "change_cause": "", "images": ["two"], "former_revisions": []}
    assert history[0].shown() == shown
    assert not any(revision.current for revision in history_of(workload(kind, "unseen"), found))


def revision(number: int, *former: int, current: bool = False) -> Revision:
    return Revision(number, {}, "", "", ("a", "b"), former, current)


@pytest.mark.parametrize(
    ("history", "to_revision", "number"),
    [
        ([revision(1), revision(2, current=True)], None, 1),
        ([revision(1), revision(3), revision(2, current=True)], None, 3),
        ([revision(1), revision(2)], None, 2),
        ([revision(1), revision(2, current=True)], 2, 2),
        ([revision(2), revision(4, 1, 3, current=True)], 1, 4),
        ([revision(2), revision(4, 1, 3, current=True)], 3, 4),
    ],
)
def test_target(history: list[Revision], to_revision: int | None, number: int) -> None:
    assert target_of(history, to_revision, "web").number == number


@pytest.mark.parametrize(
    ("history", "to_revision", "words"),
    [
        ([], None, "web has no earlier revision to go back to, its revisions are: none"),
        ([revision(1, current=True)], None, "its revisions are: 1. Nothing was changed"),
        ([revision(2), revision(5, current=True)], 3, "web has no revision 3, its revisions are: 2, 5. Nothing was changed. Correct to_revision"),
    ],
)
def test_no_target(history: list[Revision], to_revision: int | None, words: str) -> None:
    with pytest.raises(KubeError) as caught:
        target_of(history, to_revision, "web")
    assert words in str(caught.value)
    assert caught.value.data["revisions"] == [entry.number for entry in history]


def test_what_is_paused_does_not_complete() -> None:
    status = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 0, "availableReplicas": 1}
    verdicts = [rolled_out({**workload("Deployment", paused=paused), "status": status}) for paused in (True, False)]
    assert [(verdict.ok, verdict.failed) for verdict in verdicts] == [(False, True), (False, False)]
    assert rolled_out({**workload("Deployment", paused=True), "status": {**status, "updatedReplicas": 1}}).ok


@pytest.mark.parametrize(
    ("strategy", "words"),
    [({}, []), ({"type": "OnDelete"}, ["OnDelete"]), ({"rollingUpdate": {"partition": 0}}, []), ({"rollingUpdate": {"partition": 2}}, ["partition=2"])],
)
def test_advice(strategy: Object, words: list[str]) -> None:
    advice = advice_for(workload("StatefulSet", updateStrategy=strategy))
    assert [word in text for word, text in zip(words, advice, strict=True)] == [True] * len(words)


@pytest.mark.parametrize(
    ("kind", "policy", "made", "failed", "words"),
    [
        ("Deployment", None, "2026-01-01T00:00:00Z", False, "made before"),
        ("Deployment", None, "2026-01-03T00:00:00Z", True, "InvalidImageName"),
        ("StatefulSet", "Parallel", "2026-01-01T00:00:00Z", False, "made before"),
        ("StatefulSet", "OrderedReady", "2026-01-01T00:00:00Z", True, "does not replace a pod that is not ready, delete it"),
        ("StatefulSet", None, "2026-01-01T00:00:00Z", True, "does not replace a pod that is not ready, delete it"),
    ],
)
def test_trouble_of_pods_of_before(kind: str, policy: str | None, made: str, failed: bool, words: str) -> None:
    status = {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "InvalidImageName"}}}]}
    judge = made_since(1767312000.0, workload(kind, podManagementPolicy=policy))
    verdict = judge({"metadata": {"creationTimestamp": made}, "status": status})
    assert (verdict.failed, verdict.ok) == (failed, not failed)
    assert words in verdict.what
