# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._pci import PciFunction, enclosures_of, functions_of_vendor, normalised_address, thunderbolt_devices
from ansible_collections.homelab.gpu.tests.unit.sysfs_tree import SysfsTree

GPU = "0000:3f:00.0"


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> SysfsTree:
    return SysfsTree(tmp_path)


def only(tree: SysfsTree) -> PciFunction:
    (function,) = functions_of_vendor(str(tree.root), "0x10de")
    return function


@pytest.mark.parametrize(
    ("text", "address"),
    [("00000000:3F:00.0", GPU), ("0000:3f:00.0", GPU), ("00010000:01:00.0", "10000:01:00.0"), (" 0001:01:00.1\n", "0001:01:00.1"), ("nonsense", "nonsense")],
)
def test_addresses_are_written_in_one_way(text: str, address: str) -> None:
    assert normalised_address(text) == address


def test_what_a_function_is(tree: SysfsTree) -> None:
    tree.pci("0000:00:01.0", GPU, driver="nvidia")
    found = only(tree)
    assert (found.address, found.driver, found.device_id, found.subsystem) == (GPU, "nvidia", "2504", "1043:881d")
    assert found.link == {"speed_gts": 8.0, "width": 4.0, "max_speed_gts": 16.0, "max_width": 16.0}
    assert found.bars == (16 * 2**20, 256 * 2**20)
    assert (found.ancestors, found.removable, found.is_display, found.answers) == (("0000:00:01.0",), "", True, True)


def test_what_the_kernel_does_not_tell(tree: SysfsTree) -> None:
    folder = tree.pci("0000:00:01.0", GPU, current_link_speed="Unknown", current_link_width="0", resource="")
    for name in ("max_link_speed", "max_link_width", "config"):
        (folder / name).unlink()
    found = only(tree)
    assert found.link == {"speed_gts": None, "width": 0.0, "max_speed_gts": None, "max_width": None}
    assert (found.bars, found.driver, found.answers) == ((), "", True)


def test_one_that_fell_off_the_bus(tree: SysfsTree) -> None:
    tree.pci("0000:00:01.0", GPU, config=b"\xff" * 64)
    assert only(tree).answers is False


def test_machine_without_pci(tmp_path: pathlib.Path) -> None:
    assert functions_of_vendor(str(tmp_path), "0x10de") == []
    assert thunderbolt_devices(str(tmp_path)) == []


def integrated(tree: SysfsTree) -> None:
    """The controller is a root device of its own; the kernel links the root port to it."""
    controller = tree.pci("0000:00:0d.2", vendor="0x8086")
    tree.pci("0000:00:07.0", "0000:3e:00.0", GPU, removable="removable")
    (tree.root / "sys/devices/pci0000:00/0000:00:07.0/supplier:pci:0000:00:0d.2").mkdir()
    tree.thunderbolt(controller, "0-1", "enclosure-1")


def discrete(tree: SysfsTree) -> None:
    """The controller is a card, with ports beside it."""
    controller = tree.pci("0000:00:1c.4", "0000:01:00.0", "0000:02:00.0", "0000:03:00.0", vendor="0x8086")
    tree.pci("0000:00:1c.4", "0000:01:00.0", "0000:02:01.0", "0000:04:00.0", GPU)
    tree.thunderbolt(controller, "0-1", "enclosure-1")


def old_kernel(tree: SysfsTree) -> None:
    """No link tells, but there is only one controller."""
    controller = tree.pci("0000:00:0d.2", vendor="0x8086")
    tree.pci("0000:00:07.0", GPU, removable="removable")
    tree.thunderbolt(controller, "0-1", "enclosure-1")


def chain(tree: SysfsTree) -> None:
    integrated(tree)
    tree.thunderbolt(tree.root / "sys/devices/pci0000:00/0000:00:0d.2", "0-301", "enclosure-2")


def not_authorised(tree: SysfsTree) -> None:
    controller = tree.pci("0000:00:0d.2", vendor="0x8086")
    tree.pci("0000:00:07.0", GPU)
    (tree.root / "sys/devices/pci0000:00/0000:00:07.0/supplier:pci:0000:00:0d.2").mkdir()
    tree.thunderbolt(controller, "0-1", "enclosure-1", authorized=0)


def inside(tree: SysfsTree) -> None:
    """A GPU in the computer, beside an enclosure of something else."""
    controller = tree.pci("0000:00:0d.2", vendor="0x8086")
    tree.pci("0000:00:01.0", GPU)
    tree.thunderbolt(controller, "0-1", "dock")


def two_controllers(tree: SysfsTree) -> None:
    for number, name in ((2, "0-1"), (3, "1-1")):
        tree.thunderbolt(tree.pci(f"0000:00:0d.{number}", vendor="0x8086"), name, f"enclosure-{number}")
    tree.pci("0000:00:07.0", GPU, removable="removable")


def link_tells_which_controller(tree: SysfsTree) -> None:
    two_controllers(tree)
    (tree.root / "sys/devices/pci0000:00/0000:00:07.0/supplier:pci:0000:00:0d.3").mkdir()


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (integrated, ["enclosure-1"]),
        (discrete, ["enclosure-1"]),
        (old_kernel, ["enclosure-1"]),
        (chain, ["enclosure-1", "enclosure-2"]),
        (not_authorised, []),
        (inside, []),
        (two_controllers, []),
        (link_tells_which_controller, ["enclosure-3"]),
    ],
)
def test_enclosures(tree: SysfsTree, make: object, found: list[str]) -> None:
    assert callable(make)
    make(tree)
    root = str(tree.root)
    assert [device.unique_id for device in enclosures_of(root, only(tree), thunderbolt_devices(root))] == found


def test_thunderbolt_devices_without_the_computer_itself(tree: SysfsTree) -> None:
    chain(tree)
    names = [(device.name, device.vendor_name, device.device_name, device.authorized, device.controller) for device in thunderbolt_devices(str(tree.root))]
    assert names == [("0-1", "Razer", "Core X", 1, "0000:00:0d.2"), ("0-301", "Razer", "Core X", 1, "0000:00:0d.2")]
