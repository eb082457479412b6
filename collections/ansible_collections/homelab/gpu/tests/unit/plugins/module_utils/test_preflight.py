# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._preflight import Finding, Host, Site, check_all, report

FACTS: dict[str, Any] = {
    "root": True,
    "systemd": True,
    "architecture": "amd64",
    "hostname": "one",
    "machine_id": "1" * 32,
    "addresses": ["192.0.2.11"],
    "kernel": {"release": "6.1.0", "features": {"overlay": "present", "vxlan": "loadable"}},
    "cgroup": {"version": 2, "controllers": ["cpu", "io", "memory", "pids"]},
    "listeners": [],
    "disks": {"data": {"path": "/var/lib", "free_mib": 50_000, "total_mib": 100_000}, "binaries": {"path": "/usr", "free_mib": 50_000, "total_mib": 100_000}},
    "default_routes": ["eth0"],
    "memory_mib": 8000,
    "inotify": {"limit": 128, "another": True},
    "swap": [],
    "selinux": {"mode": "disabled", "k3s_policy": False},
    "iptables": "iptables v1.8.9 (nf_tables)",
    "firewalls": [],
    "k3s": {
        "binary": "",
        "version": None,
        "active_units": [],
        "unit_files": [],
        "containerd_templates": [],
        "has_server_data": False,
        "has_agent_data": False,
        "configured_data_dir": "",
        "token_matches": None,
    },
    "epoch": 1.0,
}
CLOCK = {"offset_seconds": 0.01, "uncertainty_seconds": 0.05}
SPECS = {"site": {"k3s_version": {"type": "str"}, "k3s_node_labels": {"type": "dict"}, "k3s_token": {"type": "str", "no_log": True}}}
SECURE = "K10" + "a" * 64 + "::server:secret"


def facts(**changes: Any) -> dict[str, Any]:
    """The facts of a good host, with nested changes: k3s__version='…' changes facts['k3s']['version']."""
    result = copy.deepcopy(FACTS)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = result
        for parent in parents:
            place = place[parent]
        place[last] = value
    return result


def host(name: str = "one", role: str = "k3s_server", *, looked: dict[str, Any] | None = None, variables: dict[str, Any] | None = None, **options: Any) -> Host:
    own = {
        "version": "v1.36.2+k3s1",
        "data_dir": "/var/lib/rancher/k3s",
        "node_name": name,
        "node_labels": {},
        "node_taints": [],
        "extra_config": {},
        **options,
    }
    return Host(
        name=name,
        groups=["k3s_cluster", role],
        variables=variables or {},
        options={
            role: {f"{role}_{key}": value for key, value in own.items()},
            "host_preflight": {
                "host_preflight_max_clock_offset_seconds": 30,
                "host_preflight_min_memory_mib": 900,
                "host_preflight_min_free_gib": 5,
                "host_preflight_ignore": [],
            },
            "k3s_artifacts": {"k3s_artifacts_lock_file": "/srv/lock.yml"},
        },
        facts=facts(hostname=name, machine_id=name, **(looked or {})),
        clock=CLOCK,
    )


def site(*hosts: Host, **fields: Any) -> Site:
    return Site(hosts=list(hosts), specs=SPECS, prefixes=("k3s_",), **fields)


def errors(*hosts: Host, **fields: Any) -> list[tuple[str, str, str]]:
    return [(found.host, found.check, found.fact) for found in check_all(site(*hosts, **fields)) if found.severity == "error"]


def warnings(*hosts: Host) -> list[tuple[str, str]]:
    return [(found.check, found.fact) for found in check_all(site(*hosts)) if found.severity == "warning"]


def test_a_good_site_has_no_finding() -> None:
    assert check_all(site(host("one"), host("two", "k3s_agent"))) == []


@pytest.mark.parametrize(
    ("changes", "check", "fact"),
    [
        ({"version": "latest"}, "version", "k3s_version is 'latest'"),
        ({"data_dir": "k3s"}, "data directory", "k3s_data_dir is 'k3s'"),
        ({"data_dir": "/var/lib/../k3s"}, "data directory", "k3s_data_dir is '/var/lib/../k3s'"),
        ({"data_dir": "/var/lib/"}, "data directory", "k3s_data_dir is '/var/lib/'"),
        ({"node_name": "Node_1"}, "node name", "the node would be called 'Node_1'"),
        ({"node_name": "a" * 64}, "node name", f"the node would be called '{'a' * 64}'"),
        ({"node_ip": "10.0.0.300"}, "node address", "k3s_node_ip is '10.0.0.300', and '10.0.0.300' is no IP address"),
        ({"node_ip": "192.0.2.99"}, "node address", "k3s_node_ip 192.0.2.99 is no address of this host, which has 192.0.2.11"),
        ({"node_labels": {"a b": "c"}}, "label", "k3s_node_labels: the label key 'a b'"),
        ({"node_taints": ["a=b"]}, "taint", "k3s_node_taints: the taint 'a=b' has no effect"),
        ({"extra_config": {"token": "x"}}, "configuration", "k3s_extra_config has token, which this collection sets itself"),
        ({"extra_config": {"node-label+": ["x"]}}, "configuration", "k3s_extra_config has node-label+"),
        ({"extra_config": {"flannel_backend": "host-gw"}}, "configuration", "K3s' keys have dashes"),
        ({"registries": {"mirror": {}}}, "registries", "k3s_registries has the unknown key mirror"),
        ({"registries": {"mirrors": ["x"]}}, "registries", "k3s_registries.mirrors is no dictionary"),
        ({"registries": {"mirrors": {"docker.io": {"endpoints": []}}}}, "registries", "k3s_registries.mirrors.docker.io has the unknown key endpoints"),
        ({"token": "short"}, "token", "k3s_token is shorter than 16"),
        ({"token": "with space 0123456789"}, "token", "k3s_token has white space"),
        ({"token": SECURE}, "token", "k3s_token is in secure form"),
    ],
)
def test_wrong_settings(changes: dict[str, Any], check: str, fact: str) -> None:
    [(where, found_check, found_fact)] = errors(host("one", **changes))
    assert (where, found_check) == ("one", check)
    assert fact in found_fact


@pytest.mark.parametrize(
    "changes",
    [
        {"node_ip": "192.0.2.11"},
        {"node_name": "a.b-1"},
        {"token": "0123456789abcdef"},
        {"extra_config": {"disable": ["traefik"], "cluster-init": True}},
        {"registries": {"mirrors": {"*": {"endpoint": ["https://r"], "rewrite": {}}}, "configs": {"r": {"auth": {}, "tls": {}}}}},
        # Wrong types have their own check; the others must not stumble over them.
        {
            "node_labels": ["a"],
            "node_taints": "a",
            "extra_config": "a",
            "data_dir": 1,
            "node_ip": 1,
            "token": 1,
            "registries": 1,
            "version": None,
            "node_name": None,
        },
    ],
)
def test_settings_that_no_check_minds(changes: dict[str, Any]) -> None:
    assert errors(host("one", **changes)) == []


@pytest.mark.parametrize(
    ("looked", "check", "fact"),
    [
        ({"root": False}, "privileges", "tasks do not run as root"),
        ({"systemd": False}, "systemd", "systemd does not run this host"),
        ({"architecture": "riscv64"}, "architecture", "the architecture is riscv64"),
        ({"memory_mib": 512}, "memory", "the host has 512 MiB of memory"),
        ({"inotify": {"limit": 128, "another": False}}, "inotify", "all 128 inotify instances of root are taken"),
        ({"kernel__features__vxlan": "missing"}, "kernel", "kernel 6.1.0 has no vxlan"),
        ({"cgroup__version": 1}, "cgroup", "the kubelet of v1.36.2+k3s1 refuses to run on it"),
        ({"cgroup__controllers": ["cpu", "pids"]}, "cgroup", "the cgroup controllers memory are off"),
        ({"default_routes": []}, "default route", "the host has no default route"),
        ({"disks__data__free_mib": 2048}, "disk", "/var/lib has 2.0 GiB free for k3s_data_dir"),
        ({"selinux__mode": "enforcing"}, "SELinux", "the policy for K3s is not installed"),
        ({"k3s__containerd_templates": ["/x/config.toml.tmpl"]}, "containerd", "/x/config.toml.tmpl replaces the configuration"),
        ({"k3s__configured_data_dir": "/srv/k3s"}, "data directory", "k3s_data_dir is /var/lib/rancher/k3s, and K3s on this host has its data in /srv/k3s"),
        ({"k3s__token_matches": False}, "token", "k3s_token is not the token that the cluster was made with"),
        ({"k3s__unit_files": ["k3s-agent.service"]}, "role", "k3s-agent.service is on this host, which is to be a server"),
        ({"k3s__version": "v1.36.3+k3s1"}, "version", "k3s_version v1.36.2+k3s1 is older than v1.36.3+k3s1"),
        ({"k3s__version": "v1.34.1+k3s1"}, "version", "k3s_version v1.36.2+k3s1 skips a minor version after v1.34.1+k3s1"),
        ({"k3s__version": "dev"}, "version", "/usr/local/bin/k3s calls itself dev"),
    ],
)
def test_unfit_hosts(looked: dict[str, Any], check: str, fact: str) -> None:
    [(where, found_check, found_fact)] = errors(host("one", looked=looked))
    assert (where, found_check) == ("one", check)
    assert fact in found_fact


@pytest.mark.parametrize(
    ("looked", "options", "check"),
    [
        ({"swap": ["/swapfile"]}, {}, "swap"),
        ({"firewalls": ["ufw.service"]}, {}, "firewall"),
        ({"kernel__features__vxlan": "unknown"}, {}, "kernel"),
        ({"iptables": "iptables v1.8.4 (legacy)"}, {}, "iptables"),
        ({"cgroup__version": 1}, {"version": "v1.34.1+k3s1"}, "cgroup"),
        ({"cgroup__version": 1}, {"extra_config": {"kubelet-arg": ["fail-cgroupv1=false"]}}, "cgroup"),
        ({"disks__data__free_mib": 10_000}, {}, "disk"),
        ({"selinux": {"mode": "enforcing", "k3s_policy": True}}, {}, "SELinux"),
    ],
)
def test_what_is_only_warned_of(looked: dict[str, Any], options: dict[str, Any], check: str) -> None:
    assert errors(host("one", looked=looked, **options)) == []
    assert [found for found, _fact in warnings(host("one", looked=looked, **options))] == [check]


@pytest.mark.parametrize(
    ("looked", "options"),
    [
        ({"selinux": {"mode": "enforcing", "k3s_policy": True}}, {"extra_config": {"selinux": True}}),
        ({"iptables": "iptables v1.8.4 (legacy)"}, {"extra_config": {"prefer-bundled-bin": True}}),
        ({"iptables": ""}, {}),
        ({"disks__data__free_mib": 20_000, "disks__data__total_mib": 100_000}, {}),
        ({"k3s__version": "v1.35.9+k3s1"}, {}),
        ({"k3s__configured_data_dir": "/var/lib/rancher/k3s/", "k3s__token_matches": True}, {}),
        ({"k3s__version": "v1.36.2+k3s1"}, {}),
        ({"k3s__unit_files": ["k3s.service"], "k3s__active_units": ["k3s.service"]}, {}),
        # A full disk does not keep a running host from being managed.
        ({"disks__data": {"path": "/", "free_mib": 2048, "total_mib": 4096}, "k3s__has_server_data": True}, {}),
    ],
)
def test_hosts_without_a_finding(looked: dict[str, Any], options: dict[str, Any]) -> None:
    assert check_all(site(host("one", looked=looked, **options))) == []


def listener(port: int, protocol: str = "tcp", program: str = "nginx", pid: int = 7, unit: str = "") -> dict[str, Any]:
    return {"protocol": protocol, "port": port, "address": "0.0.0.0", "program": program, "pid": pid, "unit": unit}


@pytest.mark.parametrize(
    ("role", "held", "expected"),
    [
        ("k3s_server", listener(6443), "tcp port 6443, needed for the Kubernetes API, is held by nginx (pid 7)"),
        ("k3s_server", listener(6443, unit="haproxy.service", program="haproxy"), "is held by haproxy (pid 7 of haproxy.service)"),
        ("k3s_agent", listener(10250), "tcp port 10250, needed for the kubelet, is held by nginx"),
        ("k3s_agent", listener(8472, "udp"), "udp port 8472, needed for the pod network, is held by nginx"),
        ("k3s_agent", listener(6443), None),
        ("k3s_server", listener(2379), None),
        ("k3s_server", listener(6443, unit="k3s.service", program="k3s-server"), None),
        ("k3s_agent", listener(10250, unit="k3s-agent.service"), None),
        ("k3s_agent", listener(8472, "udp", program="the kernel", pid=0), None),
        ("k3s_agent", listener(8472, "tcp"), None),
    ],
)
def test_ports(role: str, held: dict[str, Any], expected: str | None) -> None:
    first = [host("first")] if role == "k3s_agent" else []
    found = errors(*first, host("one", role, looked={"listeners": [held]}))
    assert [fact for _host, _check, fact in found if expected is None or expected not in fact] == []
    assert len(found) == (expected is not None)


def test_etcd_ports_matter_where_there_are_several_servers() -> None:
    held = host("one", looked={"listeners": [listener(2379)]})
    assert [check for _host, check, _fact in errors(held, host("two"), host("three"))] == ["port"]


@pytest.mark.parametrize(
    ("offset", "uncertainty", "expected"),
    [(10.0, 0.1, None), (-29.0, 0.1, None), (31.0, 5.0, None), (100.0, 1.0, "100 s ahead of"), (-3600.0, 1.0, "3600 s behind")],
)
def test_clock(offset: float, uncertainty: float, expected: str | None) -> None:
    one = host("one")
    one.clock = {"offset_seconds": offset, "uncertainty_seconds": uncertainty}
    found = errors(one)
    assert len(found) == (expected is not None)
    assert expected is None or expected in found[0][2]


def test_groups() -> None:
    both, neither = host("both"), host("neither", "other")
    both.groups.append("k3s_agent")
    assert [(where, check) for where, check, _fact in errors(both, neither)] == [("both", "groups"), ("neither", "groups")]


def test_no_server() -> None:
    alone = host("one", "k3s_agent")
    assert list(errors(alone)) == [("all hosts", "groups", "the group k3s_server has no host")]


def test_agents_of_a_cluster_elsewhere() -> None:
    assert errors(host("one", "k3s_agent", server_url="https://192.0.2.1:6443", token=SECURE)) == []
    [(where, check, fact)] = errors(host("one", "k3s_agent", server_url="https://192.0.2.1:6443", token="0123456789abcdef"))
    assert (where, check) == ("one", "token")
    assert "not in secure form" in fact


def test_agents_alone_without_a_server_that_answers() -> None:
    server, agent = host("one"), host("two", "k3s_agent")
    server.in_play = False
    [(where, check, fact)] = errors(server, agent, absent_server="connection refused")
    assert (where, check) == ("two", "token")
    assert "asking it failed: connection refused" in fact
    assert errors(server, agent, absent_server=None) == []
    assert errors(server, host("two", "k3s_agent", token=SECURE), absent_server="connection refused") == []


def test_an_even_number_of_servers_is_only_warned_of() -> None:
    assert errors(host("one"), host("two")) == []
    assert [check for check, _fact in warnings(host("one"), host("two"))] == ["groups"]


def test_one_node_name_for_two_hosts() -> None:
    [(where, check, fact)] = errors(host("one", node_name="same"), host("two", "k3s_agent", node_name="same"))
    assert (where, check, fact) == ("one, two", "node name", "2 hosts would have the node name same")


def test_hosts_outside_the_run_count_for_node_names() -> None:
    absent = host("one", node_name="same")
    absent.in_play = False
    assert [where for where, _check, _fact in errors(absent, host("two", "k3s_agent", node_name="same"))] == ["one, two"]


def test_one_host_name_for_two_hosts() -> None:
    two = host("two", "k3s_agent", looked={})
    two.facts = facts(hostname="one", machine_id="two")
    assert [(where, fact) for where, _check, fact in errors(host("one"), two)] == [("one, two", "2 hosts call themselves one")]


def test_two_names_for_one_machine() -> None:
    two = host("two", "k3s_agent")
    two.facts = facts(hostname="one", machine_id="one")
    assert [(where, fact) for where, _check, fact in errors(host("one"), two)] == [("one, two", "these inventory names lead to one and the same machine")]


def test_an_agent_newer_than_the_servers() -> None:
    found = errors(host("one", version="v1.35.3+k3s1"), host("two", "k3s_agent", version="v1.36.0+k3s1"))
    assert [(where, check) for where, check, _fact in found] == [("two", "version")]
    assert errors(host("one", version="v1.36.0+k3s1"), host("two", "k3s_agent", version="v1.36.4+k3s1")) == []


def test_unknown_options_and_wrong_types() -> None:
    one = host("one", variables={"k3s_versoin": None, "k3s_node_labels": ["a"], "k3s_token": ["s3cret"], "other": 1})
    found = {check: fact for _host, check, fact in errors(one)}
    assert set(found) == {"unknown option", "type"}
    assert found["unknown option"] == "k3s_versoin is set and no option has this name"
    text = report(check_all(site(one)))
    assert "did you mean k3s_version?" in text
    assert "k3s_node_labels is ['a'] (a list)" in text
    assert "s3cret" not in text


def test_what_cannot_be_resolved() -> None:
    one = host("one")
    one.unresolved = {"k3s_node_ip": "'x' is undefined"}
    assert errors(one) == [("one", "option", "k3s_node_ip cannot be resolved: 'x' is undefined")]


def test_lock_kubeconfig_and_connection() -> None:
    one = host("one")
    one.lock_problems, one.lock_missing = [("its schema is 2", "use 1")], ["k3s (binary) v1 amd64"]
    one.facts, one.unreachable = None, "no route to host"
    found = errors(one, kubeconfig_problems=[("k3s_kubeconfig /x is a directory", "name a file in it")])
    assert [(where, check) for where, check, _fact in found] == [
        ("controller", "kubeconfig"),
        ("one", "lock file"),
        ("one", "artifact"),
        ("one", "connection"),
    ]


def test_what_is_the_same_for_all_hosts_is_told_once() -> None:
    hosts = [host("one", version="x"), host("two", "k3s_agent", version="x"), host("three", "k3s_agent", looked={"root": False}, version="x")]
    assert [(where, check) for where, check, _fact in errors(*hosts)] == [("all hosts", "version"), ("three", "privileges")]


def test_an_ignored_check_warns() -> None:
    one = host("one", looked={"memory_mib": 100})
    one.options["host_preflight"]["host_preflight_ignore"] = ["memory"]
    assert errors(one) == []
    assert [check for check, _fact in warnings(one)] == ["memory"]


def test_report() -> None:
    findings = [Finding("one", "port", "it is held", "free it"), Finding("two", "swap", "it is on", "switch it off", "warning")]
    assert report(findings) == "1 problem found; nothing was changed.\n  one: [port] it is held.\n      Fix: free it."
