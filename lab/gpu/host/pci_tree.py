# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PCI functions, their bridges and their enclosures, as sysfs shows them: files, links and folders below /sys, made from the state.

Runs on the host, where nothing of the checkout is but the files that C(install) brings.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from lab.gpu.state import BRIDGES, INIT_ERRORS, Gpu, State

ROOT_BUS: Final = "/devices/pci0000:00"
BUS: Final = "/bus/pci"
THUNDERBOLT: Final = "/bus/thunderbolt/devices"
REAL: Final = "/run/mock-gpu/sys"
"""Where the overlay keeps what the machine's kernel shows."""
ONES: Final = b"\xff" * 256
_LOST_SPEED: Final = "Unknown"
_LOST_WIDTH: Final = "63"


@dataclass(frozen=True)
class Silicon:
    """What a product's PCI functions say of themselves."""

    pci_class: int
    subsystem: str
    link_gts: float
    bar1: int
    """Bytes of the window into its memory."""
    audio: str = ""
    """The second function's device; a data centre card has none."""
    revision: int = 0xA1


_SILICON: Final[Mapping[str, Silicon]] = {
    "2504": Silicon(0x030000, "1043:881d", 16, 1 << 28, "228e"),
    "27b2": Silicon(0x030000, "10de:181b", 16, 1 << 28, "22bc"),
    "2c34": Silicon(0x030000, "10de:2052", 32, 1 << 35, "22e9"),
    "1b38": Silicon(0x030200, "10de:11d9", 8, 1 << 35),
}


@dataclass(frozen=True)
class Slots:
    """Device numbers on the root bus, as in Intel's computers where the machine does not have them itself."""

    ports: str = "1c"
    tunnel_ports: str = "07"
    controller: str = "0d"

    @property
    def controller_address(self) -> str:
        return f"0000:00:{self.controller}.2"

    @classmethod
    def free_among(cls, names: Iterable[str]) -> Slots:
        taken = {name.split(":")[2].partition(".")[0] for name in names if name.count(":") == 2}
        chosen: list[str] = []
        for wanted in ("1c", "07", "0d"):
            others = (f"{number:02x}" for number in range(0x1F, 0, -1))
            chosen.append(next(slot for slot in (wanted, *others) if slot not in {*taken, *chosen}))
        return cls(*chosen)


@dataclass(frozen=True)
class Real:
    """What the machine's kernel shows where the mock's tree will lie over it."""

    root_bus: Mapping[str, str] = field(default_factory=dict)
    """Names in /sys/devices/pci0000:00: folder, file, or the target of a link."""
    bus: Mapping[str, Iterable[str]] = field(default_factory=dict)
    """Names in folders of /sys/bus/pci, by the folder's path below /sys."""

    @property
    def slots(self) -> Slots:
        return Slots.free_among(self.root_bus)


@dataclass(frozen=True)
class Attribute:
    content: bytes
    mode: int = 0o444


WRITE_ONLY: Final = Attribute(b"", 0o200)


@dataclass
class Tree:
    """Absolute paths below /sys."""

    attributes: dict[str, Attribute] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: dict[str, set[str]] = field(default_factory=lambda: {"/": set()})
    """Each with the names in it."""

    def folder(self, path: str) -> None:
        if path not in self.folders:
            self.folders[path] = set()
            self._enter(path)

    def put(self, path: str, attribute: Attribute) -> None:
        self.attributes[path] = attribute
        self._enter(path)

    def text(self, path: str, text: str, mode: int = 0o444) -> None:
        self.put(path, Attribute(f"{text}\n".encode(), mode))

    def link(self, path: str, target: str) -> None:
        """C(target) begins with a slash: it is below /sys, and the link relative. Or it is as it is."""
        is_relative = target.startswith("/") and not target.startswith("/run/")
        self.links[path] = "../" * (path.count("/") - 1) + target[1:] if is_relative else target
        self._enter(path)

    def _enter(self, path: str) -> None:
        parent, _slash, name = path.rpartition("/")
        self.folder(parent or "/")
        self.folders[parent or "/"].add(name)


@dataclass(frozen=True)
class Function:
    """Of a GPU or above it."""

    role: str
    address: str
    path: str
    gpu: int


def functions_of(gpu: Gpu, slots: Slots) -> list[Function]:
    """All that could be on the bus, from the root port on. A root port never goes."""
    silicon = _SILICON.get(gpu.product.pci_id)
    if silicon is None:
        return []
    domain, bus, _slot = gpu.pci_address.split(":")
    slot = gpu.pci_address.rpartition(".")[0]
    chain = [("port", f"0000:00:{slots.tunnel_ports if gpu.external else slots.ports}.{gpu.minor}")]
    if gpu.external:
        number = int(bus, 16)
        chain += [("upstream", f"{domain}:{number - 2:02x}:00.0"), ("downstream", f"{domain}:{number - 1:02x}:01.0")]
    found: list[Function] = []
    path = ROOT_BUS
    for role, address in chain:
        path = f"{path}/{address}"
        found.append(Function(role, address, path, gpu.minor))
    found.append(Function("gpu", f"{slot}.0", f"{path}/{slot}.0", gpu.minor))
    if silicon.audio:
        found.append(Function("audio", f"{slot}.1", f"{path}/{slot}.1", gpu.minor))
    return found


def functions_on_the_bus(gpu: Gpu, slots: Slots) -> list[Function]:
    missing = set(gpu.absent)
    if not gpu.has_tunnel:
        missing |= {"upstream"}
    for position, role in enumerate(BRIDGES):
        if role in missing:
            missing |= {*BRIDGES[position:], "gpu", "audio"}
    return [function for function in functions_of(gpu, slots) if function.role not in missing]


MODULES: Final = ("nvidia", "nvidia_modeset", "nvidia_uvm")
DRIVERS: Final = {"gpu": "nvidia", "audio": "snd_hda_intel", "port": "pcieport", "upstream": "pcieport", "downstream": "pcieport"}


def made(state: State, real: Real) -> Tree:
    tree = Tree()
    for name, kind in real.root_bus.items():
        path = f"{ROOT_BUS}/{name}"
        if kind == "folder":
            tree.folder(path)
        elif kind == "file":
            tree.put(path, Attribute(b""))
        else:
            tree.link(path, kind)
        if name.startswith("0000:"):
            tree.link(f"{BUS}/devices/{name}", path)
    tree.folder(f"{BUS}/devices")
    for folder, names in real.bus.items():
        for name in names:
            tree.link(f"{folder}/{name}", f"{REAL}{folder}/{name}")
    tree.links.pop(f"{BUS}/rescan", None)
    tree.put(f"{BUS}/rescan", WRITE_ONLY)
    module_missing = state.init_error == INIT_ERRORS["not-loaded"]
    for driver in sorted({*DRIVERS.values()} - ({"nvidia"} if module_missing else set())):
        tree.links.pop(f"{BUS}/drivers/{driver}", None)
        for name in ("bind", "unbind", "new_id", "remove_id"):
            tree.put(f"{BUS}/drivers/{driver}/{name}", WRITE_ONLY)
    for gpu in state.gpus:
        for function in functions_on_the_bus(gpu, real.slots):
            _add_function(tree, gpu, function, real.slots, module_missing=module_missing)
    tree.folder(THUNDERBOLT)
    if any(gpu.external for gpu in state.gpus):
        _add_thunderbolt(tree, state, real.slots)
    for module in MODULES:
        # Stays, since it is mounted upon
        tree.folder(f"/module/{module}")
        if module_missing:
            continue
        tree.text(f"/module/{module}/version", state.driver)
        tree.text(f"/module/{module}/initstate", "live")
        tree.text(f"/module/{module}/refcnt", "0")
    return tree


def _add_function(tree: Tree, gpu: Gpu, function: Function, slots: Slots, *, module_missing: bool) -> None:
    silicon = _SILICON[gpu.product.pci_id]
    path = function.path
    is_bridge = function.role not in ("gpu", "audio")
    vendor, device, pci_class, revision = {
        "gpu": ("10de", gpu.product.pci_id, silicon.pci_class, silicon.revision),
        "audio": ("10de", silicon.audio, 0x040300, silicon.revision),
        "port": ("8086", "7ac8" if not gpu.external else "9a23", 0x060400, 0x01),
    }.get(function.role, ("8086", "15ef", 0x060400, 0x06))
    subsystem = ("0000", "0000") if is_bridge else silicon.subsystem.partition(":")[::2]
    lost = gpu.lost and not is_bridge
    speed = min(silicon.link_gts, 8.0) if gpu.external else silicon.link_gts
    width = 4 if gpu.external else 16
    bars = _bars(silicon, function.role, gpu.minor)
    texts = {
        "vendor": f"0x{vendor}",
        "device": f"0x{device}",
        "class": f"0x{pci_class:06x}",
        "revision": f"0x{revision:02x}",
        "subsystem_vendor": f"0x{subsystem[0]}",
        "subsystem_device": f"0x{subsystem[1]}",
        "irq": str(16 + gpu.minor),
        "local_cpus": "ff",
        "local_cpulist": "0-7",
        "current_link_speed": _LOST_SPEED if lost else f"{speed:.1f} GT/s PCIe",
        "current_link_width": _LOST_WIDTH if lost else str(width),
        "max_link_speed": f"{silicon.link_gts:.1f} GT/s PCIe",
        "max_link_width": "16",
        "dma_mask_bits": "47",
        "consistent_dma_mask_bits": "47",
        "ari_enabled": "0",
        "power_state": "unknown" if lost else "D0",
        "modalias": f"pci:v0000{vendor.upper()}d0000{device.upper()}sv0000{subsystem[0].upper()}sd0000{subsystem[1].upper()}"
        f"bc{pci_class >> 16:02X}sc{pci_class >> 8 & 0xFF:02X}i{pci_class & 0xFF:02X}",
        "resource": "\n".join(f"0x{start:016x} 0x{end:016x} 0x{flags:016x}" for start, end, flags in bars),
    }
    if function.role != "port":
        texts["removable"] = "removable" if gpu.external else "fixed"
    if function.role == "gpu" and pci_class == 0x030000:
        texts["boot_vga"] = "0"
    if is_bridge:
        below = int(gpu.pci_address.split(":")[1], 16)
        texts["secondary_bus_number"] = str(below - {"port": 2 if gpu.external else 0, "upstream": 1, "downstream": 0}[function.role])
        texts["subordinate_bus_number"] = str(below)
    for name, text in texts.items():
        tree.text(f"{path}/{name}", text)
    writable = {"enable": "1", "numa_node": "-1", "broken_parity_status": "0", "d3cold_allowed": "1", "msi_bus": "1", "driver_override": "(null)"}
    for name, text in writable.items():
        tree.text(f"{path}/{name}", text, 0o644)
    bound = function.role not in gpu.unbound and not (module_missing and DRIVERS[function.role] == "nvidia")
    uevent = {
        **({"DRIVER": DRIVERS[function.role]} if bound else {}),
        "PCI_CLASS": f"{pci_class:X}",
        "PCI_ID": f"{vendor}:{device}".upper(),
        "PCI_SUBSYS_ID": ":".join(subsystem).upper(),
        "PCI_SLOT_NAME": function.address,
        "MODALIAS": texts["modalias"],
    }
    tree.text(f"{path}/uevent", "\n".join(f"{key}={value}" for key, value in uevent.items()), 0o644)
    config = _config(vendor, device, pci_class, revision, subsystem, bars, (speed, width, silicon.link_gts), is_bridge=is_bridge)
    tree.put(f"{path}/config", Attribute(ONES if lost else config, 0o644))
    for name in ("remove", "rescan", "reset"):
        tree.put(f"{path}/{name}", WRITE_ONLY)
    # The kernel lets bridges sleep, nothing else
    tree.text(f"{path}/power/control", dict(gpu.power).get(function.role, "auto" if is_bridge else "on"), 0o644)
    tree.text(f"{path}/power/runtime_status", "active")
    tree.link(f"{path}/subsystem", BUS)
    tree.link(f"{BUS}/devices/{function.address}", path)
    if bound:
        driver = f"{BUS}/drivers/{DRIVERS[function.role]}"
        tree.link(f"{path}/driver", driver)
        tree.link(f"{driver}/{function.address}", path)
    if function.role == "port" and gpu.external:
        # The kernel lets a root port with tunnels depend on its controller
        controller = slots.controller_address
        tree.link(f"{path}/supplier:pci:{controller}", f"/devices/virtual/devlink/pci:{controller}--pci:{function.address}")


_MEMORY, _PREFETCHABLE_64, _IO = 0x40200, 0x14220C, 0x40101


def _bars(silicon: Silicon, role: str, minor: int) -> list[tuple[int, int, int]]:
    empty = (0, 0, 0)
    if role == "gpu":
        low, high = 0x80000000 + minor * 0x02000000, (0x60 + minor * 0x20) << 32
        after = high + silicon.bar1
        sizes = [
            (low, 1 << 24, _MEMORY),
            (high, silicon.bar1, _PREFETCHABLE_64),
            None,
            (after, 1 << 25, _PREFETCHABLE_64),
            None,
            (0x4000 + minor * 0x1000, 128, _IO),
        ]
        found = [empty if one is None else (one[0], one[0] + one[1] - 1, one[2]) for one in sizes]
    elif role == "audio":
        start = 0x81000000 + minor * 0x02000000
        found = [(start, start + (1 << 14) - 1, _MEMORY)] + [empty] * 5
    else:
        found = [empty] * 6
    return found + [empty] * 7


def _config(
    vendor: str,
    device: str,
    pci_class: int,
    revision: int,
    subsystem: tuple[str, ...],
    bars: list[tuple[int, int, int]],
    link: tuple[float, int, float],
    *,
    is_bridge: bool,
) -> bytes:
    """The first 256 bytes of the configuration space, with the capability of PCI Express."""
    speeds = {2.5: 1, 5.0: 2, 8.0: 3, 16.0: 4, 32.0: 5}
    space = bytearray(256)
    code = pci_class.to_bytes(3, "little")
    struct.pack_into("<HHHHB3s", space, 0, int(vendor, 16), int(device, 16), 0x0407, 0x0010, revision, code)
    space[0x0E] = 0x01 if is_bridge else 0x80
    space[0x34] = 0x78
    if not is_bridge:
        struct.pack_into("<HH", space, 0x2C, int(subsystem[0], 16), int(subsystem[1], 16))
        for number, (start, end, flags) in enumerate(bars[:6]):
            if end:
                struct.pack_into("<I", space, 0x10 + 4 * number, start & 0xFFFFFFFF | flags & 0xF)
                if flags & 0x100000:
                    struct.pack_into("<I", space, 0x14 + 4 * number, start >> 32)
    current, width, most = link
    # Version 2; a bridge is drawn as the upstream port of a switch, a function as an endpoint of the old kind
    struct.pack_into("<BBH", space, 0x78, 0x10, 0, 0x0052 if is_bridge else 0x0012)
    struct.pack_into("<I", space, 0x78 + 0x0C, speeds[most] | 16 << 4)
    struct.pack_into("<H", space, 0x78 + 0x12, speeds[current] | width << 4)
    return bytes(space)


def _add_thunderbolt(tree: Tree, state: State, slots: Slots) -> None:
    """The controller with its domain, and a router for each enclosure whose cable is in."""
    controller = f"{ROOT_BUS}/{slots.controller_address}"
    folder = f"{controller}/domain0"
    for name, text in {"vendor": "0x8086", "device": "0x9a1b", "class": "0x0c0340", "subsystem_vendor": "0x8086", "subsystem_device": "0x0000"}.items():
        tree.text(f"{controller}/{name}", text)
    tree.put(f"{controller}/config", Attribute(_config("8086", "9a1b", 0x0C0340, 1, ("8086", "0000"), [], (2.5, 1, 2.5), is_bridge=False), 0o644))
    tree.text(f"{controller}/power/control", "auto", 0o644)
    tree.link(f"{controller}/subsystem", BUS)
    tree.link(f"{BUS}/devices/{slots.controller_address}", controller)
    domain = {"security": "user", "deauthorization": str(int(state.deauthorization)), "iommu_dma_protection": "1"}
    host = {"authorized": "1", "unique_id": "d4010000-0080-7f08-2f24-1d4a0ae19e23", "vendor_name": "Homelab", "device_name": "Lab host", "generation": "4"}
    for name, text in domain.items():
        tree.text(f"{folder}/{name}", text)
    for name, text in host.items():
        tree.text(f"{folder}/0-0/{name}", text)
    paths = {"domain0": folder, "0-0": f"{folder}/0-0"}
    for gpu in state.gpus:
        if not (gpu.external and gpu.plugged):
            continue
        name = router(gpu)
        path = paths[name] = f"{folder}/0-0/{name}"
        texts = {
            "unique_id": f"c4010000-0070-6c0e-0388-9e3b8d51c1{gpu.minor:02x}",
            "vendor": "0x127",
            "vendor_name": "Razer",
            "device": "0x5",
            "device_name": "Core X",
            "generation": "3",
            "rx_speed": "20.0 Gb/s",
            "tx_speed": "20.0 Gb/s",
            "rx_lanes": "2",
            "tx_lanes": "2",
            "boot": "0",
            "nvm_version": "33.0",
        }
        for key, text in texts.items():
            tree.text(f"{path}/{key}", text)
        tree.text(f"{path}/authorized", str(int(gpu.authorized)), 0o644)
    for name, path in paths.items():
        kind = "thunderbolt_domain" if name == "domain0" else "thunderbolt_device"
        tree.text(f"{path}/uevent", f"DEVTYPE={kind}", 0o644)
        tree.link(f"{path}/subsystem", "/bus/thunderbolt")
        tree.link(f"{THUNDERBOLT}/{name}", path)


def router(gpu: Gpu) -> str:
    """Ports of a controller that lead out have odd numbers."""
    return f"0-{2 * gpu.minor + 1:x}"
