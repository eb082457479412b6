# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi, Kind

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


def test_name_and_selectors_exclude_each_other(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_info", queries=[{"kind": "Node"}, {"kind": "Node", "name": "a", "label_selectors": ["x"]}])
    assert result["msg"] == "queries[1]: name excludes label_selectors and field_selectors; give one of them"
    assert api.requests == []


def test_errors_carry_what_the_server_said(api: FakeApi, run_module: Run) -> None:
    api.token = "right"
    result = run_module("kube_info", queries=[{"kind": "Node"}], kubeconfig=api.kubeconfig("wrong"))
    assert (result["failed"], result["status"], result["reason"], result["causes"]) == (True, 401, "Unauthorized", [])


def test_secrets_of_an_inline_kubeconfig_are_hidden(api: FakeApi, run_module: Run) -> None:
    assert "test-token" not in str(run_module("kube_info"))


def test_secrets_are_hidden_in_failures_too(api: FakeApi, run_module: Run) -> None:
    assert "test-token" not in str(run_module("kube_info", queries=[{"kind": "Node", "name": "a", "label_selectors": ["x"]}]))
