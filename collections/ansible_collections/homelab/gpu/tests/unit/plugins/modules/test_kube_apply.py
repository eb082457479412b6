# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._workloads import label_selector
from ansible_collections.homelab.gpu.tests.unit.fake_api import ApiFailure, FakeApi, Fault, Kind

Object = dict[str, t.Any]
Run = t.Callable[..., Object]


def config_map(name: str = "c", namespace: str | None = None, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **({"namespace": namespace} if namespace else {})}, "data": data}


def namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def widget(name: str = "w", **metadata: str) -> Object:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, **metadata}, "spec": {"size": 1}}


DEFINITION: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"}, "versions": [{"name": "v1"}]},
}
ESTABLISHED: Object = {"conditions": [{"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"}]}


def outcomes(result: Object) -> list[tuple[str, str]]:
    assert not result.get("failed"), result["msg"]
    return [(entry["name"], entry["result"]) for entry in result["results"]]


def test_create_change_and_leave_alone(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_apply", definitions=[config_map(a="1"), config_map("d", b="2")])
    assert (result["changed"], outcomes(result)) == (True, [("c", "created"), ("d", "created")])
    result = run_module("kube_apply", definitions=[config_map(a="2"), config_map("d", b="2")])
    assert (result["changed"], outcomes(result)) == (True, [("c", "changed"), ("d", "unchanged")])
    result = run_module("kube_apply", definitions=[config_map(a="2"), config_map("d", b="2")])
    assert (result["changed"], outcomes(result), result["diff"]) == (False, [("c", "unchanged"), ("d", "unchanged")], [])
    assert api.find("ConfigMap", "c")["data"] == {"a": "2"}


def test_fields_no_longer_given_are_removed_and_those_of_others_kept(api: FakeApi, run_module: Run) -> None:
    api.put({**config_map(theirs="1"), "metadata": {"name": "c", "namespace": "default", "labels": {"x": "y"}}})
    run_module("kube_apply", definitions=[config_map(mine="1", more="2")])
    run_module("kube_apply", definitions=[config_map(mine="1")])
    found = api.find("ConfigMap", "c")
    assert (found["data"], found["metadata"]["labels"]) == ({"theirs": "1", "mine": "1"}, {"x": "y"})


def test_taking_over_without_a_change_is_no_change(api: FakeApi, run_module: Run) -> None:
    """The first apply of what is there already only adds bookkeeping."""
    api.put(config_map(a="1"))
    result = run_module("kube_apply", definitions=[config_map(a="1")])
    assert (result["changed"], outcomes(result)) == (False, [("c", "unchanged")])
    assert api.find("ConfigMap", "c")["metadata"]["managedFields"]


@pytest.mark.parametrize(("count", "reads"), [(1, 1), (3, 3), (4, 1), (20, 1)])
def test_many_of_a_kind_are_read_by_one_list(api: FakeApi, run_module: Run, count: int, reads: int) -> None:
    definitions = [config_map(f"c{number}", a="1") for number in range(count)]
    run_module("kube_apply", definitions=definitions)
    assert (api.count("GET"), api.count("PATCH"), api.connections) == (reads, count, 1)
    api.requests.clear()
    assert run_module("kube_apply", definitions=definitions)["changed"] is False
    assert (api.count("GET"), api.count("PATCH")) == (reads, 0)


def test_lists_that_do_not_tell_all_are_completed(api: FakeApi, run_module: Run) -> None:
    definitions = [config_map(f"c{number}", a="1") for number in range(5)]
    run_module("kube_apply", definitions=definitions)
    api.page_size = 2
    result = run_module("kube_apply", definitions=[*definitions[:4], config_map("c4", a="2")])
    assert outcomes(result) == [("c0", "unchanged"), ("c1", "unchanged"), ("c2", "unchanged"), ("c3", "unchanged"), ("c4", "changed")]
    api.page_size = None
    api.faults.append(Fault(method="GET", path="/configmaps?limit", status=403, reason="Forbidden", times=9))
    assert outcomes(run_module("kube_apply", definitions=[*definitions[:4], config_map("c4", a="1")]))[4] == ("c4", "changed")


def test_crowds_are_not_read_for_a_few(api: FakeApi, run_module: Run) -> None:
    for number in range(40):
        api.put(config_map(f"a{number:02}"))
    api.page_size = 5
    definitions = [config_map(f"c{number}", a="1") for number in range(4)]
    assert outcomes(run_module("kube_apply", definitions=definitions)) == [(f"c{number}", "created") for number in range(4)]
    # Three times as many as ours were read, then each of ours
    assert (api.count("GET", "/configmaps?"), api.count("GET", "/configmaps/c")) == (3, 4)


def test_secrets_are_not_listed(api: FakeApi, run_module: Run) -> None:
    secrets = [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"s{number}"}, "data": {"a": "c2VjcmV0"}} for number in range(5)]
    for _turn in range(2):
        run_module("kube_apply", definitions=secrets)
    assert api.count("GET", "/secrets?") == 0


@pytest.mark.parametrize(
    ("theirs", "sent"),
    [
        ({"data": {"b": "2"}}, False),
        ({"metadata": {"labels": {"x": "y"}}}, False),
        ({"data": {"a": "2"}}, True),
        ({"data": None}, True),
    ],
)
def test_only_what_differs_is_sent(api: FakeApi, run_module: Run, theirs: Object, sent: bool) -> None:
    run_module("kube_apply", definitions=[config_map(a="1")])
    api.change("ConfigMap", "c", **theirs)
    api.requests.clear()
    result = run_module("kube_apply", definitions=[config_map(a="1")], force_conflicts=True)
    assert (result["changed"], api.count("PATCH")) == (sent, int(sent))


# Pruning


def labelled(name: str, **more: str) -> Object:
    made = config_map(name, **more)
    made["metadata"]["labels"] = {"part-of": "models"}
    return made


PRUNE: Object = {"kinds": ["ConfigMap"], "label_selectors": ["part-of=models"]}


def test_prune_removes_what_is_no_longer_defined(api: FakeApi, run_module: Run) -> None:
    run_module("kube_apply", definitions=[labelled("a"), labelled("b"), config_map("unlabelled")])
    # Not applied by us, though it carries the label
    api.put({**labelled("theirs"), "metadata": {"name": "theirs", "namespace": "default", "labels": {"part-of": "models"}}})
    api.put(namespace("elsewhere"))
    run_module("kube_apply", namespace="elsewhere", definitions=[labelled("far")])
    result = run_module("kube_apply", check_mode=True, definitions=[labelled("a")], prune=PRUNE)
    assert outcomes(result) == [("a", "unchanged"), ("b", "pruned")]
    assert api.find("ConfigMap", "b")
    result = run_module("kube_apply", definitions=[labelled("a")], prune=PRUNE, wait=True)
    assert outcomes(result) == [("a", "unchanged"), ("b", "pruned")]
    assert result["diff"][0]["after"] == {}
    assert sorted(key[3] for key in api.objects if key[1] == "ConfigMap") == ["a", "far", "theirs", "unlabelled"]
    assert run_module("kube_apply", definitions=[labelled("a")], prune=PRUNE)["changed"] is False


def secret(name: str = "s", **values: str) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def left(api: FakeApi, kind: str = "ConfigMap") -> list[str]:
    return sorted(key[3] for key in api.objects if key[1] == kind)


def test_prune_is_for_the_kinds_that_it_names(api: FakeApi, run_module: Run) -> None:
    keep = {**secret("old"), "metadata": {"name": "old", "labels": {"part-of": "models"}}}
    run_module("kube_apply", definitions=[labelled("a"), labelled("b"), keep])
    assert outcomes(run_module("kube_apply", definitions=[labelled("a")], prune=PRUNE)) == [("a", "unchanged"), ("b", "pruned")]
    assert left(api, "Secret") == ["old"]


def test_prune_looks_into_the_namespaces_of_the_definitions(api: FakeApi, run_module: Run) -> None:
    api.put(namespace("models"))
    here = [{**labelled(name), "metadata": {**labelled(name)["metadata"], "namespace": "models"}} for name in "ab"]
    run_module("kube_apply", definitions=here)
    assert outcomes(run_module("kube_apply", definitions=here[:1], prune=PRUNE)) == [("a", "unchanged"), ("b", "pruned")]


def test_prune_wants_all_labels(api: FakeApi, run_module: Run) -> None:
    run_module("kube_apply", definitions=[labelled("a"), labelled("b")])
    api.change("ConfigMap", "b", metadata={"labels": {"tier": "web"}})
    run_module("kube_apply", definitions=[config_map("other")], prune={**PRUNE, "label_selectors": ["part-of=models", "tier=web"]})
    assert left(api) == ["a", "other"]


def test_prune_of_a_kind_that_two_groups_serve(api: FakeApi, run_module: Run) -> None:
    api.kinds += [Kind("a.example.com/v1", "Widget", "widgets"), Kind("b.example.com/v1", "Widget", "widgets")]
    for group in ("a", "b"):
        run_module("kube_apply", definitions=[{**widget(group), "apiVersion": f"{group}.example.com/v1", "metadata": labelled(group)["metadata"]}])
    prune = {"kinds": ["b.example.com/v1/Widget"], "label_selectors": ["part-of=models"]}
    assert outcomes(run_module("kube_apply", definitions=[config_map()], prune=prune)) == [("c", "created"), ("b", "pruned")]
    assert left(api, "Widget") == ["a"]


def test_what_is_on_its_way_out_is_not_pruned_again(api: FakeApi, run_module: Run) -> None:
    run_module("kube_apply", definitions=[labelled("a"), labelled("b")])
    api.change("ConfigMap", "b", metadata={"finalizers": ["x/y"]})
    assert outcomes(run_module("kube_apply", definitions=[labelled("a")], prune=PRUNE)) == [("a", "unchanged"), ("b", "pruned")]
    again = run_module("kube_apply", definitions=[labelled("a")], prune=PRUNE)
    assert (again["changed"], outcomes(again), api.count("DELETE")) == (False, [("a", "unchanged")], 1)


@pytest.mark.parametrize("options", [{"definitions": [config_map("other")], "prune": PRUNE}, {"definitions": [config_map("b")], "state": "absent"}])
def test_what_was_made_anew_meanwhile_is_not_deleted(api: FakeApi, run_module: Run, options: Object) -> None:
    run_module("kube_apply", definitions=[labelled("b")])
    first = api.find("ConfigMap", "b")["metadata"]["uid"]

    def interfere(method: str, _path: str) -> None:
        if method == "DELETE":
            api.drop("ConfigMap", "b")
            api.put(config_map("b"))

    api.before = interfere
    result = run_module("kube_apply", **options)
    assert (result["failed"], result["status"]) == (True, 409)
    assert api.find("ConfigMap", "b")["metadata"]["uid"] != first


def test_nothing_is_pruned_after_a_failure(api: FakeApi, run_module: Run) -> None:
    run_module("kube_apply", definitions=[labelled("a"), labelled("b")])
    api.faults.append(Fault(method="PATCH", status=403, reason="Forbidden"))
    assert run_module("kube_apply", definitions=[labelled("a", x="2")], prune=PRUNE)["failed"] is True
    assert api.find("ConfigMap", "b")


# Fields that cannot be changed


def fixed(verb: str, obj: Object) -> None:
    """A kind whose data is fixed at creation."""
    if verb == "apply" and obj["metadata"].get("uid") and obj["data"] != {"a": "1"}:
        raise ApiFailure(
            422, "Invalid", "ConfigMap is invalid", [{"reason": "FieldValueForbidden", "message": "Forbidden: field is immutable when set", "field": "data"}]
        )


@pytest.mark.parametrize("check_mode", [True, False])
def test_recreate_when_asked(api: FakeApi, run_module: Run, check_mode: bool) -> None:
    run_module("kube_apply", definitions=[config_map(a="1")])
    before = api.find("ConfigMap", "c")["metadata"]["uid"]
    api.hooks.append(fixed)
    result = run_module("kube_apply", check_mode=check_mode, definitions=[config_map(a="2")], recreate=True)
    assert outcomes(result) == [("c", "recreated")]
    assert result["changed"] is True
    assert (api.find("ConfigMap", "c")["metadata"]["uid"] == before) is check_mode
    assert api.find("ConfigMap", "c")["data"] == {"a": "1" if check_mode else "2"}


def test_only_fixed_fields_are_a_reason_to_recreate(api: FakeApi, run_module: Run) -> None:
    def refuse(_verb: str, _obj: Object) -> t.NoReturn:
        raise ApiFailure(422, "Invalid", "no", [{"reason": "FieldValueInvalid", "message": "must be a number", "field": "data"}])

    api.put(config_map(a="1"))
    api.hooks.append(refuse)
    result = run_module("kube_apply", definitions=[config_map(a="2")], recreate=True)
    assert (result["failed"], result["status"], api.count("DELETE")) == (True, 422, 0)


def test_recreation_waits_until_the_old_object_and_what_it_made_are_gone(api: FakeApi, run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Object] = []
    delete = FakeApi._delete

    def spy(self: FakeApi, kind: t.Any, key: t.Any, current: Object, query: Object, options: Object) -> t.Any:
        sent.append(options)
        return delete(self, kind, key, current, query, options)

    monkeypatch.setattr(FakeApi, "_delete", spy)
    run_module("kube_apply", definitions=[config_map(a="1")])
    api.change("ConfigMap", "c", metadata={"finalizers": ["x/y"]})
    api.hooks.append(fixed)
    api.on_watch = lambda _path: api.drop("ConfigMap", "c")
    assert outcomes(run_module("kube_apply", definitions=[config_map(a="2")], recreate=True)) == [("c", "recreated")]
    assert api.find("ConfigMap", "c")["data"] == {"a": "2"}
    assert [options["propagationPolicy"] for options in sent] == ["Foreground"]


@pytest.mark.parametrize(
    ("kind", "api_version"),
    [
        ("Namespace", "v1"),
        ("PersistentVolume", "v1"),
        ("PersistentVolumeClaim", "v1"),
        ("CustomResourceDefinition", "apiextensions.k8s.io/v1"),
    ],
)
def test_what_holds_data_is_never_recreated(api: FakeApi, run_module: Run, kind: str, api_version: str) -> None:
    def refuse(_verb: str, _obj: Object) -> t.NoReturn:
        raise ApiFailure(422, "Invalid", "no", [{"reason": "FieldValueForbidden", "message": "spec is immutable after creation", "field": "spec"}])

    held = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "models"}, "spec": {**DEFINITION["spec"], "size": 1}}
    api.put(held)
    api.hooks.append(refuse)
    result = run_module("kube_apply", definitions=[{**held, "spec": {**held["spec"], "size": 2}}], recreate=True)
    assert f"recreate=true does not delete a {kind}" in result["msg"]
    assert api.count("DELETE") == 0


def test_text_with_several_documents(api: FakeApi, run_module: Run) -> None:
    text = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}"
    assert outcomes(run_module("kube_apply", definitions=text)) == [("a", "created"), ("b", "created")]
    assert outcomes(run_module("kube_apply", definitions=[text, config_map()])) == [("a", "unchanged"), ("b", "unchanged"), ("c", "created")]


def test_conflicts_of_many_writers_end_right_or_with_a_named_manager(api: FakeApi, run_module: Run) -> None:
    for turn in range(100):
        manager = f"writer-{turn % 3}"
        result = run_module("kube_apply", field_manager=manager, force_conflicts=turn % 10 == 9, definitions=[config_map(a=str(turn % 7))])
        if result.get("failed"):
            (conflict,) = result["conflicts"]
            assert conflict["manager"] != manager
            assert conflict["manager"] in result["msg"]
        else:
            assert api.find("ConfigMap", "c")["data"] == {"a": str(turn % 7)}


def test_order_namespace_and_default_namespace(api: FakeApi, run_module: Run) -> None:
    result = run_module(
        "kube_apply", namespace="models", definitions=[config_map("given", "other"), config_map("none"), namespace("models"), namespace("other")]
    )
    assert [(entry["namespace"], entry["name"]) for entry in result["results"]] == [("", "models"), ("", "other"), ("other", "given"), ("models", "none")]


def test_files_and_directories(api: FakeApi, run_module: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.yml").write_text(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: '1'}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}"
    )
    assert outcomes(run_module("kube_apply", src=[str(tmp_path)])) == [("a", "created"), ("b", "created")]


def test_diff_without_noise(api: FakeApi, run_module: Run) -> None:
    run_module("kube_apply", definitions=[config_map(a="1")])
    (entry,) = run_module("kube_apply", diff=True, definitions=[config_map(a="2")])["diff"]
    assert entry["before"] == config_map(namespace="default", a="1")
    assert entry["after"] == config_map(namespace="default", a="2")
    assert entry["before_header"] == "ConfigMap c"


def test_secrets_appear_nowhere(api: FakeApi, run_module: Run) -> None:
    for value in ("correct-horse", "battery-staple"):
        result = run_module("kube_apply", diff=True, definitions=[secret(password=value)])
        assert result["changed"] is True
        assert "horse" not in str(result)
        assert "staple" not in str(result)
    api.faults.append(Fault(method="PATCH", status=422, reason="Invalid", message="password tower-of-secrets is too well known"))
    result = run_module("kube_apply", definitions=[secret(password="tower-of-secrets")])
    assert result["failed"] is True
    assert "tower" not in str(result)


def test_secrets_in_lists_and_short_ones_are_not_among_the_options_shown(api: FakeApi, run_module: Run) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [secret(password="correct-horse", pin="q8y")]}
    result = run_module("kube_apply", definitions=[secret(pin="p9z"), listed, {"kind": "ConfigMap"}])
    assert "apiVersion is missing" in result["msg"]
    assert "horse" not in str(result)
    assert "p9z" not in str(result)
    assert "q8y" not in str(result)


def test_secrets_of_files_appear_nowhere(api: FakeApi, run_module: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "s.yml").write_text("{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {password: correct-horse}}")
    api.faults.append(Fault(method="PATCH", status=422, reason="Invalid", message="password correct-horse is too well known"))
    result = run_module("kube_apply", src=[str(tmp_path)])
    assert result["failed"] is True
    assert "is too well known" in result["msg"]
    assert "horse" not in str(result)


# Check mode


def test_check_mode_predicts_and_changes_nothing(api: FakeApi, run_module: Run) -> None:
    run_module("kube_apply", definitions=[config_map(a="1"), config_map("same", a="1")])
    before = api.find("ConfigMap", "c")
    result = run_module("kube_apply", check_mode=True, diff=True, definitions=[config_map(a="2"), config_map("same", a="1"), config_map("new", a="1")])
    assert outcomes(result) == [("c", "changed"), ("same", "unchanged"), ("new", "created")]
    assert [entry["before_header"] for entry in result["diff"]] == ["ConfigMap c", "ConfigMap new"]
    assert api.find("ConfigMap", "c") == before
    with pytest.raises(KeyError):
        api.find("ConfigMap", "new")


def test_check_mode_predicts_what_needs_a_new_namespace_or_kind(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_apply", check_mode=True, definitions=[namespace("new"), config_map("c", "new", a="1"), DEFINITION, widget(namespace="new")])
    assert outcomes(result) == [("new", "created"), ("widgets.example.com", "created"), ("c", "created"), ("w", "created")]
    assert {key[1] for key in api.objects} == {"Namespace"}
    assert result["results"][-1]["namespace"] == "new"


def test_check_mode_shows_what_the_server_would_refuse(api: FakeApi, run_module: Run) -> None:
    def refuse(_verb: str, _obj: Object) -> t.NoReturn:
        raise ApiFailure(403, "Forbidden", "denied by policy")

    api.hooks.append(refuse)
    assert "denied by policy" in run_module("kube_apply", check_mode=True, definitions=[config_map()])["msg"]


# Custom kinds


def test_a_definition_is_established_before_its_objects_come(api: FakeApi, run_module: Run) -> None:
    api.on_watch = lambda _path: api.change("CustomResourceDefinition", "widgets.example.com", status=ESTABLISHED)
    result = run_module("kube_apply", definitions=[widget(), DEFINITION])
    assert outcomes(result) == [("widgets.example.com", "created"), ("w", "created")]
    assert outcomes(run_module("kube_apply", definitions=[widget(), DEFINITION])) == [("widgets.example.com", "unchanged"), ("w", "unchanged")]
    assert api.count("WATCH") == 1


def test_a_definition_without_objects_is_established_too(api: FakeApi, run_module: Run) -> None:
    api.on_watch = lambda _path: api.change("CustomResourceDefinition", "widgets.example.com", status=ESTABLISHED)
    assert outcomes(run_module("kube_apply", definitions=[DEFINITION])) == [("widgets.example.com", "created")]
    assert api.count("WATCH") == 1


def test_unknown_kinds_are_named(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_apply", definitions=[config_map(), widget()])
    assert "does not serve kind Widget of example.com/v1" in result["msg"]
    assert [entry["result"] for entry in result["results"]] == ["created"]


# Errors


def test_conflicts_name_their_managers(api: FakeApi, run_module: Run) -> None:
    run_module("kube_apply", field_manager="someone", definitions=[config_map(a="1")])
    result = run_module("kube_apply", definitions=[config_map(a="2")])
    assert (result["failed"], result["status"], result["conflicts"]) == (True, 409, [{"manager": "someone", "fields": [".data.a"]}])
    assert "ConfigMap c (definitions[0]): other field managers own fields of this definition: someone owns .data.a" in result["msg"]
    assert api.find("ConfigMap", "c")["data"] == {"a": "1"}
    assert outcomes(run_module("kube_apply", force_conflicts=True, definitions=[config_map(a="2")])) == [("c", "changed")]


def test_agreeing_managers_do_not_conflict(api: FakeApi, run_module: Run) -> None:
    run_module("kube_apply", field_manager="someone", definitions=[config_map(a="1")])
    assert outcomes(run_module("kube_apply", definitions=[config_map(a="1")])) == [("c", "unchanged")]


def test_a_missing_namespace_is_named(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_apply", definitions=[config_map("c", "nowhere")])
    assert "ConfigMap nowhere/c (definitions[0]): the namespace nowhere does not exist; apply a Namespace with it" in result["msg"]


def test_immutable_fields_are_named(api: FakeApi, run_module: Run) -> None:
    def refuse(_verb: str, _obj: Object) -> t.NoReturn:
        raise ApiFailure(
            422, "Invalid", "ConfigMap is invalid", [{"reason": "FieldValueForbidden", "message": "Forbidden: field is immutable when set", "field": "data"}]
        )

    api.put(config_map(a="1"))
    api.hooks.append(refuse)
    result = run_module("kube_apply", definitions=[config_map(a="2")])
    assert "data cannot be changed in an existing object; set recreate=true" in result["msg"]
    assert result["causes"][0]["field"] == "data"


def test_definitions_outside_the_schema_are_not_tried_again(api: FakeApi, run_module: Run) -> None:
    message = "failed to create typed patch object (default/c; /v1, Kind=ConfigMap): .dta: field not declared in schema"
    api.faults.append(Fault(method="PATCH", status=500, message=message, times=9))
    result = run_module("kube_apply", definitions=[config_map()])
    assert message in result["msg"]
    assert api.count("PATCH") == 1


@pytest.fixture
def going(api: FakeApi) -> Object:
    """A namespace on its way out."""
    return api.put({**namespace("going"), "metadata": {"name": "going", "deletionTimestamp": "2026-01-01T00:00:00Z"}})


def test_an_object_that_is_being_deleted_is_not_touched(api: FakeApi, run_module: Run, going: Object) -> None:
    result = run_module("kube_apply", definitions=[namespace("going")])
    assert result["msg"] == "Namespace going is being deleted; set wait=true to wait until it is gone, and apply it then"
    assert api.count("PATCH") == 0


def test_an_object_that_is_being_deleted_is_waited_for(api: FakeApi, run_module: Run, going: Object) -> None:
    api.on_watch = lambda _path: api.drop("Namespace", "going")
    result = run_module("kube_apply", wait=True, definitions=[namespace("going"), config_map("c", "going")])
    assert outcomes(result) == [("going", "created"), ("c", "created")]
    assert api.find("Namespace", "going")["metadata"]["uid"] != going["metadata"]["uid"]


def test_an_object_that_is_being_deleted_would_be_made_anew(api: FakeApi, run_module: Run, going: Object) -> None:
    result = run_module("kube_apply", check_mode=True, definitions=[namespace("going"), config_map("c", "going")])
    assert outcomes(result) == [("going", "created"), ("c", "created")]
    assert api.count("PATCH") == 0


def test_what_was_done_before_an_error_is_told(api: FakeApi, run_module: Run) -> None:
    api.faults.append(Fault(method="PATCH", path="/d?", status=403, reason="Forbidden", message="no"))
    result = run_module("kube_apply", definitions=[config_map(), config_map("d"), config_map("e")])
    assert (result["failed"], result["changed"]) == (True, True)
    assert [entry["name"] for entry in result["results"]] == ["c"]


def test_the_wrong_cluster_is_left_alone(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_apply", cluster_uid="another", definitions=[config_map()])
    assert "wrong cluster" in result["msg"]
    assert api.count("PATCH") == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "there is nothing to apply"),
        ({"definitions": [config_map(), {"kind": "ConfigMap"}]}, "definitions[1]: apiVersion is missing"),
        ({"src": ["/nonexistent"]}, "src: there is no file or directory /nonexistent"),
        ({"definitions": [config_map()], "state": "gone"}, "value of state must be one of"),
        ({"definitions": [config_map()], "timeout_seconds": 0}, "timeout_seconds is 0"),
        ({"definitions": [config_map()], "field_manager": ""}, "it has to be"),
        ({"definitions": [config_map()], "force": True}, "Unsupported parameters"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(api: FakeApi, run_module: Run, options: Object, words: str) -> None:
    result = run_module("kube_apply", **options)
    assert result["failed"] is True
    assert words in result["msg"]
    assert api.requests == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, reason="TooManyRequests", retry_after=0, times=2),
        Fault(status=500, reason="InternalError", times=2),
        Fault(drop=True, times=2),
        Fault(delay=0.05, times=2),
        Fault(method="PATCH", lose_answer=True),
    ],
    ids=["429", "500", "dropped", "slow", "answer lost"],
)
def test_passing_faults_are_sat_out(api: FakeApi, run_module: Run, fault: Fault) -> None:
    api.faults.append(fault)
    result = run_module("kube_apply", definitions=[config_map(a="1")])
    assert (result["changed"], outcomes(result)) == (True, [("c", "created")])
    assert api.find("ConfigMap", "c")["data"] == {"a": "1"}


# Deleting


def test_a_deletion_whose_answer_is_lost_is_a_deletion(api: FakeApi, run_module: Run) -> None:
    api.put(config_map(a="1"))
    api.faults.append(Fault(method="DELETE", lose_answer=True))
    result = run_module("kube_apply", state="absent", definitions=[config_map()])
    assert (result["changed"], outcomes(result)) == (True, [("c", "deleted")])
    assert api.count("DELETE") == 2


def test_absent(api: FakeApi, run_module: Run) -> None:
    run_module("kube_apply", definitions=[namespace("models"), config_map("c", "models")])
    result = run_module("kube_apply", state="absent", definitions=[namespace("models"), config_map("c", "models"), config_map("never")])
    assert outcomes(result) == [("never", "absent"), ("c", "deleted"), ("models", "deleted")]
    assert run_module("kube_apply", state="absent", definitions=[namespace("models"), config_map("c", "models")])["changed"] is False


def test_absent_of_an_unknown_kind_is_done(api: FakeApi, run_module: Run) -> None:
    assert outcomes(run_module("kube_apply", state="absent", definitions=[widget()])) == [("w", "absent")]


def test_absent_in_check_mode(api: FakeApi, run_module: Run) -> None:
    api.put(config_map(a="1"))
    result = run_module("kube_apply", check_mode=True, state="absent", definitions=[config_map()])
    assert (result["changed"], outcomes(result)) == (True, [("c", "deleted")])
    assert result["diff"][0]["after"] == {}
    assert api.find("ConfigMap", "c")


def test_absent_waits_for_finalizers(api: FakeApi, run_module: Run) -> None:
    api.put({**config_map(), "metadata": {"name": "c", "namespace": "default", "finalizers": ["x/y"]}})
    api.on_watch = lambda _path: api.drop("ConfigMap", "c")
    result = run_module("kube_apply", state="absent", wait=True, definitions=[config_map()])
    assert outcomes(result) == [("c", "deleted")]
    assert [entry["what"] for entry in result["transitions"]] == ["c: being deleted since 2026-01-01T00:01:00Z, held by finalizers x/y", "c: gone"]


def test_absent_does_not_wait_unasked(api: FakeApi, run_module: Run) -> None:
    api.put({**config_map(), "metadata": {"name": "c", "namespace": "default", "finalizers": ["x/y"]}})
    result = run_module("kube_apply", state="absent", timeout_seconds=1, definitions=[config_map()])
    assert (outcomes(result), "waited_seconds" in result, api.count("WATCH")) == ([("c", "deleted")], False, 0)


# Waiting


def deployment(image: str = "a") -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": 1, "image": image, "selector": {"matchLabels": {"app": "web"}}},
    }


def test_wait_until_rolled_out(api: FakeApi, run_module: Run) -> None:
    api.on_watch = lambda _path: api.change("Deployment", "web", status={"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1})
    result = run_module("kube_apply", wait=True, definitions=[deployment(), config_map()])
    assert outcomes(result) == [("c", "created"), ("web", "created")]
    assert result["transitions"][-1]["what"] == "Deployment web: 1 of 1 updated, 1 available"
    assert result["waited_seconds"] >= 0


def test_the_deadline_of_the_definition_before_does_not_end_the_wait(api: FakeApi, run_module: Run) -> None:
    run_module("kube_apply", definitions=[deployment("bad")])
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "lastUpdateTime": "2026-01-01T00:00:00Z"}
    api.change("Deployment", "web", status={"observedGeneration": 1, "replicas": 2, "conditions": [late]})

    def observe(method: str, path: str) -> None:
        if method == "GET" and "fieldSelector" in path and "/deployments" in path:
            api.change("Deployment", "web", status={"observedGeneration": 2})

    api.before = observe
    api.on_watch = lambda _path: api.change("Deployment", "web", status={"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1})
    result = run_module("kube_apply", wait=True, timeout_seconds=20, definitions=[deployment("good")])
    assert outcomes(result) == [("web", "changed")]
    assert "from before the last change of its spec" in result["transitions"][0]["what"]


def test_what_is_ready_once_it_exists_is_not_watched(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_apply", wait=True, definitions=[config_map()])
    assert (result["waited_seconds"], result["transitions"], len(api.requests)) == (0.0, [], 2)


def test_check_mode_does_not_wait(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_apply", check_mode=True, wait=True, definitions=[deployment()])
    assert "waited_seconds" not in result


@pytest.mark.parametrize("when", ["from the start", "later"])
def test_a_failed_job_ends_the_wait_and_its_pod_says_why(api: FakeApi, run_module: Run, when: str) -> None:
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {}}
    api.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "j-1", "labels": {"batch.kubernetes.io/job-name": "j"}, "creationTimestamp": "2099-01-01T00:00:00Z"},
            "status": {"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 3}}}]},
        }
    )
    failed = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
    if when == "later":
        api.on_watch = lambda path: api.change("Job", "j", status=failed) if path.endswith("/pods") else None
    else:
        api.hooks.append(lambda _verb, obj: {**obj, "status": failed})
    result = run_module("kube_apply", wait=True, timeout_seconds=600, definitions=[job])
    assert (result["failed"], result["timed_out"], result["changed"]) == (True, False, True)
    assert "Job j: Failed (BackoffLimitExceeded)" in result["msg"]
    assert "Pod j-1: Failed (c: exit code 3)" in result["msg"]


def test_pods_that_could_not_be_made_are_named_when_the_wait_fails(api: FakeApi, run_module: Run) -> None:
    def fail(path: str) -> None:
        if path.endswith("/pods"):
            about = {"kind": "Job", "name": "j", "namespace": "default", "uid": api.find("Job", "j")["metadata"]["uid"]}
            event = {"reason": "FailedCreate", "involvedObject": about, "lastTimestamp": "2026-01-01T00:00:01Z", "message": "exceeded quota"}
            api.put({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, **event})
            api.change("Job", "j", status={"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]})

    api.on_watch = fail
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {}}
    result = run_module("kube_apply", wait=True, timeout_seconds=20, definitions=[job])
    assert (result["failed"], result["timed_out"]) == (True, False)
    assert "Failed (DeadlineExceeded); Job default/j: exceeded quota (FailedCreate, last at 2026-01-01T00:00:01Z)" in result["msg"]


def crashing(created: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-1", "labels": {"app": "web"}, "creationTimestamp": created},
        "status": {"containerStatuses": [{"name": "main", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
    }


def test_a_crash_loop_ends_the_wait(api: FakeApi, run_module: Run) -> None:
    api.on_watch = lambda _path: api.put(crashing("2099-01-01T00:00:00Z"))
    result = run_module("kube_apply", wait=True, timeout_seconds=600, definitions=[deployment()])
    assert (result["failed"], result["timed_out"]) == (True, False)
    assert "Pod web-1: main crashed 3 times" in result["msg"]


def test_old_pods_do_not_end_the_wait_for_their_successors(api: FakeApi, run_module: Run) -> None:
    api.put(crashing("2001-01-01T00:00:00Z"))
    api.on_watch = lambda path: (
        api.change("Deployment", "web", status={"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1})
        if path.endswith("/pods")
        else None
    )
    assert outcomes(run_module("kube_apply", wait=True, definitions=[deployment()])) == [("web", "created")]


def test_pods_that_may_not_be_read_do_not_end_the_wait(api: FakeApi, run_module: Run) -> None:
    def finish(method: str, path: str) -> None:
        if method == "GET" and "/pods" in path:
            api.change("Deployment", "web", status={"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1})

    api.before = finish
    api.faults.append(Fault(path="/pods", status=403, reason="Forbidden", message="pods is forbidden", times=9))
    result = run_module("kube_apply", wait=True, definitions=[deployment()])
    assert outcomes(result) == [("web", "created")]


def test_pods_of_an_unchanged_workload_end_the_wait(api: FakeApi, run_module: Run) -> None:
    run_module("kube_apply", definitions=[deployment()])
    api.put(crashing("2001-01-01T00:00:00Z"))
    result = run_module("kube_apply", wait=True, timeout_seconds=600, definitions=[deployment()])
    assert (result["changed"], result["failed"]) == (False, True)
    assert "Pod web-1: main crashed 3 times" in result["msg"]


@pytest.mark.parametrize(
    ("selector", "query"),
    [
        ({"matchLabels": {"a": "b", "c": "d"}}, "a=b,c=d"),
        (
            {
                "matchLabels": {"a": "b"},
                "matchExpressions": [
                    {"key": "x", "operator": "In", "values": ["1", "2"]},
                    {"key": "y", "operator": "NotIn", "values": ["3"]},
                    {"key": "z", "operator": "Exists"},
                    {"key": "w", "operator": "DoesNotExist"},
                ],
            },
            "a=b,x in (1,2),y notin (3),z,!w",
        ),
        ({}, ""),
    ],
)
def test_selectors_of_workloads(selector: Object, query: str) -> None:
    assert label_selector({"spec": {"selector": selector}}) == query
