# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ipaddress
import json
import subprocess
from pathlib import Path

import pytest

from lab.hosts import podman
from lab.hosts.identity import Lab

LAB = Lab("0123abcd", Path("/somewhere"))

FILTER = """\
*filter
:FORWARD ACCEPT [0:0]
:NETAVARK_FORWARD - [0:0]
-A FORWARD -m comment --comment "netavark firewall plugin rules" -j NETAVARK_FORWARD
-A NETAVARK_FORWARD -d 10.200.1.0/24 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A NETAVARK_FORWARD -s 10.200.1.0/24 -j ACCEPT
-A NETAVARK_FORWARD -s 10.200.2.0/24 -j ACCEPT
COMMIT
"""
NAT = """\
*nat
:NETAVARK-518AAFEF4B0BE - [0:0]
:NETAVARK-HOSTPORT-DNAT - [0:0]
:NETAVARK-HOSTPORT-MASQ - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j NETAVARK-HOSTPORT-DNAT
-A POSTROUTING -j NETAVARK-HOSTPORT-MASQ
-A POSTROUTING -s 10.200.1.0/24 -j NETAVARK-518AAFEF4B0BE
-A NETAVARK-518AAFEF4B0BE -d 10.200.1.0/24 -j ACCEPT
-A NETAVARK-518AAFEF4B0BE ! -d 224.0.0.0/4 -j MASQUERADE
-A NETAVARK-HOSTPORT-MASQ -m comment --comment "netavark portfw masq mark" -m mark --mark 0x2000/0x2000 -j MASQUERADE
COMMIT
"""


def test_network_has_the_labs_bridge_and_no_resolver() -> None:
    config = json.loads(podman.network_config(LAB, "name", ipaddress.IPv4Network("10.200.1.0/24")))
    assert config["name"] == "name"
    assert config["network_interface"] == "hl0123abcd"
    assert config["subnets"] == [{"subnet": "10.200.1.0/24", "gateway": "10.200.1.1"}]
    assert config["dns_enabled"] is False
    assert len(config["id"]) == 64


def test_settings_stay_inside_the_lab() -> None:
    text = podman.containers_conf(LAB)
    assert 'tmp_dir = "/run/homelab-gpu-lab/0123abcd/tmp"' in text
    assert 'network_config_dir = "/var/lib/homelab-gpu-lab/0123abcd/networks"' in text
    assert 'lock_type = "file"' in text


@pytest.mark.parametrize("v2", [True, False], ids=["cgroup-v2", "cgroup-v1"])
def test_wrapper_is_a_shell_script_with_the_labs_storage(v2: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podman, "cgroup_v2", lambda: v2)
    script = podman.wrapper(LAB, ["/a b/store", "/c"])
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    assert "--root /var/lib/homelab-gpu-lab/0123abcd/storage --runroot /run/homelab-gpu-lab/0123abcd/storage" in script
    assert "--storage-opt 'overlay.imagestore=/a b/store' --storage-opt overlay.imagestore=/c" in script
    assert ("nsenter" in script) is not v2


def test_wrapper_without_its_namespace_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podman, "cgroup_v2", lambda: False)
    lab = Lab("0123abcd", tmp_path, state_root=tmp_path, run_root=tmp_path)
    done = subprocess.run(["sh", "-s", "ps"], input=podman.wrapper(lab, []), capture_output=True, text=True)
    assert done.returncode == 125
    assert "ansible-playbook lab/up.yml" in done.stderr


def test_firewall_rules_of_one_subnet() -> None:
    assert podman.firewall_rules_of("10.200.1.0/24", FILTER) == (
        [
            ["NETAVARK_FORWARD", "-d", "10.200.1.0/24", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"],
            ["NETAVARK_FORWARD", "-s", "10.200.1.0/24", "-j", "ACCEPT"],
        ],
        [],
    )
    assert podman.firewall_rules_of("10.200.1.0/24", NAT) == (
        [["POSTROUTING", "-s", "10.200.1.0/24", "-j", "NETAVARK-518AAFEF4B0BE"]],
        ["NETAVARK-518AAFEF4B0BE"],
    )
    assert podman.firewall_rules_of("10.200.3.0/24", FILTER + NAT) == ([], [])


def test_common_chains_in_use_are_seen() -> None:
    assert podman.netavark_base(FILTER)[2]
    assert podman.netavark_base(NAT)[2]


def test_common_chains_left_empty_can_go() -> None:
    left = [line for line in (FILTER + NAT).splitlines() if "10.200." not in line and "518AAF" not in line]
    rules, chains, in_use = podman.netavark_base("\n".join(left))
    assert not in_use
    assert [rule[0] for rule in rules] == ["FORWARD", "PREROUTING", "POSTROUTING"]
    assert rules[0] == ["FORWARD", "-m", "comment", "--comment", "netavark firewall plugin rules", "-j", "NETAVARK_FORWARD"]
    assert chains == ["NETAVARK_FORWARD", "NETAVARK-HOSTPORT-DNAT", "NETAVARK-HOSTPORT-MASQ"]


def test_published_port_of_somebody_else_keeps_the_chains() -> None:
    rule = "-A NETAVARK-HOSTPORT-DNAT -p tcp -m tcp --dport 80 -j NETAVARK-DN-518AAFEF4B0BE\n"
    assert podman.netavark_base(rule)[2]


def test_mounts_below_are_the_deepest_first() -> None:
    mountinfo = (
        "30 1 0:1 / /var/lib/homelab-gpu-lab/0123abcd/storage/overlay rw - ext4 x rw\n"
        "31 1 0:1 / /var/lib/homelab-gpu-lab/0123abcd/storage/overlay/x/merged rw - overlay x rw\n"
        "32 1 0:1 / /var/lib/homelab-gpu-lab/0123abcdef/storage rw - ext4 x rw\n"
        "33 1 0:1 / /run/homelab-gpu-lab/0123abcd/a\\040b rw - tmpfs x rw\n"
    )
    assert podman.mounts_below([LAB.state, LAB.run], mountinfo) == [
        "/var/lib/homelab-gpu-lab/0123abcd/storage/overlay/x/merged",
        "/var/lib/homelab-gpu-lab/0123abcd/storage/overlay",
        "/run/homelab-gpu-lab/0123abcd/a b",
    ]


def test_stale_process_number_is_not_the_keeper(tmp_path: Path) -> None:
    """After a reboot the number belongs to somebody else, here to PID 1."""
    lab = Lab("0123abcd", tmp_path, state_root=tmp_path, run_root=tmp_path)
    lab.run.mkdir()
    (lab.run / "keeper.pid").write_text("1\n", encoding="ascii")
    assert podman.keeper_pid(lab) is None
    assert podman.stop_keeper(lab) is False
