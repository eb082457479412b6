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


def workload(kind: str = "Deployment", replicas: int = 1, volumes: list[Object] | None = None, **status: t.Any) -> Object:
    selector: Object = LABELS if kind == "ReplicationController" else {"matchLabels": LABELS}
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": volumes or []}}
    return {
        "apiVersion": "v1" if kind == "ReplicationController" else "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "generation": 1},
        "spec": {"replicas": replicas, "selector": selector, "template": template},
        "status": {"observedGeneration": 1, "replicas": replicas, "readyReplicas": replicas, **status},
    }


def pod(name: str, **fields: t.Any) -> Object:
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}
    metadata = {"name": name, "labels": LABELS, **fields.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {**ready, **fields}}


def claim(*modes: str, volume: str | None = None) -> Object:
    spec = {"accessModes": list(modes), **({"volumeName": volume} if volume else {})}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "weights"}, "spec": spec}


def autoscaler(name: str = "web") -> Object:
    spec = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}, "minReplicas": 1, "maxReplicas": 4}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "hpa"}, "spec": spec}


def scale(run_module: Run, replicas: int, **options: t.Any) -> Object:
    entry = {"kind": "Deployment", "name": "web", "replicas": replicas, **options.pop("entry", {})}
    return run_module("kube_scale", workloads=[entry], **options)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"])
def test_each_kind_by_its_subresource(api: FakeApi, run_module: Run, kind: str) -> None:
    api.put(workload(kind))
    api.on_watch = api.settle
    result = scale(run_module, 3, entry={"kind": kind})
    assert not result.get("failed"), result["msg"]
    (done,) = result["workloads"]
    assert (result["changed"], done["replicas_before"], done["replicas"], done["changed"]) == (True, 1, 3, True)
    assert api.find(kind, "web")["spec"]["replicas"] == 3
    assert api.count("PATCH", "/scale?") == api.count("PATCH") == 1
    assert result["diff"]["after"] == {f"{kind} default/web": {"replicas": 3}}
    assert result["transitions"]

    patches = api.count("PATCH")
    again = scale(run_module, 3, entry={"kind": kind})
    assert (again["changed"], again["diff"], api.count("PATCH")) == (False, {"before": {}, "after": {}}, patches)


def test_several_in_one_call_and_what_was_done_before_an_error(api: FakeApi, run_module: Run) -> None:
    first, second = workload(), workload()
    second["metadata"]["name"] = "other"
    for obj in (first, second):
        api.put(obj)
    entries = [{"kind": "Deployment", "name": name, "replicas": 2} for name in ("web", "other")]
    api.faults.append(Fault(method="PATCH", path="/other/", status=403, reason="Forbidden", message="no"))
    result = run_module("kube_scale", workloads=entries)
    assert (result["failed"], result["changed"], [done["name"] for done in result["workloads"]]) == (True, True, ["web"])


def test_check_mode_asks_the_server_changes_nothing_and_does_not_wait(api: FakeApi, run_module: Run) -> None:
    before = api.put(workload())
    result = scale(run_module, 3, check_mode=True)
    assert (result["changed"], result["workloads"][0]["replicas"]) == (True, 3)
    assert api.find("Deployment", "web") == before
    assert (api.count("PATCH", "dryRun=All"), api.count("WATCH")) == (1, 0)

    def refuse(_verb: str, _obj: Object) -> t.NoReturn:
        raise ApiFailure(403, "Forbidden", "not this one")

    api.hooks.append(refuse)
    assert "not this one" in scale(run_module, 3, check_mode=True)["msg"]


def test_all_that_is_missing_is_named_and_nothing_is_changed(api: FakeApi, run_module: Run) -> None:
    api.put(workload())
    entries = [{"kind": "Deployment", "name": name, "replicas": 2} for name in ("web", "one", "two")]
    result = run_module("kube_scale", workloads=entries)
    assert "there is no Deployment default/one, Deployment default/two. Nothing was changed" in result["msg"]
    assert (result["missing"], api.count("PATCH")) == (["Deployment default/one", "Deployment default/two"], 0)


@pytest.mark.parametrize(
    ("entry", "skipped"),
    [
        ({"current_replicas": 1}, ""),
        ({"current_replicas": 2}, "it has 1 replicas, not 2"),
        ({"resource_version": "{version}"}, ""),
        ({"resource_version": "1"}, "its resource version is {version}, not 1"),
    ],
)
def test_preconditions(api: FakeApi, run_module: Run, entry: Object, skipped: str) -> None:
    version = api.put(workload())["metadata"]["resourceVersion"]
    api.on_watch = api.settle
    filled = {key: value.replace("{version}", version) if isinstance(value, str) else value for key, value in entry.items()}
    result = scale(run_module, 3, entry=filled)
    assert not result.get("failed"), result["msg"]
    assert (result["changed"], result["workloads"][0]["skipped"]) == (not skipped, skipped.replace("{version}", version))


def test_preconditions_hold_against_a_writer_in_between(api: FakeApi, run_module: Run) -> None:
    api.put(workload())

    def interfere(method: str, _path: str) -> None:
        if method == "PATCH" and api.count("PATCH") == 1:
            api.change("Deployment", "web", spec={"replicas": 5})

    api.before = interfere
    result = scale(run_module, 3, entry={"current_replicas": 1})
    assert (result["changed"], result["workloads"][0]["skipped"]) == (False, "it has 5 replicas, not 1")
    assert api.find("Deployment", "web")["spec"]["replicas"] == 5


@pytest.mark.parametrize("fault", [Fault(method="PATCH", lose_answer=True), Fault(status=500, times=2), Fault(drop=True, times=2)])
def test_passing_faults_are_sat_out(api: FakeApi, run_module: Run, fault: Fault) -> None:
    """A change whose answer was lost is a change."""
    api.put(workload())
    api.faults.append(fault)
    result = scale(run_module, 3, wait=False)
    assert (result["changed"], api.find("Deployment", "web")["spec"]["replicas"]) == (True, 3)


# What is known beforehand

SHARED = [{"name": "v", "persistentVolumeClaim": {"claimName": "weights"}}]
LOCAL = {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]}}}


def test_an_autoscaler_would_undo_it(api: FakeApi, run_module: Run) -> None:
    api.put(workload())
    api.put(autoscaler())
    result = scale(run_module, 3)
    assert "Deployment default/web: HorizontalPodAutoscaler hpa holds the replicas between 1 and 4" in result["msg"]
    assert "Nothing was changed. To scale nevertheless, set force=true." in result["msg"]
    assert (result["failed"], len(result["refused"]), api.count("PATCH")) == (True, 1, 0)
    assert scale(run_module, 3, check_mode=True)["failed"] is True
    forced = scale(run_module, 3, force=True, wait=False)
    assert forced["changed"] is True
    assert "holds the replicas" in forced["workloads"][0]["advice"][0]


@pytest.mark.parametrize(("now", "wanted"), [(1, 0), (0, 2), (1, 1)])
def test_an_autoscaler_rests_at_0(api: FakeApi, run_module: Run, now: int, wanted: int) -> None:
    api.put(workload(replicas=now))
    api.put(autoscaler())
    assert not scale(run_module, wanted, wait=False).get("failed")


def test_an_autoscaler_of_another_workload_is_no_matter(api: FakeApi, run_module: Run) -> None:
    api.put(workload())
    api.put(autoscaler("other"))
    assert scale(run_module, 3, wait=False)["workloads"][0]["advice"] == []


@pytest.mark.parametrize(
    ("modes", "source", "words"),
    [
        (["ReadWriteOncePod"], None, "only one of 3 pods could ever start"),
        (["ReadWriteOnce"], LOCAL, "its volume is local to n1, so all 3 pods have to run there"),
        (["ReadWriteOnce"], {"csi": {"driver": "block.example.com"}}, "attached to one node at a time"),
        (["ReadWriteOnce"], {"nfs": {"server": "s", "path": "/"}}, "does not enforce"),
        (["ReadWriteMany"], {"nfs": {"server": "s", "path": "/"}}, ""),
    ],
)
def test_volumes(api: FakeApi, run_module: Run, modes: list[str], source: Object | None, words: str) -> None:
    api.put(workload(volumes=SHARED))
    api.put(claim(*modes, volume="pv" if source else None))
    if source:
        api.put({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": source})
    result = scale(run_module, 3, wait=False)
    told = result.get("msg") or " ".join(result["workloads"][0]["advice"])
    assert words in told if words else told == ""
    assert bool(result.get("failed")) == (modes == ["ReadWriteOncePod"])
    assert not scale(run_module, 1, wait=False).get("failed")


def test_who_may_scale_need_not_be_allowed_to_read_everything(api: FakeApi, run_module: Run) -> None:
    api.put(workload(volumes=SHARED))
    api.faults += [Fault(path=path, status=403, reason="Forbidden", message="no", times=9) for path in ("autoscalers", "claims")]
    result = scale(run_module, 3, wait=False)
    assert result["changed"] is True
    assert [" is not known: " in text for text in result["workloads"][0]["advice"]] == [True, True]


# Waiting


def test_pods_that_are_ending_are_waited_for(api: FakeApi, run_module: Run) -> None:
    api.put(workload(replicas=2))
    api.put(pod("web-1"))
    api.put(pod("web-2", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x"]}))

    def act(path: str) -> None:
        api.settle()
        if "/pods" in path:
            api.drop("Pod", "web-2")

    api.on_watch = act
    result = scale(run_module, 1)
    assert not result.get("failed"), result["msg"]
    told = [entry["what"] for entry in result["transitions"]]
    assert told.index("Pod web-2: being deleted since 2026-01-01T00:00:00Z") < told.index("Pod web-2: gone")


def test_pods_have_to_be_gone_at_0(api: FakeApi, run_module: Run) -> None:
    api.put(workload())
    api.put(pod("web-1"))
    api.on_watch = api.settle
    result = scale(run_module, 0, timeout_seconds=1)
    assert (result["failed"], result["timed_out"], result["changed"]) == (True, True, True)
    assert "web-1: still there" in result["msg"]
    api.drop("Pod", "web-1")
    assert scale(run_module, 0)["changed"] is False


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {"containerStatuses": [{"name": "c", "restartCount": 5, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
            "web-1: c crashed 5 times",
        ),
        ({"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "InvalidImageName"}}}]}, "web-1: Pending, c: InvalidImageName"),
    ],
    ids=["crash loop", "image"],
)
def test_a_wait_that_cannot_succeed_ends_early(api: FakeApi, run_module: Run, status: Object, words: str) -> None:
    api.put(workload(readyReplicas=0))
    api.put(pod("web-1", phase="Pending", conditions=[], **status))
    result = scale(run_module, 2)
    assert (result["failed"], result["timed_out"], result["changed"]) == (True, False, True)
    assert words in result["msg"]


def test_pods_that_a_stateful_set_cannot_make_are_named(api: FakeApi, run_module: Run) -> None:
    found = api.put(workload("StatefulSet"))
    about = {"kind": "StatefulSet", "name": "web", "namespace": "default", "uid": found["metadata"]["uid"]}
    for name, at in (("new", "2026-01-01T00:00:02Z"), ("old", "2026-01-01T00:00:01Z")):
        event = {"reason": "FailedCreate", "involvedObject": about, "lastTimestamp": at, "message": f"{name}: exceeded quota"}
        api.put({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, **event})
    result = scale(run_module, 3, entry={"kind": "StatefulSet"}, timeout_seconds=1)
    assert (result["failed"], result["timed_out"], api.count(path="/events")) == (True, True, 1)
    assert "StatefulSet default/web: new: exceeded quota (FailedCreate, last at 2026-01-01T00:00:02Z)" in result["msg"]
    assert "old" not in result["msg"]


def test_kinds_of_others(api: FakeApi, run_module: Run) -> None:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object"}},
        "subresources": {"scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.selector"}},
    }
    plain = {**version, "subresources": {}}
    for kind, served in (("Widget", version), ("Gadget", plain)):
        plural = f"{kind.lower()}s"
        api.put(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": f"{plural}.example.com"},
                "spec": {"group": "example.com", "names": {"kind": kind, "plural": plural}, "versions": [served]},
                "status": {"conditions": [{"type": "Established", "status": "True"}]},
            }
        )
        api.put({"apiVersion": "example.com/v1", "kind": kind, "metadata": {"name": "w"}, "spec": {"size": 0}, "status": {"selector": "app=web"}})

    def act(method: str, _path: str) -> None:
        if method == "WATCH" and api.find("Widget", "w")["status"].get("size") != 1:
            api.change("Widget", "w", status={"size": 1})
            api.put(pod("web-1"))

    api.before = act
    entry = {"kind": "Widget", "api_version": "example.com/v1", "name": "w", "replicas": 1}
    result = run_module("kube_scale", workloads=[entry])
    assert not result.get("failed"), result["msg"]
    assert (api.find("Widget", "w")["spec"], result["workloads"][0]["replicas_before"]) == ({"size": 1}, 0)
    refused = run_module("kube_scale", workloads=[{**entry, "kind": "Gadget"}])
    assert "Gadget default/w: its kind has no subresource scale" in refused["msg"]
