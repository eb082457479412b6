# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab is called, where its files lie and which addresses its hosts get: all derived from the checkout's path."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DEFAULT_HOSTS = ("k3s-server", "k3s-worker", "k3s-gpu-worker")

# Well away from K3s' own 10.42.0.0/16 and 10.43.0.0/16
POOL = ipaddress.IPv4Network("10.128.0.0/9")
FIXED_ADDRESSES = {"k3s-server": 11, "k3s-worker": 12, "k3s-gpu-worker": 13}
FIRST_FREE_ADDRESS = 14
LAST_ADDRESS = 254

_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LAB_ID = re.compile(r"[0-9a-f]{8}")


class LabError(Exception):
    """Something the reader of the message can put right."""


@dataclass(frozen=True)
class Lab:
    """The names and paths of one checkout's lab."""

    id: str
    checkout: Path | None
    state_root: Path = Path("/var/lib/homelab-gpu-lab")
    run_root: Path = Path("/run/homelab-gpu-lab")

    @classmethod
    def of_checkout(cls, checkout: Path) -> Lab:
        return cls(lab_id(checkout), checkout.resolve())

    @property
    def name(self) -> str:
        return f"homelab-gpu-lab-{self.id}"

    @property
    def bridge(self) -> str:
        """A network interface's name has at most 15 characters."""
        return f"hl{self.id}"

    @property
    def state(self) -> Path:
        return self.state_root / self.id

    @property
    def run(self) -> Path:
        return self.run_root / self.id

    @property
    def record(self) -> Path:
        """What other labs on the machine must know of this one."""
        return self.state / "lab.json"

    @property
    def dot_lab(self) -> Path:
        if self.checkout is None:
            raise LabError(f"lab {self.id} has no checkout")
        return self.checkout / ".lab"

    def volume(self, host: str) -> str:
        return f"{host}-var-lib"


def lab_id(checkout: Path) -> str:
    return hashlib.sha256(str(checkout.resolve()).encode()).hexdigest()[:8]


def check_lab_id(value: str) -> str:
    if not _LAB_ID.fullmatch(value):
        raise LabError(f"lab_id: {value!r} is not the id of a lab. Give the 8 hexadecimal digits which name its folder in /var/lib/homelab-gpu-lab.")
    return value


def check_host_names(names: object) -> list[str]:
    """The names in order, or an error that says which of them cannot be a host."""
    if not isinstance(names, list):
        raise LabError(f'lab_hosts: {names!r} is not a list. Give one, for example -e \'{{"lab_hosts": ["k3s-worker-2"]}}\'.')
    if not names:
        raise LabError('lab_hosts: the list is empty. Name at least one host, for example ["k3s-server"].')
    for name in names:
        if not isinstance(name, str) or not _HOST_NAME.fullmatch(name):
            raise LabError(f"lab_hosts: {name!r} is not a host name. Use lower-case letters, digits and hyphens, at most 63, for example 'k3s-worker-2'.")
        if name == "localhost":
            raise LabError("lab_hosts: 'localhost' is the machine itself. Use another name.")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise LabError(f"lab_hosts: {twice[0]!r} is named twice. Name each host once.")
    return list(names)


def choose_subnet(identity: str, taken: Iterable[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    """A /24 of the pool that overlaps nothing in use: the search starts at a place given by the id, so that it is usually the same one."""
    used = [network for network in taken if network.overlaps(POOL) and not network.supernet_of(POOL)]
    count = 2 ** (24 - POOL.prefixlen)
    start = int(identity, 16) % count
    base = int(POOL.network_address)
    for step in range(count):
        candidate = ipaddress.IPv4Network((base + ((start + step) % count) * 256, 24))
        if not any(candidate.overlaps(network) for network in used):
            return candidate
    raise LabError(
        f"No /24 of {POOL} is free on this machine: every one overlaps a route, an address or another lab. Remove a lab: ansible-playbook lab/down.yml."
    )


def networks_in_use(routes: Sequence[Mapping], addresses: Sequence[Mapping]) -> list[ipaddress.IPv4Network]:
    """From the answers of ``ip -json -4 route show table all`` and ``ip -json -4 address``; a default route takes nothing."""
    found = []
    for route in routes:
        destination = route.get("dst", "default")
        if destination != "default":
            found.append(ipaddress.IPv4Network(destination, strict=False))
    for interface in addresses:
        for address in interface.get("addr_info", []):
            found.append(ipaddress.IPv4Network(f"{address['local']}/{address['prefixlen']}", strict=False))
    return found


def assign_addresses(hosts: Sequence[str], subnet: ipaddress.IPv4Network, known: Mapping[str, str]) -> dict[str, str]:
    """Addresses of the known hosts, which stay as they are, and of the new ones."""
    result = dict(known)
    taken = {int(ipaddress.IPv4Address(address)) - int(subnet.network_address) for address in known.values()}
    for host in hosts:
        if host in result:
            continue
        number = FIXED_ADDRESSES.get(host)
        if number is None:
            number = next((n for n in range(FIRST_FREE_ADDRESS, LAST_ADDRESS + 1) if n not in taken), None)
        if number is None:
            raise LabError(f"lab_hosts: no address is left in {subnet} for {host!r}. Remove a host: ansible-playbook lab/down.yml -e lab_host=NAME.")
        taken.add(number)
        result[host] = str(subnet.network_address + number)
    return result


def mac_address(address: str) -> str:
    """A locally administered one, made from the IPv4 address."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)


def extra_hosts(hosts: Iterable[str]) -> list[str]:
    return [host for host in hosts if host not in DEFAULT_HOSTS]
