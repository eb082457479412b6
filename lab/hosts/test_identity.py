# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import ipaddress
from pathlib import Path

import pytest

from lab.hosts.identity import (
    POOL,
    Lab,
    LabError,
    assign_addresses,
    check_host_names,
    check_lab_id,
    choose_subnet,
    extra_hosts,
    lab_id,
    mac_address,
    networks_in_use,
)


def network(text: str) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(text)


def test_id_comes_from_the_real_path(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    link = tmp_path / "link"
    link.symlink_to(checkout)
    assert lab_id(checkout) == hashlib.sha256(str(checkout).encode()).hexdigest()[:8]
    assert lab_id(link) == lab_id(checkout)
    assert lab_id(tmp_path) != lab_id(checkout)


def test_bridge_name_fits_the_kernel(tmp_path: Path) -> None:
    lab = Lab.of_checkout(tmp_path)
    assert len(lab.bridge) <= 15
    assert lab.dot_lab == tmp_path / ".lab"
    with pytest.raises(LabError, match="no checkout"):
        _ = Lab("0123abcd", None).dot_lab


def test_subnet_is_the_same_each_time_and_in_the_pool() -> None:
    first = choose_subnet("0123abcd", [])
    assert first == choose_subnet("0123abcd", [])
    assert first.prefixlen == 24
    assert first.subnet_of(POOL)


@pytest.mark.parametrize("width", [24, 25, 20, 16], ids=str)
def test_subnet_in_use_is_passed_over(width: int) -> None:
    preferred = choose_subnet("0123abcd", [])
    taken = ipaddress.IPv4Network((int(preferred.network_address), width), strict=False)
    chosen = choose_subnet("0123abcd", [taken])
    assert not chosen.overlaps(taken)
    assert chosen.subnet_of(POOL)


def test_search_goes_round_the_end_of_the_pool() -> None:
    assert choose_subnet("00007fff", []) == network("10.255.255.0/24")
    assert choose_subnet("00007fff", [network("10.255.255.0/24")]) == network("10.128.0.0/24")


def test_full_pool_is_an_error() -> None:
    with pytest.raises(LabError, match="No /24"):
        choose_subnet("0123abcd", [network("10.128.0.0/10"), network("10.192.0.0/10")])


def test_route_to_all_of_ten_does_not_take_the_pool() -> None:
    """A company's 10.0.0.0/8 by way of a VPN: the lab's /24 is more specific."""
    assert choose_subnet("0123abcd", [network("10.0.0.0/8")]) == choose_subnet("0123abcd", [])


def test_networks_in_use_reads_routes_and_addresses() -> None:
    routes = [{"dst": "default", "gateway": "192.0.2.1"}, {"dst": "192.0.2.0/24"}, {"dst": "10.200.1.7"}, {"type": "broadcast", "dst": "10.200.1.255"}]
    addresses = [
        {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
        {"ifname": "x", "addr_info": [{"local": "10.130.0.5", "prefixlen": 16}]},
        {},
    ]
    assert networks_in_use(routes, addresses) == [
        network("192.0.2.0/24"),
        network("10.200.1.7/32"),
        network("10.200.1.255/32"),
        network("127.0.0.0/8"),
        network("10.130.0.0/16"),
    ]


def test_addresses_are_fixed_for_the_usual_hosts() -> None:
    hosts = ["k3s-gpu-worker", "k3s-worker-2", "k3s-server", "k3s-worker", "other"]
    assert assign_addresses(hosts, network("10.200.1.0/24"), {}) == {
        "k3s-gpu-worker": "10.200.1.13",
        "k3s-worker-2": "10.200.1.14",
        "k3s-server": "10.200.1.11",
        "k3s-worker": "10.200.1.12",
        "other": "10.200.1.15",
    }


def test_known_addresses_stay_and_gaps_are_filled() -> None:
    known = {"k3s-server": "10.200.1.11", "b": "10.200.1.15"}
    assert assign_addresses(["a", "b", "c"], network("10.200.1.0/24"), known) == {**known, "a": "10.200.1.14", "c": "10.200.1.16"}


def test_full_subnet_is_an_error() -> None:
    known = {f"h{number}": f"10.200.1.{number}" for number in range(14, 255)}
    with pytest.raises(LabError, match="no address is left"):
        assign_addresses(["one-more"], network("10.200.1.0/24"), known)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "the list is empty"),
        ("k3s-server", "is not a list"),
        (["K3s"], "'K3s' is not a host name"),
        (["a_b"], "'a_b' is not a host name"),
        (["-a"], "'-a' is not a host name"),
        (["a" * 64], "is not a host name"),
        ([""], "'' is not a host name"),
        ([7], "7 is not a host name"),
        (["a\n"], "is not a host name"),
        (["localhost"], "the machine itself"),
        (["a", "b", "a"], "'a' is named twice"),
    ],
)
def test_bad_host_names_are_refused(names: object, message: str) -> None:
    with pytest.raises(LabError, match=message) as caught:
        check_host_names(names)
    assert str(caught.value).startswith("lab_hosts: ")


def test_good_host_names_keep_their_order() -> None:
    assert check_host_names(["b", "a-1", "k3s-worker-2"]) == ["b", "a-1", "k3s-worker-2"]


@pytest.mark.parametrize("value", ["", "..", "0123abc", "0123ABCD", "0123abcd/x"])
def test_lab_id_cannot_lead_elsewhere(value: str) -> None:
    with pytest.raises(LabError, match="lab_id"):
        check_lab_id(value)


def test_mac_address_follows_the_address() -> None:
    assert mac_address("10.200.1.13") == "02:42:0a:c8:01:0d"


def test_extra_hosts() -> None:
    assert extra_hosts(["k3s-server", "x", "k3s-gpu-worker", "k3s-worker-2"]) == ["x", "k3s-worker-2"]
