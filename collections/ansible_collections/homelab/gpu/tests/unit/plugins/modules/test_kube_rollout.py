# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.tests.unit.fake_api import ApiFailure, FakeApi, Fault

Object = dict[str, t.Any]
Run = t.Callable[..., Object]

LABELS = {"app": "web"}
CAUSE = "kubernetes.io/change-cause"
REVISION = "deployment.kubernetes.io/revision"


def template(image: str, **extra: t.Any) -> Object:
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": image, **extra}], "nodeSelector": {"image": image}}}


def workload(kind: str = "Deployment", image: str = "two", **spec: t.Any) -> Object:
    status: Object = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "readyReplicas": 1}
    status |= {"updateRevision": "web-2", "currentRevision": "web-2"} if kind == "StatefulSet" else {}
    status |= {"desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberAvailable": 1} if kind == "DaemonSet" else {}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "generation": 1, "annotations": {CAUSE: f"to {image}", "mine": "kept"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": LABELS}, "template": template(image, args=["b"]), **spec},
        "status": status,
    }


def keep(api: FakeApi, owner: Object, number: int, image: str, former: str = "") -> None:
    """A revision as the controllers keep it."""
    reference = {"apiVersion": "apps/v1", "kind": owner["kind"], "name": "web", "uid": owner["metadata"]["uid"], "controller": True}
    metadata: Object = {"name": f"web-{number}", "labels": {**LABELS}, "ownerReferences": [reference], "annotations": {CAUSE: f"to {image}"}}
    kept = template(image, **({"args": ["b"]} if image == "two" else {}))
    if owner["kind"] == "Deployment":
        metadata["annotations"] |= {REVISION: str(number), **({"deployment.kubernetes.io/revision-history": former} if former else {})}
        metadata["labels"]["pod-template-hash"] = f"hash-{number}"
        kept["metadata"] = {"labels": {**LABELS, "pod-template-hash": f"hash-{number}"}}
        api.put({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": {"template": kept}})
        return
    metadata["labels"]["controller-revision-hash"] = f"hash-{number}"
    kept = {"$patch": "replace", **kept, "metadata": {**kept["metadata"], "creationTimestamp": None}}
    data = {"spec": {"template": kept}}
    api.put({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "revision": number, "data": data})


def with_history(api: FakeApi, kind: str = "Deployment", **spec: t.Any) -> Object:
    owner = api.put(workload(kind, **spec))
    stranger = {**owner, "metadata": {**owner["metadata"], "uid": "another"}}
    keep(api, owner, 1, "one")
    keep(api, owner, 2, "two")
    keep(api, stranger, 7, "seven")
    return owner


def roll(run_module: Run, kind: str = "Deployment", check_mode: bool = False, to_revision: int | None = None, **options: t.Any) -> Object:
    entry = {"kind": kind, "name": "web", **({"to_revision": to_revision} if to_revision else {})}
    return run_module("kube_rollout", check_mode=check_mode, workloads=[entry], **options)


def marks(api: FakeApi, kind: str = "Deployment") -> Object:
    return api.find(kind, "web")["spec"]["template"]["metadata"].get("annotations") or {}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_restart(api: FakeApi, run_module: Run, kind: str) -> None:
    with_history(api, kind)
    api.on_watch = api.settle
    result = roll(run_module, kind, state="restarted")
    assert not result.get("failed"), result["msg"]
    assert (result["changed"], result["workloads"][0]["changed"], result["workloads"][0]["revision_before"]) == (True, True, 2)
    assert marks(api, kind)["kubectl.kubernetes.io/restartedAt"].endswith("Z")
    assert api.find(kind, "web")["spec"]["template"]["spec"] == workload(kind)["spec"]["template"]["spec"]
    assert f"{kind} default/web" in result["diff"]["after"]
    assert result["transitions"]


def test_a_trigger_makes_restarts_idempotent(api: FakeApi, run_module: Run) -> None:
    with_history(api)
    for trigger, changed in (("a", True), ("a", False), ("b", True), ("a", True)):
        assert roll(run_module, state="restarted", trigger=trigger, wait=False)["changed"] is changed
    assert "a" not in marks(api).values()


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
@pytest.mark.parametrize("to_revision", [None, 1])
def test_undo(api: FakeApi, run_module: Run, kind: str, to_revision: int | None) -> None:
    with_history(api, kind)
    api.on_watch = api.settle
    result = roll(run_module, kind, state="undone", to_revision=to_revision)
    assert not result.get("failed"), result["msg"]
    found = api.find(kind, "web")
    assert found["spec"]["template"] == template("one")
    assert found["metadata"]["annotations"] == {CAUSE: "to one", "mine": "kept"}
    assert (result["changed"], result["workloads"][0]["revision_before"]) == (True, 2)
    history = result["workloads"][0]["history"]
    assert [(entry["revision"], entry["images"], entry["change_cause"], entry["current"]) for entry in history] == [
        (1, ["one"], "to one", True),
        (2, ["two"], "to two", False),
    ]


def test_undo_to_the_current_revision_or_a_former_number_of_it_changes_nothing(api: FakeApi, run_module: Run) -> None:
    owner = api.put(workload(image="two"))
    keep(api, owner, 2, "one")
    keep(api, owner, 3, "two", former="1")
    for number in (3, 1):
        result = roll(run_module, state="undone", to_revision=number)
        assert not result.get("failed"), result["msg"]
        assert (result["changed"], api.count("PATCH")) == (False, 0)


def test_undo_names_the_revisions_that_exist(api: FakeApi, run_module: Run) -> None:
    with_history(api)
    result = roll(run_module, state="undone", to_revision=9)
    assert "Deployment default/web has no revision 9, its revisions are: 1, 2. Nothing was changed. Correct to_revision" in result["msg"]
    assert (result["revisions"], api.count("PATCH")) == ([1, 2], 0)


def test_undo_without_an_earlier_revision(api: FakeApi, run_module: Run) -> None:
    keep(api, api.put(workload()), 1, "two")
    assert "has no earlier revision to go back to, its revisions are: 1" in roll(run_module, state="undone")["msg"]


@pytest.mark.parametrize("state", ["restarted", "undone"])
def test_a_paused_deployment_is_refused(api: FakeApi, run_module: Run, state: str) -> None:
    with_history(api, paused=True)
    result = roll(run_module, state=state)
    assert "Deployment default/web is paused, so nothing would come of it. Nothing was changed. Set state=resumed first." in result["msg"]
    assert api.count("PATCH") == 0


def test_pause_and_resume(api: FakeApi, run_module: Run) -> None:
    with_history(api)
    api.on_watch = api.settle
    for state, changed, paused in (("paused", True, True), ("paused", False, True), ("resumed", True, False), ("resumed", False, False)):
        result = roll(run_module, state=state)
        assert not result.get("failed"), result["msg"]
        assert (result["changed"], bool(api.find("Deployment", "web")["spec"].get("paused"))) == (changed, paused)
    assert result["diff"] == {"before": {}, "after": {}}


def test_check_mode_asks_the_server_changes_nothing_and_does_not_wait(api: FakeApi, run_module: Run) -> None:
    before = with_history(api)
    for state in ("restarted", "undone", "paused"):
        result = roll(run_module, check_mode=True, state=state)
        assert (result["changed"], api.find("Deployment", "web")) == (True, before)
    assert (api.count("PATCH", "dryRun=All"), api.count("PATCH"), api.count("WATCH")) == (3, 3, 0)

    def refuse(_verb: str, _obj: Object) -> t.NoReturn:
        raise ApiFailure(403, "Forbidden", "not this one")

    api.hooks.append(refuse)
    assert "not this one" in roll(run_module, check_mode=True, state="restarted")["msg"]


@pytest.mark.parametrize("fault", [Fault(method="PATCH", lose_answer=True), Fault(status=500, times=2), Fault(drop=True, times=2)])
@pytest.mark.parametrize("state", ["restarted", "undone", "paused"])
def test_passing_faults_are_sat_out(api: FakeApi, run_module: Run, fault: Fault, state: str) -> None:
    """A change whose answer was lost is a change."""
    with_history(api)
    api.faults.append(Fault(**vars(fault)))
    result = roll(run_module, state=state, wait=False)
    assert result["changed"] is True


def test_a_writer_in_between_loses_nothing(api: FakeApi, run_module: Run) -> None:
    with_history(api)

    def interfere(method: str, _path: str) -> None:
        if method == "PATCH" and api.count("PATCH") == 1:
            api.change("Deployment", "web", spec={"template": {"spec": {"hostNetwork": True}}}, metadata={"labels": {"theirs": "x"}})

    api.before = interfere
    assert roll(run_module, state="undone", wait=False)["changed"] is True
    found = api.find("Deployment", "web")
    assert (found["spec"]["template"], found["metadata"]["labels"]) == (template("one"), {"theirs": "x"})


def test_several_in_one_call_all_or_none(api: FakeApi, run_module: Run) -> None:
    with_history(api)
    entries = [{"kind": "Deployment", "name": "web"}, {"kind": "DaemonSet", "name": "web", "namespace": "kube-system"}]
    result = run_module("kube_rollout", workloads=entries, state="restarted")
    assert (result["missing"], api.count("PATCH")) == (["DaemonSet kube-system/web"], 0)
    other = workload("DaemonSet")
    other["metadata"]["namespace"] = "kube-system"
    api.put(other)
    api.on_watch = api.settle
    result = run_module("kube_rollout", workloads=entries, state="restarted")
    assert [done["changed"] for done in result["workloads"]] == [True, True]


@pytest.mark.parametrize(
    ("kind", "strategy", "words"),
    [("DaemonSet", {"type": "OnDelete"}, "OnDelete"), ("StatefulSet", {"rollingUpdate": {"partition": 1}}, "partition=1"), ("StatefulSet", {}, "")],
)
def test_what_the_strategy_leaves_to_the_user(api: FakeApi, run_module: Run, kind: str, strategy: Object, words: str) -> None:
    with_history(api, kind, updateStrategy=strategy)
    result = roll(run_module, kind)
    assert not result.get("failed"), result["msg"]
    (advice,) = result["workloads"][0]["advice"] or [""]
    assert words in advice if words else advice == ""


# Waiting


def crashing(name: str, revision: str, made: str = "2026-01-01T00:00:00Z") -> Object:
    status = {"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
    metadata = {"name": name, "labels": {**LABELS, "pod-template-hash": revision}, "creationTimestamp": made}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}


def test_complete_costs_three_requests_where_it_is_so(api: FakeApi, run_module: Run) -> None:
    with_history(api)
    result = roll(run_module)
    assert (result["changed"], result["workloads"][0]["revision"]) == (False, 2)
    assert [path.partition("?")[0].rpartition("/")[2] for _method, path in api.requests] == ["web", "replicasets", "deployments"]


def test_crashing_pods_of_the_current_revision_end_the_wait(api: FakeApi, run_module: Run) -> None:
    with_history(api)
    api.change("Deployment", "web", status={"availableReplicas": 0})
    api.put(crashing("web-2-a", "hash-2"))
    api.put(crashing("web-1-a", "hash-1"))
    result = roll(run_module)
    assert (result["failed"], result["timed_out"]) == (True, False)
    assert "web-2-a: c crashed 4 times" in result["msg"]
    assert "web-1-a" not in result["msg"]
    assert result["workloads"][0]["history"]


def test_crashing_pods_of_before_do_not_end_the_wait_for_a_restart(api: FakeApi, run_module: Run) -> None:
    with_history(api)
    api.put(crashing("web-2-a", "hash-2"))
    api.on_watch = api.settle
    assert not roll(run_module, state="restarted").get("failed")


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too late"}, "ProgressDeadlineExceeded too late"),
    ],
)
def test_a_rollout_that_is_hopeless_ends_the_wait(api: FakeApi, run_module: Run, condition: Object, words: str) -> None:
    with_history(api)
    api.change("Deployment", "web", status={"availableReplicas": 0, "conditions": [condition]})
    result = roll(run_module)
    assert (result["failed"], result["timed_out"]) == (True, False)
    assert words in result["msg"]


@pytest.mark.parametrize("seen_by_controller", [False, True])
def test_the_deadline_of_the_template_before_does_not_end_the_wait_for_an_undo(api: FakeApi, run_module: Run, seen_by_controller: bool) -> None:
    """The controller finds the old ReplicaSet, and leaves the condition as it is until that one makes progress."""
    with_history(api)
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "lastUpdateTime": "2026-01-01T00:00:00Z"}
    api.change("Deployment", "web", status={"availableReplicas": 0, "conditions": [late]})

    def observe(method: str, path: str) -> None:
        if seen_by_controller and method == "GET" and "fieldSelector" in path and "/deployments" in path:
            api.change("Deployment", "web", status={"observedGeneration": 2, "replicas": 2})

    def progress(_path: str) -> None:
        api.change("Deployment", "web", status={"conditions": [{**late, "status": "True", "reason": "NewReplicaSetAvailable"}]})
        api.settle()

    api.before, api.on_watch = observe, progress
    result = roll(run_module, state="undone", timeout_seconds=20)
    assert not result.get("failed"), result["msg"]
    told = [entry["what"] for entry in result["transitions"] if "from before the last change of its spec" in entry["what"]]
    assert bool(told) is seen_by_controller


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_pods_that_could_not_be_made_are_named_at_the_deadline(api: FakeApi, run_module: Run, kind: str) -> None:
    owner = with_history(api, kind)
    about = {"kind": kind, "name": "web", "namespace": "default", "uid": owner["metadata"]["uid"]}
    event = {"reason": "FailedCreate", "involvedObject": about, "lastTimestamp": "2026-01-01T00:00:01Z", "message": "exceeded quota"}
    api.put({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, **event})
    result = roll(run_module, kind, state="restarted", timeout_seconds=1)
    assert (result["failed"], result["timed_out"], api.count(path="/events")) == (True, True, 1)
    assert f"{kind} default/web: exceeded quota (FailedCreate, last at 2026-01-01T00:00:01Z)" in result["msg"]


def test_a_paused_rollout_will_not_complete(api: FakeApi, run_module: Run) -> None:
    with_history(api, paused=True)
    assert not roll(run_module).get("failed")
    api.change("Deployment", "web", status={"updatedReplicas": 0})
    result = roll(run_module)
    assert (result["failed"], result["timed_out"]) == (True, False)
    assert "paused; set state=resumed" in result["msg"]
