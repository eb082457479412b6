# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._host_facts import read
from ansible_collections.homelab.gpu.plugins.modules import gpu_power
from ansible_collections.homelab.gpu.tests.unit.sysfs_tree import SysfsTree

Object = dict[str, t.Any]
Run = t.Callable[..., Object]

PORT, BRIDGE, GPU, AUDIO = "0000:00:07.0", "0000:3e:00.0", "0000:3f:00.0", "0000:3f:00.1"
INTERNAL = "0000:01:00.0"


class PoweredTree(SysfsTree):
    """Devices that the kernel may put to sleep."""

    def control(self, address: str) -> pathlib.Path:
        return self.root / "sys/bus/pci/devices" / address / "power/control"

    def set(self, **settings: str) -> None:
        """Of all devices: auto, if nothing else is said."""
        for link in (self.root / "sys/bus/pci/devices").iterdir():
            self.control(link.name).parent.mkdir(exist_ok=True)
            self.control(link.name).write_text("auto\n")
        for address, value in settings.items():
            self.control(address).write_text(f"{value}\n")

    @property
    def awake(self) -> list[str]:
        addresses = sorted(link.name for link in (self.root / "sys/bus/pci/devices").iterdir())
        return [address for address in addresses if self.control(address).read_text().startswith("on")]


@pytest.fixture
def tree(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> PoweredTree:
    monkeypatch.setattr(gpu_power, "_ROOT", str(tmp_path / "root"))
    (tmp_path / "root").mkdir()
    return PoweredTree(tmp_path / "root")


def external(tree: SysfsTree) -> None:
    tree.pci(PORT, BRIDGE, GPU, removable="removable")
    tree.pci(PORT, BRIDGE, AUDIO, **{"class": "0x040300"})


def test_external_gpu_and_all_above_it_are_kept_awake(tree: PoweredTree, run_host_module: Run) -> None:
    external(tree)
    tree.pci("0000:00:01.0", INTERNAL)
    # Another device of the enclosure, and another one of NVIDIA that is no GPU
    tree.pci(PORT, BRIDGE, "0000:40:00.0", vendor="0x8086", **{"class": "0x020000"})
    tree.pci("0000:00:02.0", "0000:41:00.0", removable="removable", **{"class": "0x028000"})
    tree.set()
    result = run_host_module("gpu_power")
    assert (result["changed"], result["devices"]) == (True, [PORT, BRIDGE, GPU, AUDIO])
    assert result["diff"] == {
        "before": f"{PORT} auto\n{BRIDGE} auto\n{GPU} auto\n{AUDIO} auto\n",
        "after": f"{PORT} on\n{BRIDGE} on\n{GPU} on\n{AUDIO} on\n",
    }
    assert tree.awake == [PORT, BRIDGE, GPU, AUDIO]
    assert tree.control(GPU).read_text() == "on"
    again = run_host_module("gpu_power")
    assert (again["changed"], again["devices"], again["diff"]) == (False, [PORT, BRIDGE, GPU, AUDIO], {"before": "", "after": ""})


def test_only_those_that_may_sleep_are_changed(tree: PoweredTree, run_host_module: Run) -> None:
    external(tree)
    tree.set(**{PORT: "on", AUDIO: "on"})
    result = run_host_module("gpu_power")
    assert result["diff"]["before"] == f"{BRIDGE} auto\n{GPU} auto\n"
    # What was on already is not written to
    assert (tree.control(PORT).read_text(), tree.control(GPU).read_text()) == ("on\n", "on")


def test_check_mode_writes_nothing(tree: PoweredTree, run_host_module: Run) -> None:
    external(tree)
    tree.set()
    result = run_host_module("gpu_power", check_mode=True)
    assert (result["changed"], len(result["diff"]["after"].splitlines()), tree.awake) == (True, 4, [])


def test_gpu_in_an_enclosure_that_the_kernel_does_not_call_removable(tree: PoweredTree, run_host_module: Run) -> None:
    controller = tree.pci("0000:00:0d.2", vendor="0x8086", **{"class": "0x0c0340"})
    tree.pci(PORT, GPU)
    (tree.root / "sys/devices/pci0000:00" / PORT / "supplier:pci:0000:00:0d.2").mkdir()
    tree.set()
    assert run_host_module("gpu_power")["devices"] == []
    tree.thunderbolt(controller, "0-1", "enclosure-1")
    assert run_host_module("gpu_power")["devices"] == [PORT, GPU]
    assert tree.awake == [PORT, GPU]


def test_two_gpus_share_bridges(tree: PoweredTree, run_host_module: Run) -> None:
    external(tree)
    tree.pci(PORT, BRIDGE, "0000:41:00.0", removable="removable")
    tree.set()
    assert run_host_module("gpu_power")["devices"] == [PORT, BRIDGE, GPU, AUDIO, "0000:41:00.0"]


@pytest.mark.parametrize("plugged", [False, True])
def test_host_without_external_gpus(tree: PoweredTree, run_host_module: Run, plugged: bool) -> None:
    if plugged:
        tree.pci("0000:00:01.0", INTERNAL)
        tree.pci("0000:00:01.0", "0000:01:00.1", **{"class": "0x040300"})
        tree.set()
    assert run_host_module("gpu_power") == {"changed": False, "devices": [], "diff": {"before": "", "after": ""}, "invocation": {"module_args": {}}}
    assert tree.awake == []


def test_kernel_without_power_management(tree: PoweredTree, run_host_module: Run) -> None:
    external(tree)
    result = run_host_module("gpu_power")
    assert (result["changed"], result["devices"]) == (False, [PORT, BRIDGE, GPU, AUDIO])


def test_gpu_that_is_unplugged_meanwhile(tree: PoweredTree, run_host_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    external(tree)
    tree.set()

    def read_and_unplug(root: str, path: str) -> str:
        text = read(root, path)
        if GPU in path:
            tree.control(GPU).unlink()
            tree.control(GPU).parent.rmdir()
        return text

    monkeypatch.setattr(gpu_power, "read", read_and_unplug)
    result = run_host_module("gpu_power")
    assert result["failed"]
    assert result["msg"].startswith(f"power/control of {GPU} could not be set to on: No such file or directory. It may have been unplugged")
    assert not tree.control(GPU).exists()


def test_bad_input(tree: PoweredTree, run_host_module: Run) -> None:
    assert "Unsupported parameters" in run_host_module("gpu_power", devices=[GPU])["msg"]
