# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._gpu_skus import SKUS, _checked, match_sku, merged

Object = dict[str, t.Any]

OWN: Object = {
    "name": "rtx-3090-24gb",
    "product": "NVIDIA GeForce RTX 3090",
    "memory_mib_min": 24000,
    "memory_mib_max": 24576,
    "replicas_max": 4,
    "compute_capability": "8.6",
}


@pytest.mark.parametrize(
    ("product", "memory_mib", "sku", "reason"),
    [
        ("NVIDIA GeForce RTX 3060", 12288, "rtx-3060-12gb", "12288 MiB of memory are those of rtx-3060-12gb"),
        ("NVIDIA GeForce RTX 3060", 8192, None, "rtx-3060-12gb has its name, but from 11500 to 12288 MiB of memory, not 8192"),
        ("NVIDIA GeForce RTX 3060 Ti", 8192, None, "no entry of the table has the name 'NVIDIA GeForce RTX 3060 Ti'"),
        ("NVIDIA GeForce RTX 3060 Laptop GPU", 6144, None, "no entry of the table"),
        ("NVIDIA RTX 4000 Ada Generation", 20475, "rtx-pro-4000-20gb", ""),
        ("NVIDIA RTX 4000 SFF Ada Generation", 20475, "rtx-pro-4000-20gb", ""),
        ("NVIDIA RTX PRO 4000 Blackwell", 24467, None, "from 19000 to 20480 MiB of memory, not 24467"),
        ("Tesla P40", 24576, "tesla-p40-24gb", ""),
        ("Tesla P40", 22919, "tesla-p40-24gb", ""),
        ("NVIDIA Thor", 125772, "jetson-thor-128gb", ""),
        ("NVIDIA Jetson AGX Thor Developer Kit", 125772, "jetson-thor-128gb", ""),
        ("NVIDIA Thor", None, None, "how much memory it has is not known"),
        ("", 12288, None, "the driver does not answer"),
    ],
)
def test_name_and_memory_tell(product: str, memory_mib: int | None, sku: str | None, reason: str) -> None:
    match = match_sku(product, memory_mib)
    assert (match.sku.name if match.sku else None) == sku
    assert reason in match.reason


def test_table_holds_to_its_own_rules() -> None:
    for sku in SKUS:
        assert _checked(sku, "table") is sku
    assert len({sku.name for sku in SKUS}) == len(SKUS)


def test_inventory_adds_and_changes() -> None:
    table = merged([OWN, {"name": "rtx-3060-12gb", "replicas_max": 3, "replicas_default": 3, "serves": None}])
    assert [sku.name for sku in table[:2]] == ["rtx-3090-24gb", "rtx-3060-12gb"]
    assert len(table) == len(SKUS) + 1
    own, changed = table[:2]
    assert (own.replicas, own.default_replicas, own.kernel_modules, own.driver_branches) == ((1, 4), 1, "any", (1, None))
    assert (changed.replicas, changed.default_replicas, changed.product, changed.serves) == ((1, 3), 3, "NVIDIA GeForce RTX 3060", ("vllm", "ollama"))
    match = match_sku("NVIDIA GeForce RTX 3090", 24268, table)
    assert match.sku is own


def test_range_that_shrinks_takes_the_default_along() -> None:
    assert merged([{"name": "tesla-p40-24gb", "replicas_max": 3}])[0].default_replicas == 3


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("rtx", "skus[0] is 'rtx'; it has to be a dictionary"),
        ({"replicas_max": 2}, "skus[0].name is None"),
        ({"name": "RTX 3090"}, "skus[0].name is 'RTX 3090'; it goes into labels"),
        ({"name": "x" * 43}, "at most 42"),
        ({"name": "rtx-3090-24gb"}, "lacks product, memory_mib_min, memory_mib_max, replicas_max, compute_capability"),
        ({**OWN, "memory": 1}, "unknown key memory; the keys are name, product"),
        ({**OWN, "replicas_max": "4"}, "skus[0].replicas_max is '4'; it has to be a whole number of at least 1, without quotes"),
        ({**OWN, "replicas_max": True}, "replicas_max is True"),
        ({**OWN, "replicas_min": 0}, "replicas_min is 0"),
        ({**OWN, "replicas_min": 5}, "replicas_min is 5, more than replicas_max, which is 4"),
        ({**OWN, "memory_mib_max": 100}, "memory_mib_min is 24000, more than memory_mib_max"),
        ({**OWN, "replicas_default": 5}, "replicas_default is 5; it has to be from 1 to 4"),
        ({**OWN, "product": "RTX ("}, "product is 'RTX (', which is no regular expression"),
        ({**OWN, "compute_capability": "8"}, "compute_capability is '8'; it has to be like '8.6', in quotes"),
        ({**OWN, "kernel_modules": "closed"}, "kernel_modules is 'closed'; it has to be any, open or proprietary"),
        ({**OWN, "driver_branch_min": 600, "driver_branch_max": 580}, "driver_branch_min is 600, more than driver_branch_max"),
    ],
)
def test_bad_entries(entry: t.Any, words: str) -> None:
    with pytest.raises(InputError) as failure:
        merged([entry])
    assert words in str(failure.value)


def test_one_name_twice() -> None:
    with pytest.raises(InputError, match=r"skus\[1\].name is rtx-3090-24gb, which an entry before it has too"):
        merged([OWN, OWN])
