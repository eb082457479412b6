# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's PCI and Thunderbolt devices as files, links and folders, below a root directory of a test."""

from __future__ import annotations

import pathlib
import typing as t

_TEXTS = {
    "vendor": "0x10de",
    "device": "0x2504",
    "class": "0x030000",
    "subsystem_vendor": "0x1043",
    "subsystem_device": "0x881d",
    "current_link_speed": "8.0 GT/s PCIe",
    "current_link_width": "4",
    "max_link_speed": "16.0 GT/s PCIe",
    "max_link_width": "16",
    "resource": (
        "0x0000000080000000 0x0000000080ffffff 0x0000000000040200\n"
        "0x0000006000000000 0x000000600fffffff 0x000000000014220c\n"
        "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
    ),
}


class SysfsTree:
    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self._devices = root / "sys/bus/pci/devices"
        self._devices.mkdir(parents=True)

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def pci(self, *path: str, driver: str = "", config: bytes = b"\xde\x10\x04\x25", removable: str = "", **texts: str) -> pathlib.Path:
        """A function below bridges; C(path) names them all from the root port on, the function last."""
        folder = self.root / "sys/devices/pci0000:00" / "/".join(path)
        for above, address in zip([*folder.parents][: len(path) - 1], reversed(path[:-1]), strict=True):
            self._add(above, address, {"vendor": "0x8086", "class": "0x060400"}, b"\x86\x80\x00\x00")
        self._add(folder, path[-1], {**_TEXTS, **texts}, config)
        if removable:
            (folder / "removable").write_text(f"{removable}\n")
        if driver:
            target = self.root / "sys/bus/pci/drivers" / driver
            target.mkdir(parents=True, exist_ok=True)
            (folder / "driver").symlink_to(target)
        return folder

    def _add(self, folder: pathlib.Path, address: str, texts: t.Mapping[str, str], config: bytes) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(f"{text}\n")
        (folder / "config").write_bytes(config)
        link = self._devices / address
        if not link.is_symlink():
            link.symlink_to(folder)

    def thunderbolt(self, controller: pathlib.Path, name: str, unique_id: str, *, authorized: int = 1) -> None:
        folder = controller / "domain0/0-0" / name
        folder.mkdir(parents=True)
        for key, text in {"unique_id": unique_id, "vendor_name": "Razer", "device_name": "Core X", "authorized": str(authorized)}.items():
            (folder / key).write_text(f"{text}\n")
        links = self.root / "sys/bus/thunderbolt/devices"
        links.mkdir(parents=True, exist_ok=True)
        for link, target in ((name, folder), ("0-0", folder.parent), ("domain0", folder.parent.parent)):
            if not (links / link).is_symlink():
                (links / link).symlink_to(target)
