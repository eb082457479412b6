# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import pathlib
import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._definitions import (
    Definition,
    as_list,
    collect,
    in_order,
    presentable,
    secret_values,
    without_secrets,
)
from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError

Object = dict[str, t.Any]


def thing(kind: str = "ConfigMap", name: str = "x", api_version: str = "v1", **fields: t.Any) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **fields}


def test_everything_is_collected_in_order(tmp_path: pathlib.Path) -> None:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "one.yml").write_text(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n---\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
    )
    (tmp_path / "folder" / "2.json").write_text(
        '{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "e"}}]}'
    )
    (tmp_path / "folder" / "deep" / "1.yaml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: f}}")
    (tmp_path / "folder" / "1.yml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: d}}")
    (tmp_path / "folder" / "README.md").write_text("not an object")
    found = collect([thing(name="a")], [str(tmp_path / "one.yml"), str(tmp_path / "folder")])
    assert [definition.name for definition in found] == list("abcdef")
    assert found[0].origin == "definitions[0]"
    assert found[2].origin == f"{tmp_path}/one.yml, document 3"
    assert found[4].origin == f"{tmp_path}/folder/2.json, document 1, items[0]"


def test_what_only_the_server_writes_is_left_out() -> None:
    exported = thing(status={"x": 1})
    exported["metadata"].update(uid="u", resourceVersion="1", creationTimestamp="T", generation=1, managedFields=[], labels={"a": "b"})
    assert collect([exported], [])[0].body == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "labels": {"a": "b"}}}
    assert exported["status"] == {"x": 1}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("text", "definitions[0], document 1 is a str, not a mapping"),
        ("{", "definitions[0] cannot be read as YAML"),
        (None, "definitions[0] is a NoneType, not a mapping"),
        ({"kind": "ConfigMap", "metadata": {"name": "x"}}, "definitions[0]: apiVersion is missing"),
        ({"apiVersion": "v1", "metadata": {"name": "x"}}, "definitions[0]: kind is missing"),
        ({"apiVersion": 1, "kind": "ConfigMap", "metadata": {"name": "x"}}, "apiVersion is missing or not a string"),
        ({"apiVersion": "v1", "kind": "ConfigMap"}, "metadata.name of this ConfigMap is missing"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": 7}}, "metadata.name of this ConfigMap is missing or not a string"),
        ({"apiVersion": "v1", "kind": "Job", "metadata": {"generateName": "x-"}}, "generateName cannot be applied, give a name"),
        ({"apiVersion": "v1", "kind": "List", "items": [{}]}, "definitions[0], items[0]: apiVersion is missing"),
    ],
)
def test_definitions_that_cannot_be_right(body: t.Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        collect([body], [])
    assert words in str(caught.value)


def test_sources_that_cannot_be_right(tmp_path: pathlib.Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text("a: [")
    for path, words in ((bad, "bad.yml cannot be read as YAML"), (tmp_path / "none", "there is no file or directory"), (tmp_path / "empty", "holds no file")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=words):
            collect([], [str(path)])
    with pytest.raises(InputError, match="there is nothing to apply"):
        collect([], [])


def test_order_is_by_kind_and_otherwise_as_given() -> None:
    kinds = ["Widget", "ValidatingWebhookConfiguration", "Deployment", "APIService", "Service", "Secret", "CustomResourceDefinition", "Gadget", "Namespace"]
    ordered = [definition.kind for definition in in_order([Definition(thing(kind), "") for kind in kinds])]
    assert ordered == [
        "Namespace",
        "CustomResourceDefinition",
        "Secret",
        "Service",
        "Widget",
        "Deployment",
        "Gadget",
        "APIService",
        "ValidatingWebhookConfiguration",
    ]


def test_diff_shows_neither_bookkeeping_nor_state() -> None:
    before = thing(data={"a": "1"}, status={"x": 1})
    before["metadata"].update(uid="u", resourceVersion="1", managedFields=[1], annotations={"kubectl.kubernetes.io/last-applied-configuration": "{}"})
    after = thing(data={"a": "2"})
    assert presentable(before, after) == (thing(data={"a": "1"}), thing(data={"a": "2"}))
    assert presentable(None, after)[0] == {}


def test_diff_hides_the_values_of_secrets() -> None:
    before = thing("Secret", data={"same": "MQ==", "other": "Mg==", "old": "Mw=="})
    after = thing("Secret", data={"same": "MQ==", "other": "NA==", "new": "NQ=="})
    shown = presentable(before, after)
    assert shown[0]["data"] == {"same": "(hidden)", "other": "(hidden)", "old": "(hidden)"}
    assert shown[1]["data"] == {"same": "(hidden)", "other": "(hidden) another value", "new": "(hidden)"}
    assert without_secrets(after)["data"] == {"same": "(hidden)", "other": "(hidden)", "new": "(hidden)"}


def test_values_of_secrets_are_found_plain_and_encoded() -> None:
    encoded = base64.b64encode(b"inner").decode()
    bodies = [
        thing("Secret", data={"a": encoded, "b": "not base64!"}, stringData={"c": "plain", "d": ""}),
        thing(data={"x": "not a secret"}),
        {"kind": "List", "items": [thing("Secret", stringData={"e": "listed"})]},
        "no object",
    ]
    assert set(secret_values(bodies)) == {encoded, "inner", "not base64!", "plain", "listed"}


@pytest.mark.parametrize("inline", [7, True, 1.5])
def test_definitions_have_to_be_objects(inline: t.Any) -> None:
    with pytest.raises(InputError, match="definitions is a .*; give a list of objects"):
        as_list(inline)


def test_one_object_is_defined_once() -> None:
    one = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    with pytest.raises(InputError, match=r"ConfigMap c is defined twice, by definitions\[0\] and by definitions\[1\]"):
        collect([one, one], [])
    assert len(collect([one, {**one, "metadata": {"name": "c", "namespace": "other"}}], [])) == 2


def test_templates_have_to_be_rendered() -> None:
    with pytest.raises(InputError, match=r"template: models.yml.j2 was not rendered"):
        collect([], [], ["models.yml.j2"])
    (found,) = collect([], [], [{"path": "models.yml.j2", "content": "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}"}])
    assert found.origin == "models.yml.j2, document 1"
