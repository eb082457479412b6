# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import collections
import time
import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils import _drain
from ansible_collections.homelab.gpu.plugins.module_utils._connection import connection_settings, open_client
from ansible_collections.homelab.gpu.plugins.module_utils._drain import Drain, Rules, _Leaving
from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, DeadlinePassed, InputError, WaitFailed
from ansible_collections.homelab.gpu.plugins.modules import kube_drain
from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi, Fault

Object = dict[str, t.Any]
Run = t.Callable[..., Object]


@pytest.fixture(autouse=True)
def _node(api: FakeApi) -> None:
    for name in ("worker", "other"):
        api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {}})


def pod(name: str = "web", *, owner: str = "ReplicaSet", node: str = "worker", grace: int = 0, metadata: Object | None = None, **spec: t.Any) -> Object:
    """With no grace period it is gone as soon as it is evicted; with one, when a test drops it, as a kubelet does."""
    about: Object = {"name": name, "namespace": "default", "labels": {"app": "web"}, **(metadata or {})}
    if owner:
        about["ownerReferences"] = [{"apiVersion": "apps/v1", "kind": owner, "name": "o", "uid": "o", "controller": True}]
    body = {"nodeName": node, "terminationGracePeriodSeconds": grace, "containers": [{"name": "c", **spec.pop("container", {})}], **spec}
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": body, "status": status}


GPU: Object = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}


def budget(allowed: int = 0, name: str = "web") -> Object:
    status = {"disruptionsAllowed": allowed, "desiredHealthy": 2, "currentHealthy": 2}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": status,
    }


def names(api: FakeApi) -> list[str]:
    return sorted(key[3] for key in api.objects if key[1] == "Pod")


def is_cordoned(api: FakeApi) -> bool:
    return bool(api.find("Node", "worker")["spec"].get("unschedulable"))


def actions(result: Object) -> dict[str, str]:
    return {found["name"]: found["action"] for found in result["pods"]}


def test_pods_go_and_the_node_stays_cordoned(api: FakeApi, run_module: Run) -> None:
    for name in ("a", "b", "c"):
        api.put(pod(name))
    api.put(pod("daemon", owner="DaemonSet"))
    api.put(pod("elsewhere", node="other"))
    result = run_module("kube_drain", name="worker")
    assert not result.get("failed"), result["msg"]
    assert (result["changed"], result["cordoned"], result["blockers"]) == (True, True, [])
    assert actions(result) == {"a": "evict", "b": "evict", "c": "evict", "daemon": "skip"}
    assert all(found["gone"] and found["requested_at_seconds"] is not None for found in result["pods"] if found["action"] == "evict")
    assert names(api) == ["daemon", "elsewhere"]
    assert is_cordoned(api)
    assert api.count("DELETE") == 0
    again = run_module("kube_drain", name="worker")
    assert (again["changed"], actions(again), again["waited_seconds"]) == (False, {"daemon": "skip"}, 0.0)


def test_only_pods_with_gpus_and_their_daemon_set(api: FakeApi, run_module: Run) -> None:
    api.put(pod("cpu"))
    api.put(pod("gpu", container=GPU))
    api.put(pod("plugin", owner="DaemonSet", container=GPU))
    result = run_module("kube_drain", name="worker", mode="gpu", cordon=False)
    assert actions(result) == {"cpu": "skip", "gpu": "evict", "plugin": "skip"}
    assert not is_cordoned(api)
    result = run_module("kube_drain", name="worker", mode="gpu", daemon_sets="delete")
    assert names(api) == ["cpu"]
    assert api.count("DELETE", "/pods/plugin") == 1


def test_labels_choose(api: FakeApi, run_module: Run) -> None:
    api.put(pod("a"))
    api.put(pod("b", owner="", metadata={"labels": {"app": "db"}}))
    run_module("kube_drain", name="worker", pod_selectors=["app=web"])
    assert names(api) == ["b"]


@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-1g.10gb"])
def test_whole_shared_and_partitioned_gpus_are_meant_by_default(api: FakeApi, run_module: Run, resource: str) -> None:
    api.put(pod("gpu", container={"resources": {"limits": {resource: "1"}}}))
    api.put(pod("other", container={"resources": {"limits": {"example.com/nic": "1"}}}))
    assert actions(run_module("kube_drain", check_mode=True, name="worker", mode="gpu")) == {"gpu": "evict", "other": "skip"}


@pytest.mark.parametrize("disable_eviction", [False, True], ids=["evict", "delete"])
@pytest.mark.parametrize("grace", [None, 0, 7])
def test_grace_period_is_sent_even_if_it_is_0(
    api: FakeApi, run_module: Run, monkeypatch: pytest.MonkeyPatch, grace: int | None, disable_eviction: bool
) -> None:
    sent: list[t.Any] = []
    delete = FakeApi._delete

    def spy(self: FakeApi, kind: t.Any, key: t.Any, current: Object, query: Object, options: Object) -> t.Any:
        sent.append(options.get("gracePeriodSeconds"))
        return delete(self, kind, key, current, query, {**options, "gracePeriodSeconds": 0})

    monkeypatch.setattr(FakeApi, "_delete", spy)
    api.put(pod(grace=30))
    assert run_module("kube_drain", name="worker", grace_period_seconds=grace, disable_eviction=disable_eviction)["changed"] is True
    assert sent == [grace]


def test_all_evictions_are_under_way_at_once(api: FakeApi, run_module: Run) -> None:
    """The first pod goes only when the last has been asked to."""
    count = 6
    for number in range(count):
        api.put(pod(f"p{number}", grace=30))

    def kubelet(method: str, _path: str) -> None:
        marked = [name for name in names(api) if api.find("Pod", name)["metadata"].get("deletionTimestamp")]
        if method == "WATCH" and len(marked) == count:
            for name in marked:
                api.drop("Pod", name)

    api.faults.append(Fault(method="WATCH", cut_after=1, times=99))
    api.before = kubelet
    result = run_module("kube_drain", name="worker")
    assert not result.get("failed"), result["msg"]
    assert max(found["requested_at_seconds"] for found in result["pods"]) <= min(found["gone_at_seconds"] for found in result["pods"])


# Budgets


@pytest.fixture
def _no_guessing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocked pod is tried again only for a reason."""
    monkeypatch.setattr(_drain, "_BLOCKED_PAUSE", 600.0)


@pytest.mark.usefixtures("_no_guessing")
def test_budget_is_waited_for_and_its_opening_is_seen(api: FakeApi, run_module: Run) -> None:
    for name in ("a", "b"):
        api.put(pod(name))
    api.put(budget())

    def opens(path: str) -> None:
        if "poddisruptionbudgets" in path:
            api.put(budget(2))

    api.on_watch = opens
    result = run_module("kube_drain", name="worker", timeout_seconds=20)
    assert not result.get("failed"), result["msg"]
    assert names(api) == []
    assert any("blocked: The disruption budget web needs 2 healthy pods and has 2 currently" in entry["what"] for entry in result["transitions"])
    assert result["blockers"] == []


@pytest.mark.usefixtures("_no_guessing")
def test_budget_that_lets_one_go_at_a_time_is_not_stormed(api: FakeApi, run_module: Run) -> None:
    """Each time that it opens, only so many are tried again as it allows."""
    count = 12
    for number in range(count):
        api.put(pod(f"p{number:02}"))
    api.put(budget())

    def controller(method: str, path: str) -> None:
        # It counts anew when its budget is spent: whenever it is looked at or an eviction was answered
        if "poddisruptionbudgets" in path or (method == "POST" and api.find("PodDisruptionBudget", "web")["status"]["disruptionsAllowed"] == 0 and began):
            began.append(path)
            api.put(budget(1))

    began: list[str] = []
    api.before = controller
    result = run_module("kube_drain", name="worker", timeout_seconds=30)
    assert not result.get("failed"), result["msg"]
    assert names(api) == []
    assert api.count("POST", "/eviction") <= 3 * count


@pytest.mark.usefixtures("_no_guessing")
def test_time_that_the_server_asks_for_is_kept(api: FakeApi, run_module: Run) -> None:
    api.put(pod())
    api.faults.append(Fault(method="POST", path="/eviction", status=429, reason="TooManyRequests", retry_after=1))
    result = run_module("kube_drain", name="worker", timeout_seconds=20)
    assert not result.get("failed"), result["msg"]
    assert api.count("POST", "/eviction") == 2


@pytest.mark.parametrize(("asked", "next_try"), [(7.0, 107.0), (None, 102.0)], ids=["as the server asks", "without a word"])
def test_blocked_pod_rests_until(api: FakeApi, asked: float | None, next_try: float) -> None:
    api.put(pod())
    client = open_client(connection_settings({"kubeconfig": api.kubeconfig()}, {}))
    work = Drain(client, "worker", Rules(), label_selector=None, grace_period_seconds=None, timeout_seconds=600)
    work._clock = lambda: 100.0
    work._watches_budgets = True
    (plan,) = work.plans()
    leaving = _Leaving(plan, plan.pod, None, "")
    work._take_answer(leaving, ApiError(429, "POST", "/eviction", reason="TooManyRequests", retry_after=asked))
    assert leaving.next_try == next_try


@pytest.fixture
def under_way(monkeypatch: pytest.MonkeyPatch) -> list[collections.Counter[t.Any]]:
    """How many evictions counted by each budget were under way, each time that some had been sent."""
    seen: list[collections.Counter[t.Any]] = []
    send = Drain._send_due

    def spy(self: Drain, now: float) -> None:
        send(self, now)
        seen.append(collections.Counter(leaving.budget for leaving in self._leaving.values() if leaving.under_way))

    monkeypatch.setattr(Drain, "_send_due", spy)
    return seen


WEB = ("default", "web")


def test_evictions_counted_by_one_budget_never_meet(api: FakeApi, run_module: Run, under_way: list[collections.Counter[t.Any]]) -> None:
    for name in "abcd":
        api.put(pod(name))
    api.put(budget(4))
    result = run_module("kube_drain", name="worker")
    assert not result.get("failed"), result["msg"]
    assert names(api) == []
    assert max(seen[WEB] for seen in under_way) == 1


def test_budgets_that_may_not_be_listed_are_known_by_their_refusals(
    api: FakeApi, run_module: Run, monkeypatch: pytest.MonkeyPatch, under_way: list[collections.Counter[t.Any]]
) -> None:
    monkeypatch.setattr(_drain, "_BLOCKED_PAUSE", 0.01)
    for name in "abcd":
        api.put(pod(name))
    api.put(budget())
    api.faults.append(Fault(path="poddisruptionbudgets", status=403, reason="Forbidden", times=99))
    api.before = lambda _method, _path: api.count("POST") > 4 and api.put(budget(4))
    result = run_module("kube_drain", name="worker", timeout_seconds=20)
    assert not result.get("failed"), result["msg"]
    assert under_way[0] == {None: 4}
    assert max(seen[WEB] for seen in under_way) == 1


@pytest.mark.parametrize(
    ("uncordon", "words"), [(False, "Node worker stays unschedulable"), (True, "Node worker was made schedulable again")], ids=["keeps", "undoes"]
)
def test_deadline_is_a_failure_that_names_budget_and_cordon(api: FakeApi, run_module: Run, uncordon: bool, words: str) -> None:
    api.put(pod())
    api.put(budget())
    result = run_module("kube_drain", name="worker", timeout_seconds=1, uncordon_on_failure=uncordon)
    assert result["failed"] is True
    assert "timed out after 1 s: default/web is held back by budget web (The disruption budget web needs 2 healthy" in result["msg"]
    assert words in result["msg"]
    assert (result["timed_out"], result["cordoned"], is_cordoned(api)) == (True, not uncordon, not uncordon)
    (blocker,) = result["blockers"]
    assert (blocker["namespace"], blocker["pod"], blocker["budget"]) == ("default", "web", "web")
    assert result["changed"] is True


def test_cordon_of_somebody_else_is_not_undone(api: FakeApi, run_module: Run) -> None:
    api.change("Node", "worker", spec={"unschedulable": True})
    api.put(pod())
    api.put(budget())
    result = run_module("kube_drain", name="worker", timeout_seconds=1, uncordon_on_failure=True)
    assert (result["failed"], result["changed"], is_cordoned(api)) == (True, False, True)


def test_two_budgets_for_one_pod_end_it_at_once(api: FakeApi, run_module: Run) -> None:
    api.put(pod())
    api.put(budget(1))
    api.put(budget(1, "other"))
    result = run_module("kube_drain", name="worker")
    assert "pod default/web cannot be evicted, because more than one PodDisruptionBudget selects it" in result["msg"]
    assert "disable_eviction=true" in result["msg"]
    assert result["status"] == 500
    assert run_module("kube_drain", name="worker", disable_eviction=True)["changed"] is True
    assert names(api) == []


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/namespaces/kube-system"), ("GET", "/nodes/worker"), ("PATCH", "/nodes/worker")], ids=["cluster", "node", "cordon"]
)
def test_a_server_that_does_not_answer_is_not_waited_for_beyond_the_deadline(api: FakeApi, run_module: Run, method: str, path: str) -> None:
    api.put(pod())
    api.faults.append(Fault(method=method, path=path, delay=4.0, times=9))
    began = time.monotonic()
    result = run_module("kube_drain", name="worker", timeout_seconds=1, cluster_uid=api.cluster_uid)
    assert time.monotonic() - began < 3
    assert (result["failed"], result["timed_out"], result["changed"]) == (True, True, False)
    assert result["msg"].startswith("timed out after 1 s: cannot reach the API server at ")
    assert ("Node worker may be unschedulable now" in result["msg"]) is (method == "PATCH")
    assert names(api) == ["web"]


def test_lists_are_bounded_by_the_deadline_too(api: FakeApi) -> None:
    api.faults.append(Fault(method="GET", delay=0.5, times=9))
    for ask in (Drain.plans, Drain.budgets, Drain.run):
        with pytest.raises(DeadlinePassed):
            ask(drain_of(api, 0.1))


def test_a_cordon_whose_answer_did_not_come_is_undone(api: FakeApi, run_module: Run) -> None:
    api.put(pod())
    api.faults.append(Fault(method="PATCH", path="/nodes/worker", lose_answer=True, times=4))
    result = run_module("kube_drain", name="worker", timeout_seconds=1, uncordon_on_failure=True)
    assert result["timed_out"] is True
    assert "Node worker was made schedulable again" in result["msg"]
    assert not is_cordoned(api)


def test_a_cordon_that_is_refused_leaves_no_doubt(api: FakeApi, run_module: Run) -> None:
    api.put(pod())
    api.faults.append(Fault(method="PATCH", status=403, reason="Forbidden", message="not this one"))
    assert run_module("kube_drain", name="worker")["msg"].endswith("not this one")


def test_undoing_the_cordon_is_bounded(api: FakeApi, run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_drain, "UNCORDON_SECONDS", 0.1)
    api.put(pod())
    api.put(budget())

    def hang(method: str, path: str) -> None:
        if method == "PATCH":
            api.faults.append(Fault(path="/nodes/worker", delay=4.0, times=9))

    api.before = hang
    api.faults.append(Fault(method="PATCH", path="/nodes/worker"))
    result = run_module("kube_drain", name="worker", timeout_seconds=1, uncordon_on_failure=True)
    assert "Node worker stays unschedulable, because it could not be changed back: cannot reach" in result["msg"]
    assert is_cordoned(api)


# Pods that come and go


def drain_of(api: FakeApi, timeout_seconds: float, **rules: t.Any) -> Drain:
    client = open_client(connection_settings({"kubeconfig": api.kubeconfig()}, {}))
    return Drain(client, "worker", Rules(**rules), label_selector=None, grace_period_seconds=None, timeout_seconds=timeout_seconds)


def test_pod_of_the_same_name_is_another_one(api: FakeApi) -> None:
    """A StatefulSet makes it anew under the same name; that one stays, and is not waited for."""
    api.put(pod("web-0", owner="StatefulSet", grace=30))
    first = api.find("Pod", "web-0")["metadata"]["uid"]

    def kubelet(method: str, path: str) -> None:
        if method == "POST":
            return
        if api.find("Pod", "web-0")["metadata"].get("deletionTimestamp"):
            api.drop("Pod", "web-0")
            api.put(pod("web-0", owner="StatefulSet", grace=30))

    api.faults.append(Fault(method="WATCH", cut_after=1, times=99))
    api.before = kubelet
    work = drain_of(api, 20)
    work.run()
    assert [found["gone"] for found in work.result()["pods"]] == [True]
    assert api.find("Pod", "web-0")["metadata"]["uid"] != first


@pytest.mark.parametrize("disable_eviction", [False, True], ids=["evict", "delete"])
def test_pod_made_anew_before_the_request_comes_is_left_alone(api: FakeApi, run_module: Run, disable_eviction: bool) -> None:
    api.put(pod("web-0", owner="StatefulSet"))
    first = api.find("Pod", "web-0")["metadata"]["uid"]

    def controller(method: str, path: str) -> None:
        if method in ("POST", "DELETE") and api.find("Pod", "web-0")["metadata"]["uid"] == first:
            api.drop("Pod", "web-0")
            api.put(pod("web-0", owner="StatefulSet"))

    api.before = controller
    result = run_module("kube_drain", name="worker", disable_eviction=disable_eviction)
    assert [(found["uid"], found["gone"], found["requested_at_seconds"]) for found in result["pods"]] == [(first, True, None)]
    assert names(api) == ["web-0"]


def test_pod_made_anew_while_nobody_watched_is_another_one(api: FakeApi) -> None:
    """Only lists tell of it: every watch is told that its version is too old."""
    api.put(pod("web-0", owner="StatefulSet", grace=30))

    def kubelet(method: str, path: str) -> None:
        if method == "GET" and "/pods?" in path and api.find("Pod", "web-0")["metadata"].get("deletionTimestamp"):
            api.drop("Pod", "web-0")
            api.put(pod("web-0", owner="StatefulSet", grace=30))

    api.faults.append(Fault(method="WATCH", status=410, reason="Expired", times=10**6))
    api.before = kubelet
    work = drain_of(api, 5)
    work.run()
    assert [found["gone"] for found in work.result()["pods"]] == [True]
    assert names(api) == ["web-0"]


@pytest.mark.parametrize(
    ("fault", "count"),
    [
        (Fault(method="POST", path="/eviction", status=500, reason="InternalError", times=2), 3),
        (Fault(method="POST", path="/eviction", status=503, reason="ServiceUnavailable"), 2),
        (Fault(method="POST", path="/eviction", drop=True), 2),
        (Fault(method="POST", path="/eviction", status=404, reason="NotFound"), 1),
        (Fault(method="POST", path="/eviction", status=409, reason="Conflict", message="the UID in the precondition (x) does not match"), 1),
    ],
    ids=["500", "503", "dropped", "404", "409"],
)
def test_answers_other_than_yes(api: FakeApi, run_module: Run, fault: Fault, count: int) -> None:
    api.put(pod())
    api.faults.append(fault)
    result = run_module("kube_drain", name="worker")
    assert not result.get("failed"), result["msg"]
    assert api.count("POST", "/eviction") == count


def test_refusals_end_it_at_once(api: FakeApi, run_module: Run) -> None:
    api.put(pod())
    api.faults.append(Fault(method="POST", path="/eviction", status=403, reason="Forbidden", message="pods/eviction is forbidden", times=9))
    result = run_module("kube_drain", name="worker")
    assert "pod default/web cannot be evicted: " in result["msg"]
    assert (result["status"], api.count("POST", "/eviction"), result["cordoned"]) == (403, 1, True)


@pytest.mark.parametrize("fault", [Fault(method="WATCH", cut_after=0, times=3), Fault(method="WATCH", gone_after=0, times=2)], ids=["cut", "410"])
def test_watch_that_breaks(api: FakeApi, run_module: Run, fault: Fault) -> None:
    for name in ("a", "b"):
        api.put(pod(name))
    api.faults.append(fault)
    assert run_module("kube_drain", name="worker")["changed"] is True
    assert names(api) == []


def test_deadline_names_what_a_pod_waits_for(api: FakeApi) -> None:
    api.put(pod(grace=30, metadata={"finalizers": ["example.com/held"]}))
    work = drain_of(api, 0.3)
    with pytest.raises(WaitFailed, match=r"default/web is still ending .*held by finalizers example.com/held"):
        work.run()
    assert [found["gone"] for found in work.result()["pods"]] == [False]


def test_pods_on_their_way_are_only_waited_for(api: FakeApi) -> None:
    api.put(pod(grace=30, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}))

    def kubelet(_path: str) -> None:
        api.drop("Pod", "web")

    api.on_watch = kubelet
    work = drain_of(api, 20)
    work.run()
    assert api.count("POST") == 0
    assert work.changed is False


# Check mode, and what is refused


def test_check_mode_tells_what_would_move_and_what_would_block(api: FakeApi, run_module: Run) -> None:
    for name in ("a", "b"):
        api.put(pod(name))
    api.put(pod("done", metadata={"labels": {}}, owner=""))
    api.change("Pod", "done", status={"phase": "Succeeded"})
    api.put(budget(1))
    result = run_module("kube_drain", name="worker", check_mode=True)
    assert (result["changed"], result["cordoned"], is_cordoned(api)) == (True, True, False)
    assert actions(result) == {"a": "evict", "b": "evict", "done": "evict"}
    assert [(found["pod"], found["budget"]) for found in result["blockers"]] == [("b", "web")]
    assert {method for method, _path in api.requests} == {"GET"}


def test_pod_that_would_be_lost_and_came_meanwhile_is_refused_too(api: FakeApi) -> None:
    """While the node was cordoned, that is, after the first look at its pods."""
    api.put(pod("web"))
    work = drain_of(api, 20)
    assert [plan.action for plan in work.plans()] == ["evict"]
    api.put(pod("bare", owner=""))
    with pytest.raises(InputError, match="default/bare: no controller would make it anew"):
        work.run()
    assert names(api) == ["bare", "web"]


@pytest.mark.parametrize(
    ("made", "options", "words"),
    [
        (pod(owner=""), {}, ["default/web: no controller would make it anew", "set force=true"]),
        (pod(volumes=[{"name": "d", "emptyDir": {}}]), {}, ["default/web: it has data in an emptyDir volume", "set delete_emptydir_data=true"]),
        (pod(), {"name": "none"}, ["no node named none in the cluster; it has other, worker"]),
        (pod(), {"name": ""}, ["name is empty; give the name of a node"]),
        (pod(), {"timeout_seconds": 0}, ["timeout_seconds is 0; it cannot be less than 1"]),
        (pod(), {"grace_period_seconds": -1}, ["grace_period_seconds is -1; it cannot be less than 0"]),
        (pod(), {"mode": "gpu", "resource_names": []}, ["resource_names is empty, so mode=gpu would choose no pod; name a resource, or set mode=all"]),
        (pod(), {"mode": "gpu", "resource_names": [""]}, ["resource_names has an empty item; remove it"]),
        (pod(), {"pod_selectors": [" "]}, ["pod_selectors has an empty item; remove it"]),
        (pod(), {"cordon": False, "uncordon_on_failure": True}, ["uncordon_on_failure=true makes no sense with cordon=false"]),
        (pod(), {"mode": "some"}, ["mode", "all, gpu"]),
        (pod(), {"daemon_sets": "evict"}, ["daemon_sets", "ignore, delete"]),
        (pod(), {"cluster_uid": "another"}, ["wrong cluster"]),
    ],
)
def test_bad_input_changes_nothing(api: FakeApi, run_module: Run, made: Object, options: Object, words: list[str]) -> None:
    api.put(made)
    result = run_module("kube_drain", **{"name": "worker", **options})
    assert result["failed"] is True
    assert [word for word in words if word not in result["msg"]] == [], result["msg"]
    assert {method for method, _path in api.requests} <= {"GET"}
