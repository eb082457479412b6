# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi, Fault, Kind

Object = dict[str, t.Any]
Run = t.Callable[..., Object]


@pytest.fixture(autouse=True)
def _objects(api: FakeApi) -> None:
    for namespace in ("default", "kube-system"):
        for name, label in (("a", "one"), ("b", "two")):
            api.put(
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": name, "namespace": namespace, "labels": {"l": label}, "managedFields": [{}]},
                }
            )


def names(result: Object) -> list[list[str]]:
    return [[f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}" for obj in found] for found in result["results"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"kind": "ConfigMap"}, ["default/a", "default/b", "kube-system/a", "kube-system/b"]),
        ({"kind": "ConfigMap", "namespace": "kube-system"}, ["kube-system/a", "kube-system/b"]),
        ({"kind": "ConfigMap", "name": "a"}, ["default/a"]),
        ({"kind": "ConfigMap", "name": "a", "namespace": "kube-system"}, ["kube-system/a"]),
        ({"kind": "ConfigMap", "name": "c"}, []),
        ({"kind": "ConfigMap", "label_selectors": ["l=two"]}, ["default/b", "kube-system/b"]),
        ({"kind": "ConfigMap", "field_selectors": ["metadata.namespace=default"]}, ["default/a", "default/b"]),
        ({"kind": "Namespace", "name": "default", "namespace": "ignored"}, ["/default"]),
        ({"kind": "Widget"}, []),
        ({"kind": "Widget", "api_version": "example.com/v1"}, []),
        ({"kind": "Ingress"}, []),
    ],
)
def test_queries(api: FakeApi, run_module: Run, query: Object, found: list[str]) -> None:
    result = run_module("kube_info", queries=[query])
    assert not result.get("failed"), result["msg"]
    assert names(result) == [found]
    assert result["not_served"] == ([0] if query["kind"] in ("Widget", "Ingress") else [])
    assert all("managedFields" not in obj["metadata"] for objects in result["results"] for obj in objects)


def test_many_queries_keep_their_order_on_one_connection(api: FakeApi, run_module: Run) -> None:
    api.kinds.append(Kind("example.com/v1", "Widget", "widgets"))
    api.put({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}})
    result = run_module("kube_info", queries=[{"kind": "Widget"}, {"kind": "Nothing"}, {"kind": "ConfigMap", "name": "a"}, {"kind": "Widget"}])
    assert names(result) == [["default/w"], [], ["default/a"], ["default/w"]]
    assert result["not_served"] == [1]
    assert (result["changed"], result["cluster_uid"]) == (False, api.cluster_uid)
    assert api.connections == 1
    assert {method for method, _path in api.requests} == {"GET"}


def test_without_queries_it_tells_the_cluster(api: FakeApi, run_module: Run) -> None:
    assert run_module("kube_info")["cluster_uid"] == api.cluster_uid


# One kind


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"kind": "ConfigMap"}, ["default/a", "default/b", "kube-system/a", "kube-system/b"]),
        ({"kind": "ConfigMap", "api_version": "v1", "namespace": "default"}, ["default/a", "default/b"]),
        ({"kind": "ConfigMap", "name": "a", "namespace": "kube-system"}, ["kube-system/a"]),
        ({"kind": "ConfigMap", "name": "none"}, []),
        ({"kind": "ConfigMap", "label_selectors": ["l in (two, three)"], "field_selectors": ["metadata.namespace=default"]}, ["default/b"]),
        ({"kind": "Widget"}, []),
    ],
)
def test_one_kind_gives_resources(api: FakeApi, run_module: Run, options: Object, found: list[str]) -> None:
    result = run_module("kube_info", **options)
    assert not result.get("failed"), result["msg"]
    assert names({"results": [result["resources"]]}) == [found]
    assert result["api_found"] is (options["kind"] != "Widget")
    assert (result["cluster_uid"], "results" in result, "value" in result) == (api.cluster_uid, False, False)


def test_api_found_is_about_all_queries(api: FakeApi, run_module: Run) -> None:
    assert run_module("kube_info", queries=[{"kind": "ConfigMap"}, {"kind": "Node"}])["api_found"] is True
    assert run_module("kube_info", queries=[{"kind": "ConfigMap"}, {"kind": "Widget"}])["api_found"] is False


# JMESPath


def test_query_over_the_objects_of_one_kind(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_info", kind="ConfigMap", query="[?metadata.namespace=='default'].metadata.name")
    assert result["value"] == ["a", "b"]
    assert "resources" not in result


@pytest.mark.parametrize(("expression", "value"), [("length(@)", 4), ("[0].metadata.labels", {"l": "one"}), ("[9]", None), ("[].metadata.none", [])])
def test_a_value_is_returned_as_it_is(api: FakeApi, run_module: Run, expression: str, value: t.Any) -> None:
    assert run_module("kube_info", kind="ConfigMap", query=expression)["value"] == value


def test_query_of_one_among_several(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_info", queries=[{"kind": "ConfigMap", "name": "a"}, {"kind": "ConfigMap", "query": "length(@)"}])
    assert (names({"results": result["results"][:1]}), result["results"][1]) == ([["default/a"]], 4)


def test_query_over_all_results(api: FakeApi, run_module: Run) -> None:
    result = run_module(
        "kube_info",
        queries=[{"kind": "ConfigMap", "namespace": "default"}, {"kind": "Namespace", "query": "[].metadata.name"}],
        query="{maps: [0][].metadata.name, namespaces: [1]}",
    )
    assert result["value"] == {"maps": ["a", "b"], "namespaces": ["default", "kube-system"]}
    assert "results" not in result


def test_a_query_keeps_the_values_of_secrets_out(api: FakeApi, run_module: Run) -> None:
    api.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"password": "aG9yc2U="}})
    assert run_module("kube_info", kind="Secret")["resources"][0]["data"] == {"password": "aG9yc2U="}
    result = run_module("kube_info", kind="Secret", query="[].{name: metadata.name, keys: keys(data)}")
    assert result["value"] == [{"name": "s", "keys": ["password"]}]
    assert "aG9yc2U=" not in str(result)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "ConfigMap", "query": "[].length(none)"}, "query '[].length(none)' cannot be evaluated: In function length()"),
        ({"queries": [{"kind": "ConfigMap", "query": "[].length(none)"}]}, "queries[0].query '[].length(none)' cannot be evaluated"),
    ],
)
def test_objects_that_do_not_fit_the_query_are_an_error(api: FakeApi, run_module: Run, options: Object, words: str) -> None:
    result = run_module("kube_info", **options)
    assert result["failed"] is True
    assert words in result["msg"]


# Faults


def test_a_list_that_expires_between_two_pages_is_read_anew(api: FakeApi, run_module: Run) -> None:
    api.page_size = 3
    api.faults.append(Fault(path="continue=", status=410, reason="Expired", message="The provided continue parameter is too old"))
    del api.requests[:]
    result = run_module("kube_info", kind="ConfigMap")
    assert names({"results": [result["resources"]]}) == [["default/a", "default/b", "kube-system/a", "kube-system/b"]]
    limits = ["limit=" in path for _method, path in api.requests if "/configmaps" in path]
    # The new list is asked for in one page; this server gives pages all the same
    assert limits == [True, True, False, False]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, reason="TooManyRequests", retry_after=0, times=2),
        Fault(status=500, reason="InternalError", times=2),
        Fault(drop=True, times=2),
        Fault(delay=0.05, times=2),
    ],
    ids=["429", "500", "dropped", "slow"],
)
def test_passing_faults_are_sat_out(api: FakeApi, run_module: Run, fault: Fault) -> None:
    api.faults.append(fault)
    result = run_module("kube_info", kind="ConfigMap", namespace="default")
    assert not result.get("failed"), result["msg"]
    assert len(result["resources"]) == 2


def test_errors_carry_what_the_server_said(api: FakeApi, run_module: Run) -> None:
    api.token = "right"
    result = run_module("kube_info", queries=[{"kind": "Node"}], kubeconfig=api.kubeconfig("wrong"))
    assert (result["failed"], result["status"], result["reason"], result["causes"]) == (True, 401, "Unauthorized", [])


def test_secrets_of_an_inline_kubeconfig_are_hidden(api: FakeApi, run_module: Run) -> None:
    assert "test-token" not in str(run_module("kube_info"))


def test_secrets_are_hidden_in_failures_too(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_info", queries=[{"kind": "Node", "name": "a", "label_selectors": ["x"]}])
    assert result["failed"] is True
    assert "test-token" not in str(result)


@pytest.mark.parametrize("way", ["option", "environment"])
def test_the_api_key_is_hidden(api: FakeApi, run_module: Run, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    api.faults.append(Fault(status=403, reason="Forbidden", message="what is correct-horse good for", times=9))
    if way == "environment":
        monkeypatch.setenv("K8S_AUTH_HOST", api.url)
        monkeypatch.setenv("K8S_AUTH_API_KEY", "correct-horse")
    result = run_module("kube_info", **({"host": api.url, "api_key": "correct-horse"} if way == "option" else {"kubeconfig": None}))
    assert api.headers[-1]["authorization"] == "Bearer correct-horse"
    assert (result["status"], result["reason"], result["causes"]) == (403, "Forbidden", [])
    assert "good for" in result["msg"]
    assert "horse" not in str(result)


@pytest.mark.parametrize(
    "options",
    [
        {"host": "http://127.0.0.1:9", "api_key": "correct-horse"},
        {"kubeconfig": {"users": [{"name": "u", "user": {"username": "u", "password": "correct-horse"}}]}},
    ],
    ids=["api_key", "password"],
)
def test_secrets_are_hidden_where_no_cluster_was_asked(api: FakeApi, run_module: Run, options: Object) -> None:
    result = run_module("kube_wait", kind="Node", timeout_seconds=-1, **options)
    assert "timeout_seconds is -1" in result["msg"]
    assert result["invocation"]["module_args"]["kind"] == "Node"
    assert "horse" not in str(result)


def test_options_do_not_reach_the_system_log(api: FakeApi, run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inline kubeconfig is a secret that no argument spec knows."""
    logged: list[object] = []
    monkeypatch.setattr(AnsibleModule, "log", lambda self, message, log_args=None: logged.append((message, log_args)))
    run_module("kube_info")
    assert logged == []
