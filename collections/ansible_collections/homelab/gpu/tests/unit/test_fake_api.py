# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What our modules rely on in an API server, as one table of behaviours.

The fake API server has to show them. So does a real one, if E(HOMELAB_GPU_TEST_KUBECONFIG) names a kubeconfig with the rights to make
and remove namespaces and nodes: that keeps the fake from drifting. Commands need an image with a shell on the nodes of such a cluster,
which E(HOMELAB_GPU_TEST_IMAGE) names.
"""

from __future__ import annotations

import os
import typing as t
import uuid

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._client import Client
from ansible_collections.homelab.gpu.plugins.module_utils._connection import connection_settings, open_client
from ansible_collections.homelab.gpu.plugins.module_utils._containers import state
from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, Unreachable, WaitFailed
from ansible_collections.homelab.gpu.plugins.module_utils._events import seen
from ansible_collections.homelab.gpu.plugins.module_utils._exec import Command, CommandFailed, execute
from ansible_collections.homelab.gpu.plugins.module_utils._managed_fields import is_as_applied
from ansible_collections.homelab.gpu.plugins.module_utils._ready import Verdict
from ansible_collections.homelab.gpu.plugins.module_utils._resources import BUILTIN, Resource
from ansible_collections.homelab.gpu.plugins.module_utils._times import NANO, nanoseconds, rfc3339
from ansible_collections.homelab.gpu.plugins.module_utils._wait import Selection, wait_for
from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi

Object = dict[str, t.Any]

KUBECONFIG = os.environ.get("HOMELAB_GPU_TEST_KUBECONFIG")
IMAGE = os.environ.get("HOMELAB_GPU_TEST_IMAGE")
MAPS, NODES, NAMESPACES, PODS, EVENTS = (BUILTIN[kind] for kind in ("ConfigMap", "Node", "Namespace", "Pod", "Event"))


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.skipif(not KUBECONFIG, reason="HOMELAB_GPU_TEST_KUBECONFIG is not set"))])
def client(request: pytest.FixtureRequest) -> t.Iterator[Client]:
    if request.param == "real":
        yield open_client(connection_settings({"kubeconfig": KUBECONFIG}, {}))
        return
    with FakeApi() as api:
        dns = {"name": "coredns-1", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}
        status = {"containerStatuses": [{"name": "coredns", "containerID": "run-1", "state": {"running": {}}}]}
        api.put({"apiVersion": "v1", "kind": "Pod", "metadata": dns, "spec": {"containers": [{"name": "coredns"}]}, "status": status})
        api.log("run-1", ".:53", "reloading", "CoreDNS-1.12.4", "linux/amd64")
        yield open_client(connection_settings({"kubeconfig": api.kubeconfig()}, {}))


@pytest.fixture
def namespace(client: Client) -> t.Iterator[str]:
    name = f"behaviour-{uuid.uuid4().hex[:8]}"
    client.request("POST", NAMESPACES.path(), body={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    client.request("DELETE", NAMESPACES.path(name=name))


@pytest.fixture
def dns(client: Client) -> str:
    """A pod with one container, which has written some lines and runs."""
    return str(client.list_all(PODS, "kube-system", label_selector="k8s-app=kube-dns").items[0]["metadata"]["name"])


@pytest.fixture
def node(client: Client) -> t.Iterator[str]:
    name = f"behaviour-{uuid.uuid4().hex[:8]}"
    client.request("POST", NODES.path(), body={"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    yield name
    client.request("DELETE", NODES.path(name=name))


def config_map(name: str = "c", labels: dict[str, str] | None = None, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **({"labels": labels} if labels else {})}, "data": data}


def apply(client: Client, namespace: str, body: Object, manager: str = "one", **query: str) -> Object:
    return t.cast(
        "Object",
        client.request(
            "PATCH",
            MAPS.path(namespace, body["metadata"]["name"]),
            query={"fieldManager": manager, **query},
            body=body,
            content_type="application/apply-patch+yaml",
        ),
    )


def refused(code: int, *arguments: t.Any, **options: t.Any) -> ApiError:
    client, *rest = arguments
    with pytest.raises(ApiError) as caught:
        client.request(*rest, **options)
    assert caught.value.status == code
    return caught.value


def test_apply_creates_and_repeats_without_a_trace(client: Client, namespace: str) -> None:
    first = apply(client, namespace, config_map(a="1"))
    assert first["metadata"]["namespace"] == namespace
    assert first["metadata"]["uid"]
    assert apply(client, namespace, config_map(a="1"))["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert apply(client, namespace, config_map(a="2"))["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]


def test_apply_notes_when_it_changed_something(client: Client, namespace: str) -> None:
    """Also where it only removes a field."""
    before = int(client.server_time()) - 1
    for body in (config_map(a="1", b="2"), config_map(a="1"), config_map(a="1")):
        (entry,) = apply(client, namespace, body)["metadata"]["managedFields"]
        moment = nanoseconds(entry["time"])
        assert moment is not None
        assert before <= moment / NANO <= client.server_time() + 1


def test_apply_removes_what_its_manager_no_longer_gives(client: Client, namespace: str) -> None:
    apply(client, namespace, config_map(a="1", b="2"))
    apply(client, namespace, config_map(c="3"), "two")
    assert apply(client, namespace, config_map(a="1"))["data"] == {"a": "1", "c": "3"}


def test_apply_names_conflicting_managers(client: Client, namespace: str) -> None:
    apply(client, namespace, config_map(a="1"))
    error = refused(
        409,
        client,
        "PATCH",
        MAPS.path(namespace, "c"),
        query={"fieldManager": "two"},
        body=config_map(a="2"),
        content_type="application/apply-patch+yaml",
    )
    (cause,) = error.causes
    assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".data.a")
    assert cause["message"].startswith('conflict with "one"')
    assert apply(client, namespace, config_map(a="1"), "two")["data"] == {"a": "1"}


def test_apply_by_force_takes_over(client: Client, namespace: str) -> None:
    apply(client, namespace, config_map(a="1"))
    assert apply(client, namespace, config_map(a="2"), "two", force="true")["data"] == {"a": "2"}
    assert {entry["manager"] for entry in apply(client, namespace, config_map(a="2"), "two")["metadata"]["managedFields"]} == {"two"}


APPLIED: dict[str, Object] = {
    "ConfigMap": config_map(labels={"x": "y"}, a="1"),
    "Secret": {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "c"}, "data": {"a": "MQ=="}},
    "Service": {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "c"},
        "spec": {"selector": {"app": "c"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "https", "port": 443, "protocol": "TCP"}]},
    },
    "Deployment": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "c", "labels": {"app": "c"}, "annotations": {"example.com/a.b": "c"}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "c"}},
            "template": {
                "metadata": {"labels": {"app": "c"}},
                "spec": {
                    "nodeSelector": {"a": "b"},
                    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
                    "containers": [
                        {
                            "name": "c",
                            "image": "none",
                            "args": ["b", "a"],
                            "env": [{"name": "B", "value": "1"}, {"name": "A", "value": "2"}],
                            "ports": [{"containerPort": 80}],
                            "resources": {"limits": {"memory": "64Mi"}},
                            "volumeMounts": [{"name": "d", "mountPath": "/d"}],
                        }
                    ],
                    "volumes": [{"name": "d", "emptyDir": {}}],
                },
            },
        },
    },
}


@pytest.mark.parametrize("kind", APPLIED)
def test_what_was_applied_can_be_recognised(client: Client, namespace: str, kind: str) -> None:
    """What need not be sent: exactly that which would leave no trace."""
    body = APPLIED[kind]
    path = BUILTIN[kind].path(namespace, "c")

    def send(definition: Object) -> Object:
        options: Object = {"query": {"fieldManager": "one"}, "body": definition, "content_type": "application/apply-patch+yaml"}
        return t.cast("Object", client.request("PATCH", path, **options))

    made = send(body)
    assert is_as_applied(made, body, "one")
    assert not is_as_applied(made, body, "two")
    # A real server's controllers write status meanwhile
    trace = "generation" if "generation" in made["metadata"] else "resourceVersion"
    assert send(body)["metadata"][trace] == made["metadata"][trace]
    more = {**body, "metadata": {**body["metadata"], "annotations": {"another": "one"}}}
    assert not is_as_applied(made, more, "one")
    assert is_as_applied(send(more), more, "one")
    touched = client.request("PATCH", path, body={"metadata": {"annotations": {"another": "two"}}}, content_type="application/merge-patch+json")
    assert not is_as_applied(touched, more, "one")
    beside = client.request("PATCH", path, body={"metadata": {"annotations": {"another": "one", "x": "y"}}}, content_type="application/merge-patch+json")
    assert beside["metadata"]["annotations"]["x"] == "y"


def test_dry_runs_answer_and_store_nothing(client: Client, namespace: str) -> None:
    assert apply(client, namespace, config_map(a="1"), dryRun="All")["data"] == {"a": "1"}
    assert client.get(MAPS, "c", namespace) is None
    before = apply(client, namespace, config_map(a="1"))
    assert apply(client, namespace, config_map(a="2"), dryRun="All")["data"] == {"a": "2"}
    client.request("DELETE", MAPS.path(namespace, "c"), body={"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]})
    assert client.get(MAPS, "c", namespace) == before


def test_apply_into_a_missing_namespace(client: Client) -> None:
    error = refused(
        404,
        client,
        "PATCH",
        MAPS.path("no-such-namespace", "c"),
        query={"fieldManager": "one"},
        body=config_map(),
        content_type="application/apply-patch+yaml",
    )
    assert error.message == 'namespaces "no-such-namespace" not found'


def test_merge_patch_is_bound_to_the_version_it_names(client: Client, namespace: str) -> None:
    made = apply(client, namespace, config_map(a="1"))
    patch = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"b": "2"}}
    options: Object = {"body": patch, "content_type": "application/merge-patch+json"}
    assert client.request("PATCH", MAPS.path(namespace, "c"), **options)["data"] == {"a": "1", "b": "2"}
    patch["data"] = {"b": "3"}
    assert refused(409, client, "PATCH", MAPS.path(namespace, "c"), **options).reason == "Conflict"


def test_merge_patch_removes_by_null(client: Client, node: str) -> None:
    for patch, labels, taints in (
        ({"metadata": {"labels": {"x": "y"}}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}, {"x": "y"}, ["a"]),
        ({"metadata": {"labels": {"x": None}}, "spec": {"taints": None}}, {}, []),
    ):
        changed = client.request("PATCH", NODES.path(name=node), body=patch, content_type="application/merge-patch+json")
        assert {key: value for key, value in (changed["metadata"].get("labels") or {}).items() if key == "x"} == labels
        assert [taint["key"] for taint in changed["spec"].get("taints") or [] if "/" not in taint["key"]] == taints


def test_deletion_is_bound_to_the_uid_it_names(client: Client, namespace: str) -> None:
    made = apply(client, namespace, config_map())
    path = MAPS.path(namespace, "c")
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "another"}}
    assert refused(409, client, "DELETE", path, body=options).reason == "Conflict"
    client.request("DELETE", path, body={**options, "preconditions": {"uid": made["metadata"]["uid"]}})
    assert refused(404, client, "DELETE", path, body=options).reason == "NotFound"


def test_finalizers_delay_deletion(client: Client, namespace: str) -> None:
    held = config_map()
    held["metadata"]["finalizers"] = ["example.com/held"]
    apply(client, namespace, held)
    client.request("DELETE", MAPS.path(namespace, "c"))
    found = client.get(MAPS, "c", namespace)
    assert found is not None
    assert found["metadata"]["deletionTimestamp"]
    client.request("PATCH", MAPS.path(namespace, "c"), body={"metadata": {"finalizers": None}}, content_type="application/merge-patch+json")
    assert client.get(MAPS, "c", namespace) is None


@pytest.mark.parametrize(
    ("labels", "fields", "names"),
    [
        (None, None, ["a", "b", "c"]),
        ("tier=front", None, ["a"]),
        ("tier==front", None, ["a"]),
        ("tier!=front", None, ["b", "c"]),
        ("tier", None, ["a", "b"]),
        ("!tier", None, ["c"]),
        ("tier in (front,back)", None, ["a", "b"]),
        ("tier notin (front),tier", None, ["b"]),
        (None, "metadata.name=b", ["b"]),
        (None, "metadata.name!=b", ["a", "c"]),
        ("tier=front", "metadata.name=b", []),
    ],
)
def test_selectors(client: Client, namespace: str, labels: str | None, fields: str | None, names: list[str]) -> None:
    for name, tier in (("a", "front"), ("b", "back"), ("c", None)):
        apply(client, namespace, config_map(name, {"tier": tier} if tier else None))
    found = client.list_all(MAPS, namespace, label_selector=labels, field_selector=fields).items
    assert [item["metadata"]["name"] for item in found if item["metadata"]["name"] != "kube-root-ca.crt"] == names


def test_pages_make_one_list(client: Client, namespace: str) -> None:
    for name in "abc":
        apply(client, namespace, config_map(name, {"mine": "yes"}))
    names: list[str] = []
    query: Object = {"limit": 2, "labelSelector": "mine"}
    pages = 0
    while True:
        answer = client.request("GET", MAPS.path(namespace), query=query)
        pages += 1
        names += [item["metadata"]["name"] for item in answer["items"]]
        if not answer["metadata"].get("continue"):
            break
        query["continue"] = answer["metadata"]["continue"]
    assert (names, pages) == (["a", "b", "c"], 2)


def test_a_watch_tells_everything_since_a_list(client: Client, namespace: str) -> None:
    version = client.list_all(MAPS, namespace).resource_version
    apply(client, namespace, config_map("w", {"mine": "yes"}, a="1"))
    apply(client, namespace, config_map("w", {"mine": "yes"}, a="2"))
    apply(client, namespace, config_map("other"))
    client.request("DELETE", MAPS.path(namespace, "w"))
    seen = []
    stream = client.stream(MAPS.path(namespace), {"resourceVersion": version, "labelSelector": "mine", "timeoutSeconds": 10}, timeout=10)
    for event in stream:
        seen.append((event["type"], event["object"]["metadata"]["name"], event["object"]["data"]["a"]))
        if event["type"] == "DELETED":
            break
    stream.close()
    assert seen == [("ADDED", "w", "1"), ("MODIFIED", "w", "2"), ("DELETED", "w", "2")]


def watched(client: Client, namespace: str, count: int, *, seconds: int = 10, **query: t.Any) -> list[Object]:
    """The first events of a watch."""
    stream = client.stream(MAPS.path(namespace), {"timeoutSeconds": seconds, **query}, timeout=seconds + 5)
    seen: list[Object] = []
    for event in stream:
        seen.append(event)
        if len(seen) == count:
            break
    stream.close()
    return seen


def test_a_watch_goes_on_from_any_event(client: Client, namespace: str) -> None:
    version = client.list_all(MAPS, namespace).resource_version
    for value in "123":
        apply(client, namespace, config_map("w", {"mine": "yes"}, a=value))
    first = watched(client, namespace, 1, resourceVersion=version, labelSelector="mine")[0]["object"]
    assert first["data"]["a"] == "1"
    later = watched(client, namespace, 2, resourceVersion=first["metadata"]["resourceVersion"], labelSelector="mine")
    assert [(event["type"], event["object"]["data"]["a"]) for event in later] == [("MODIFIED", "2"), ("MODIFIED", "3")]


def test_a_watch_ends_with_a_bookmark_from_which_another_goes_on(client: Client, namespace: str) -> None:
    """The bookmark is newer than anything the watch has told."""
    version = client.list_all(MAPS, namespace).resource_version
    made = apply(client, namespace, config_map("other"))
    query: Object = {"fieldSelector": "metadata.name=w", "allowWatchBookmarks": "true"}
    (bookmark,) = watched(client, namespace, 1, seconds=1 if client.server.startswith("http:") else 5, resourceVersion=version, **query)
    assert (bookmark["type"], bookmark["object"]["kind"]) == ("BOOKMARK", "ConfigMap")
    reached = bookmark["object"]["metadata"]["resourceVersion"]
    assert int(reached) >= int(made["metadata"]["resourceVersion"])
    apply(client, namespace, config_map("w"))
    assert [event["type"] for event in watched(client, namespace, 1, resourceVersion=reached, **query)] == ["ADDED"]


def test_a_watch_with_a_selector_tells_what_leaves_it_as_deleted(client: Client, namespace: str) -> None:
    version = client.list_all(MAPS, namespace).resource_version
    apply(client, namespace, config_map("w", {"mine": "yes"}))
    apply(client, namespace, config_map("w", {"mine": "no"}))
    apply(client, namespace, config_map("w", {"mine": "yes"}))
    told = watched(client, namespace, 3, resourceVersion=version, labelSelector="mine=yes")
    assert [event["type"] for event in told] == ["ADDED", "DELETED", "ADDED"]


def test_a_watch_from_a_version_too_old_is_told_so(client: Client) -> None:
    """Real servers answer by an event, or refuse the request."""
    try:
        event, *further = client.stream(MAPS.path("kube-system"), {"resourceVersion": "1", "timeoutSeconds": 1}, timeout=5)
    except ApiError as error:
        code = error.status
    else:
        if event["type"] == "ADDED" and KUBECONFIG:
            pytest.skip("this cluster is so young that nothing has been compacted: it still knows its first version")
        assert further == []
        assert event["type"] == "ERROR"
        code = event["object"]["code"]
    assert code == 410


def test_what_is_there_already(client: Client, namespace: str) -> None:
    client.request("POST", MAPS.path(namespace), body=config_map())
    error = refused(409, client, "POST", MAPS.path(namespace), body=config_map())
    assert (error.reason, error.message) == ("AlreadyExists", 'configmaps "c" already exists')


def test_creation_as_a_dry_run(client: Client, namespace: str) -> None:
    made = client.request("POST", MAPS.path(namespace), query={"dryRun": "All"}, body=config_map(a="1"))
    assert (made["data"], made["metadata"]["namespace"]) == ({"a": "1"}, namespace)
    assert client.get(MAPS, "c", namespace) is None


@pytest.mark.parametrize(
    ("body", "field"),
    [(config_map("Not_A_Name"), "metadata.name"), (config_map("c", {"mine": "not a value"}), "metadata.labels")],
    ids=["name", "label"],
)
@pytest.mark.parametrize("dry_run", [None, "All"])
def test_what_is_invalid_is_refused_with_its_causes(client: Client, namespace: str, body: Object, field: str, dry_run: str | None) -> None:
    error = refused(422, client, "POST", MAPS.path(namespace), query={"dryRun": dry_run}, body=body)
    assert error.reason == "Invalid"
    assert error.message.startswith(f'ConfigMap "{body["metadata"]["name"]}" is invalid: {field}: Invalid value: ')
    assert {(cause["reason"], cause["field"]) for cause in error.causes} == {("FieldValueInvalid", field)}
    assert error.causes[0]["message"].startswith('Invalid value: "')


def test_an_invalid_change_is_refused(client: Client, node: str) -> None:
    patch = {"metadata": {"labels": {"mine": "not a value"}}}
    error = refused(422, client, "PATCH", NODES.path(name=node), body=patch, content_type="application/merge-patch+json")
    assert {cause["field"] for cause in error.causes} == {"metadata.labels"}
    found = client.get(NODES, node)
    assert found is not None
    assert "mine" not in (found["metadata"].get("labels") or {})


SCALED = {
    kind: {
        "apiVersion": BUILTIN[kind].api_version,
        "kind": kind,
        "metadata": {"name": "c"},
        "spec": {
            "replicas": 0,
            **({"serviceName": "c"} if kind == "StatefulSet" else {}),
            "selector": {"app": "c"} if kind == "ReplicationController" else {"matchLabels": {"app": "c"}},
            "template": {"metadata": {"labels": {"app": "c"}}, "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "none"}]}},
        },
    }
    for kind in ("Deployment", "ReplicaSet", "ReplicationController", "StatefulSet")
}


@pytest.mark.parametrize("kind", SCALED)
def test_the_subresource_scale(client: Client, namespace: str, kind: str) -> None:
    """It has the version of its object, names its pods, leaves out a 0, and changes nothing but the number."""
    made = client.request("POST", BUILTIN[kind].path(namespace), body=SCALED[kind])
    path = BUILTIN[kind].path(namespace, "c", "scale")
    found = client.request("GET", path)
    assert (found["kind"], found["spec"], found["status"]["replicas"], found["status"]["selector"]) == ("Scale", {}, 0, "app=c")
    assert found["metadata"]["uid"] == made["metadata"]["uid"]
    options: Object = {"content_type": "application/merge-patch+json"}
    dry = client.request("PATCH", path, query={"dryRun": "All"}, body={"spec": {"replicas": 1}}, **options)
    assert (dry["kind"], dry["spec"], client.request("GET", path)["spec"]) == ("Scale", {"replicas": 1}, {})
    scaled = client.request("PATCH", path, body={"spec": {"replicas": 1}}, **options)
    now = client.request("GET", BUILTIN[kind].path(namespace, "c"))
    assert (scaled["spec"], now["spec"]) == ({"replicas": 1}, {**made["spec"], "replicas": 1})
    assert now["metadata"]["generation"] == made["metadata"]["generation"] + 1
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "spec": {"replicas": 2}}
    assert refused(409, client, "PATCH", path, body=stale, **options).reason == "Conflict"
    invalid = refused(422, client, "PATCH", path, body={"spec": {"replicas": -1}}, **options)
    assert [(cause["reason"], cause["field"]) for cause in invalid.causes] == [("FieldValueInvalid", "spec.replicas")]
    assert client.request("PATCH", path, body={"spec": {"replicas": 0}}, **options)["spec"] == {}


def test_no_subresource_scale(client: Client, namespace: str) -> None:
    apply(client, namespace, config_map())
    options: Object = {"body": {"spec": {"replicas": 1}}, "content_type": "application/merge-patch+json"}
    assert refused(404, client, "GET", MAPS.path(namespace, "c", "scale")).reason == "NotFound"
    assert refused(404, client, "PATCH", BUILTIN["Deployment"].path(namespace, "none", "scale"), **options).message == 'deployments.apps "none" not found'


@pytest.mark.parametrize(("method", "name"), [("POST", "c"), ("PATCH", None)])
def test_methods_that_do_not_fit_are_not_allowed(client: Client, namespace: str, method: str, name: str | None) -> None:
    error = refused(405, client, method, MAPS.path(namespace, name), body=config_map(), content_type="application/merge-patch+json")
    assert (error.reason, error.message) == ("MethodNotAllowed", "the server does not allow this method on the requested resource")


def test_an_unknown_form_of_patch(client: Client, namespace: str) -> None:
    apply(client, namespace, config_map())
    assert refused(415, client, "PATCH", MAPS.path(namespace, "c"), body={}, content_type="application/unknown").reason == "UnsupportedMediaType"


def test_field_selectors_of_pods(client: Client, namespace: str) -> None:
    """On a node that does not exist nothing starts them, and nothing ends them."""
    for name, where in (("a", f"{namespace}-one"), ("b", f"{namespace}-two")):
        spec = {"nodeName": where, "containers": [{"name": "c", "image": "example.com/none:1"}], "automountServiceAccountToken": False}
        client.request("POST", PODS.path(namespace), body={"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    for fields, names in (
        (f"spec.nodeName={namespace}-one", ["a"]),
        (f"spec.nodeName!={namespace}-one,metadata.namespace={namespace}", ["b"]),
        (f"metadata.namespace={namespace}", ["a", "b"]),
        (f"metadata.namespace={namespace},status.phase=Succeeded", []),
        (f"metadata.namespace={namespace},metadata.name=b", ["b"]),
    ):
        assert [pod["metadata"]["name"] for pod in client.list_all(PODS, field_selector=fields).items] == names, fields
    for name in "ab":
        client.request("DELETE", PODS.path(namespace, name), body={"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})


def test_bad_selectors(client: Client, namespace: str) -> None:
    for query in ({"labelSelector": "a b"}, {"labelSelector": "a in"}, {"fieldSelector": "metadata.name"}, {"fieldSelector": "spec.none=x"}):
        assert refused(400, client, "GET", MAPS.path(namespace), query=query).reason == "BadRequest", query


def test_pages_are_of_one_state(client: Client, namespace: str) -> None:
    """What comes between two pages is not in the second one, whose version is that of the first."""
    for name in "abd":
        apply(client, namespace, config_map(name, {"mine": "yes"}))
    first = client.request("GET", MAPS.path(namespace), query={"limit": 2, "labelSelector": "mine"})
    apply(client, namespace, config_map("c", {"mine": "yes"}))
    second = client.request("GET", MAPS.path(namespace), query={"limit": 2, "labelSelector": "mine", "continue": first["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in second["items"]] == ["d"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in second["metadata"]


def test_list_items_lack_their_kind(client: Client, namespace: str) -> None:
    apply(client, namespace, config_map())
    answer = client.request("GET", MAPS.path(namespace))
    assert (answer["kind"], [item for item in answer["items"] if "kind" in item or "apiVersion" in item]) == ("ConfigMapList", [])


def test_what_is_not_there(client: Client, namespace: str) -> None:
    error = refused(404, client, "GET", MAPS.path(namespace, "none"))
    assert (error.reason, error.message) == ("NotFound", 'configmaps "none" not found')
    assert refused(404, client, "GET", "/apis/none.example.com/v1").status == 404
    assert refused(404, client, "GET", "/api/v1/nonesuch").status == 404


# Evictions


BUDGETS = BUILTIN["PodDisruptionBudget"]


@pytest.fixture
def running(client: Client, namespace: str, node: str) -> str:
    """A pod that is called running, on a node without a kubelet: nobody ends it."""
    body: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {"app": "p"}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 30, "containers": [{"name": "c", "image": "none"}]},
    }
    client.request("POST", PODS.path(namespace), body=body)
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    path = PODS.path(namespace, "p")
    try:
        client.request("PATCH", f"{path}/status", body={"status": status}, content_type="application/merge-patch+json")
    except ApiError:
        # The fake has no such subresource: there, a status is written like anything else
        client.request("PATCH", path, body={"status": status}, content_type="application/merge-patch+json")
    return path


def evict(client: Client, path: str, **options: t.Any) -> Object:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": path.split("/")[4]}, "deleteOptions": options}
    return t.cast("Object", client.request("POST", f"{path}/eviction", body=body, retry=False))


def put_budget(client: Client, namespace: str, name: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}}
    spec = {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "p"}}}
    client.request("POST", BUDGETS.path(namespace), body={**body, "spec": spec})


def test_eviction_marks_a_pod_and_its_kubelet_ends_it(client: Client, running: str) -> None:
    assert evict(client, running)["status"] == "Success"
    found = client.request("GET", running)
    assert found["metadata"]["deletionTimestamp"]
    assert found["metadata"]["deletionGracePeriodSeconds"] == 30
    assert evict(client, running)["status"] == "Success"
    client.request("DELETE", running, body={"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})
    assert refused(404, client, "GET", running).reason == "NotFound"


def test_eviction_without_grace_waits_for_no_kubelet(client: Client, running: str) -> None:
    evict(client, running, gracePeriodSeconds=0)
    assert refused(404, client, "GET", running).reason == "NotFound"
    with pytest.raises(ApiError) as caught:
        evict(client, running)
    assert caught.value.status == 404


def test_eviction_in_a_dry_run(client: Client, running: str) -> None:
    evict(client, running, dryRun=["All"])
    assert "deletionTimestamp" not in client.request("GET", running)["metadata"]


def test_eviction_is_bound_to_the_uid_it_names(client: Client, running: str) -> None:
    with pytest.raises(ApiError) as caught:
        evict(client, running, preconditions={"uid": "another"})
    assert (caught.value.status, caught.value.reason) == (409, "Conflict")
    assert "precondition" in caught.value.message


def test_budgets_hold_evictions_back(client: Client, namespace: str, running: str) -> None:
    put_budget(client, namespace, "one")
    with pytest.raises(ApiError) as caught:
        evict(client, running)
    assert (caught.value.status, caught.value.reason) == (429, "TooManyRequests")
    # A real server may not have looked at a budget so young, and says so
    assert [cause["reason"] for cause in caught.value.causes] == ["DisruptionBudget"]
    assert "disruption budget one " in caught.value.causes[0]["message"]
    put_budget(client, namespace, "two")
    with pytest.raises(ApiError) as caught:
        evict(client, running)
    assert caught.value.status == 500
    assert "more than one PodDisruptionBudget" in caught.value.message


@pytest.mark.parametrize(
    "kind",
    sorted(
        {
            "ConfigMap",
            "ControllerRevision",
            "CronJob",
            "CustomResourceDefinition",
            "DaemonSet",
            "Deployment",
            "Event",
            "HorizontalPodAutoscaler",
            "Job",
            "Lease",
            "Namespace",
            "Node",
            "PersistentVolume",
            "Pod",
            "ReplicaSet",
            "ReplicationController",
            "Secret",
            "StatefulSet",
        }
    ),
)
def test_discovery_agrees_with_what_is_known_without_it(client: Client, kind: str) -> None:
    found = [resource for resource in [*client._discover_groups(True), *client._discover_version("v1", True)] if resource.kind == kind]
    assert BUILTIN[kind] in found


def read_log(client: Client, namespace: str, pod: str, **query: t.Any) -> list[str]:
    return [line.decode() for line in client.lines(PODS.path(namespace, pod, "log"), query)]


def test_logs_by_lines_and_times(client: Client, dns: str) -> None:
    whole = read_log(client, "kube-system", dns)
    assert len(whole) >= 4
    assert read_log(client, "kube-system", dns, container="coredns", tailLines=2) == whole[-2:]
    assert read_log(client, "kube-system", dns, tailLines=0) == []
    stamped = [line.partition(" ") for line in read_log(client, "kube-system", dns, timestamps="true")]
    assert [text for _stamp, _space, text in stamped] == whole
    moments = [nanoseconds(stamp) or 0 for stamp, _space, _text in stamped]
    assert all(moments)
    assert moments == sorted(moments)
    last = moments[-1] // NANO * NANO
    since = read_log(client, "kube-system", dns, sinceTime=rfc3339(last))
    assert since == whole[next(index for index, moment in enumerate(moments) if moment >= last) :]
    assert read_log(client, "kube-system", dns, sinceTime=rfc3339(last + NANO)) == []


def test_a_log_that_is_followed_stays_open(client: Client, dns: str) -> None:
    lines = client.lines(PODS.path("kube-system", dns, "log"), {"follow": "true", "tailLines": 1}, timeout=0.5)
    told = []
    with pytest.raises(Unreachable):
        told.extend(lines)
    assert len(told) == 1


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"container": "none"}, "container none is not valid for pod {pod}"),
        ({"previous": "true"}, 'previous terminated container "coredns" in pod "{pod}" not found'),
    ],
)
def test_logs_that_are_not_there(client: Client, dns: str, query: Object, message: str) -> None:
    statuses = client.request("GET", PODS.path("kube-system", dns))["status"].get("containerStatuses") or []
    if "previous" in query and any(status.get("restartCount") for status in statuses):
        # Its node was restarted, so there is one
        assert read_log(client, "kube-system", dns, **query)
        return
    error = refused(400, client, "GET", PODS.path("kube-system", dns, "log"), query=query)
    assert (error.reason, error.message) == ("BadRequest", message.format(pod=dns))
    assert refused(404, client, "GET", PODS.path("kube-system", "none", "log")).message == 'pods "none" not found'


def test_logs_of_a_pod_that_is_not_scheduled(client: Client, namespace: str) -> None:
    containers = [{"name": name, "image": "example.com/none:1"} for name in ("a", "b")]
    spec = {"schedulerName": "none.example.com", "containers": containers, "automountServiceAccountToken": False}
    client.request("POST", PODS.path(namespace), body={"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "two"}, "spec": spec})
    assert read_log(client, namespace, "two", container="a") == []
    error = refused(400, client, "GET", PODS.path(namespace, "two", "log"))
    assert error.message == "a container name must be specified for pod two, choose one of: [a b]"


def test_events_in_both_shapes(client: Client, namespace: str) -> None:
    for name, reason in (("a", "BackOff"), ("b", "Pulled")):
        event: Object = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, "message": "text", "reason": reason}
        event |= {"type": "Warning" if name == "a" else "Normal", "count": 2, "source": {"component": "kubelet", "host": "n"}}
        event |= {"involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": f"pod-{name}", "uid": f"uid-{name}"}}
        event |= {"firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:01Z"}
        client.request("POST", EVENTS.path(namespace), body=event)
    both = [EVENTS, Resource("events.k8s.io/v1", "Event", "events", True)]
    core, grouped = (client.list_all(resource, namespace).items for resource in both)
    assert [seen(event) for event in core] == [seen(event) for event in grouped]
    assert [seen(event).count for event in core] == [2, 2]
    for field, value in (("{}.kind", "Pod"), ("{}.name", "pod-a"), ("{}.uid", "uid-a"), ("type", "Warning"), ("reason", "BackOff")):
        for resource, subject in zip(both, ("involvedObject", "regarding")):
            selector = f"{field.format(subject)}={value}"
            found = [event["metadata"]["name"] for event in client.list_all(resource, namespace, field_selector=selector).items]
            assert found == (["a", "b"] if value == "Pod" else ["a"]), selector


def test_the_cluster_has_one_uid(client: Client) -> None:
    assert uuid.UUID(client.cluster_uid())


# Commands


@pytest.fixture
def pod(client: Client, namespace: str) -> t.Iterator[str]:
    """One with two containers of which only the first runs; nobody finds the other one's image."""
    is_real = client.server.startswith("https:")
    if is_real and not IMAGE:
        pytest.skip("HOMELAB_GPU_TEST_IMAGE is not set")
    containers = [
        {"name": "main", "image": IMAGE or "any", "imagePullPolicy": "IfNotPresent", "command": ["sleep", "600"]},
        {"name": "other", "image": "localhost/none:1", "imagePullPolicy": "Never"},
    ]
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}}
    status = {"containerStatuses": [{"name": "main", "state": {"running": {}}}, {"name": "other", "state": {"waiting": {"reason": "ErrImageNeverPull"}}}]}
    client.request("POST", PODS.path(namespace), body=body if is_real else {**body, "status": status})
    states = [("running", ""), ("waiting", "ErrImageNeverPull")]

    def judge(pod: Object) -> Verdict:
        found = [state(pod, name) for name in ("main", "other")]
        return Verdict([(kind, why.split(",")[0]) for kind, why in found] == states, str(found))

    wait_for(client, [Selection("Pod", judge, namespace=namespace, names=("p",))], timeout_seconds=60, what="the containers")
    yield "p"
    client.request("DELETE", PODS.path(namespace, "p"), body={"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})


COMMANDS: list[tuple[list[str], bytes | None, tuple[int, str, str]]] = [
    (["echo", "a b", ""], None, (0, "a b \n", "")),
    (["sh", "-c", "echo out; echo err >&2; exit 7"], None, (7, "out\n", "err\n")),
    (["sh", "-c", "kill -9 $$"], None, (137, "", "")),
    (["cat"], None, (0, "", "")),
    (["cat"], b"", (0, "", "")),
    (["cat"], b"a\nb", (0, "a\nb", "")),
    (["wc", "-c"], b"x" * 3_000_000, (0, "3000000\n", "")),
    (["cat"], b"x" * 3_000_000, (0, "x" * 3_000_000, "")),
    (["sh", "-c", "printf '\\377\\303\\274'"], None, (0, "\ufffd\u00fc", "")),
    # What goes on behind a command does not keep it from ending
    (["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo begun"], None, (0, "begun\n", "")),
]


def test_commands(client: Client, namespace: str, pod: str) -> None:
    for argv, stdin, outcome in COMMANDS:
        done = execute(client, Command(argv, namespace, pod, "main", stdin), timeout_seconds=30, limit_bytes=10_000_000)
        assert (done.rc, done.output["stdout"], done.output["stderr"]) == outcome, argv


def test_a_command_that_leaves_its_input(client: Client, namespace: str, pod: str) -> None:
    # More of it, and a real cluster loses the end of one command in four; kubectl then waits for ever
    size = 1_000 if client.server.startswith("https:") else 3_000_000
    done = execute(client, Command(["true"], namespace, pod, "main", b"x" * size), timeout_seconds=30, limit_bytes=100)
    assert done.rc == 0


def test_commands_that_cannot_be_run(client: Client, namespace: str, pod: str) -> None:
    for container, argv, words in (
        ("main", ["no-such-program"], 'exec: "no-such-program": executable file not found in $PATH'),
        ("other", ["true"], 'container not found ("other")'),
    ):
        with pytest.raises(CommandFailed, match="could not be run: ") as caught:
            execute(client, Command(argv, namespace, pod, container), timeout_seconds=30, limit_bytes=100)
        assert words in str(caught.value)
        assert caught.value.data["reason"] == "InternalError"


def test_a_command_that_does_not_end_runs_on(client: Client, namespace: str, pod: str) -> None:
    name = f"behaviour-{uuid.uuid4().hex}"
    begin = Command(["sh", "-c", f"touch /tmp/{name}; sleep 2; rm /tmp/{name}; sleep 60"], namespace, pod, "main")
    with pytest.raises(WaitFailed) as caught:
        execute(client, begin, timeout_seconds=1, limit_bytes=100)
    assert caught.value.data["timed_out"] is True
    look = Command(["sh", "-c", f"for i in 1 2 3 4 5 6 7 8 9; do test -e /tmp/{name} || exit 0; sleep 1; done; exit 1"], namespace, pod, "main")
    assert execute(client, look, timeout_seconds=30, limit_bytes=100).rc == 0


def open_exec(client: Client, namespace: str, pod: str, *subprotocols: str, container: str | None = "main") -> str:
    query = [("command", "true"), ("stdout", "true"), *([("container", container)] if container else [])]
    connection = client.websocket(PODS.path(namespace, pod, "exec"), query, subprotocols=subprotocols, timeout=10)
    connection.close()
    return connection.subprotocol


def test_protocols_of_commands(client: Client, namespace: str, pod: str) -> None:
    for *offered, chosen in (("v5", "v4", "v5"), ("v4", "v4"), ("v9", "v4", "v4")):
        assert open_exec(client, namespace, pod, *(f"{version}.channel.k8s.io" for version in offered)) == f"{chosen}.channel.k8s.io"


def test_commands_that_are_refused(client: Client, namespace: str, pod: str) -> None:
    for name, options, status, reason, message in (
        (pod, {"container": None}, 400, "BadRequest", "a container name must be specified for pod p, choose one of: [main other]"),
        (pod, {"container": "none"}, 400, "BadRequest", "container none is not valid for pod p"),
        ("none", {}, 404, "NotFound", 'pods "none" not found'),
    ):
        with pytest.raises(ApiError) as caught:
            open_exec(client, namespace, name, "v5.channel.k8s.io", **options)
        assert (caught.value.status, caught.value.reason, caught.value.message) == (status, reason, message)
    with pytest.raises(ApiError) as caught:
        open_exec(client, namespace, pod, "v9.channel.k8s.io")
    # The server's, and not that of who may not
    assert (caught.value.status, caught.value.reason) == (403, "")
    plain = refused(400, client, "GET", PODS.path(namespace, pod, "exec"), query={"command": "true", "stdout": "true", "container": "main"})
    assert (plain.reason, plain.message) == ("BadRequest", "Upgrade request required")
