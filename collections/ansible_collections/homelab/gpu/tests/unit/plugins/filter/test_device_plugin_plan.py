# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.device_plugin_plan import device_plugin_plan

Object = dict[str, t.Any]

LABEL = "homelab.gpu/device-plugin-config"
GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"
WHOLE, TWO, FOUR, FOUR_OTHERWISE = "tesla-p40-24gb-x1-00000001", "tesla-p40-24gb-x2-00000002", "tesla-p40-24gb-x4-00000004", "tesla-p40-24gb-x4-0000000a"


def slices(key: str, gpus: int = 1, resource: str = GPU, *, mps: bool = False) -> Object:
    replicas = int(key.split("-x")[-1].split("-")[0])
    sharing = "none" if replicas == 1 else "mps" if mps else "time-slicing"
    return {"key": key, "replicas": replicas, "sharing": sharing, "allocatable": replicas * gpus, "resource": resource, "config": {"of": key}}


def node(name: str, label: str | None = None, **capacity: str) -> Object:
    """With what it has of GPUs: gpu='4' or shared='4'."""
    labels = {"kubernetes.io/arch": "amd64", **({LABEL: label} if label else {})}
    named = {{"gpu": GPU, "shared": SHARED}[kind]: number for kind, number in capacity.items()}
    return {"metadata": {"name": name, "labels": labels}, "status": {"capacity": {"cpu": "8", "memory": "16Gi", **named}}}


def daemon_sets(*names: str) -> list[Object]:
    return [{"metadata": {"name": name}} for name in names]


def pod(name: str, node_name: str | None = "a", namespace: str = "apps") -> Object:
    return {"namespace": namespace, "name": name, "node": node_name}


def step(wanted: Object, found: Object, *pods: Object) -> Object:
    """What is planned for the node a alone."""
    (only,) = device_plugin_plan({"a": wanted}, [found], [], list(pods))["nodes"]
    return t.cast("Object", only)


@pytest.mark.parametrize(
    ("wanted", "found", "reason"),
    [
        pytest.param(slices(FOUR), node("a", FOUR, gpu="4"), "", id="nothing changes"),
        pytest.param(slices(FOUR), node("a"), "", id="first time"),
        pytest.param(slices(FOUR), node("a", gpu="0"), "", id="first time, with a resource that is gone"),
        pytest.param(slices(TWO), node("a", FOUR, gpu="4"), "2 instead of 4 slices of each GPU", id="lowering"),
        pytest.param(slices(FOUR), node("a", TWO, gpu="2"), "", id="raising"),
        pytest.param(slices(FOUR_OTHERWISE), node("a", FOUR, gpu="4"), "", id="as many slices in another way"),
        pytest.param(slices(FOUR), node("a", WHOLE, gpu="1"), "4 slices instead of whole GPUs", id="slices instead of whole GPUs"),
        pytest.param(slices(WHOLE), node("a", FOUR, gpu="4"), "1 instead of 4 slices of each GPU", id="whole GPUs instead of slices"),
        pytest.param(slices(TWO, gpus=2), node("a", FOUR, gpu="8"), "2 instead of 4 slices of each GPU", id="lowering on two GPUs"),
        pytest.param(slices(FOUR, gpus=2), node("a", FOUR_OTHERWISE, gpu="4"), "", id="a second GPU came"),
        pytest.param(slices(FOUR), node("a", FOUR_OTHERWISE, gpu="8"), "", id="a second GPU went"),
        pytest.param(slices(FOUR, resource=SHARED), node("a", TWO, gpu="2"), f"slices are called {SHARED} instead of {GPU}", id="rename"),
        pytest.param(slices(FOUR), node("a", TWO, shared="2"), f"slices are called {GPU} instead of {SHARED}", id="rename back"),
        pytest.param(slices(FOUR, resource=SHARED), node("a", TWO, gpu="0", shared="2"), "", id="renamed long ago"),
        # The kubelet forgets the old name only minutes later
        pytest.param(slices(FOUR, resource=SHARED), node("a", FOUR, gpu="4", shared="4"), "", id="renamed a moment ago"),
        pytest.param(slices(FOUR), node("a", f"{TWO}-theirs", gpu="8"), "4 instead of 8 slices of each GPU", id="a label that begins like one of ours"),
        pytest.param(slices(FOUR), node("a", "theirs", gpu="4"), "", id="another label, enough slices"),
        pytest.param(slices(TWO), node("a", "theirs", gpu="4"), "2 instead of 4 slices of each GPU", id="another label, fewer slices"),
        pytest.param(slices(FOUR), node("a", "tesla-p40-24gb-x2", gpu="4"), "", id="a label that only looks like one of ours"),
        pytest.param(slices(FOUR), node("a", gpu="1"), "4 slices instead of whole GPUs", id="another plugin's whole GPU"),
        pytest.param(slices(FOUR, gpus=2), node("a", gpu="2"), "4 slices instead of whole GPUs", id="another plugin's two whole GPUs"),
        pytest.param(slices(FOUR, gpus=4), node("a", "theirs", gpu="4"), "4 slices instead of whole GPUs", id="as many whole GPUs as slices of each now"),
        pytest.param(slices(WHOLE, gpus=2), node("a", gpu="2"), "", id="another plugin's two whole GPUs stay whole"),
        pytest.param(slices(WHOLE), node("a", gpu="2"), "1 instead of 2 slices of each GPU", id="another plugin's slices become whole"),
        pytest.param(slices(FOUR, gpus=2), node("a", gpu="8"), "", id="the label of two GPUs was lost"),
        pytest.param(slices(TWO, gpus=2), node("a", gpu="8"), "2 instead of 4 slices of each GPU", id="the label was lost, fewer slices"),
        pytest.param(slices(TWO, gpus=2), node("a", gpu="5"), "2 instead of 3 slices of each GPU", id="a number that no sharing gives"),
        pytest.param(slices(TWO), node("a", gpu="2", shared="2"), f"slices are called {GPU} instead of {SHARED}", id="both names"),
        pytest.param(slices(TWO), node("a", TWO.replace("2gb", "2gb-x8"), gpu="2"), "", id="a SKU that looks like replicas"),
    ],
)
def test_when_pods_have_to_leave(wanted: Object, found: Object, reason: str) -> None:
    assert step(wanted, found, pod("one"))["drain"] == reason
    # Nobody has to leave a node where nobody is
    assert step(wanted, found)["drain"] == ""


@pytest.mark.parametrize(
    ("wanted", "found", "daemons", "reason"),
    [
        pytest.param(slices(FOUR, mps=True), node("a"), [], "", id="first time"),
        pytest.param(slices(FOUR, mps=True), node("a", FOUR, gpu="4"), [FOUR], "", id="nothing changes"),
        pytest.param(slices(FOUR, mps=True), node("a", TWO, gpu="2"), [], "MPS takes over the GPUs", id="more slices, by MPS from now on"),
        pytest.param(slices(FOUR, mps=True), node("a", WHOLE, gpu="1"), [], "MPS takes over the GPUs", id="whole GPUs before"),
        pytest.param(slices(FOUR, mps=True), node("a", "theirs", gpu="4"), ["theirs"], "another MPS daemon takes over the GPUs", id="another label"),
        pytest.param(slices(FOUR, mps=True), node("a", gpu="4"), [], "MPS takes over the GPUs", id="another plugin"),
        pytest.param(slices(FOUR, mps=True), node("a", TWO, gpu="2"), [TWO], "another MPS daemon takes over the GPUs", id="more slices"),
        pytest.param(slices(FOUR), node("a", TWO, gpu="2"), [TWO], "the MPS daemon of the GPUs goes", id="more slices, without MPS from now on"),
        pytest.param(slices(WHOLE), node("a", FOUR, gpu="4"), [FOUR], "the MPS daemon of the GPUs goes", id="whole GPUs from now on"),
        pytest.param(slices(FOUR), node("a", TWO, gpu="2"), [FOUR_OTHERWISE], "", id="the daemon is one of another node"),
    ],
)
def test_pods_have_to_leave_where_an_mps_daemon_comes_or_goes(wanted: Object, found: Object, daemons: list[str], reason: str) -> None:
    present = daemon_sets(*(f"{prefix}{key}" for key in daemons for prefix in ("nvidia-device-plugin-", "nvidia-mps-control-daemon-")))
    (planned,) = device_plugin_plan({"a": wanted}, [found], present, [pod("one")])["nodes"]
    assert planned["drain"] == reason
    (planned,) = device_plugin_plan({"a": wanted}, [found], present, [])["nodes"]
    assert planned["drain"] == ""


def test_node_whose_gpu_is_gone_loses_its_mps_daemon() -> None:
    present = daemon_sets(f"nvidia-device-plugin-{FOUR}", f"nvidia-mps-control-daemon-{FOUR}")
    planned = device_plugin_plan({"a": {**slices(WHOLE), "allocatable": 0}}, [node("a", FOUR, gpu="4")], present, [pod("one")])
    assert (planned["nodes"][0]["drain"], planned["configs"]) == ("", [])
    assert planned["stale"] == [f"nvidia-device-plugin-{FOUR}", f"nvidia-mps-control-daemon-{FOUR}"]


def test_configs_that_need_an_mps_daemon() -> None:
    wanted = {"a": slices(FOUR, mps=True), "b": slices(TWO), "c": slices(FOUR, mps=True)}
    assert device_plugin_plan(wanted, [node(name) for name in "abc"], [], [])["configs"] == [
        {"key": TWO, "config": {"of": TWO}, "mps": False},
        {"key": FOUR, "config": {"of": FOUR}, "mps": True},
    ]


def test_pods_of_other_nodes_and_of_none_yet_do_not_count() -> None:
    found = node("a", FOUR, gpu="4")
    assert step(slices(TWO), found, pod("elsewhere", "b"), pod("pending", None))["drain"] == ""
    planned = step(slices(TWO), found, pod("two"), pod("elsewhere", "b"), pod("one", namespace="z"), pod("one"))
    assert planned["pods"] == ["apps/one", "apps/two", "z/one"]


@pytest.mark.parametrize(
    "found",
    [
        {"metadata": {"name": "a"}},
        {"metadata": {"name": "a", "labels": None}, "status": None},
        {"metadata": {"name": "a", "labels": {}}, "status": {"capacity": None}},
        {"metadata": {"name": "a", "labels": {LABEL: ""}}, "status": {}},
    ],
)
def test_node_that_tells_nothing(found: Object) -> None:
    planned = step(slices(FOUR), found, pod("one"))
    assert (planned["before"] or None, planned["key"], planned["drain"]) == (None, FOUR, "")


def test_step_of_a_node() -> None:
    planned = device_plugin_plan({"a": slices(FOUR, gpus=2, resource=SHARED)}, [node("a", TWO, shared="4")], [], [])
    assert planned == {
        "nodes": [{"name": "a", "before": TWO, "key": FOUR, "allocatable": {GPU: 0, SHARED: 8}, "drain": "", "close": None, "open": None, "pods": []}],
        "configs": [{"key": FOUR, "config": {"of": FOUR}, "mps": False}],
        "stale": [],
    }


def test_node_whose_gpu_is_gone_gets_no_config() -> None:
    gone = {**slices("unknown-x1-00000001"), "allocatable": 0}
    planned = device_plugin_plan({"a": gone}, [node("a", FOUR, gpu="4")], daemon_sets(f"nvidia-device-plugin-{FOUR}"), [pod("one")])
    # Its pods lost their GPU already; eviction would bring it back no sooner
    assert planned["nodes"] == [
        {"name": "a", "before": FOUR, "key": None, "allocatable": {GPU: 0, SHARED: 0}, "drain": "", "close": None, "open": None, "pods": ["apps/one"]}
    ]
    assert planned["configs"] == []
    assert planned["stale"] == [f"nvidia-device-plugin-{FOUR}"]


def test_nodes_are_told_by_name_and_each_config_once() -> None:
    wanted = {"c": slices(TWO), "a": slices(FOUR), "b": slices(TWO)}
    planned = device_plugin_plan(wanted, [node(name) for name in "cab"], [], [])
    assert [(entry["name"], entry["key"]) for entry in planned["nodes"]] == [("a", FOUR), ("b", TWO), ("c", TWO)]
    assert [entry["key"] for entry in planned["configs"]] == [TWO, FOUR]


@pytest.mark.parametrize(
    ("names", "stale"),
    [
        pytest.param([f"nvidia-device-plugin-{FOUR}"], [], id="wanted"),
        pytest.param([f"nvidia-device-plugin-{TWO}"], [f"nvidia-device-plugin-{TWO}"], id="of this node until now"),
        pytest.param([f"nvidia-device-plugin-{WHOLE}"], [], id="of a node outside this run"),
        pytest.param([f"nvidia-device-plugin-{FOUR_OTHERWISE}"], [f"nvidia-device-plugin-{FOUR_OTHERWISE}"], id="of no node"),
        pytest.param(["nvidia-device-plugin-mps-control-daemon", "nvidia-device-plugin-daemonset", "nvidia-device-plugin-"], [], id="of somebody else"),
        pytest.param([f"nvidia-mps-control-daemon-{FOUR}", f"nvidia-mps-control-daemon-{WHOLE}"], [], id="MPS daemons of configs in use"),
        pytest.param([f"nvidia-mps-control-daemon-{TWO}"], [f"nvidia-mps-control-daemon-{TWO}"], id="an MPS daemon of this node until now"),
        pytest.param(["nvidia-mps-control-daemon-", "nvidia-mps-control-daemon"], [], id="an MPS daemon of somebody else"),
        pytest.param([f"nvdp-nvidia-device-plugin-{TWO}", TWO, "fluentd"], [], id="other names"),
    ],
)
def test_stale_daemon_sets(names: list[str], stale: list[str]) -> None:
    nodes = [node("a", TWO, gpu="2"), node("outside", WHOLE, gpu="1"), node("without")]
    assert device_plugin_plan({"a": slices(FOUR)}, nodes, daemon_sets(*names), [])["stale"] == stale


def test_config_that_another_node_keeps_is_not_stale() -> None:
    nodes = [node("a", TWO, gpu="2"), node("outside", TWO, gpu="2")]
    assert device_plugin_plan({"a": slices(FOUR)}, nodes, daemon_sets(f"nvidia-device-plugin-{TWO}"), [])["stale"] == []


def test_run_without_gpu_nodes_changes_nothing_for_the_others() -> None:
    planned = device_plugin_plan({}, [node("outside", WHOLE)], daemon_sets(f"nvidia-device-plugin-{WHOLE}"), [pod("one", "outside")])
    assert planned == {"nodes": [], "configs": [], "stale": []}


@pytest.mark.parametrize(
    ("wanted", "nodes", "words"),
    [
        ({"b": slices(FOUR), "a": slices(FOUR)}, [node("y"), node("x")], "device_plugin_plan: a is no node of this cluster, which has x, y"),
        ({"a": slices(FOUR)}, [], "a is no node of this cluster, which has none"),
        ({"a": {"problem": "no"}}, [node("a")], "allocatable"),
        ({"a": None}, [node("a")], "device_plugin_plan: "),
    ],
)
def test_bad_input(wanted: Object, nodes: list[Object], words: str) -> None:
    with pytest.raises(AnsibleFilterError) as failure:
        device_plugin_plan(wanted, nodes, [], [])
    assert words in str(failure.value)


CLOSE = {"name": "a", "unschedulable": True, "annotations": {"homelab.gpu/closed-by": "nvidia_device_plugin"}}
OPEN = {"name": "a", "unschedulable": False, "annotations": {"homelab.gpu/closed-by": None}}


@pytest.mark.parametrize(
    ("closed", "annotations", "users", "close", "open_"),
    [
        (False, {}, [], None, None),
        (False, {}, [pod("one")], CLOSE, OPEN),
        # By somebody: it stays so after its pods have left
        (True, {}, [pod("one")], None, None),
        (True, {"homelab.gpu/closed-by": "somebody"}, [pod("one")], None, None),
        # By a run that was cut off, before its pods had left or after
        (True, CLOSE["annotations"], [pod("one")], None, OPEN),
        (True, CLOSE["annotations"], [], None, OPEN),
        # And a person opened it since
        (False, CLOSE["annotations"], [], None, OPEN),
    ],
)
def test_node_is_opened_by_whom_it_was_closed(closed: bool, annotations: Object, users: list[Object], close: Object | None, open_: Object | None) -> None:
    found = node("a", FOUR, gpu="4")
    found = {**found, "metadata": {**found["metadata"], "annotations": annotations}, "spec": {"unschedulable": True} if closed else {}}
    planned = step(slices(TWO), found, *users)
    assert (planned["close"], planned["open"]) == (close, open_)
