# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import typing as t

import pytest

from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi, Fault

Object = dict[str, t.Any]
Run = t.Callable[..., Object]

RUNNING: Object = {"running": {}}
CREATING: Object = {"waiting": {"reason": "ContainerCreating"}}


def ended(run: str, code: int = 0) -> Object:
    return {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "containerID": run}}


def pod(name: str, *, phase: str = "Running", namespace: str = "default", labels: Object | None = None, **containers: Object) -> Object:
    """C(containers): the status of each, without its name."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"name": container} for container in containers]},
        "status": {"phase": phase, "containerStatuses": [{"name": container, **status} for container, status in containers.items()]},
    }


def running(run: str) -> Object:
    return {"state": RUNNING, "containerID": run, "restartCount": 0}


def two_pods(api: FakeApi) -> None:
    api.put(pod("a", c=running("run-a")))
    api.put(pod("b", c=running("run-b"), side={"state": CREATING}))
    api.log("run-a", "a1", at=1)
    api.log("run-b", "b1", at=2)
    api.log("run-a", "a2", at=3)


def texts(result: Object) -> list[str]:
    assert not result.get("failed"), result["msg"]
    return t.cast("list[str]", result["log_lines"])


def whats(result: Object) -> list[str]:
    return [entry["what"] for entry in result["transitions"]]


def test_one_pod(api: FakeApi, run_module: Run) -> None:
    two_pods(api)
    result = run_module("kube_logs", name="a")
    assert texts(result) == ["a1", "a2"]
    assert result["log"] == "a1\na2"
    assert result["changed"] is False
    assert result["truncated"] is False
    assert result["without_logs"] == []
    assert result["logs"] == [{"namespace": "default", "pod": "a", "container": "c", "log_lines": ["a1", "a2"], "log": "a1\na2", "truncated": False}]
    assert len(api.requests) == 2


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({"tail_lines": 1}, ["a2"]),
        ({"tail_lines": 0}, []),
        ({"since_time": "2026-01-01T00:00:02Z"}, ["a2"]),
        ({"since_time": "2026-01-01T01:00:02.5+01:00"}, ["a2"]),
        ({"since_time": "2026-01-01T00:00:03.000000001Z"}, []),
        ({"since_time": "2026-01-01T00:00:01Z"}, ["a1", "a2"]),
        ({"timestamps": True}, ["2026-01-01T00:00:01.000000000Z a1", "2026-01-01T00:00:03.000000000Z a2"]),
        ({"prefix": True}, ["[a/c] a1", "[a/c] a2"]),
        ({"prefix": True, "timestamps": True, "tail_lines": 1}, ["[a/c] 2026-01-01T00:00:03.000000000Z a2"]),
        ({"container": "c"}, ["a1", "a2"]),
        ({"limit_bytes": 6}, ["a1", "a2"]),
        ({"limit_bytes": 5}, ["a1"]),
        ({"limit_bytes": 2}, []),
    ],
)
def test_which_part(api: FakeApi, run_module: Run, options: Object, lines: list[str]) -> None:
    two_pods(api)
    result = run_module("kube_logs", name="a", **options)
    assert texts(result) == lines
    assert result["truncated"] == (options.get("limit_bytes", 6) < 6)


def test_since_seconds_is_asked_of_the_server(api: FakeApi, run_module: Run) -> None:
    two_pods(api)
    run_module("kube_logs", name="a", since_seconds=60)
    assert "sinceSeconds=60" in api.requests[-1][1]


@pytest.mark.parametrize(
    "options",
    [
        {"names": ["a", "b"], "container": "c"},
        {"names": ["b", "a", "a"], "container": "c"},
        {"label_selectors": ["app=web"], "container": "c", "namespace": "default"},
        {"label_selectors": ["app"], "container": "c"},
        {"kind": "Deployment", "name": "web", "container": "c"},
    ],
)
def test_several_pods_make_one_log_by_time(api: FakeApi, run_module: Run, options: Object) -> None:
    two_pods(api)
    api.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}}}})
    result = run_module("kube_logs", **options)
    assert texts(result) == ["[a/c] a1", "[b/c] b1", "[a/c] a2"]
    assert [log["log_lines"] for log in result["logs"]] == [["a1", "a2"], ["b1"]]


def test_pods_of_several_namespaces_are_told_apart(api: FakeApi, run_module: Run) -> None:
    for namespace in ("default", "kube-system"):
        api.put(pod("a", namespace=namespace, c=running(f"run-{namespace}")))
        api.log(f"run-{namespace}", namespace)
    assert texts(run_module("kube_logs", label_selectors=["app"])) == ["[default/a/c] default", "[kube-system/a/c] kube-system"]


def test_what_has_no_log_is_named(api: FakeApi, run_module: Run) -> None:
    two_pods(api)
    result = run_module("kube_logs", names=["a", "b"], all_containers=True)
    assert texts(result) == ["[a/c] a1", "[b/c] b1", "[a/c] a2"]
    assert result["without_logs"] == [{"namespace": "default", "pod": "b", "container": "side", "reason": "not started: ContainerCreating"}]


def test_a_node_that_does_not_answer_hides_no_other_log(api: FakeApi, run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.homelab.gpu.plugins.module_utils._client.pause_before_retry", lambda *_arguments: 0.0)
    two_pods(api)
    api.faults.append(Fault("GET", "pods/b/log", status=500, reason="InternalError", message="dial tcp: no route to host", times=99))
    result = run_module("kube_logs", names=["a", "b"], container="c")
    assert texts(result) == ["a1", "a2"]
    assert [entry["reason"] for entry in result["without_logs"]] == ["dial tcp: no route to host"]


def test_a_log_that_is_cut_is_read_anew(api: FakeApi, run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.homelab.gpu.plugins.module_utils._client.pause_before_retry", lambda *_arguments: 0.0)
    two_pods(api)
    api.faults.append(Fault("GET", "pods/a/log", cut_after=1))
    assert texts(run_module("kube_logs", name="a")) == ["a1", "a2"]
    assert api.count("GET", "pods/a/log") == 2


def test_what_is_not_utf8_is_replaced(api: FakeApi, run_module: Run) -> None:
    api.put(pod("a", c=running("run")))
    api.log("run", b"bad \xff byte", b"dos\r", "", "grün")
    assert texts(run_module("kube_logs", name="a")) == ["bad \ufffd byte", "dos", "", "grün"]


def test_the_run_before(api: FakeApi, run_module: Run) -> None:
    api.put(pod("a", c={**running("second"), "lastState": ended("first", 1)}))
    api.log("first", "crashed")
    api.log("second", "fine")
    assert texts(run_module("kube_logs", name="a", previous=True)) == ["crashed"]
    assert texts(run_module("kube_logs", name="a")) == ["fine"]


def test_a_crashed_container_that_waits_to_start_again_has_its_last_log(api: FakeApi, run_module: Run) -> None:
    api.put(pod("a", c={"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended("first", 1)}))
    api.log("first", "crashed")
    assert texts(run_module("kube_logs", name="a")) == ["crashed"]


def test_what_the_kubelet_says_instead_of_a_log_is_no_log(api: FakeApi, run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.homelab.gpu.tests.unit.fake_api._stamp", lambda _moment: "unable")
    api.put(pod("a", c=running("run")))
    api.log("run", "to retrieve container logs for containerd://run")
    result = run_module("kube_logs", name="a")
    assert result["failed"] is True
    assert result["without_logs"][0]["reason"] == "unable to retrieve container logs for containerd://run"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "none"}, "Pod none not found in namespace default; check namespace and name"),
        ({"names": ["a", "none", "nil"]}, "Pod none, nil not found in namespace default"),
        ({"label_selectors": ["app=none"]}, "no Pod with labels app=none found; check namespace and what selects the pods"),
        ({"kind": "Deployment", "name": "none"}, "Deployment default/none not found; check kind, namespace and name"),
        ({"kind": "Deployment", "name": "empty"}, "no Pod with labels app=empty in namespace default found"),
        ({"kind": "ConfigMap", "name": "c"}, "kind is ConfigMap, which has no selector for pods; give a workload such as a Deployment"),
        ({"kind": "Widget", "name": "c"}, "the API server does not serve kind Widget"),
        ({"name": "b"}, "container is not set, and Pod default/b has c, side; set container to one of them, or all_containers=true"),
        ({"name": "a", "container": "none"}, "container is 'none', but Pod default/a has c; set container to one of them"),
        ({"name": "b", "container": "side"}, "there is no log to read: pod default/b, container side: not started: ContainerCreating"),
        ({"name": "a", "previous": True}, 'container c: previous terminated container "c" in pod "a" not found'),
    ],
)
def test_failures(api: FakeApi, run_module: Run, options: Object, words: str) -> None:
    two_pods(api)
    api.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "empty"}, "spec": {"selector": {"matchLabels": {"app": "empty"}}}})
    api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}})
    result = run_module("kube_logs", **options)
    assert result["failed"] is True
    assert words in result["msg"]


# Following


def on_log(api: FakeApi, *steps: t.Callable[[], object]) -> None:
    """Lets the next step happen each time a log was opened to be followed."""
    left = list(steps)
    lock = threading.Lock()

    def step(path: str) -> None:
        with lock:
            if path.endswith("/log") and left:
                left.pop(0)()

    api.on_watch = step


def test_until_a_line_that_is_there(api: FakeApi, run_module: Run) -> None:
    two_pods(api)
    result = run_module("kube_logs", name="a", until_pattern="a[12]", follow_seconds=60)
    assert texts(result) == ["a1"]
    assert result["pattern_found"] is True
    assert {**result["match"], "at_seconds": 0} == {
        "namespace": "default",
        "pod": "a",
        "container": "c",
        "line": "a1",
        "time": "2026-01-01T00:00:01.000000000Z",
        "at_seconds": 0,
    }
    assert whats(result) == ["a/c: reading (running)", "a/c: the pattern was found"]
    assert result["waited_seconds"] >= result["match"]["at_seconds"]


def test_until_a_line_that_comes(api: FakeApi, run_module: Run) -> None:
    two_pods(api)
    on_log(api, lambda: api.log("run-a", "loaded in 3.5 s", "after"))
    result = run_module("kube_logs", name="a", until_pattern=r"loaded in [\d.]+ s$", follow_seconds=60, tail_lines=0)
    assert texts(result) == ["loaded in 3.5 s"]
    assert result["match"]["line"] == "loaded in 3.5 s"


def test_lines_over_the_limit_are_still_looked_at(api: FakeApi, run_module: Run) -> None:
    api.put(pod("a", c=running("run")))
    api.log("run", "x" * 50, "loaded")
    result = run_module("kube_logs", name="a", until_pattern="loaded", follow_seconds=60, limit_bytes=10)
    assert texts(result) == []
    assert result["truncated"] is True
    assert result["match"]["line"] == "loaded"
    assert "a/c: limit_bytes reached, nothing more is kept" in whats(result)


def test_a_line_that_does_not_come(api: FakeApi, run_module: Run) -> None:
    two_pods(api)
    result = run_module("kube_logs", name="a", until_pattern="loaded", follow_seconds=1)
    assert result["failed"] is True
    assert result["msg"] == "timed out after 1 s, and no line matched 'loaded': 2 lines of a/c"
    assert (result["timed_out"], result["pattern_found"], result["log_lines"]) == (True, False, ["a1", "a2"])


def test_a_line_that_need_not_come(api: FakeApi, run_module: Run) -> None:
    two_pods(api)
    result = run_module("kube_logs", name="a", until_pattern="loaded", follow_seconds=1, require_pattern=False)
    assert texts(result) == ["a1", "a2"]
    assert result["pattern_found"] is False
    assert "match" not in result


def test_a_line_that_can_no_longer_come(api: FakeApi, run_module: Run) -> None:
    api.put(pod("a", phase="Failed", c={"state": ended("run", 1), "containerID": "run"}))
    api.log("run", "crashed")
    result = run_module("kube_logs", name="a", until_pattern="loaded", follow_seconds=600)
    assert result["failed"] is True
    assert result["msg"] == "nothing more can come, and no line matched 'loaded': 1 lines of a/c"
    assert result["timed_out"] is False


def test_a_pod_that_starts_is_waited_for(api: FakeApi, run_module: Run) -> None:
    api.put(pod("a", phase="Pending", c={"state": CREATING}))

    def start(path: str) -> None:
        api.on_watch = None
        api.put(pod("a", c=running("run")))
        api.log("run", "loaded")

    api.on_watch = start
    result = run_module("kube_logs", name="a", until_pattern="loaded", follow_seconds=60, tail_lines=0)
    assert texts(result) == ["loaded"]
    assert whats(result) == ["a/c: waiting to start (ContainerCreating)", "a/c: reading (running)", "a/c: the pattern was found"]


def test_a_pod_that_is_not_there_yet_is_waited_for(api: FakeApi, run_module: Run) -> None:
    def make(path: str) -> None:
        api.on_watch = None
        api.log("run", "loaded")
        api.put(pod("a", c=running("run")))

    api.on_watch = make
    result = run_module("kube_logs", label_selectors=["app=web"], until_pattern="loaded", follow_seconds=60)
    assert texts(result) == ["loaded"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"names": ["a", "none"]}, "timed out after 1 s, and not all pods that were meant gave a log: 1 lines of a/c; pod default/none: not found"),
        ({"name": "waiting"}, "pod default/waiting, container c: not started: ContainerCreating"),
        ({"name": "waiting", "until_pattern": "x"}, "no line matched 'x': pod default/waiting, container c: not started: ContainerCreating"),
        ({"label_selectors": ["app=none"]}, "no Pod with labels app=none found"),
        ({"names": ["a"], "container": "none"}, "container is 'none', but Pod default/a has c"),
    ],
)
def test_what_did_not_come(api: FakeApi, run_module: Run, options: Object, words: str) -> None:
    api.put(pod("a", c=running("run")))
    api.log("run", "line")
    api.put(pod("waiting", c={"state": CREATING}))
    result = run_module("kube_logs", follow_seconds=1, **options)
    assert result["failed"] is True
    assert words in result["msg"]


@pytest.mark.parametrize("fault", [Fault("GET", "/log", cut_after=2), Fault("GET", "/log", end_after=2), Fault("GET", "/log", drop=True)])
def test_a_cut_loses_and_repeats_nothing(api: FakeApi, run_module: Run, fault: Fault) -> None:
    """Several lines of one moment included: the API goes on from whole seconds."""
    api.put(pod("a", c=running("run")))
    api.log("run", "1", at=1)
    api.log("run", "2", at=1.5)
    api.log("run", "3", at=1.5)
    api.log("run", "loaded", at=1.75)
    fault.times = 1
    api.faults.append(fault)
    result = run_module("kube_logs", name="a", until_pattern="loaded", follow_seconds=60)
    assert texts(result) == ["1", "2", "3", "loaded"]
    assert api.count("GET", "/log") == 2


def test_a_container_that_ends_while_its_log_is_cut_gives_the_rest(api: FakeApi, run_module: Run) -> None:
    api.put(pod("a", c=running("first")))
    api.log("first", "1", "2", "last")

    def restart() -> None:
        api.log("second", "again", at=60)
        api.put(pod("a", c={**running("second"), "restartCount": 1, "lastState": ended("first", 1)}))

    on_log(api, restart)
    api.faults.append(Fault("GET", "/log", cut_after=1))
    result = run_module("kube_logs", name="a", follow_seconds=1)
    assert texts(result) == ["1", "2", "last", "again"]


def test_a_job_that_has_ended_gives_no_more(api: FakeApi, run_module: Run) -> None:
    job = {"metadata": {"name": "job"}, "spec": {"selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "1"}}}}
    api.put({"apiVersion": "batch/v1", "kind": "Job", **job, "status": {"active": 1}})
    labels = {"batch.kubernetes.io/controller-uid": "1"}
    api.put(pod("job-a", labels=labels, c=running("run")))
    api.log("run", "1")

    def finish() -> None:
        api.log("run", "2")
        api.put(pod("job-a", labels=labels, phase="Succeeded", c={"state": ended("run"), "containerID": "run"}))
        api.change("Job", "job", status={"conditions": [{"type": "Complete", "status": "True"}]})

    on_log(api, finish)
    result = run_module("kube_logs", kind="Job", name="job", follow_seconds=600)
    assert texts(result) == ["1", "2"]
    assert whats(result)[-1] == "nothing more can come: all containers have ended"


def test_a_pod_that_goes_keeps_what_was_read(api: FakeApi, run_module: Run) -> None:
    two_pods(api)
    on_log(api, lambda: api.drop("Pod", "a"))
    result = run_module("kube_logs", name="a", follow_seconds=600)
    assert texts(result) == ["a1", "a2"]
    assert "a: gone" in whats(result)


def test_an_outage_is_sat_out(api: FakeApi, run_module: Run) -> None:
    two_pods(api)
    api.faults.append(Fault("GET", "/pods?", status=503, reason="ServiceUnavailable", times=2))
    result = run_module("kube_logs", label_selectors=["app=web"], container="c", until_pattern="b1", follow_seconds=60)
    assert result["match"]["line"] == "b1"
    assert "the API server answers again" in whats(result)


def test_rights_that_are_missing_end_it(api: FakeApi, run_module: Run) -> None:
    two_pods(api)
    api.faults.append(Fault("GET", "/log", status=403, reason="Forbidden", message="cannot get resource pods/log", times=9))
    for options in ({}, {"follow_seconds": 600}):
        result = run_module("kube_logs", name="a", **options)
        assert result["failed"] is True
        assert (result["status"], result["reason"]) == (403, "Forbidden")


def test_the_wrong_cluster(api: FakeApi, run_module: Run) -> None:
    two_pods(api)
    assert "wrong cluster" in run_module("kube_logs", name="a", cluster_uid="another")["msg"]
    assert texts(run_module("kube_logs", name="a", cluster_uid=api.cluster_uid)) == ["a1", "a2"]
