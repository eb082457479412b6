# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The trees that hosts with mock GPUs show below /sys, and what writes into them do; without FUSE."""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils import _pci
from lab.gpu import __main__ as command
from lab.gpu.host import sysfs_server
from lab.gpu.host.kernel_log import KernelLog
from lab.gpu.host.pci_tree import Real, Slots, Tree, made
from lab.gpu.host.sysfs_server import Sysfs
from lab.gpu.state import INIT_ERRORS, State, StateError, of_products, parsed, rendered

GPU = "/devices/pci0000:00/0000:00:07.0/0000:81:00.0/0000:82:01.0/0000:83:00.0"
AUDIO = f"{GPU[:-1]}1"
AUTHORIZED = "/devices/pci0000:00/0000:00:0d.2/domain0/0-0/0-1/authorized"
NVIDIA = "/bus/pci/drivers/nvidia"
RESCAN = "/bus/pci/rescan"


class Kernel:
    """A host's sysfs whose GPUs are held by whom the test says."""

    def __init__(self, path: Path, state: State, real: Real | None = None) -> None:
        self.path = path
        self.path.write_text(rendered(state))
        self.held: set[int] = set()
        self.asked = threading.Event()
        self.shown = 0
        self.said: list[str] = []
        self.sysfs = Sysfs(path, real or Real(), self._show, self.said.append, self._holders)

    def _show(self) -> None:
        self.shown += 1

    def _holders(self, minor: int) -> list[int]:
        self.asked.set()
        return [4711] if minor in self.held else []

    @property
    def state(self) -> State:
        return parsed(self.path.read_text())

    @property
    def devices(self) -> set[str]:
        return {*self.sysfs.names("/bus/pci/devices")} - {".", ".."}

    def write(self, path: str, text: str) -> None:
        self.sysfs.write(path, f"{text}\n".encode())

    def read(self, path: str) -> str:
        return self.sysfs.read(path, 4096, 0).decode().rstrip("\n")


@pytest.fixture
def external(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path / "state", of_products(["rtx-3060-12gb"], [0]))


@pytest.fixture
def internal(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path / "state", of_products(["tesla-p40", "rtx-3060-12gb"]))


def on_disk(tree: Tree, root: Path) -> str:
    """The tree as files, for who reads files."""
    for path in tree.folders:
        (root / f"sys{path}").mkdir(parents=True, exist_ok=True)
    for path, attribute in tree.attributes.items():
        (root / f"sys{path}").write_bytes(attribute.content)
    for path, target in tree.links.items():
        (root / f"sys{path}").symlink_to(target)
    return str(root)


def fails_with(number: int, work: Callable[[], object]) -> None:
    with pytest.raises(OSError, match=r"\[Errno") as error:
        work()
    assert error.value.errno == number


def test_functions_as_the_product_reads_them(tmp_path: Path) -> None:
    root = on_disk(made(of_products(["tesla-p40", "rtx-4000-ada"], [1]), Real()), tmp_path)
    p40, ada, audio = _pci.functions_of_vendor(root, _pci.NVIDIA)
    assert (p40.address, p40.pci_class, p40.device_id, p40.driver, p40.removable) == ("0000:3f:00.0", 0x030200, "1b38", "nvidia", "")
    assert (p40.ancestors, p40.bars[:2], p40.answers) == (("0000:00:1c.0",), (1 << 24, 1 << 35), True)
    assert p40.link == {"speed_gts": 8, "width": 16, "max_speed_gts": 8, "max_width": 16}
    assert (ada.address, ada.link["width"], ada.removable) == ("0000:87:00.0", 4, "0000:85:00.0")
    assert (audio.address, audio.pci_class, audio.driver) == ("0000:87:00.1", 0x040300, "snd_hda_intel")


def test_enclosures_as_the_product_reads_them(tmp_path: Path) -> None:
    root = on_disk(made(of_products(["tesla-p40", "rtx-3060-12gb"], [0, 1]), Real()), tmp_path)
    devices = _pci.thunderbolt_devices(root)
    assert [(one.name, one.device_name, one.authorized, one.controller) for one in devices] == [
        ("0-1", "Core X", 1, "0000:00:0d.2"),
        ("0-3", "Core X", 1, "0000:00:0d.2"),
    ]
    assert len({one.unique_id for one in devices}) == 2
    gpu = _pci.functions_of_vendor(root, _pci.NVIDIA)[0]
    assert {one.name for one in _pci.enclosures_of(root, gpu, devices)} == {"0-1", "0-3"}, "they are on one controller"


def test_every_link_leads_somewhere(tmp_path: Path) -> None:
    tree = made(of_products(["tesla-p40", "rtx-3060-12gb"], [1]), Real())
    root = Path(on_disk(tree, tmp_path))
    assert [path for path in tree.links if "supplier:" not in path and not (root / f"sys{path}").exists()] == []


def test_configuration_space_as_lspci_reads_it() -> None:
    content = made(of_products(["rtx-3060-12gb"], [0]), Real()).attributes[f"{GPU}/config"].content
    assert len(content) == 256
    assert struct.unpack_from("<HH", content) == (0x10DE, 0x2504)
    assert content[9:12] == b"\x00\x00\x03"
    assert struct.unpack_from("<HH", content, 0x2C) == (0x1043, 0x881D)
    capability = content[0x34]
    assert content[capability] == 0x10
    status = struct.unpack_from("<H", content, capability + 0x12)[0]
    assert (status & 0xF, status >> 4 & 0x3F) == (3, 4), "8 GT/s, four lanes"


def test_what_the_machine_has_stays(tmp_path: Path) -> None:
    real = Real({"0000:00:1c.0": "folder", "uevent": "file", "firmware_node": "../LNXSYSTM:00"}, {"/bus/pci/drivers": ["virtio-pci", "pcieport"]})
    tree = made(of_products(["tesla-p40"]), real)
    assert tree.folders["/devices/pci0000:00/0000:00:1c.0"] == set()
    assert tree.links["/bus/pci/devices/0000:00:1c.0"] == "../../../devices/pci0000:00/0000:00:1c.0"
    assert tree.links["/bus/pci/devices/0000:3f:00.0"].endswith("/0000:00:1f.0/0000:3f:00.0"), "another root port"
    assert tree.links["/bus/pci/drivers/virtio-pci"] == "/run/mock-gpu/sys/bus/pci/drivers/virtio-pci"
    assert "unbind" in tree.folders["/bus/pci/drivers/pcieport"]
    assert Slots.free_among(["0000:00:0d.2", "0000:00:1f.3", "uevent"]).controller == "1e"


def test_machines_own_bus_is_found(tmp_path: Path) -> None:
    bus = tmp_path / "devices/pci0000:00"
    (bus / "0000:00:05.0").mkdir(parents=True)
    (bus / "uevent").touch()
    (bus / "firmware_node").symlink_to("../somewhere")
    (tmp_path / "bus/pci/drivers/virtio-pci").mkdir(parents=True)
    (tmp_path / "bus/pci/drivers_autoprobe").touch()
    found = sysfs_server.real(tmp_path)
    assert found.root_bus == {"0000:00:05.0": "folder", "firmware_node": "../somewhere", "uevent": "file"}
    assert found.bus == {"/bus/pci": ["drivers_autoprobe"], "/bus/pci/drivers": ["virtio-pci"]}


def test_gpu_of_a_module_is_no_pci_device() -> None:
    assert made(of_products(["thor"]), Real()).folders["/bus/pci/devices"] == set()
    with pytest.raises(StateError, match="in no enclosure"):
        of_products(["thor"], [0])


def test_lost_gpu_reads_as_ones(external: Kernel) -> None:
    external.path.write_text(rendered(external.state.changed(0, lost=True)))
    assert external.sysfs.read(f"{GPU}/config", 256, 0) == b"\xff" * 256
    assert external.read(f"{GPU}/vendor") == "0x10de", "the kernel remembers it"
    assert external.read(f"{GPU}/current_link_speed") == "Unknown"


def test_no_driver_where_the_module_is_not_loaded(tmp_path: Path) -> None:
    tree = made(replace(of_products(["tesla-p40"]), init_error=INIT_ERRORS["not-loaded"]), Real())
    assert "/devices/pci0000:00/0000:00:1c.0/0000:3f:00.0/driver" not in tree.links
    assert NVIDIA not in tree.folders
    assert tree.folders["/module/nvidia"] == set()


def test_unbind_and_bind(external: Kernel) -> None:
    external.write(f"{NVIDIA}/unbind", "0000:83:00.0")
    assert not external.state.gpus[0].present
    assert "driver" not in external.sysfs.names(GPU)
    fails_with(errno.ENODEV, lambda: external.write(f"{NVIDIA}/unbind", "0000:83:00.0"))
    fails_with(errno.ENODEV, lambda: external.write(f"{NVIDIA}/bind", "0000:83:00.1"))
    external.write("/bus/pci/drivers/snd_hda_intel/unbind", "0000:83:00.1")
    external.write(f"{NVIDIA}/bind", "0000:83:00.0")
    assert external.state.gpus[0].present
    assert external.sysfs.target(f"{GPU}/driver").endswith("/bus/pci/drivers/nvidia")
    fails_with(errno.EBUSY, lambda: external.write(f"{NVIDIA}/bind", "0000:83:00.0"))
    assert external.shown == 3


def test_remove_and_rescan(external: Kernel) -> None:
    external.sysfs.opened(f"{GPU}/vendor")
    external.write(f"{GPU}/power/control", "auto")
    external.write(f"{AUDIO}/remove", "0")
    external.write(f"{AUDIO}/remove", "1")
    assert external.devices == {"0000:00:07.0", "0000:00:0d.2", "0000:81:00.0", "0000:82:01.0", "0000:83:00.0"}
    assert external.state.gpus[0].present
    external.write(f"{GPU}/remove", "1")
    assert "0000:83:00.0" not in external.devices
    assert not external.state.gpus[0].present
    fails_with(errno.ENODEV, lambda: external.read(f"{GPU}/vendor"))
    assert external.sysfs.attributes(f"{GPU}/vendor")["st_size"] == 4096, "it is open"
    external.sysfs.closed(f"{GPU}/vendor")
    fails_with(errno.ENOENT, lambda: external.sysfs.attributes(f"{GPU}/vendor"))
    external.write(RESCAN, "1")
    assert {"0000:83:00.0", "0000:83:00.1"} <= external.devices
    assert external.read(f"{GPU}/power/control") == "on", "a new device with new settings"
    fails_with(errno.EINVAL, lambda: external.write(f"{GPU}/remove", "yes"))


def test_bridge_takes_along_what_is_below(external: Kernel) -> None:
    external.write(f"{os.path.dirname(os.path.dirname(GPU))}/remove", "1")
    assert external.devices == {"0000:00:07.0", "0000:00:0d.2"}
    external.write(RESCAN, "1")
    assert len(external.devices) == 6


def test_rescan_finds_it_at_another_address(internal: Kernel) -> None:
    internal.path.write_text(rendered(internal.state.changed(1, next_address="0000:63:00.0")))
    internal.write(RESCAN, "1")
    assert "0000:41:00.0" in internal.devices, "it was not away"
    internal.write("/devices/pci0000:00/0000:00:1c.1/0000:41:00.0/remove", "1")
    internal.write(RESCAN, "1")
    assert {"0000:3f:00.0", "0000:63:00.0", "0000:63:00.1"} <= internal.devices
    assert internal.state.gpus[1].next_address == ""


def test_rescan_does_not_find_a_lost_gpu(internal: Kernel) -> None:
    internal.path.write_text(rendered(internal.state.changed(0, lost=True)))
    internal.write("/devices/pci0000:00/0000:00:1c.0/0000:3f:00.0/remove", "1")
    internal.write(RESCAN, "1")
    assert "0000:3f:00.0" not in internal.devices


@pytest.mark.parametrize(("path", "text"), [(f"{NVIDIA}/unbind", "0000:83:00.0"), (f"{GPU}/remove", "1")])
def test_writer_waits_for_holders(external: Kernel, path: str, text: str) -> None:
    external.held = {0}
    writer = threading.Thread(target=external.write, args=(path, text))
    writer.start()
    assert external.asked.wait(10)
    assert external.state.gpus[0].present
    assert external.read(f"{GPU}/vendor") == "0x10de", "others are served meanwhile"
    external.held = set()
    writer.join(10)
    assert not writer.is_alive()
    assert external.said == ["NVRM: Attempting to remove device 0000:83:00.0 with non-zero usage count!"]
    assert not external.state.gpus[0].present


def test_audio_function_does_not_wait(external: Kernel) -> None:
    external.held = {0}
    external.write(f"{AUDIO}/remove", "1")
    assert "0000:83:00.1" not in external.devices


def test_authorization(external: Kernel) -> None:
    fails_with(errno.EINVAL, lambda: external.write(AUTHORIZED, "1"))
    external.write(AUTHORIZED, "0")
    assert external.devices == {"0000:00:07.0", "0000:00:0d.2"}
    assert (external.read(AUTHORIZED), external.state.gpus[0].lost) == ("0", False)
    external.write(RESCAN, "1")
    assert "0000:83:00.0" not in external.devices
    external.write(AUTHORIZED, "1")
    assert "0000:83:00.0" in external.devices
    assert external.state.gpus[0].present
    external.path.write_text(rendered(replace(external.state, deauthorization=False)))
    fails_with(errno.EPERM, lambda: external.write(AUTHORIZED, "0"))


def test_tunnel_that_is_taken_from_a_holder(external: Kernel) -> None:
    external.held = {0}
    external.write(AUTHORIZED, "0")
    gpu = external.state.gpus[0]
    assert (gpu.present, gpu.lost, gpu.xid, gpu.xid_number) == (False, True, 79, 1)
    assert external.said == ["NVRM: Xid (PCI:0000:83:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."]


def test_power_control(external: Kernel) -> None:
    port = "/devices/pci0000:00/0000:00:07.0/power/control"
    assert (external.read(port), external.read(f"{GPU}/power/control")) == ("auto", "on")
    external.write(port, "on")
    external.write(f"{AUDIO}/power/control", "auto")
    assert (external.read(port), external.read(f"{AUDIO}/power/control"), external.read(f"{GPU}/power/control")) == ("on", "auto", "on")
    fails_with(errno.EINVAL, lambda: external.write(port, "off"))


def test_cable(tmp_path: Path) -> None:
    state = of_products(["rtx-3060-12gb"], [0])
    pulled = command.unplugged(state, command.arguments(["unplug"]))
    gpu = pulled.gpus[0]
    assert (gpu.present, gpu.lost, gpu.xid, gpu.xid_number) == (False, True, 79, 1)
    kernel = Kernel(tmp_path / "state", pulled)
    assert kernel.devices == {"0000:00:07.0", "0000:00:0d.2"}
    assert "0-1" not in kernel.sysfs.names("/bus/thunderbolt/devices")
    kernel.path.write_text(rendered(command.plugged(pulled, command.arguments(["plug", "--unauthorized", "--address", "0000:63:00.0"]))))
    assert kernel.read(AUTHORIZED) == "0"
    assert kernel.devices == {"0000:00:07.0", "0000:00:0d.2"}
    kernel.write(AUTHORIZED, "1")
    assert {"0000:61:00.0", "0000:62:01.0", "0000:63:00.0", "0000:63:00.1"} <= kernel.devices
    assert (kernel.state.gpus[0].present, kernel.state.gpus[0].lost) == (True, False)
    assert command.plugged(pulled, command.arguments(["plug"])).gpus[0].present
    assert command.returned(pulled, command.arguments(["return"])).gpus[0] == replace(state.gpus[0], xid=79, xid_number=1)


def test_cable_of_a_gpu_that_has_none() -> None:
    with pytest.raises(StateError, match="gpu 0: it is in no enclosure"):
        command.unplugged(of_products(["tesla-p40"]), command.arguments(["unplug"]))
    with pytest.raises(StateError, match="external GPU 1: there is no such GPU"):
        of_products(["tesla-p40"], [1])


def test_addresses_that_a_person_gives(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.arguments(["move", "0000:63:00.0"]).address == "0000:63:00.0"
    with pytest.raises(SystemExit):
        command.arguments(["move", "63:00"])
    assert "not like 0000:3f:00.0" in capsys.readouterr().err


def test_state_is_kept_in_the_file(tmp_path: Path) -> None:
    power = (("gpu", "on"), ("port", "auto"))
    state = of_products(["rtx-3060-12gb", "tesla-p40"], [0])
    state = state.changed(0, authorized=False, absent=frozenset({"gpu", "audio"}), unbound=frozenset({"audio"}), power=power, next_address="0000:63:00.0")
    state = replace(state, deauthorization=False).changed(1, plugged=False)
    assert parsed(rendered(state)) == state


def test_eight_gpus_fit_in_the_file() -> None:
    rendered(of_products(["rtx-pro-4000-blackwell"] * 8, range(8)))


def test_holders_by_name(tmp_path: Path) -> None:
    for process, targets in {"10": ["/dev/nvidia0"], "11": ["/dev/nvidia0 (deleted)", "/dev/null"], "12": ["/dev/nvidia01", "/dev/nvidiactl"]}.items():
        folder = tmp_path / process / "fd"
        folder.mkdir(parents=True)
        for number, target in enumerate(targets):
            (folder / str(number)).symlink_to(target)
    (tmp_path / "13").mkdir()
    assert sorted(sysfs_server.holders(0, tmp_path)) == [10, 11]


def test_state_file_that_was_made_anew(external: Kernel) -> None:
    assert external.devices
    external.path.unlink()
    external.path.write_text(rendered(of_products(["tesla-p40"])))
    assert external.devices == {"0000:00:1c.0", "0000:3f:00.0"}


def test_users_of_the_module(external: Kernel) -> None:
    assert external.read("/module/nvidia/refcnt") == "0"
    external.held = {0}
    assert external.read("/module/nvidia/refcnt") == "1"


def test_kernel_log() -> None:
    log = KernelLog(lambda: 2.5)
    log.kernel_says("NVRM: one\nNVRM: two")
    first = log.record_at(0)
    assert first == b"4,102500,2500000,-;NVRM: one\n"
    end = log.size
    assert log.record_at(len(first)) == b"4,102501,2500000,-;NVRM: two\n"
    assert log.record_at(end) == b""
    log.written("<0>a process cannot speak for the kernel")
    log.written("no level")
    assert log.record_at(end) == b"8,102502,2500000,-;a process cannot speak for the kernel\n"
    assert log.record_at(end + 1) == b"12,102503,2500000,-;no level\n"
