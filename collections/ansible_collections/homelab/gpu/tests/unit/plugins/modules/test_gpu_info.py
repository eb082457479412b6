# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._gpu_skus import SKUS
from ansible_collections.homelab.gpu.plugins.modules import gpu_info
from ansible_collections.homelab.gpu.tests.unit.sysfs_tree import SysfsTree

Object = dict[str, t.Any]
Run = t.Callable[..., Object]

FIRST, SECOND = "0000:3f:00.0", "0000:41:00.0"
KERNEL = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"
UNKNOWN = "Failed to initialize NVML: Unknown Error"
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"


@pytest.fixture
def tree(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> SysfsTree:
    monkeypatch.setattr(gpu_info, "_ROOT", str(tmp_path / "root"))
    # A host that may have a GPU itself
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "root").mkdir()
    return SysfsTree(tmp_path / "root")


@pytest.fixture
def look(run_host_module: Run, tmp_path: pathlib.Path) -> Run:
    """Runs the module with a program that prints these lines in the place of nvidia-smi; None: there is none."""

    def run(*lines: str, code: int = 0, installed: bool = True, **options: t.Any) -> Object:
        path = tmp_path / "nvidia-smi"
        path.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines) + f"exit {code}\n")
        path.chmod(0o755)
        if installed:
            options.setdefault("nvidia_smi", str(path))
        return run_host_module("gpu_info", **options)

    return run


def line(address: str = FIRST, uuid: str = "GPU-1", product: str = "NVIDIA GeForce RTX 3060", memory: str = "12288") -> str:
    return f"0000{address.upper()}, {uuid}, {product}, {memory}, 580.95.05, Enabled, 8.6"


def test_a_gpu_in_an_enclosure(tree: SysfsTree, look: Run) -> None:
    controller = tree.pci("0000:00:0d.2", vendor="0x8086")
    tree.pci("0000:00:07.0", "0000:3e:00.0", FIRST, driver="nvidia", removable="removable")
    tree.pci("0000:00:07.0", "0000:3e:00.0", "0000:3f:00.1", driver="snd_hda_intel", **{"class": "0x040300"})
    (tree.root / "sys/devices/pci0000:00/0000:00:07.0/supplier:pci:0000:00:0d.2").mkdir()
    tree.thunderbolt(controller, "0-1", "enclosure-1")
    tree.write("proc/driver/nvidia/version", KERNEL)
    result = look(line())
    assert result["changed"] is False
    assert result["driver"] == {"state": "ready", "message": "", "version": "580.95.05", "kernel_version": "580.95.05", "flavour": "open"}
    assert result["tegra"] is None
    (device,) = result["thunderbolt"]
    assert (device["unique_id"], device["authorized"]) == ("enclosure-1", 1)
    assert result["gpus"] == [
        {
            "pci_address": FIRST,
            "pci_id": "10de:2504",
            "pci_subsystem": "1043:881d",
            "pci_class": "0x030000",
            "pci_driver": "nvidia",
            "functions": [{"pci_address": "0000:3f:00.1", "kind": "audio", "pci_driver": "snd_hda_intel"}],
            "link": {"speed_gts": 8.0, "width": 4.0, "max_speed_gts": 16.0, "max_width": 16.0},
            "bar_bytes": [16777216, 268435456],
            "external": True,
            "external_reason": "its port is served by the Thunderbolt controller 0000:00:0d.2",
            "enclosure_id": "enclosure-1",
            "state": "ready",
            "state_reason": "",
            "uuid": "GPU-1",
            "product": "NVIDIA GeForce RTX 3060",
            "memory_mib": 12288,
            "compute_capability": "8.6",
            "persistence": True,
            "sku": "rtx-3060-12gb",
            "sku_reason": "the name 'NVIDIA GeForce RTX 3060' and 12288 MiB of memory are those of rtx-3060-12gb",
        }
    ]


@pytest.mark.parametrize(
    ("pci", "kernel", "lines", "code", "state", "words", "driver"),
    [
        pytest.param({"driver": "nvidia"}, KERNEL, [line()], 0, "ready", "", "ready", id="ready"),
        pytest.param({"driver": "nouveau"}, "", [], 9, "nouveau", "blacklist that", "absent", id="nouveau"),
        pytest.param({}, "", [], 9, "no_driver", "no driver for it is loaded", "absent", id="no driver"),
        pytest.param({}, KERNEL, ["No devices were found"], 6, "no_driver", "580.95.05 is loaded, but did not take it", "no_devices", id="not taken"),
        pytest.param({"driver": "vfio-pci"}, "", [], 9, "other_driver", "vfio-pci holds it", "absent", id="passed through"),
        pytest.param({"driver": "nvidia", "config": b"\xff" * 4}, KERNEL, [line()], 0, "lost", "off the bus|only", "ready", id="fell off the bus"),
        pytest.param(
            {"driver": "nvidia"},
            KERNEL,
            ["Unable to determine the device handle for GPU0000:3F:00.0: GPU is lost.  Reboot the system to recover this GPU"],
            15,
            "lost",
            "the driver calls it lost",
            "ready",
            id="lost to the driver",
        ),
        pytest.param({"driver": "nvidia"}, KERNEL, [MISMATCH], 18, "version_mismatch", MISMATCH, "mismatch", id="version mismatch"),
        pytest.param({"driver": "nvidia"}, KERNEL, [UNKNOWN], 255, "not_answering", "Unknown Error", "failing", id="failing"),
        pytest.param({"driver": "nvidia"}, KERNEL, [line(SECOND)], 0, "not_answering", "does not list it", "ready", id="not listed"),
    ],
)
def test_states(tree: SysfsTree, look: Run, pci: Object, kernel: str, lines: list[str], code: int, state: str, words: str, driver: str) -> None:
    tree.pci("0000:00:01.0", FIRST, **pci)
    if kernel:
        tree.write("proc/driver/nvidia/version", kernel)
    result = look(*lines, code=code)
    gpu = result["gpus"][0]
    assert gpu["state"] == state
    assert any(part in gpu["state_reason"] for part in words.split("|"))
    assert result["driver"]["state"] == driver
    if state != "ready":
        assert gpu["state_reason"]


def test_hung_driver(tree: SysfsTree, run_host_module: Run, tmp_path: pathlib.Path) -> None:
    tree.pci("0000:00:01.0", FIRST, driver="nvidia")
    tree.write("proc/driver/nvidia/version", KERNEL)
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexec /bin/sleep 600\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    result = run_host_module("gpu_info", nvidia_smi=str(tmp_path / "nvidia-smi"), timeout_seconds=0.2)
    assert (result["driver"]["state"], result["gpus"][0]["state"]) == ("hung", "driver_hung")
    assert "did not answer within 0.2 s" in result["gpus"][0]["state_reason"]


def test_host_without_anything(tree: SysfsTree, look: Run) -> None:
    result = look(installed=False)
    assert (result["gpus"], result["tegra"], result["thunderbolt"]) == ([], None, [])
    assert result["driver"] == {"state": "absent", "message": "no NVIDIA driver is loaded", "version": "", "kernel_version": "", "flavour": ""}


def test_what_only_the_driver_tells_of(tree: SysfsTree, look: Run) -> None:
    lost = "Unable to determine the device handle for GPU0000:3F:00.0: GPU is lost.  Reboot the system to recover this GPU"
    result = look(lost, line(SECOND, "GPU-2"), code=15)
    assert [(gpu["pci_address"], gpu["uuid"], gpu["state"]) for gpu in result["gpus"]] == [(FIRST, "", "lost"), (SECOND, "GPU-2", "ready")]


def test_module_without_its_programs(tree: SysfsTree, look: Run) -> None:
    tree.pci("0000:00:01.0", FIRST, driver="nvidia")
    tree.write("proc/driver/nvidia/version", KERNEL)
    result = look(installed=False)
    assert (result["driver"]["state"], result["gpus"][0]["state"]) == ("no_nvidia_smi", "not_answering")


def test_several_gpus_in_the_order_of_addresses(tree: SysfsTree, look: Run) -> None:
    for port, address in (("0000:00:02.0", SECOND), ("0000:00:01.0", FIRST)):
        tree.pci(port, address, driver="nvidia")
    result = look(line(SECOND, "GPU-2", "Tesla P40", "24576"), line())
    assert [(gpu["pci_address"], gpu["uuid"], gpu["sku"], gpu["external"]) for gpu in result["gpus"]] == [
        (FIRST, "GPU-1", "rtx-3060-12gb", False),
        (SECOND, "GPU-2", "tesla-p40-24gb", False),
    ]


def test_two_enclosures_in_a_chain_are_not_guessed_at(tree: SysfsTree, look: Run) -> None:
    controller = tree.pci("0000:00:0d.2", vendor="0x8086")
    tree.pci("0000:00:07.0", FIRST)
    (tree.root / "sys/devices/pci0000:00/0000:00:07.0/supplier:pci:0000:00:0d.2").mkdir()
    tree.thunderbolt(controller, "0-1", "enclosure-1")
    tree.thunderbolt(controller, "0-301", "enclosure-2")
    (gpu,) = look(installed=False)["gpus"]
    assert (gpu["external"], gpu["enclosure_id"]) == (True, "")
    assert "which of enclosure-1, enclosure-2 it is in, the topology does not tell" in gpu["external_reason"]


def test_tegra_shares_the_memory_of_its_host(tree: SysfsTree, look: Run) -> None:
    tree.write("proc/device-tree/model", "NVIDIA Jetson AGX Thor Developer Kit\0")
    tree.write("etc/nv_tegra_release", "# R38 (release), REVISION: 2.0\n# more\n")
    tree.write("proc/meminfo", "MemTotal:       128790528 kB\n")
    tree.pci("0000:00:00.0", "0000:01:00.0", driver="nvidia")
    result = look(line("0000:01:00.0", product="NVIDIA Thor", memory="[N/A]"))
    assert result["tegra"] == {"model": "NVIDIA Jetson AGX Thor Developer Kit", "release": "R38 (release), REVISION: 2.0"}
    (gpu,) = result["gpus"]
    assert (gpu["sku"], gpu["memory_mib"], gpu["state"]) == ("jetson-thor-128gb", 125772, "ready")


def test_tegra_without_pci_and_nvml(tree: SysfsTree, look: Run) -> None:
    tree.write("proc/device-tree/model", "NVIDIA Jetson AGX Thor Developer Kit\0")
    tree.write("proc/device-tree/compatible", "nvidia,p3834\0nvidia,tegra264\0")
    tree.write("proc/meminfo", "MemTotal:       128790528 kB\n")
    (gpu,) = look(installed=False)["gpus"]
    assert (gpu["pci_address"], gpu["sku"], gpu["state"], gpu["compute_capability"]) == ("", "jetson-thor-128gb", "ready", "11.0")


def test_table_of_the_inventory(tree: SysfsTree, look: Run) -> None:
    tree.pci("0000:00:01.0", FIRST, driver="nvidia")
    own = {"name": "own", "product": "My GPU", "memory_mib_min": 100, "memory_mib_max": 200, "replicas_max": 2, "compute_capability": "8.0"}
    (gpu,) = look(line(product="My GPU", memory="150"), skus=[own])["gpus"]
    assert gpu["sku"] == "own"
    (gpu,) = look(line(product="My GPU", memory="150"))["gpus"]
    assert (gpu["sku"], gpu["sku_reason"]) == (None, "no entry of the table has the name 'My GPU'")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds is 0; it has to be from 0.1 to 60"),
        ({"timeout_seconds": 61}, "timeout_seconds is 61; it has to be from 0.1 to 60"),
        ({"timeout_seconds": "soon"}, "timeout_seconds"),
        ({"skus": [{"name": "own"}]}, "skus[0] (own) is not in the table of known GPUs and lacks product"),
        ({"skus": [{"product": "x"}]}, "missing required arguments: name found in skus"),
        ({"skus": [{"name": "own", "memory": 3}]}, "skus.memory. Supported parameters include: compute_capability"),
        ({"skus": [{"name": SKUS[0].name, "replicas_max": "many"}]}, "replicas_max"),
        ({"skus": [{"name": SKUS[0].name, "kernel_modules": "closed"}]}, "value of kernel_modules must be one of: any, open, proprietary"),
        ({"path": "/x"}, "Unsupported parameters"),
    ],
)
def test_bad_input(tree: SysfsTree, look: Run, options: Object, words: str) -> None:
    result = look(line(), **options)
    assert result["failed"] is True
    assert words in result["msg"]
