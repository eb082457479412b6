# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.gpu_slicing import gpu_slicing

Object = dict[str, t.Any]

P40, RTX3060, RTX4000, THOR = "tesla-p40-24gb", "rtx-3060-12gb", "rtx-pro-4000-20gb", "jetson-thor-128gb"


def gpus(*skus: str | None) -> list[Object]:
    return [{"pci_address": f"0000:0{number}:00.0", "product": "A GPU", "sku": sku, "sku_reason": "because"} for number, sku in enumerate(skus, 1)]


@pytest.mark.parametrize(
    ("found", "options", "sku", "replicas", "allocatable"),
    [
        ([P40], {}, P40, 4, 4),
        ([P40, P40], {"replicas": 2}, P40, 2, 4),
        ([P40], {"replicas": "2"}, P40, 2, 2),
        ([THOR], {"replicas": 8}, THOR, 8, 8),
        ([RTX3060], {}, RTX3060, 1, 1),
        ([RTX3060], {"replicas": 2}, RTX3060, 2, 2),
        ([P40], {"sharing": "none"}, P40, 1, 1),
        ([None], {}, "unknown", 1, 1),
        ([P40, None], {}, "unknown", 1, 2),
        ([], {}, "unknown", 1, 0),
        ([P40, RTX4000], {"mixed": "smallest"}, "mixed", 4, 8),
        ([P40, RTX3060], {"mixed": "smallest"}, "mixed", 2, 4),
        ([P40, RTX3060], {"mixed": "refuse", "sharing": "none"}, "mixed", 1, 2),
        ([P40, RTX4000], {"mixed": "smallest", "replicas": 3}, "mixed", 3, 6),
    ],
)
def test_replicas(found: list[str | None], options: Object, sku: str, replicas: int, allocatable: int) -> None:
    result = gpu_slicing(gpus(*found), **options)
    assert (result["sku"], result["replicas"], result["allocatable"]) == (sku, replicas, allocatable)
    assert ("sharing" in result["config"]) is (replicas > 1)
    assert (result["sharing"] == "none") is (replicas == 1)


def test_config_of_slices() -> None:
    result = gpu_slicing(gpus(P40))
    assert result["config"] == {
        "version": "v1",
        "flags": {
            "migStrategy": "none",
            "failOnInitError": True,
            "deviceDiscoveryStrategy": "nvml",
            "plugin": {"passDeviceSpecs": False, "deviceListStrategy": ["envvar"], "deviceIDStrategy": "uuid"},
        },
        "sharing": {
            "timeSlicing": {"renameByDefault": False, "failRequestsGreaterThanOne": True, "resources": [{"name": "nvidia.com/gpu", "replicas": 4}]},
        },
    }
    assert result["resource"] == "nvidia.com/gpu"
    assert result["messages"] == []


def test_tegra_is_discovered_as_such() -> None:
    flags = gpu_slicing(gpus(THOR))["config"]["flags"]
    assert (flags["deviceDiscoveryStrategy"], flags["plugin"]["deviceIDStrategy"]) == ("tegra", "index")


def test_options_reach_the_config() -> None:
    result = gpu_slicing(gpus(RTX4000), sharing="mps", rename=True, fail_on_init_error=False, device_list_strategy="cdi-cri")
    assert result["config"]["sharing"] == {"mps": {"renameByDefault": True, "resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}}
    assert (result["config"]["flags"]["failOnInitError"], result["config"]["flags"]["plugin"]["deviceListStrategy"]) == (False, ["cdi-cri"])
    assert result["resource"] == "nvidia.com/gpu.shared"


@pytest.mark.parametrize(
    ("found", "options", "replicas"),
    [
        ([RTX4000], {}, 4),
        ([RTX4000], {"replicas": "2"}, 2),
        ([RTX3060, RTX3060], {"replicas": 2}, 2),
        ([RTX3060, RTX4000], {"replicas": 2, "mixed": "smallest"}, 2),
        (["turing"], {"replicas": 48}, 48),
        (["volta"], {"replicas": 16}, 16),
    ],
)
def test_gpus_that_mps_can_share(found: list[str | None], options: Object, replicas: int) -> None:
    result = gpu_slicing(gpus(*found), sharing="mps", skus=[own("turing", "7.5"), own("volta", "7.0")], **options)
    assert (result["sharing"], result["replicas"], result["allocatable"]) == ("mps", replicas, replicas * len(found))
    assert result["config"]["sharing"] == {"mps": {"renameByDefault": False, "resources": [{"name": "nvidia.com/gpu", "replicas": replicas}]}}
    assert result["key"] != gpu_slicing(gpus(*found), skus=[own("turing", "7.5"), own("volta", "7.0")], **options)["key"]


@pytest.mark.parametrize("found", [[], [None], [P40, None]])
def test_mps_where_nothing_is_shared_anyway(found: list[str | None]) -> None:
    result = gpu_slicing(gpus(*found), sharing="mps")
    assert (result["sharing"], result["replicas"]) == ("none", 1)
    assert "sharing" not in result["config"]


def test_key_tells_the_content() -> None:
    keys = [gpu_slicing(gpus(P40), **options)["key"] for options in ({}, {"replicas": 4}, {"replicas": 2}, {"rename": True})]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert keys[0].startswith("tesla-p40-24gb-x4-")
    longest = gpu_slicing(gpus("x" * 42), skus=[own("x" * 42)], replicas=100)["key"]
    assert len(longest) <= 63


def own(name: str, compute_capability: str = "9.0") -> Object:
    return {"name": name, "product": "X", "memory_mib_min": 1, "memory_mib_max": 2, "replicas_max": 100, "compute_capability": compute_capability}


def test_what_a_person_should_know() -> None:
    (unknown,) = gpu_slicing(gpus(None))["messages"]
    assert unknown == "GPU 0000:01:00.0 (A GPU) is not a known SKU: because. It is not shared."
    (mixed,) = gpu_slicing(gpus(P40, RTX3060), mixed="smallest")["messages"]
    assert "2 replicas for all GPUs of the node" in mixed


@pytest.mark.parametrize(
    ("found", "options", "words"),
    [
        (gpus(P40), {"replicas": 5}, "replicas is 5, but tesla-p40-24gb (2 to 4) allows from 2 to 4"),
        (gpus(P40), {"replicas": 1}, "replicas is 1, but tesla-p40-24gb (2 to 4) allows from 2 to 4"),
        (gpus(THOR), {"replicas": 2}, "jetson-thor-128gb (4 to 8) allows from 4 to 8"),
        (gpus(P40), {"replicas": "4.0"}, "replicas is '4.0'; it has to be a whole number of at least 1"),
        (gpus(P40), {"replicas": True}, "replicas is True"),
        (gpus(P40), {"replicas": 0}, "replicas is 0"),
        (gpus(P40), {"sharing": "timeSlicing"}, "sharing is 'timeSlicing'; it has to be one of time-slicing, mps, none"),
        (gpus(P40), {"mixed": "largest"}, "mixed is 'largest'; it has to be one of refuse, smallest"),
        (gpus(P40), {"device_list_strategy": "cdi"}, "device_list_strategy is 'cdi'"),
        (gpus(P40), {"sharing": "none", "replicas": 2}, "replicas is 2, but sharing=none"),
        (gpus(None), {"replicas": 2}, "replicas is 2, but GPU 0000:01:00.0 (A GPU) is not a known SKU"),
        ([], {"replicas": 2}, "this node, which has no GPU"),
        (gpus(P40, RTX3060), {}, "several SKUs, tesla-p40-24gb (2 to 4), rtx-3060-12gb (1 to 2), and the device plugin shares all of them alike; set mixed"),
        (gpus(P40, RTX3060), {"mixed": "smallest", "replicas": 3}, "allows from 2 to 2"),
        (gpus(RTX3060, "y"), {"mixed": "smallest", "skus": [{**own("y"), "replicas_min": 3}]}, "no number of replicas fits all GPUs of the node"),
        (gpus(THOR, P40), {"mixed": "smallest"}, "a Tegra and other GPUs are in one node"),
        ([{**gpus(None)[0], "state": "lost", "state_reason": "off the bus"}], {}, "is in the state lost, so which SKU it is cannot be told: off the bus."),
        (gpus("y"), {}, "has the SKU y, which is not in the table; give skus to this filter as to gpu_info"),
        ({}, {}, "the input is not the list gpus of homelab.gpu.gpu_info"),
        ([{"uuid": "GPU-1"}], {}, "the input is not the list gpus"),
        (gpus(P40), {"replica": 2}, "unexpected keyword argument 'replica'"),
        (gpus(THOR), {"sharing": "mps"}, "sharing is mps, but jetson-thor-128gb is a Tegra, which the device plugin's MPS daemon does not find; set sharing"),
        (gpus(P40), {"sharing": "mps"}, "sharing is mps, but tesla-p40-24gb has compute capability 6.1, and before 7.0 MPS keeps its clients apart neither"),
        (gpus(RTX4000, P40), {"sharing": "mps", "mixed": "smallest"}, "tesla-p40-24gb has compute capability 6.1"),
        (gpus(RTX3060), {"sharing": "mps"}, "sharing is mps, but replicas is 1 for rtx-3060-12gb, so nothing would be shared; set replicas to 2 or more"),
        (gpus("y"), {"sharing": "mps", "replicas": 49, "skus": [own("y")]}, "replicas is 49, but MPS serves no more than 48 clients of one y; choose fewer"),
        (gpus("y"), {"sharing": "mps", "replicas": 17, "skus": [own("y", "7.0")]}, "replicas is 17, but MPS serves no more than 16 clients of one y"),
    ],
)
def test_bad_input(found: t.Any, options: Object, words: str) -> None:
    with pytest.raises(AnsibleFilterError) as failure:
        gpu_slicing(found, **options)
    assert words in str(failure.value)


def test_problems_are_told_on_demand() -> None:
    told = gpu_slicing(gpus(P40), tell_problems=True)
    assert told == {**gpu_slicing(gpus(P40)), "problem": ""}
    assert "problem" not in gpu_slicing(gpus(P40), tell_problems=False)
    # The inventory's own slips are told as well, without the filter's name
    for options, words in (({"replicas": 5}, "replicas is 5, but tesla-p40-24gb"), ({"skus": ["x"]}, "skus[0] is 'x'"), ({"sharing": None}, "sharing is None")):
        problem = gpu_slicing(gpus(P40), tell_problems=True, **options)
        assert [*problem] == ["problem"]
        assert problem["problem"].startswith(words)


@pytest.mark.parametrize(("found", "options"), [(gpus(P40), {"replica": 2}), (gpus(P40), {"skus": 3})])
def test_mistakes_in_the_call_are_raised_all_the_same(found: list[Object], options: Object) -> None:
    with pytest.raises(AnsibleFilterError, match="gpu_slicing: "):
        gpu_slicing(found, tell_problems=True, **options)
