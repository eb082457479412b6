# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The checks before anything is changed: from settings and facts to findings. Pure; private to this collection.
#
# Each check is a generator over one host or over the site; all run, so that a user sees every problem at once.

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.homelab.gpu.plugins.module_utils._node_settings import label_problems, taint_problems
from ansible_collections.homelab.gpu.plugins.module_utils._options import suggestion, type_problems, unknown_options
from ansible_collections.homelab.gpu.plugins.module_utils._version import EXAMPLE, VersionError, change, parse

__all__ = ["AGENT_GROUP", "GPU_GROUP", "SERVER_GROUP", "Finding", "Host", "HostCheck", "Site", "check_all", "report"]

SERVER_GROUP, AGENT_GROUP, GPU_GROUP = "k3s_server", "k3s_agent", "gpu_node"
ALL_HOSTS = "all hosts"

# port, protocol, for servers only, what for
PORTS = (
    (6443, "tcp", True, "the Kubernetes API"),
    (10250, "tcp", False, "the kubelet"),
    (10248, "tcp", False, "the kubelet's health"),
    (8472, "udp", False, "the pod network"),
)
ETCD_PORTS = ((2379, "tcp", True, "etcd clients"), (2380, "tcp", True, "etcd peers"))

# Keys of config.yaml that have an option, or that would work against one.
OWNED_CONFIG = {
    "token": "k3s_token",
    "token-file": "k3s_token",
    "agent-token": "k3s_token",
    "server": "k3s_agent_server_url",
    "data-dir": "k3s_data_dir",
    "node-name": "k3s_node_name",
    "node-ip": "k3s_node_ip",
    "node-label": "k3s_node_labels",
    "node-taint": "k3s_node_taints",
    "tls-san": "k3s_tls_sans",
    "write-kubeconfig": "k3s_kubeconfig",
    "write-kubeconfig-mode": None,
    "with-node-id": "k3s_node_name",
}
REGISTRY_KEYS = {"mirrors": ("endpoint", "rewrite"), "configs": ("auth", "tls")}

_NODE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_SECURE_TOKEN = re.compile(r"K10[0-9a-f]{64}::\S+")
_IPTABLES = re.compile(r"v(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True)
class Finding:
    host: str
    check: str
    fact: str
    fix: str
    severity: str = "error"


@dataclass
class Host:
    name: str
    groups: list[str] = field(default_factory=list)
    # Names and values of variables; of what does not resolve, the reason is in unresolved.
    variables: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unresolved: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] | None = None
    clock: Mapping[str, float] | None = None
    unreachable: str | None = None
    # entries of the lock file, or (what, fix) pairs of what is wrong with it
    lock_entries: list[Mapping[str, Any]] = field(default_factory=list)
    lock_problems: list[tuple[str, str]] = field(default_factory=list)
    lock_missing: list[str] = field(default_factory=list)
    # What gpu_info told, and the same of the lock files of the GPU roles, by the option that names the file
    gpus: Mapping[str, Any] | None = None
    gpu_lock_problems: Mapping[str, list[tuple[str, str]]] = field(default_factory=dict)
    gpu_lock_missing: Mapping[str, list[str]] = field(default_factory=dict)
    in_play: bool = True

    @property
    def is_server(self) -> bool:
        return SERVER_GROUP in self.groups

    @property
    def is_agent(self) -> bool:
        return AGENT_GROUP in self.groups

    @property
    def is_gpu(self) -> bool:
        """Whether it is declared to have GPUs, or NVIDIA's driver has one there."""
        found = self.gpus or {}
        return GPU_GROUP in self.groups or bool(found.get("tegra")) or any(gpu["pci_driver"] == "nvidia" for gpu in found.get("gpus") or [])

    @property
    def role(self) -> str:
        return "k3s_server" if self.is_server else "k3s_agent"

    def option(self, name: str) -> Any:
        """The value of <role>_<name> for the role of this host."""
        return self.options.get(self.role, {}).get(f"{self.role}_{name}")

    def preflight(self, name: str) -> Any:
        return self.options.get("host_preflight", {}).get(f"host_preflight_{name}")


@dataclass
class Site:
    hosts: list[Host]
    specs: Mapping[str, Mapping[str, Mapping[str, Any]]]
    prefixes: tuple[str, ...]
    # k3s_kubeconfig → why it cannot be written, with the fix
    kubeconfig_problems: list[tuple[str, str]] = field(default_factory=list)
    # Why the first server cannot be asked for the token, when no server takes part in this run.
    absent_server: str | None = None

    @property
    def in_play(self) -> list[Host]:
        return [host for host in self.hosts if host.in_play]

    @property
    def servers(self) -> list[Host]:
        return [host for host in self.hosts if host.is_server]


HostCheck = Callable[[Host, Site], Iterator[Finding]]
SiteCheck = Callable[[Site], Iterator[Finding]]


# --- settings of one host -------------------------------------------------------------------------------------------------------------------------------


def check_unknown_options(host: Host, site: Site) -> Iterator[Finding]:
    known = {name for options in site.specs.values() for name in options}
    for name, fix in unknown_options(host.variables, site.prefixes, known):
        yield Finding(host.name, "unknown option", f"{name} is set and no option has this name", fix)


def check_types(host: Host, site: Site) -> Iterator[Finding]:
    known = {name: spec for options in site.specs.values() for name, spec in options.items()}
    for name, reason in host.unresolved.items():
        yield Finding(host.name, "option", f"{name} cannot be resolved: {reason}", f"correct the template of {name}, or set what it refers to")
    for name in sorted(set(host.variables) & set(known)):
        for fact, fix in type_problems(name, host.variables[name], known[name]):
            yield Finding(host.name, "type", fact, fix)


def _typed(value: Any, kind: type) -> Any:
    """The value if it has the type; wrong types have a finding of their own already."""
    return value if isinstance(value, kind) else kind()


def check_version(host: Host, _site: Site) -> Iterator[Finding]:
    wanted = host.option("version")
    if not isinstance(wanted, str):
        return
    try:
        parse(wanted)
    except VersionError:
        yield Finding(host.name, "version", f"k3s_version is {wanted!r}", f"write a full release name such as {EXAMPLE}")


def check_data_dir(host: Host, _site: Site) -> Iterator[Finding]:
    path = _typed(host.option("data_dir"), str)
    if path and (not path.startswith("/") or ".." in path.split("/") or path.rstrip("/") in ("", "/var", "/etc", "/usr", "/var/lib", "/home", "/root")):
        yield Finding(
            host.name, "data directory", f"k3s_data_dir is {path!r}", "use an absolute path of a directory for K3s alone, for example /var/lib/rancher/k3s"
        )


def check_node_name(host: Host, _site: Site) -> Iterator[Finding]:
    name = _typed(host.option("node_name"), str)
    if name and (len(name) > 63 or not _NODE_NAME.fullmatch(name)):
        yield Finding(
            host.name, "node name", f"the node would be called {name!r}", "set k3s_node_name to lower-case letters, digits, '-' and '.', 63 characters at most"
        )


def check_node_ip(host: Host, _site: Site) -> Iterator[Finding]:
    text = _typed(host.option("node_ip"), str)
    parts = [part.strip() for part in text.split(",")] if text else []
    for part in parts:
        try:
            ipaddress.ip_address(part)
        except ValueError:
            yield Finding(
                host.name,
                "node address",
                f"k3s_node_ip is {text!r}, and {part!r} is no IP address",
                "write an address of this host, or for dual stack two separated by a comma",
            )
            continue
        if host.facts and part not in host.facts["addresses"]:
            yield Finding(
                host.name,
                "node address",
                f"k3s_node_ip {part} is no address of this host, which has {', '.join(host.facts['addresses']) or 'none'}",
                "use one of them",
            )


def check_labels(host: Host, _site: Site) -> Iterator[Finding]:
    labels = host.option("node_labels")
    if isinstance(labels, Mapping):
        for fact, fix in label_problems(labels):
            yield Finding(host.name, "label", f"k3s_node_labels: {fact}", fix)


def check_taints(host: Host, _site: Site) -> Iterator[Finding]:
    taints = [taint for taint in _typed(host.option("node_taints"), list) if isinstance(taint, str)]
    for fact, fix in taint_problems(taints):
        yield Finding(host.name, "taint", f"k3s_node_taints: {fact}", fix)


def check_extra_config(host: Host, _site: Site) -> Iterator[Finding]:
    config = host.option("extra_config")
    if not isinstance(config, Mapping):
        return
    for key in config:
        plain = str(key).rstrip("+")
        if plain in OWNED_CONFIG:
            option = OWNED_CONFIG[plain]
            yield Finding(
                host.name, "configuration", f"k3s_extra_config has {key}, which this collection sets itself", f"use {option} instead" if option else "remove it"
            )
        elif "_" in plain:
            yield Finding(host.name, "configuration", f"k3s_extra_config has {key}; K3s' keys have dashes", f"write {plain.replace('_', '-')}")


def check_registries(host: Host, _site: Site) -> Iterator[Finding]:
    registries = host.option("registries")
    if not isinstance(registries, Mapping):
        return
    for key, entries in registries.items():
        if key not in REGISTRY_KEYS:
            yield Finding(host.name, "registries", f"k3s_registries has the unknown key {key}", f"use mirrors and configs{suggestion(str(key), REGISTRY_KEYS)}")
            continue
        if not isinstance(entries, Mapping):
            yield Finding(host.name, "registries", f"k3s_registries.{key} is no dictionary", "make it one, with registries as keys")
            continue
        for registry, settings in entries.items():
            unknown = sorted(set(settings) - set(REGISTRY_KEYS[key])) if isinstance(settings, Mapping) else ["(no dictionary)"]
            for name in unknown:
                yield Finding(
                    host.name,
                    "registries",
                    f"k3s_registries.{key}.{registry} has the unknown key {name}",
                    f"use {' and '.join(REGISTRY_KEYS[key])}{suggestion(name, REGISTRY_KEYS[key])}",
                )


def check_token(host: Host, site: Site) -> Iterator[Finding]:
    token = host.option("token")
    if not isinstance(token, str) or not token:
        return
    first = bool(site.servers) and site.servers[0].name == host.name
    if re.search(r"\s", token):
        yield Finding(host.name, "token", "k3s_token has white space in it", "remove it")
    elif first and token.startswith("K10"):
        yield Finding(
            host.name,
            "token",
            "k3s_token is in secure form, and the first server can only be started with a short one",
            "use the part after the last ':' or leave k3s_token out",
        )
    elif first and (":" in token or len(token) < 16):
        yield Finding(
            host.name,
            "token",
            "k3s_token is shorter than 16 characters or has ':' in it",
            "use 16 or more other characters, or leave k3s_token out: K3s makes a random one",
        )
    elif host.is_agent and not site.servers and not _SECURE_TOKEN.fullmatch(token):
        yield Finding(
            host.name,
            "token",
            "k3s_token is not in secure form, so this host could not tell the right cluster from a wrong one",
            "use the K10… token of the server",
        )


def check_groups(host: Host, _site: Site) -> Iterator[Finding]:
    if host.is_server and host.is_agent:
        yield Finding(
            host.name,
            "groups",
            f"the host is in the groups {SERVER_GROUP} and {AGENT_GROUP}",
            f"remove it from one; a server runs workloads as well, and may be in {GPU_GROUP}",
        )
    elif not host.is_server and not host.is_agent:
        yield Finding(host.name, "groups", f"the host is neither in {SERVER_GROUP} nor in {AGENT_GROUP}", "put it into one of them")


def check_lock(host: Host, _site: Site) -> Iterator[Finding]:
    path = host.options.get("k3s_artifacts", {}).get("k3s_artifacts_lock_file")
    for what, fix in host.lock_problems:
        yield Finding(host.name, "lock file", f"k3s_artifacts_lock_file {path}: {what}", fix)
    for missing in host.lock_missing:
        yield Finding(host.name, "artifact", f"the lock file {path} lacks {missing}", "add the entry, or set k3s_version to a listed one")


# --- facts of one host ----------------------------------------------------------------------------------------------------------------------------------


def check_reachable(host: Host, _site: Site) -> Iterator[Finding]:
    if host.unreachable is not None:
        yield Finding(
            host.name,
            "connection",
            f"no facts could be had: {host.unreachable}",
            "correct address, user, key or become settings, start the host, or leave it out of this run with --limit",
        )


def check_privileges(host: Host, _site: Site) -> Iterator[Finding]:
    if host.facts and not host.facts["root"]:
        yield Finding(host.name, "privileges", "tasks do not run as root on this host", "set ansible_become=true, or log in as root")


def check_system(host: Host, _site: Site) -> Iterator[Finding]:
    if not host.facts:
        return
    if not host.facts["systemd"]:
        yield Finding(host.name, "systemd", "systemd does not run this host", "use a distribution that is run by systemd")
    if host.facts["architecture"] not in ("amd64", "arm64"):
        yield Finding(host.name, "architecture", f"the architecture is {host.facts['architecture']}", "use an amd64 or arm64 host")
    if host.facts["memory_mib"] < (host.preflight("min_memory_mib") or 0):
        yield Finding(
            host.name,
            "memory",
            f"the host has {host.facts['memory_mib']} MiB of memory, and host_preflight_min_memory_mib is {host.preflight('min_memory_mib')}",
            "give it more memory, or lower the option",
        )
    if not host.facts["inotify"]["another"]:
        yield Finding(
            host.name,
            "inotify",
            f"all {host.facts['inotify']['limit']} inotify instances of root are taken, and the kubelet ends without one",
            "raise it: sysctl fs.inotify.max_user_instances=8192, and in /etc/sysctl.d for the next boot",
        )
    if host.facts["swap"]:
        yield Finding(
            host.name,
            "swap",
            f"swap is active on {', '.join(host.facts['swap'])}: pods may be slowed down without a trace",
            "switch it off (swapoff -a, and remove it from /etc/fstab)",
            "warning",
        )


def check_kernel(host: Host, _site: Site) -> Iterator[Finding]:
    for feature, state in (host.facts or {}).get("kernel", {}).get("features", {}).items():
        release = (host.facts or {})["kernel"]["release"]
        if state == "missing":
            yield Finding(
                host.name,
                "kernel",
                f"kernel {release} has no {feature}",
                "install the package with its modules (RHEL family: kernel-modules-extra), or another kernel",
            )
        elif state == "unknown":
            yield Finding(
                host.name, "kernel", f"nothing on the host tells whether kernel {release} has {feature}", f"try modprobe {feature.split(' ')[0]}", "warning"
            )


def check_cgroup(host: Host, _site: Site) -> Iterator[Finding]:
    if not host.facts:
        return
    found = host.facts["cgroup"]
    if found["version"] == 1:
        wanted = _version_of(host)
        arguments = _typed(host.option("extra_config"), dict).get("kubelet-arg", [])
        allowed = "fail-cgroupv1=false" in (arguments if isinstance(arguments, list) else [arguments])
        if wanted and (wanted.major, wanted.minor) >= (1, 35) and not allowed:
            yield Finding(
                host.name,
                "cgroup",
                f"the host has cgroup version 1, and the kubelet of {wanted} refuses to run on it",
                "boot with systemd.unified_cgroup_hierarchy=1, or set k3s_extra_config: {kubelet-arg: [fail-cgroupv1=false]} for a while",
            )
        else:
            yield Finding(
                host.name,
                "cgroup",
                "the host has cgroup version 1, which Kubernetes 1.35 and later refuses",
                "boot with systemd.unified_cgroup_hierarchy=1 before that",
                "warning",
            )
    lacking = sorted({"cpu", "memory", "pids"} - set(found["controllers"]))
    if lacking:
        yield Finding(
            host.name,
            "cgroup",
            f"the cgroup controllers {', '.join(lacking)} are off",
            "switch them on; on ARM boards add cgroup_memory=1 cgroup_enable=memory to the kernel's command line",
        )


def check_ports(host: Host, site: Site) -> Iterator[Finding]:
    if not host.facts:
        return
    etcd = ETCD_PORTS if len(site.servers) > 1 else ()
    for port, protocol, server_only, purpose in (*PORTS, *etcd):
        if server_only and not host.is_server:
            continue
        for listener in host.facts["listeners"]:
            ours = listener["unit"] in ("k3s.service", "k3s-agent.service")
            # The pod network's UDP socket belongs to the kernel; a leftover of one is taken over.
            if (listener["port"], listener["protocol"]) != (port, protocol) or ours or not listener["pid"]:
                continue
            of_unit = f" of {listener['unit']}" if listener["unit"] else ""
            yield Finding(
                host.name,
                "port",
                f"{protocol} port {port}, needed for {purpose}, is held by {listener['program']} (pid {listener['pid']}{of_unit})",
                "stop and disable that program, or give it another port",
            )


def check_clock(host: Host, _site: Site) -> Iterator[Finding]:
    limit = host.preflight("max_clock_offset_seconds")
    if not host.clock or not limit:
        return
    offset = abs(host.clock["offset_seconds"])
    if offset - host.clock["uncertainty_seconds"] > limit:
        direction = "ahead of" if host.clock["offset_seconds"] > 0 else "behind"
        yield Finding(
            host.name,
            "clock",
            f"the clock is {offset:.0f} s {direction} the controller's; certificates would not be valid",
            "set the clock right: enable chrony or systemd-timesyncd",
        )


def check_disk(host: Host, _site: Site) -> Iterator[Finding]:
    if not host.facts:
        return
    disk = host.facts["disks"]["data"]
    wanted = (host.preflight("min_free_gib") or 0) * 1024
    installed = host.facts["k3s"]["has_server_data"] or host.facts["k3s"]["has_agent_data"]
    if disk["free_mib"] < wanted and not installed:
        yield Finding(
            host.name,
            "disk",
            f"{disk['path']} has {disk['free_mib'] / 1024:.1f} GiB free for k3s_data_dir, and host_preflight_min_free_gib is {host.preflight('min_free_gib')}",
            "make room, set k3s_data_dir to a roomier file system, or lower the option",
        )
    elif disk["total_mib"] and disk["free_mib"] * 100 < disk["total_mib"] * 15:
        yield Finding(
            host.name,
            "disk",
            f"{disk['path']} is full to {100 - disk['free_mib'] * 100 // disk['total_mib']} %: the kubelet removes images from 85 % on",
            "make room",
            "warning",
        )


def check_network(host: Host, _site: Site) -> Iterator[Finding]:
    if not host.facts:
        return
    if not host.facts["default_routes"]:
        yield Finding(
            host.name,
            "default route",
            "the host has no default route, and K3s needs one to choose its address",
            "add one; without internet a dummy interface will do",
        )
    for firewall in host.facts["firewalls"]:
        yield Finding(
            host.name,
            "firewall",
            f"{firewall} is active",
            "open 6443/tcp, 10250/tcp and 8472/udp between the hosts and trust the pod and service networks, or switch it off",
            "warning",
        )
    match = _IPTABLES.search(host.facts["iptables"])
    if (
        match
        and (1, 8, 0) <= tuple(int(part) for part in match.groups()) <= (1, 8, 4)
        and not _typed(host.option("extra_config"), dict).get("prefer-bundled-bin")
    ):
        yield Finding(
            host.name,
            "iptables",
            f"{host.facts['iptables']} piles up rules until the host crawls",
            "set k3s_extra_config: {prefer-bundled-bin: true}, or update iptables",
            "warning",
        )


def check_selinux(host: Host, _site: Site) -> Iterator[Finding]:
    if not host.facts or host.facts["selinux"]["mode"] != "enforcing":
        return
    if not host.facts["selinux"]["k3s_policy"]:
        yield Finding(
            host.name,
            "SELinux",
            "SELinux enforces, and the policy for K3s is not installed",
            "install container-selinux and k3s-selinux, or set SELinux to permissive",
        )
    elif not _typed(host.option("extra_config"), dict).get("selinux"):
        yield Finding(host.name, "SELinux", "SELinux enforces, and K3s would run without it", "set k3s_extra_config: {selinux: true}", "warning")


def _version_of(host: Host) -> Any:
    try:
        return parse(host.option("version"))
    except VersionError:
        return None


def check_installed(host: Host, _site: Site) -> Iterator[Finding]:
    if not host.facts:
        return
    found = host.facts["k3s"]
    other = "k3s-agent.service" if host.is_server else "k3s.service"
    if other in found["active_units"] or other in found["unit_files"]:
        yield Finding(
            host.name,
            "role",
            f"{other} is on this host, which is to be {'a server' if host.is_server else 'an agent'}",
            "move the host to the other group, or remove the old installation first",
        )
    wanted_dir = _typed(host.option("data_dir"), str).rstrip("/")
    if found["configured_data_dir"] and wanted_dir and found["configured_data_dir"].rstrip("/") != wanted_dir:
        yield Finding(
            host.name,
            "data directory",
            f"k3s_data_dir is {wanted_dir}, and K3s on this host has its data in {found['configured_data_dir']}; it would begin anew without them",
            f"set k3s_data_dir to {found['configured_data_dir']}, or move the data and the data-dir in /etc/rancher/k3s/config.yaml first",
        )
    if found["token_matches"] is False:
        yield Finding(
            host.name,
            "token",
            "k3s_token is not the token that the cluster was made with, and K3s would not start with it",
            "leave k3s_token out, or change the cluster's token with k3s token rotate first",
        )
    for path in found["containerd_templates"]:
        yield Finding(
            host.name,
            "containerd",
            f"{path} replaces the configuration that K3s makes; with another version it keeps the node from being ready",
            "remove the file: nothing here needs it",
        )
    wanted = _version_of(host)
    if wanted is None or not found["version"]:
        return
    try:
        current = parse(found["version"])
    except VersionError:
        yield Finding(host.name, "version", f"/usr/local/bin/k3s calls itself {found['version']}, which does not parse", "remove that program first")
        return
    kind = change(current, wanted)
    if kind == "downgrade":
        yield Finding(
            host.name,
            "version",
            f"k3s_version {wanted} is older than {current}, which is installed; K3s does not go back",
            f"set k3s_version to {current} or newer, or restore a snapshot",
        )
    elif kind == "skip":
        yield Finding(
            host.name,
            "version",
            f"k3s_version {wanted} skips a minor version after {current}, which is installed",
            f"upgrade to the newest v{current.major}.{current.minor + 1} first",
        )


# --- all hosts together ---------------------------------------------------------------------------------------------------------------------------------


def check_servers(site: Site) -> Iterator[Finding]:
    if not site.servers:
        joinable = [host for host in site.in_play if host.is_agent and host.option("server_url") and host.option("token")]
        if not joinable or len(joinable) < len(site.in_play):
            yield Finding(
                ALL_HOSTS,
                "groups",
                f"the group {SERVER_GROUP} has no host",
                f"put at least one host into {SERVER_GROUP}, or set k3s_agent_server_url and k3s_token to join a cluster from elsewhere",
            )
    elif len(site.servers) % 2 == 0:
        yield Finding(
            ALL_HOSTS,
            "groups",
            f"the group {SERVER_GROUP} has {len(site.servers)} hosts; etcd gains nothing by an even number",
            "use 1, 3 or 5 servers",
            "warning",
        )


def check_token_source(site: Site) -> Iterator[Finding]:
    if not site.servers or site.absent_server is None:
        return
    for host in site.in_play:
        if host.is_agent and not _SECURE_TOKEN.fullmatch(_typed(host.option("token"), str)):
            yield Finding(
                host.name,
                "token",
                f"there is no token to join with: the server {site.servers[0].name} is not part of this run, and asking it failed: {site.absent_server}",
                "make that server reachable, run without --limit, or set k3s_token to the server's K10… token",
            )


def _twins(hosts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    seen: dict[str, list[str]] = {}
    for name, key in hosts:
        if key:
            seen.setdefault(key, []).append(name)
    for key, names in seen.items():
        if len(names) > 1:
            yield key, names


def check_twins(site: Site) -> Iterator[Finding]:
    for key, names in _twins((host.name, str(host.option("node_name") or "")) for host in site.hosts):
        yield Finding(", ".join(names), "node name", f"{len(names)} hosts would have the node name {key}", "set k3s_node_name to another name on all but one")
    looked = [host for host in site.in_play if host.facts]
    machines = list(
        _twins((host.name, "|".join([host.facts["machine_id"], host.facts["hostname"], *sorted(host.facts["addresses"])])) for host in looked if host.facts)
    )
    for _key, names in machines:
        yield Finding(", ".join(names), "host name", "these inventory names lead to one and the same machine", "correct ansible_host, or remove all but one")
    same_machine = [set(names) for _key, names in machines]
    for key, names in _twins((host.name, host.facts["hostname"]) for host in looked if host.facts):
        if set(names) not in same_machine:
            yield Finding(", ".join(names), "host name", f"{len(names)} hosts call themselves {key}", "give each its own name: hostnamectl set-hostname NAME")


def check_skew(site: Site) -> Iterator[Finding]:
    versions = [version for version in (_version_of(host) for host in site.servers) if version]
    if not versions:
        return
    oldest = min(versions)
    for host in site.in_play:
        wanted = _version_of(host)
        if wanted and host.is_agent and not host.is_server and (wanted.major, wanted.minor) > (oldest.major, oldest.minor):
            yield Finding(
                host.name,
                "version",
                f"the agent would be {wanted}, newer than the server's {oldest}",
                "upgrade the servers first, or use one k3s_version for all",
            )


def check_kubeconfig(site: Site) -> Iterator[Finding]:
    for fact, fix in site.kubeconfig_problems:
        yield Finding("controller", "kubeconfig", fact, fix)


SETTING_CHECKS: tuple[HostCheck, ...] = (
    check_groups,
    check_unknown_options,
    check_types,
    check_version,
    check_data_dir,
    check_node_name,
    check_node_ip,
    check_labels,
    check_taints,
    check_extra_config,
    check_registries,
    check_token,
    check_lock,
)
FACT_CHECKS: tuple[HostCheck, ...] = (
    check_reachable,
    check_privileges,
    check_system,
    check_kernel,
    check_cgroup,
    check_ports,
    check_clock,
    check_disk,
    check_network,
    check_selinux,
    check_installed,
)
SITE_CHECKS: tuple[SiteCheck, ...] = (check_servers, check_token_source, check_twins, check_skew, check_kubeconfig)


def check_all(site: Site, more: Iterable[HostCheck] = ()) -> list[Finding]:
    """Every finding, the errors first; what is the same for all hosts of the run is told once. C(more) are checks of each host from elsewhere."""
    found = [finding for check in SITE_CHECKS for finding in check(site)]
    for host in site.in_play:
        found.extend(finding for check in (*SETTING_CHECKS, *FACT_CHECKS, *more) for finding in check(host, site))
    ignored = {host.name: set(_typed(host.preflight("ignore"), list)) for host in site.in_play}
    merged: dict[tuple[str, str, str, str], list[str]] = {}
    for finding in found:
        severity = "warning" if finding.check in ignored.get(finding.host, ()) else finding.severity
        hosts = merged.setdefault((severity, finding.check, finding.fact, finding.fix), [])
        if finding.host not in hosts:
            hosts.append(finding.host)
    everybody = [host.name for host in site.in_play]
    result = [
        Finding(ALL_HOSTS if len(hosts) > 1 and hosts == everybody else ", ".join(hosts), check, fact, fix, severity)
        for (severity, check, fact, fix), hosts in merged.items()
    ]
    return sorted(result, key=lambda finding: finding.severity != "error")


def report(findings: list[Finding]) -> str:
    """The errors as text for people."""
    errors = [finding for finding in findings if finding.severity == "error"]
    lines = [f"{len(errors)} problem{'s' if len(errors) != 1 else ''} found; nothing was changed."]
    for finding in errors:
        fact = finding.fact.rstrip(".")
        lines.append(f"  {finding.host}: [{finding.check}] {fact}.\n      Fix: {finding.fix}.")
    return "\n".join(lines)
