# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What a host is like, read from its files below a root directory (another one in tests). Reads only. Private to this collection.

from __future__ import annotations

import gzip
import os
import re
import struct
from typing import Any

__all__ = [
    "ARCHITECTURES",
    "cgroup",
    "default_routes",
    "kernel_features",
    "listeners",
    "memory",
    "read",
    "selinux",
    "swaps",
]

ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

# feature: (modules that give it, paths that show it, kernel options that show it)
_FEATURES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "overlay": (("overlay",), (), ("CONFIG_OVERLAY_FS",)),
    "br_netfilter": (("br_netfilter",), ("proc/sys/net/bridge",), ("CONFIG_BRIDGE_NETFILTER",)),
    # The pod network of a running K3s shows it as well.
    "vxlan": (("vxlan",), ("sys/class/net/flannel.1",), ("CONFIG_VXLAN",)),
    "nf_conntrack": (("nf_conntrack",), ("proc/sys/net/netfilter/nf_conntrack_max", "proc/net/nf_conntrack"), ("CONFIG_NF_CONNTRACK",)),
    "iptable_nat or nf_tables": (("iptable_nat", "nf_tables"), ("proc/net/ip_tables_names",), ("CONFIG_IP_NF_NAT", "CONFIG_NF_TABLES")),
}

_STATES = {"0A": "listening", "07": "bound"}


def read(root: str, path: str) -> str:
    """The file's text, or nothing if it is missing or unreadable."""
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _kernel_config(root: str, release: str) -> str:
    try:
        with gzip.open(os.path.join(root, "proc/config.gz"), "rt", encoding="ascii", errors="replace") as stream:
            return stream.read()
    except (OSError, EOFError):
        return read(root, f"boot/config-{release}")


def _module_files(root: str, release: str, name: str) -> tuple[str, ...]:
    return tuple(read(root, f"lib/modules/{release}/{name}").splitlines())


def kernel_features(root: str, release: str) -> dict[str, str]:
    """For each feature: present (in use or built in), loadable, missing (known not to be there) or unknown."""
    loaded = {line.split(" ", 1)[0] for line in read(root, "proc/modules").splitlines()}
    filesystems = {line.split()[-1] for line in read(root, "proc/filesystems").splitlines() if line.split()}
    builtin = _module_files(root, release, "modules.builtin")
    loadable = _module_files(root, release, "modules.dep")
    config = _kernel_config(root, release)
    result = {}
    for feature, (modules, paths, options) in _FEATURES.items():
        values = {match.group(1) for option in options if (match := re.search(rf"^{option}=([ym])$", config, re.MULTILINE))}
        files = tuple(f"/{module}.ko" for module in modules)
        if (
            loaded & set(modules)
            or filesystems & set(modules)
            or any(os.path.exists(os.path.join(root, "sys/module", module)) for module in modules)
            or any(os.path.exists(os.path.join(root, path)) for path in paths)
            or "y" in values
            or any(line.endswith(files) for line in builtin)
        ):
            result[feature] = "present"
        elif any(name in line.split(":", 1)[0] for line in loadable for name in files):
            result[feature] = "loadable"
        elif loadable or (config and not values):
            result[feature] = "missing"
        else:
            result[feature] = "unknown"
    return result


def cgroup(root: str) -> dict[str, Any]:
    """The version and the controllers; the hybrid layout counts as version 1, as it does for the kubelet."""
    unified = read(root, "sys/fs/cgroup/cgroup.controllers")
    if unified or os.path.exists(os.path.join(root, "sys/fs/cgroup/cgroup.controllers")):
        return {"version": 2, "controllers": sorted(unified.split())}
    rows = [line.split() for line in read(root, "proc/cgroups").splitlines() if line and not line.startswith("#")]
    return {"version": 1, "controllers": sorted(row[0] for row in rows if len(row) == 4 and row[3] == "1")}


def memory(root: str) -> int:
    match = re.search(r"^MemTotal:\s+(\d+) kB$", read(root, "proc/meminfo"), re.MULTILINE)
    return int(match.group(1)) // 1024 if match else 0


def swaps(root: str) -> list[str]:
    return [line.split()[0] for line in read(root, "proc/swaps").splitlines()[1:] if line.split()]


def selinux(root: str) -> str:
    """disabled, permissive or enforcing."""
    return {"1": "enforcing", "0": "permissive"}.get(read(root, "sys/fs/selinux/enforce").strip(), "disabled")


def default_routes(root: str) -> list[str]:
    """The interfaces that have a default route, IPv4 first."""
    found = []
    for line in read(root, "proc/net/route").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == "00000000" and fields[7] == "00000000":
            found.append(fields[0])
    for line in read(root, "proc/net/ipv6_route").splitlines():
        fields = line.split()
        if len(fields) == 10 and fields[0] == "0" * 32 and fields[1] == "00" and fields[9] != "lo":
            found.append(fields[9])
    return list(dict.fromkeys(found))


def _address(text: str) -> str:
    raw = bytes.fromhex(text)
    if len(raw) == 4:
        return ".".join(str(byte) for byte in reversed(raw))
    words = struct.unpack("<4I", raw)
    if words == (0, 0, 0, 0):
        return "::"
    return ":".join(f"{word >> 16:x}:{word & 0xFFFF:x}" for word in words)


def _sockets(root: str, ports: set[tuple[str, int]]) -> list[dict[str, Any]]:
    found = []
    for protocol in ("tcp", "udp"):
        for suffix in ("", "6"):
            for line in read(root, f"proc/net/{protocol}{suffix}").splitlines()[1:]:
                fields = line.split()
                if len(fields) < 10 or _STATES.get(fields[3]) != ("listening" if protocol == "tcp" else "bound"):
                    continue
                address, port = fields[1].rsplit(":", 1)
                if (protocol, int(port, 16)) in ports:
                    found.append({"protocol": protocol, "port": int(port, 16), "address": _address(address), "inode": fields[9]})
    return found


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def listeners(root: str, ports: set[tuple[str, int]]) -> list[dict[str, Any]]:
    """Who holds the ports: process name, pid and systemd unit. A socket without a process belongs to the kernel."""
    sockets = _sockets(root, ports)
    if not sockets:
        return []
    owners: dict[str, int] = {}
    inodes = {f"socket:[{socket['inode']}]": socket["inode"] for socket in sockets}
    proc = os.path.join(root, "proc")
    for pid in sorted((int(name) for name in os.listdir(proc) if name.isdigit()), reverse=True):
        directory = os.path.join(proc, str(pid), "fd")
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            inode = inodes.get(_link(os.path.join(directory, name)))
            if inode:
                owners[inode] = pid
    result = []
    for socket in sockets:
        pid = owners.get(socket.pop("inode"), 0)
        units = re.findall(r"([\w@.\\-]+\.service)", read(root, f"proc/{pid}/cgroup")) if pid else []
        program = read(root, f"proc/{pid}/comm").strip() if pid else "the kernel"
        result.append({**socket, "pid": pid, "program": program, "unit": units[0] if units else ""})
    return result
