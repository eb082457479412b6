# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._managed_fields import applied_by, is_as_applied

Object = dict[str, t.Any]

DEFINITION: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "spec": {
                "containers": [
                    {"name": "web", "image": "web:1", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}
                ],
                "volumes": [{"name": "d", "emptyDir": {}}],
            }
        },
    },
}
# As a real API server (1.34) notes it
FIELDS: Object = {
    "f:metadata": {"f:labels": {"f:app": {}}},
    "f:spec": {
        "f:replicas": {},
        "f:selector": {},
        "f:template": {
            "f:spec": {
                "f:containers": {
                    'k:{"name":"web"}': {
                        ".": {},
                        "f:name": {},
                        "f:image": {},
                        "f:env": {
                            'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}},
                            'k:{"name":"B"}': {".": {}, "f:name": {}, "f:value": {}},
                        },
                        "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
                    }
                },
                "f:volumes": {'k:{"name":"d"}': {".": {}, "f:name": {}, "f:emptyDir": {}}},
            }
        },
    },
}


def live(**entry: t.Any) -> Object:
    """The object as the API server has it: with defaults, and with an item and a label of somebody else."""
    obj = copy.deepcopy(DEFINITION)
    obj["metadata"].update(uid="u", resourceVersion="7")
    obj["metadata"]["labels"]["theirs"] = "x"
    container = obj["spec"]["template"]["spec"]["containers"][0]
    container["ports"][0]["protocol"] = "TCP"
    container["imagePullPolicy"] = "IfNotPresent"
    obj["spec"]["template"]["spec"]["containers"].insert(0, {"name": "sidecar", "image": "theirs"})
    ours = {"manager": "us", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": FIELDS, **entry}
    theirs = {"manager": "them", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {}}
    obj["metadata"]["managedFields"] = [theirs, ours]
    return obj


def changed(path: str, value: t.Any = None, of: Object | None = None) -> Object:
    """A copy with another value at a dotted path, or without it."""
    obj = copy.deepcopy(of or DEFINITION)
    *parents, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    node: t.Any = obj
    for step in parents:
        node = node[step]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return obj


CONTAINER = "spec.template.spec.containers.0"


def test_what_was_applied_is_recognised() -> None:
    assert is_as_applied(live(), DEFINITION, "us")


@pytest.mark.parametrize(
    "definition",
    [
        changed("spec.replicas", 3),
        changed("spec.replicas", "2"),
        changed("spec.replicas"),
        changed("spec.paused", True),
        changed("spec.selector", {"matchLabels": {"app": "other"}}),
        changed("metadata.labels", {"app": "web", "more": "1"}),
        changed("metadata.labels"),
        changed("metadata.annotations", {"a": "b"}),
        changed(f"{CONTAINER}.image", "web:2"),
        changed(f"{CONTAINER}.args", ["a"]),
        changed(f"{CONTAINER}.ports", [{"containerPort": 81}]),
        changed(f"{CONTAINER}.ports", [{"containerPort": 80, "protocol": "UDP"}]),
        changed(f"{CONTAINER}.ports", [{"containerPort": 80}, {"containerPort": 81}]),
        changed(f"{CONTAINER}.env", [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]),
        changed(f"{CONTAINER}.env", [{"name": "A", "value": "1"}]),
        changed("spec.template.spec.volumes", [{"name": "d", "emptyDir": {"medium": "Memory"}}]),
        changed("spec.template.spec.volumes", {"name": "d"}),
        {**DEFINITION, "apiVersion": "apps/v1beta1"},
    ],
)
def test_what_differs_is_sent(definition: Object) -> None:
    assert not is_as_applied(live(), definition, "us")


@pytest.mark.parametrize(
    "obj",
    [
        changed("spec.replicas", 5, live()),
        changed("spec.replicas", None, live()),
        changed("metadata.labels.app", None, live()),
        changed("spec.template.spec.containers.1.image", "web:0", live()),
        changed("spec.template.spec.containers.1", None, live()),
        live(manager="others"),
        live(operation="Update"),
        live(subresource="status"),
        live(fieldsType="FieldsV2"),
        changed("metadata.managedFields", None, live()),
    ],
)
def test_what_was_changed_behind_our_back_is_sent(obj: Object) -> None:
    assert not is_as_applied(obj, DEFINITION, "us")


@pytest.mark.parametrize(
    ("values", "items", "same"), [(["a", "b"], ["x", "a", "b"], True), (["a"], ["a", "b"], False), (["b", "a"], ["a", "b"], False), (["a", "b"], ["a"], False)]
)
def test_sets(values: list[str], items: list[str], same: bool) -> None:
    definition = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x", "finalizers": values}}
    fields = {"f:metadata": {"f:finalizers": {f'v:"{value}"': {} for value in ("a", "b")}}}
    entry = {"manager": "us", "operation": "Apply", "apiVersion": "v1", "fieldsV1": fields}
    assert is_as_applied({**definition, "metadata": {"name": "x", "finalizers": items, "managedFields": [entry]}}, definition, "us") is same


def test_fields_of_a_manager() -> None:
    assert applied_by(live(), "us") == FIELDS
    assert applied_by(live(), "them") is None
