# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._host_facts import (
    cgroup,
    default_routes,
    kernel_features,
    listeners,
    memory,
    selinux,
    swaps,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc" / "net").mkdir(parents=True)
    return tmp_path


def put(root: Path, path: str, text: str = "") -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def vxlan(root: Path) -> str:
    return kernel_features(str(root), "6.1.0")["vxlan"]


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("proc/modules", "vxlan 155648 0 - Live 0x0\n", "present"),
        ("proc/modules", "vxlan_like 155648 0 - Live 0x0\n", "unknown"),
        ("sys/module/vxlan/version", "", "present"),
        ("lib/modules/6.1.0/modules.builtin", "kernel/drivers/net/vxlan/vxlan.ko\n", "present"),
        ("lib/modules/6.1.0/modules.dep", "kernel/drivers/net/vxlan/vxlan.ko.xz: kernel/net/udp_tunnel.ko.xz\n", "loadable"),
        ("lib/modules/6.1.0/modules.dep", "kernel/fs/overlayfs/overlay.ko: kernel/x/vxlan.ko\n", "missing"),
        ("lib/modules/5.0.0/modules.dep", "kernel/drivers/net/vxlan/vxlan.ko:\n", "unknown"),
        ("boot/config-6.1.0", "CONFIG_VXLAN=y\n", "present"),
        ("boot/config-6.1.0", "# CONFIG_VXLAN is not set\n", "missing"),
        # A module by the configuration, but none of its files are here.
        ("boot/config-6.1.0", "CONFIG_VXLAN=m\n", "unknown"),
        ("etc/hostname", "one", "unknown"),
    ],
)
def test_kernel_feature(root: Path, path: str, text: str, expected: str) -> None:
    put(root, path, text)
    assert vxlan(root) == expected


def test_kernel_configuration_that_the_kernel_carries(root: Path) -> None:
    with gzip.open(root / "proc" / "config.gz", "wt", encoding="ascii") as stream:
        stream.write("CONFIG_VXLAN=y\n")
    assert vxlan(root) == "present"


def test_features_that_show_in_other_places(root: Path) -> None:
    put(root, "proc/filesystems", "nodev\tproc\nnodev\toverlay\n")
    put(root, "proc/sys/net/bridge/bridge-nf-call-iptables", "1\n")
    put(root, "proc/sys/net/netfilter/nf_conntrack_max", "65536\n")
    put(root, "proc/modules", "nf_tables 1 0 - Live 0x0\n")
    found = kernel_features(str(root), "6.1.0")
    assert {name for name, state in found.items() if state == "present"} == {"overlay", "br_netfilter", "nf_conntrack", "iptable_nat or nf_tables"}


def test_cgroup_2(root: Path) -> None:
    put(root, "sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n")
    assert cgroup(str(root)) == {"version": 2, "controllers": ["cpu", "memory", "pids"]}


def test_cgroup_1_and_hybrid(root: Path) -> None:
    put(root, "sys/fs/cgroup/unified/cgroup.controllers", "\n")
    put(root, "proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t0\t1\t0\npids\t2\t1\t1\n")
    assert cgroup(str(root)) == {"version": 1, "controllers": ["cpu", "pids"]}


def test_memory_and_swap(root: Path) -> None:
    put(root, "proc/meminfo", "MemTotal:       24576000 kB\nMemFree:        1 kB\n")
    put(root, "proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/swapfile file 1 0 -2\n")
    assert (memory(str(root)), swaps(str(root))) == (24000, ["/swapfile"])


def test_missing_files_are_no_error(root: Path) -> None:
    assert (memory(str(root)), swaps(str(root)), selinux(str(root)), default_routes(str(root))) == (0, [], "disabled", [])


@pytest.mark.parametrize(("text", "expected"), [("1", "enforcing"), ("0\n", "permissive")])
def test_selinux(root: Path, text: str, expected: str) -> None:
    put(root, "sys/fs/selinux/enforce", text)
    assert selinux(str(root)) == expected


ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
cni0\t00002A0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth0\t00000000\t0109EC0A\t0003\t0\t0\t100\t00000000\t0\t0\t0
tun0\t00000000\t0109EC0A\t0003\t0\t0\t0\t00000080\t0\t0\t0
"""
ROUTES_6 = """\
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth1
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo
fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth2
"""


def test_default_routes(root: Path) -> None:
    put(root, "proc/net/route", ROUTES)
    put(root, "proc/net/ipv6_route", ROUTES_6)
    # The half of the address space that a VPN takes is no default route.
    assert default_routes(str(root)) == ["eth0", "eth1"]


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1 0000000000000000 100 0 0 10 0
   1: 0B09EC0A:280A 0C09EC0A:D2F0 01 00000000:00000000 00:00000000 00000000     0        0 1002 1 0000000000000000 20 4 30 10 -1
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1003 1 0000000000000000 100 0 0 10 0
"""
TCP_6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:280A 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1004 1 0 100 0 0 10 0
"""
UDP = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  100: 00000000:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1005 2 0000000000000000 0
"""


def test_listeners(root: Path) -> None:
    put(root, "proc/net/tcp", TCP)
    put(root, "proc/net/tcp6", TCP_6)
    put(root, "proc/net/udp", UDP)
    for pid, inode, program, group in ((70, 1001, "nginx", "/system.slice/nginx.service"), (80, 1004, "kubelet", "/kubelet"), (90, 1003, "sshd", "/")):
        (root / "proc" / str(pid) / "fd").mkdir(parents=True)
        (root / "proc" / str(pid) / "fd" / "5").symlink_to(f"socket:[{inode}]")
        put(root, f"proc/{pid}/comm", f"{program}\n")
        put(root, f"proc/{pid}/cgroup", f"0::{group}\n")
    found = listeners(str(root), {("tcp", 6443), ("tcp", 10250), ("udp", 8472)})
    assert found == [
        {"protocol": "tcp", "port": 6443, "address": "127.0.0.1", "pid": 70, "program": "nginx", "unit": "nginx.service"},
        {"protocol": "tcp", "port": 10250, "address": "::", "pid": 80, "program": "kubelet", "unit": ""},
        {"protocol": "udp", "port": 8472, "address": "0.0.0.0", "pid": 0, "program": "the kernel", "unit": ""},
    ]
    assert listeners(str(root), {("tcp", 443)}) == []
