# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# PCI and Thunderbolt devices as sysfs below a root directory (another one in tests) shows them. Reads only.

from __future__ import annotations

import dataclasses
import os
import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._host_facts import read

__all__ = ["NVIDIA", "PciFunction", "ThunderboltDevice", "enclosures_of", "functions_of_vendor", "normalised_address", "thunderbolt_devices"]

NVIDIA = "0x10de"
_DEVICES = "sys/bus/pci/devices"
_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
# Flags of a line of the file resource: an I/O port or memory
_IS_BAR = 0x300
_BARS = 6


def normalised_address(text: str) -> str:
    """As sysfs writes it: 0000:3f:00.0, whatever the length of the domain or the case."""
    domain, _colon, rest = text.strip().lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}" if re.fullmatch("[0-9a-f]+", domain) else text.strip().lower()


@dataclasses.dataclass(frozen=True)
class PciFunction:
    address: str
    pci_class: int
    """24 bits: class, subclass, programming interface."""
    device_id: str
    subsystem: str
    """Vendor and device, as 10de:1234."""
    driver: str
    """Name of the bound driver, or nothing."""
    link: dict[str, float | None]
    bars: tuple[int, ...]
    """Sizes in bytes, of those that there are."""
    answers: bool
    """Whether its configuration space can be read: one that fell off the bus gives only ones."""
    ancestors: tuple[str, ...]
    """Addresses of the PCI devices above it, from the root port on."""
    removable: str
    """The address above it, or its own, that the kernel calls removable."""

    @property
    def slot(self) -> str:
        return self.address.rpartition(".")[0]

    @property
    def is_display(self) -> bool:
        return self.pci_class >> 16 == 0x03


def functions_of_vendor(root: str, vendor: str) -> list[PciFunction]:
    """All functions of one vendor, such as 0x10de, in the order of their addresses."""
    try:
        addresses = sorted(os.listdir(os.path.join(root, _DEVICES)))
    except OSError:
        return []
    return [_function(root, address) for address in addresses if _text(root, address, "vendor") == vendor]


def _function(root: str, address: str) -> PciFunction:
    ancestors = tuple(part for part in os.path.realpath(os.path.join(root, _DEVICES, address)).split(os.sep)[:-1] if _ADDRESS.fullmatch(part))
    return PciFunction(
        address=normalised_address(address),
        pci_class=_hex(_text(root, address, "class")),
        device_id=_text(root, address, "device").removeprefix("0x"),
        subsystem=f"{_text(root, address, 'subsystem_vendor').removeprefix('0x')}:{_text(root, address, 'subsystem_device').removeprefix('0x')}",
        driver=_target(os.path.join(root, _DEVICES, address, "driver")),
        link={
            "speed_gts": _number(_text(root, address, "current_link_speed")),
            "width": _number(_text(root, address, "current_link_width")),
            "max_speed_gts": _number(_text(root, address, "max_link_speed")),
            "max_width": _number(_text(root, address, "max_link_width")),
        },
        bars=_bars(_text(root, address, "resource")),
        answers=_answers(os.path.join(root, _DEVICES, address, "config")),
        ancestors=ancestors,
        removable=next((above for above in (*ancestors, address) if _text(root, above, "removable") == "removable"), ""),
    )


def _text(root: str, address: str, name: str) -> str:
    return read(root, os.path.join(_DEVICES, address, name)).strip()


def _hex(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0


def _number(text: str) -> float | None:
    """Of "8.0 GT/s PCIe" or "16"; None where the kernel does not know."""
    found = _NUMBER.match(text)
    return float(found[0]) if found else None


def _target(link: str) -> str:
    try:
        return os.path.basename(os.readlink(link))
    except OSError:
        return ""


def _bars(resource: str) -> tuple[int, ...]:
    sizes = []
    for line in resource.splitlines()[:_BARS]:
        fields = line.split()
        if len(fields) == 3:
            start, end, flags = map(_hex, fields)
            if flags & _IS_BAR and end > start:
                sizes.append(end - start + 1)
    return tuple(sizes)


def _answers(path: str) -> bool:
    try:
        with open(path, "rb") as stream:
            return stream.read(4) != b"\xff" * 4
    except OSError:
        # Not everybody may read it; that says nothing of the device
        return True


@dataclasses.dataclass(frozen=True)
class ThunderboltDevice:
    """What is plugged in, a computer's own controller left out."""

    name: str
    unique_id: str
    vendor_name: str
    device_name: str
    authorized: int
    """0 no, 1 yes, 2 yes with a key."""
    controller: str
    """PCI address of the host interface that it hangs on."""


def thunderbolt_devices(root: str) -> list[ThunderboltDevice]:
    folder = os.path.join(root, "sys/bus/thunderbolt/devices")
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    found = []
    for name in names:
        # Routers only, such as 0-1 or 0-301; the one with route 0 is the computer itself
        route = re.fullmatch(r"\d+-([0-9a-f]+)", name)
        if route is None or int(route[1], 16) == 0:
            continue
        texts = {key: read(root, f"sys/bus/thunderbolt/devices/{name}/{key}").strip() for key in ("unique_id", "vendor_name", "device_name", "authorized")}
        controller = next((part for part in reversed(os.path.realpath(os.path.join(folder, name)).split(os.sep)) if _ADDRESS.fullmatch(part)), "")
        authorized = int(texts["authorized"]) if texts["authorized"].isdigit() else 0
        found.append(ThunderboltDevice(name, texts["unique_id"], texts["vendor_name"], texts["device_name"], authorized, controller))
    return found


def enclosures_of(root: str, function: PciFunction, devices: t.Sequence[ThunderboltDevice]) -> list[ThunderboltDevice]:
    """Those that the function can be in, as far as the topology tells; several if one hangs on another."""
    if not function.ancestors:
        return []
    linked = [device for device in devices if device.authorized and device.controller and _is_linked(root, function, device.controller)]
    if linked or not function.removable:
        return linked
    # Older kernels tell only that it is removable: with one controller there is no choice
    there = [device for device in devices if device.authorized]
    return there if len({device.controller for device in there}) == 1 else []


def _is_linked(root: str, function: PciFunction, controller: str) -> bool:
    """Whether the controller's tunnels end above the function."""
    for above in function.ancestors:
        # The kernel lets a root port with tunnels depend on its controller
        if os.path.lexists(os.path.join(root, _DEVICES, above, f"supplier:pci:{controller}")):
            return True
    # A controller of its own, on a card or a mainboard: it and its ports are below one root port
    path = os.path.realpath(os.path.join(root, _DEVICES, controller)).split(os.sep)
    return function.ancestors[0] in path[:-1]
