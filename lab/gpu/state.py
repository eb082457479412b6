# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mock GPUs of a lab host are like: a text file, which the mock library reads at every call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

PATH: Final = "/run/mock-nvml/state"
# The same file, where NVIDIA's container toolkit looks for the socket of the persistence daemon, which it shows to containers
PATH_IN_CONTAINERS: Final = "/run/nvidia-persistenced/socket"
SAVED: Final = "/var/lib/mock-gpu/state"
"""What there is after a boot."""
SIZE: Final = 4096
"""Of the file, in bytes: as much as the library reads in one call."""
BRIDGES: Final = ("upstream", "downstream")
"""Of an enclosure."""
EXTERNAL_ROLES: Final = (*BRIDGES, "gpu", "audio")
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
    external: bool = False
    """In an enclosure of its own, behind a Thunderbolt cable."""
    plugged: bool = True
    authorized: bool = True
    absent: frozenset[str] = frozenset()
    """Functions and bridges, by their roles, that the kernel has removed."""
    unbound: frozenset[str] = frozenset()
    """Functions whose driver was taken from them."""
    power: tuple[tuple[str, str], ...] = ()
    """Role and power/control, where it was written."""
    next_address: str = ""
    """Where the kernel puts it when it finds it the next time."""

    @property
    def has_tunnel(self) -> bool:
        """Whether the bus can reach it."""
        return not self.external or (self.plugged and self.authorized)

    def settled(self) -> Gpu:
        """The same with C(present), which is the driver's view, as the bus makes it."""
        return replace(self, present=self.has_tunnel and not self.absent & {"gpu", *BRIDGES} and "gpu" not in self.unbound)

    def gone(self) -> Gpu:
        """No function of it is on the bus any more."""
        return replace(self, absent=self.absent | {"gpu", "audio"}).settled()

    def found(self) -> Gpu:
        """As the kernel finds it when it looks: drivers bound, settings as at first, perhaps at another address. It does not find one that is lost."""
        if not self.has_tunnel or (self.lost and self.absent & {"gpu", *BRIDGES}):
            return self
        address = self.next_address if self.next_address and self.absent else self.pci_address
        return replace(
            self,
            pci_address=address,
            next_address="" if address == self.next_address else self.next_address,
            power=tuple((role, value) for role, value in self.power if role not in self.absent),
            unbound=self.unbound - self.absent,
            absent=frozenset(),
        ).settled()

    def unplugged(self) -> Gpu:
        """Whoever still holds it has a device that is lost."""
        return replace(self, plugged=False, authorized=False, lost=True, absent=frozenset(EXTERNAL_ROLES)).settled()

    def without_tunnel(self, *, held: bool) -> Gpu:
        return replace(self, authorized=False, lost=self.lost or held, absent=frozenset(EXTERNAL_ROLES)).settled()

    def with_cable(self, *, authorized: bool) -> Gpu:
        return replace(self, plugged=True, authorized=authorized, lost=False, unbound=frozenset(), power=()).found()


@dataclass(frozen=True)
class State:
    driver: str = "580.95.05"
    cuda: int = 13000
    init_error: int = 0
    wait_error: int = 0
    hang: bool = False
    deauthorization: bool = True
    """Whether the Thunderbolt domain can take an authorization back."""
    gpus: tuple[Gpu, ...] = field(default_factory=tuple)

    def changed(self, number: int, **values: Any) -> State:
        """The same with one GPU changed."""
        return self.changed_by(number, lambda gpu: replace(gpu, **values))

    def changed_by(self, number: int, change: Callable[[Gpu], Gpu]) -> State:
        if not 0 <= number < len(self.gpus):
            there = ", ".join(str(index) for index in range(len(self.gpus))) or "none"
            raise StateError(f"gpu {number}: there is no such GPU. There are: {there}")
        return replace(self, gpus=tuple(change(gpu) if index == number else gpu for index, gpu in enumerate(self.gpus)))

    def in_enclosure(self, number: int) -> State:
        """The same, if that GPU is in one."""
        self.changed(number)
        if not self.gpus[number].external:
            raise StateError(f"gpu {number}: it is in no enclosure. Make one: swap PRODUCT --external")
        return self

    def with_xid(self, number: int, xid: int) -> State:
        self.changed(number)
        return self.changed(number, xid=xid, xid_number=self.gpus[number].xid_number + 1)


def xid_line(pci_address: str, xid: int) -> str:
    """As the driver writes it into the kernel log."""
    text = {79: "GPU has fallen off the bus."}.get(xid, "Ch 00000000")
    return f"NVRM: Xid (PCI:{pci_address.rpartition('.')[0]}): {xid}, pid='<unknown>', name=<unknown>, {text}"


def of_products(names: Sequence[str], external: Collection[int] = ()) -> State:
    """A host with these products, in slots one after the other; those with the numbers C(external) in enclosures."""
    unknown = [name for name in names if name not in PRODUCTS]
    if unknown:
        raise StateError(f"product {unknown[0]}: not known. There are: {', '.join(PRODUCTS)}")
    wrong = [number for number in external if not 0 <= number < len(names)]
    if wrong:
        raise StateError(f"external GPU {wrong[0]}: there is no such GPU")
    if any(names[number] == "thor" for number in external):
        raise StateError("thor: a GPU of a module is in no enclosure")
    return State(
        gpus=tuple(
            Gpu(
                PRODUCTS[name],
                f"GPU-{number:08x}-0000-4000-8000-{number:012x}",
                # An enclosure has a bus for its own port and one for the GPU's
                f"0000:{0x83 + 4 * number if number in external else 0x3F + 2 * number:02x}:00.0",
                number,
                external=number in external,
            )
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
        **({} if state.deauthorization else {"deauthorization": 0}),
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
        # Rarely anything but this; the file has little room
        unusual = {
            "external": "1" if gpu.external else "",
            "plugged": "" if gpu.plugged else "0",
            "authorized": "" if gpu.authorized else "0",
            "absent": ",".join(sorted(gpu.absent)),
            "unbound": ",".join(sorted(gpu.unbound)),
            "power": ",".join(f"{role}:{control}" for role, control in gpu.power),
            "next_address": gpu.next_address,
        }
        values |= {key: value for key, value in unusual.items() if value}
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
        unusual: dict[str, Any] = {
            "external": own.get("external") == "1",
            "plugged": own.get("plugged") != "0",
            "authorized": own.get("authorized") != "0",
            "absent": frozenset(filter(None, own.get("absent", "").split(","))),
            "unbound": frozenset(filter(None, own.get("unbound", "").split(","))),
            "power": tuple((role, control) for role, _colon, control in (one.partition(":") for one in own.get("power", "").split(",")) if role),
            "next_address": own.get("next_address", ""),
        }
        gpus.append(Gpu(product, own["uuid"], own["pci_address"], int(own["minor"]), **flags, **numbers, **unusual))
    return State(
        lines["driver"],
        int(lines["cuda"]),
        int(lines["init_error"]),
        int(lines["wait_error"]),
        lines["hang"] == "1",
        lines.get("deauthorization") != "0",
        tuple(gpus),
    )
