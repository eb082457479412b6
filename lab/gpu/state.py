# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mock GPUs of a lab host are like: a text file, which the mock library reads at every call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

PATH: Final = "/run/mock-nvml/state"
# The same file, where NVIDIA's container toolkit looks for the socket of the persistence daemon, which it shows to containers
PATH_IN_CONTAINERS: Final = "/run/nvidia-persistenced/socket"
SAVED: Final = "/var/lib/mock-gpu/state"
"""What there is after a boot."""
SIZE: Final = 4096
"""Of the file, in bytes: as much as the library reads in one call."""
# NVML's numbers
INIT_ERRORS: Final = {"not-loaded": 9, "mismatch": 18, "unknown": 999}


class StateError(Exception):
    """Something that was asked for and cannot be; the text says what can."""


@dataclass(frozen=True)
class Product:
    """What is the same in all GPUs of one kind. C(memory_mib) 0: it shares its host's."""

    name: str
    memory_mib: int
    compute_capability: str
    pci_id: str


# As the drivers of these products report them
PRODUCTS: Final[Mapping[str, Product]] = {
    "rtx-3060-12gb": Product("NVIDIA GeForce RTX 3060", 12288, "8.6", "2504"),
    "rtx-3060-8gb": Product("NVIDIA GeForce RTX 3060", 8192, "8.6", "2504"),
    "rtx-4000-ada": Product("NVIDIA RTX 4000 Ada Generation", 20475, "8.9", "27b2"),
    "rtx-pro-4000-blackwell": Product("NVIDIA RTX PRO 4000 Blackwell", 24467, "12.0", "2c34"),
    "tesla-p40": Product("Tesla P40", 24576, "6.1", "1b38"),
    "thor": Product("NVIDIA Thor", 0, "11.0", "2b00"),
}


@dataclass(frozen=True)
class Gpu:
    product: Product
    uuid: str
    pci_address: str
    minor: int
    present: bool = True
    lost: bool = False
    persistence: bool = False
    xid: int = 0
    xid_number: int = 0
    """How many Xid errors there were: each rise is an event."""


@dataclass(frozen=True)
class State:
    driver: str = "580.95.05"
    cuda: int = 13000
    init_error: int = 0
    wait_error: int = 0
    hang: bool = False
    gpus: tuple[Gpu, ...] = field(default_factory=tuple)

    def changed(self, number: int, **values: Any) -> State:
        """The same with one GPU changed."""
        if not 0 <= number < len(self.gpus):
            there = ", ".join(str(index) for index in range(len(self.gpus))) or "none"
            raise StateError(f"gpu {number}: there is no such GPU. There are: {there}")
        return replace(self, gpus=tuple(replace(gpu, **values) if index == number else gpu for index, gpu in enumerate(self.gpus)))

    def with_xid(self, number: int, xid: int) -> State:
        self.changed(number)
        return self.changed(number, xid=xid, xid_number=self.gpus[number].xid_number + 1)


def of_products(names: list[str]) -> State:
    """A host with these products, in slots one after the other."""
    unknown = [name for name in names if name not in PRODUCTS]
    if unknown:
        raise StateError(f"product {unknown[0]}: not known. There are: {', '.join(PRODUCTS)}")
    return State(
        gpus=tuple(
            Gpu(PRODUCTS[name], f"GPU-{number:08x}-0000-4000-8000-{number:012x}", f"0000:{0x3F + 2 * number:02x}:00.0", number)
            for number, name in enumerate(names)
        )
    )


def rendered(state: State) -> str:
    lines = {
        "driver": state.driver,
        "cuda": state.cuda,
        "init_error": state.init_error,
        "wait_error": state.wait_error,
        "hang": int(state.hang),
    }
    for number, gpu in enumerate(state.gpus):
        values = {
            "name": gpu.product.name,
            "memory_mib": gpu.product.memory_mib,
            "compute_capability": gpu.product.compute_capability,
            "pci_id": gpu.product.pci_id,
            "uuid": gpu.uuid,
            "pci_address": gpu.pci_address,
            "minor": gpu.minor,
            "present": int(gpu.present),
            "lost": int(gpu.lost),
            "persistence": int(gpu.persistence),
            "xid": gpu.xid,
            "xid_number": gpu.xid_number,
        }
        lines |= {f"gpu{number}.{key}": value for key, value in values.items()}
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    if len(text.encode()) > SIZE:
        raise StateError(f"{len(state.gpus)} GPUs are more than the state file holds")
    return text.ljust(SIZE, "\n")


def parsed(text: str) -> State:
    """The inverse of rendered()."""
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    gpus: list[Gpu] = []
    while f"gpu{len(gpus)}.uuid" in lines:
        own = {key.split(".", 1)[1]: value for key, value in lines.items() if key.startswith(f"gpu{len(gpus)}.")}
        product = Product(own["name"], int(own["memory_mib"]), own["compute_capability"], own["pci_id"])
        flags: dict[str, Any] = {key: own[key] == "1" for key in ("present", "lost", "persistence")}
        numbers: dict[str, Any] = {key: int(own[key]) for key in ("xid", "xid_number")}
        gpus.append(Gpu(product, own["uuid"], own["pci_address"], int(own["minor"]), **flags, **numbers))
    return State(lines["driver"], int(lines["cuda"]), int(lines["init_error"]), int(lines["wait_error"]), lines["hang"] == "1", tuple(gpus))
