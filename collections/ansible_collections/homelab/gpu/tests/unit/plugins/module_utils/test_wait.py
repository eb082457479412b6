# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import inspect
import math
import threading
import time
import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._client import Client
from ansible_collections.homelab.gpu.plugins.module_utils._connection import connection_settings, open_client
from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, ClientConfigError, WaitFailed, WrongCluster
from ansible_collections.homelab.gpu.plugins.module_utils._exec import execute
from ansible_collections.homelab.gpu.plugins.module_utils._logs import Follower
from ansible_collections.homelab.gpu.plugins.module_utils._ready import Verdict, trouble
from ansible_collections.homelab.gpu.plugins.module_utils._wait import (
    Selection,
    Timeline,
    Tracker,
    WaitResult,
    heartbeats,
    judge_for,
    trim,
    wait_for,
)
from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi, Fault, Kind

Object = dict[str, t.Any]


def node(name: str, ready: str = "True", **metadata: t.Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", **metadata},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def pod(name: str, namespace: str = "default", **fields: t.Any) -> Object:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}"}, **fields}


def tracker(until: str = "ready", kind: str = "Node", **selection: t.Any) -> Tracker:
    return Tracker(Selection(kind=kind, judge=judge_for(until), **selection), Timeline(0.0))


def story(of: Tracker) -> list[tuple[float, str]]:
    return [(entry["at_seconds"], entry["what"]) for entry in of._timeline.entries]


# Tracker: pure, with a clock that the test holds


def test_all_names_have_to_be_ready_at_the_same_time() -> None:
    seen = tracker(names=("a", "b"))
    seen.listed([node("a", "False")], 1.0)
    assert seen.satisfied_since is None
    assert seen.missing() == "b: not found; a: Ready=False"
    seen.event("ADDED", node("b"), 2.0)
    seen.event("MODIFIED", node("a"), 3.0)
    assert seen.satisfied_since == 3.0
    seen.event("MODIFIED", node("b", "Unknown"), 4.0)
    assert seen.satisfied_since is None
    assert story(seen) == [(1.0, "b: not found"), (1.0, "a: Ready=False"), (2.0, "b: Ready=True"), (3.0, "a: Ready=True"), (4.0, "b: Ready=Unknown")]


def test_satisfied_since_the_first_moment() -> None:
    seen = tracker(names=("a",))
    seen.listed([node("a")], 1.0)
    seen.event("MODIFIED", node("a"), 5.0)
    assert seen.satisfied_since == 1.0
    assert story(seen) == [(1.0, "a: Ready=True")]


def test_nothing_is_stable_across_a_gap() -> None:
    seen = tracker(names=("a",))
    seen.listed([node("a")], 1.0)
    seen.listed([node("a")], 9.0)
    assert seen.satisfied_since == 9.0
    seen.lost()
    assert seen.satisfied_since is None


def test_others_do_not_count() -> None:
    seen = tracker(names=("a",))
    seen.listed([node("a"), node("b", "False")], 1.0)
    seen.event("MODIFIED", node("c", "False"), 2.0)
    assert seen.satisfied_since == 1.0
    assert [obj["metadata"]["name"] for obj in seen.objects] == ["a"]


def test_a_selection_needs_at_least_one_object() -> None:
    seen = tracker(label_selector="a=b")
    seen.listed([], 1.0)
    assert (seen.satisfied_since, seen.missing()) == (None, "no Node with labels a=b found")
    seen.event("ADDED", node("a"), 2.0)
    assert seen.satisfied_since == 2.0
    seen.event("DELETED", node("a"), 3.0)
    assert seen.satisfied_since is None
    assert story(seen)[-1] == (3.0, "a: gone")


def test_objects_of_all_namespaces_are_told_apart() -> None:
    seen = tracker("exists", "Pod")
    seen.listed([pod("a", "one"), pod("a", "two")], 1.0)
    assert sorted(what for _at, what in story(seen)) == ["one/a: exists", "two/a: exists"]


def test_leftover_pods_do_not_count() -> None:
    failed = pod("old", status={"phase": "Failed"})
    failed["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "controller": True}]
    seen = tracker(kind="Pod", label_selector="a=b", namespace="default")
    seen.listed([failed, pod("new", status={"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})], 1.0)
    assert (seen.satisfied_since, seen.failure(1.0)) == (1.0, None)


def test_a_pod_that_becomes_a_leftover_is_forgotten() -> None:
    old = pod("old", status={"phase": "Running"})
    old["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "controller": True}]
    seen = tracker(kind="Pod", label_selector="a=b", namespace="default")
    seen.listed([old], 1.0)
    seen.event("MODIFIED", {**old, "status": {"phase": "Failed"}}, 2.0)
    assert (seen.objects, seen.failure(2.0), story(seen)[-1]) == ([], None, (2.0, "old: gone"))


def test_gone() -> None:
    seen = tracker("gone", names=("a", "b"))
    seen.listed([node("a")], 1.0)
    assert (seen.satisfied_since, seen.missing()) == (None, "a: still there")
    seen.event("MODIFIED", node("a", deletionTimestamp="T", finalizers=["x/y"]), 2.0)
    assert seen.missing() == "a: being deleted since T, held by finalizers x/y"
    seen.event("DELETED", node("a"), 3.0)
    assert seen.satisfied_since == 3.0
    seen.event("ADDED", node("a", uid="another"), 4.0)
    assert seen.satisfied_since == 3.0
    assert story(seen)[-1] == (4.0, "a: gone, and made anew since")


def test_gone_with_a_selector() -> None:
    seen = tracker("gone", label_selector="a=b")
    seen.listed([node("a")], 1.0)
    assert seen.satisfied_since is None
    seen.event("DELETED", node("a"), 2.0)
    assert seen.satisfied_since == 2.0


def test_a_kind_that_is_not_served_has_no_objects() -> None:
    gone, there = tracker("gone", "Widget"), tracker("exists", "Widget", names=("a",))
    for seen in (gone, there):
        seen.not_served("not served", 1.0)
    assert (gone.satisfied_since, there.satisfied_since) == (1.0, None)


def test_a_failed_job_ends_the_wait() -> None:
    seen = tracker(kind="Job", names=("a",))
    seen.listed([{"kind": "Job", "metadata": {"name": "a"}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}}], 1.0)
    assert seen.failure(1.0) == "a: Failed"


def test_trouble_fails_when_it_lasts() -> None:
    seen = Tracker(Selection(kind="Pod", judge=trouble, only_watch=True), Timeline(0.0))
    unschedulable = pod("p", status={"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]})
    seen.listed([unschedulable], 1.0)
    assert (seen.failure(30.9), seen.fails_at) == (None, 31.0)
    seen.event("MODIFIED", unschedulable, 20.0)
    assert seen.failure(31.0) == "default/p: Pending, PodScheduled=False (Unschedulable)"
    seen.event("MODIFIED", pod("p", status={"phase": "Running"}), 32.0)
    assert (seen.failure(99.0), seen.fails_at) == (None, math.inf)


def test_each_kind_of_trouble_has_its_own_patience() -> None:
    verdicts = {"long": Verdict(False, "long", failed=True, patience=600.0), "short": Verdict(False, "short", failed=True, patience=30.0)}
    seen = Tracker(Selection(kind="Node", judge=lambda obj: verdicts[obj["state"]], names=("a",)), Timeline(0.0))
    seen.listed([{**node("a"), "state": "long"}], 0.0)
    seen.event("MODIFIED", {**node("a"), "state": "short"}, 100.0)
    seen.event("MODIFIED", {**node("a"), "state": "short"}, 120.0)
    assert (seen.failure(129.0), seen.fails_at, seen.failure(130.0)) == (None, 130.0, "a: short")


def test_long_lists_of_what_is_missing_are_cut() -> None:
    seen = tracker(names=tuple(f"n{number}" for number in range(15)))
    seen.listed([], 1.0)
    assert seen.missing().endswith("n9: not found; and 5 more")


@pytest.mark.parametrize("waits", [wait_for, Follower, execute], ids=lambda waits: waits.__name__)
def test_deadlines_are_counted_by_a_clock_that_nobody_sets(waits: t.Callable[..., t.Any]) -> None:
    assert inspect.signature(waits).parameters["clock"].default is time.monotonic


def test_trim_leaves_the_original_alone() -> None:
    obj = {"kind": "Node", "metadata": {"name": "a", "managedFields": [1]}, "status": {"images": [1], "x": 1}}
    assert trim(obj) == {"kind": "Node", "metadata": {"name": "a"}, "status": {"x": 1}}
    assert obj["status"] == {"images": [1], "x": 1}


# The whole, over HTTP


@pytest.fixture
def client(api: FakeApi) -> Client:
    return open_client(connection_settings({"kubeconfig": api.kubeconfig()}, {}))


def wait(client: Client, *selections: Selection, timeout: float = 10.0, **options: t.Any) -> WaitResult:
    return wait_for(client, selections, timeout_seconds=timeout, what="it", **options)


def nodes(*names: str, until: str = "ready", **options: t.Any) -> Selection:
    return Selection(kind="Node", names=names, judge=judge_for(until), **options)


def said(transitions: list[dict[str, t.Any]]) -> list[str]:
    return [entry["what"] for entry in transitions]


def when_watched(api: FakeApi, *actions: t.Callable[[], object]) -> None:
    """The n-th watch that is opened triggers the n-th action."""
    left = list(actions)

    def act(_path: str) -> None:
        if left:
            left.pop(0)()

    api.on_watch = act


def test_what_is_so_already_costs_one_request(api: FakeApi, client: Client) -> None:
    api.put(node("a"))
    api.put(node("b"))
    done = wait(client, nodes("a", "b"))
    assert len(api.requests) == 1
    assert [obj["metadata"]["name"] for obj in done.objects] == ["a", "b"]


def test_a_change_is_seen_on_one_connection(api: FakeApi, client: Client) -> None:
    api.put(node("a", "False"))
    when_watched(api, lambda: api.put(node("a")))
    done = wait(client, nodes("a"))
    assert said(done.transitions) == ["a: Ready=False", "a: Ready=True"]
    assert ([method for method, _path in api.requests], api.connections) == (["GET", "WATCH"], 1)


def test_the_deadline_says_what_was_seen_last(api: FakeApi, client: Client) -> None:
    api.put(node("a", "False"))
    with pytest.raises(WaitFailed) as caught:
        wait(client, nodes("a", "b"), timeout=0.05)
    assert str(caught.value) == "timed out after 0.05 s waiting for it: b: not found; a: Ready=False"
    assert caught.value.data["timed_out"] is True
    assert [obj["metadata"]["name"] for obj in caught.value.data["resources"]] == ["a"]
    assert said(caught.value.data["transitions"]) == ["b: not found", "a: Ready=False"]


def test_cut_watches_lose_nothing(api: FakeApi, client: Client) -> None:
    """Ten watches cut before their first event; a state that lasts for one event only is seen all the same."""
    api.put(node("a", "False"))
    api.faults.append(Fault(method="WATCH", cut_after=0, times=10))
    changes = [lambda value=value: api.put(node("a", value)) for value in ("Unknown", "False") * 5]
    when_watched(api, *changes, lambda: api.put(node("a")))
    done = wait(client, nodes("a"))
    assert said(done.transitions) == ["a: Ready=False", *["a: Ready=Unknown", "a: Ready=False"] * 5, "a: Ready=True"]
    assert api.count("WATCH") == 11
    assert api.count("GET") == 1


@pytest.mark.parametrize("fault", [Fault(method="WATCH", status=410, reason="Expired"), Fault(method="WATCH", gone_after=0)], ids=["answer", "event"])
def test_an_expired_version_means_a_new_list(api: FakeApi, client: Client, fault: Fault) -> None:
    api.put(node("a", "False"))
    api.faults.append(fault)
    when_watched(api, lambda: api.put(node("a")))
    done = wait(client, nodes("a"))
    assert said(done.transitions) == ["a: Ready=False", "a: Ready=True"]
    assert api.count("GET") == 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503, reason="ServiceUnavailable"),
        Fault(status=429, reason="TooManyRequests", retry_after=0),
        Fault(status=500, reason="InternalError"),
        Fault(drop=True),
    ],
    ids=["503", "429", "500", "dropped"],
)
def test_outages_are_sat_out_and_told(api: FakeApi, client: Client, fault: Fault) -> None:
    api.put(node("a"))
    fault.times = 2
    api.faults.append(fault)
    done = wait(client, nodes("a"))
    outage, back, ready = said(done.transitions)
    assert str(fault.status or "cannot reach the API server") in outage
    assert (back, ready) == ("the API server answers again", "a: Ready=True")


def test_a_server_that_starts_later_is_waited_for(api: FakeApi, client: Client) -> None:
    api.put(node("a"))
    port = api.port
    api.stop()
    starter = threading.Timer(0.02, api.start, (port,))
    starter.start()
    done = wait(client, nodes("a"))
    starter.join()
    assert "Connection refused" in said(done.transitions)[0]
    assert said(done.transitions)[1:] == ["the API server answers again", "a: Ready=True"]


def test_a_server_that_restarts_during_a_watch(api: FakeApi, client: Client) -> None:
    api.put(node("a", "False"))
    port = api.port

    def restart() -> None:
        api.stop()
        api.put(node("a"))
        api.start(port)

    when_watched(api, lambda: threading.Thread(target=restart).start())
    assert said(wait(client, nodes("a")).transitions)[-1] == "a: Ready=True"


def test_a_server_whose_data_came_from_a_backup(api: FakeApi, client: Client) -> None:
    """Its versions are older than that of the watch, which would be told nothing."""
    for number in range(50):
        api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}"}})
    api.put(node("a", "False"))
    port = api.port

    def restore() -> None:
        api.stop()
        api.go_back(110)
        api.put(node("a"))
        # The watch is cut, and then the server is away for one request at least
        api.faults.append(Fault(drop=True, times=2))
        api.start(port)

    when_watched(api, lambda: threading.Thread(target=restore).start())
    assert said(wait(client, nodes("a")).transitions)[-1] == "a: Ready=True"


def test_a_server_that_never_answers_is_named(api: FakeApi, client: Client) -> None:
    url = api.url
    api.stop()
    with pytest.raises(WaitFailed) as caught:
        wait(client, nodes("a"), timeout=0.05)
    assert str(caught.value) == f"timed out after 0.05 s waiting for it: cannot reach the API server at {url}: Connection refused"


@pytest.mark.parametrize("code", [400, 401, 403])
def test_refusals_end_the_wait_at_once(api: FakeApi, client: Client, code: int) -> None:
    api.faults.append(Fault(status=code, reason="Forbidden", times=99))
    with pytest.raises(ApiError) as caught:
        wait(client, nodes("a"))
    assert caught.value.status == code
    assert len(api.requests) == 1


def test_the_wrong_cluster_ends_the_wait_at_once(api: FakeApi, client: Client) -> None:
    with pytest.raises(WrongCluster):
        wait(client, nodes("a"), cluster_uid="another")
    assert api.count(path="/nodes") == 0


def test_stable_means_without_a_break(api: FakeApi, client: Client) -> None:
    api.put(node("a"))

    def flap() -> None:
        api.put(node("a", "False"))
        api.put(node("a"))

    when_watched(api, flap)
    done = wait(client, nodes("a"), stable_seconds=0.03)
    assert said(done.transitions) == ["a: Ready=True", "a: Ready=False", "a: Ready=True"]
    assert done.waited_seconds >= done.transitions[-1]["at_seconds"] + 0.03


def test_not_stable_for_long_enough(api: FakeApi, client: Client) -> None:
    api.put(node("a"))
    with pytest.raises(WaitFailed, match="which is less than stable_seconds=5"):
        wait(client, nodes("a"), timeout=0.03, stable_seconds=5)


def test_several_selections_have_to_agree(api: FakeApi, client: Client) -> None:
    api.put(node("a"))
    when_watched(api, lambda: None, lambda: api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}))
    done = wait(client, nodes("a"), Selection(kind="ConfigMap", namespace="default", names=("c",), judge=judge_for("exists")))
    assert [obj["kind"] for obj in done.objects] == ["Node", "ConfigMap"]


def test_an_outage_of_one_watch_does_not_forget_the_others(api: FakeApi, client: Client) -> None:
    """While one kind cannot be listed, nothing is stable; afterwards the other one counts without a new event."""
    api.put(node("a"))
    api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}})
    api.faults.append(Fault(method="GET", path="/configmaps", status=503, reason="ServiceUnavailable", times=2))
    done = wait(client, nodes("a"), Selection(kind="ConfigMap", namespace="default", names=("c",), judge=judge_for("exists")))
    told = said(done.transitions)
    assert (told[0], told[-1]) == ("Node a: Ready=True", "ConfigMap c: exists")
    assert "the API server answers again" in told


def test_a_kind_may_come_later(api: FakeApi, client: Client) -> None:
    api.faults.append(Fault(method="GET", path="/apis/example.com/v1", status=404, reason="NotFound", times=2))
    api.kinds.append(Kind("example.com/v1", "Widget", "widgets"))
    api.put({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}})
    done = wait(client, Selection(kind="Widget", api_version="example.com/v1", namespace="default", names=("w",), judge=judge_for("exists")))
    assert said(done.transitions)[-1] == "w: exists"


def test_a_kind_that_never_comes_is_named(api: FakeApi, client: Client) -> None:
    with pytest.raises(WaitFailed, match="does not serve kind Widget"):
        wait(client, Selection(kind="Widget", names=("w",), judge=judge_for("exists")), timeout=0.05)


def test_gone_ends_with_the_deletion(api: FakeApi, client: Client) -> None:
    api.put(pod("p", metadata={"name": "p", "namespace": "default", "finalizers": ["x/y"]}))
    when_watched(api, lambda: api.drop("Pod", "p"))
    done = wait(client, Selection(kind="Pod", namespace="default", names=("p",), judge=judge_for("gone")))
    assert said(done.transitions) == ["p: still there", "p: gone"]


@pytest.mark.parametrize(("renewed", "words"), [("2001-01-01T00:00:00.000000Z", "has not renewed its lease since 2001"), (None, "never renewed its lease")])
def test_heartbeats_have_to_be_fresh(api: FakeApi, client: Client, renewed: str | None, words: str) -> None:
    import datetime

    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a", "namespace": "kube-node-lease"}, "spec": {"renewTime": renewed}}
    api.put(node("a"))
    api.put(lease)
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    when_watched(api, lambda: None, lambda: api.put({**lease, "spec": {"renewTime": now}}))
    done = wait(client, nodes("a"), heartbeats(client, ("a",), 15))
    assert words in said(done.transitions)[1]
    assert said(done.transitions)[-1] == "Lease a: renews its lease"


def test_an_untrusted_certificate_is_not_waited_out(api: FakeApi, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    import ssl

    import urllib3.exceptions

    cause = ssl.SSLCertVerificationError()
    cause.verify_message = "self-signed certificate"

    def refuse(*_arguments: t.Any, **_options: t.Any) -> t.NoReturn:
        raise urllib3.exceptions.SSLError(cause) from cause

    monkeypatch.setattr(client._transport, "request", refuse)
    with pytest.raises(ClientConfigError, match="is not trusted: self-signed certificate"):
        wait(client, nodes("a"))
