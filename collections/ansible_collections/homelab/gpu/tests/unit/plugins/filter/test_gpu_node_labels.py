# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.gpu_node_labels import gpu_node_labels
from ansible_collections.homelab.gpu.plugins.module_utils._gpu_skus import SKUS
from ansible_collections.homelab.gpu.plugins.module_utils._node_settings import label_problems

Object = dict[str, t.Any]

SKU, MEMORY, EXTERNAL, COUNT = (f"homelab.gpu/{name}" for name in ("sku", "memory-mib", "external", "count"))
TYPE, PRESENT = "gpu-type", "nvidia.com/gpu.present"
P40, RTX3060 = "tesla-p40-24gb", "rtx-3060-12gb"

# As they were while the GPU answered
BEFORE = {SKU: P40, MEMORY: "24576", EXTERNAL: "true", COUNT: "1", TYPE: "teslap40", PRESENT: "true"}


def gpu(sku: str | None = P40, memory_mib: int | None = 24576, *, external: bool = False, state: str = "ready") -> Object:
    return {"sku": sku, "memory_mib": memory_mib, "external": external, "state": state}


@pytest.mark.parametrize(
    ("gpus", "sku", "gpu_type", "memory", "external", "count"),
    [
        pytest.param([gpu()], P40, "teslap40", "24576", "false", "1", id="one"),
        pytest.param([gpu(external=True)], P40, "teslap40", "24576", "true", "1", id="external"),
        pytest.param([gpu(), gpu(memory_mib=24000)], P40, "teslap40", "24000", "false", "2", id="two of a kind"),
        pytest.param([gpu(), gpu(RTX3060, 12288, external=True)], "mixed", "mixed", "12288", "true", "2", id="two kinds, one of them external"),
        pytest.param([gpu(None, 8192)], "unknown", "unknown", "8192", "false", "1", id="unknown"),
        pytest.param([gpu(), gpu(None, 8192)], "mixed", "mixed", "8192", "false", "2", id="one of them unknown"),
        pytest.param([gpu(), gpu(memory_mib=None)], P40, "teslap40", "24576", "false", "2", id="one whose memory is not known"),
        pytest.param([gpu("jetson-thor-128gb", 125772)], "jetson-thor-128gb", "jetsonthor", "125772", "false", "1", id="Tegra"),
        pytest.param([gpu("own", 1000)], "own", "own", "1000", "false", "1", id="a SKU without memory in its name"),
        pytest.param([gpu("a-8gb-b.c", 1000)], "a-8gb-b.c", "a8gbb.c", "1000", "false", "1", id="memory in the middle of its name"),
    ],
)
def test_labels(gpus: list[Object], sku: str, gpu_type: str, memory: str, external: str, count: str) -> None:
    expected = {SKU: sku, TYPE: gpu_type, MEMORY: memory, EXTERNAL: external, COUNT: count, PRESENT: "true"}
    assert gpu_node_labels(gpus) == expected
    # What GPUs tell replaces what was there before, and nothing of anybody else is taken over
    assert gpu_node_labels(gpus, present={**BEFORE, TYPE: "old", "gpu": "yes"}) == expected


def test_order_of_gpus_does_not_matter() -> None:
    gpus = [gpu(), gpu(RTX3060, 12288), gpu(None, None)]
    assert gpu_node_labels(gpus) == gpu_node_labels(gpus[::-1])


def test_memory_that_is_not_known_is_not_told() -> None:
    assert MEMORY not in gpu_node_labels([gpu(memory_mib=None)], present=BEFORE)


@pytest.mark.parametrize("present", [None, {}, {"kubernetes.io/arch": "amd64"}])
def test_host_that_never_had_a_gpu(present: dict[str, str] | None) -> None:
    assert gpu_node_labels([], present=present) == {}


def test_unplugged_gpu_keeps_its_labels() -> None:
    assert gpu_node_labels([], present={**BEFORE, "kubernetes.io/arch": "amd64"}) == BEFORE


@pytest.mark.parametrize("state", ["lost", "no_driver", "driver_hung", "not_answering"])
def test_gpu_that_does_not_answer(state: str) -> None:
    silent = gpu(None, None, external=True, state=state)
    assert gpu_node_labels([silent], present=BEFORE) == BEFORE
    # What sysfs tells is known without an answer
    assert gpu_node_labels([silent]) == {EXTERNAL: "true", PRESENT: "true", COUNT: "1"}
    assert gpu_node_labels([gpu(), silent], present=BEFORE) == {**BEFORE, COUNT: "2"}


def test_labels_are_such_that_kubernetes_takes_them() -> None:
    for sku in SKUS:
        labels = gpu_node_labels([gpu(sku.name, sku.memory_mib[0], external=True)])
        assert [*label_problems(labels)] == []
        assert labels[TYPE]


@pytest.mark.parametrize("gpus", [None, "gpus", ["gpu"], {"gpus": []}, [{"external": True}], [{**gpu(), "sku": P40, "memory_mib": "much"}, gpu()]])
def test_bad_input(gpus: t.Any) -> None:
    with pytest.raises(AnsibleFilterError, match="the input is not the list gpus of homelab.gpu.gpu_info"):
        gpu_node_labels(gpus)
