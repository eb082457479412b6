#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Tell what a host is like, as far as K3s cares
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Reads privileges, kernel features, cgroups, held ports, clock, disks, routes, names, SELinux, swap, memory and what there is of K3s, in one process.
  - Judges nothing; the role C(homelab.gpu.host_preflight) does.
attributes:
  check_mode:
    support: full
    description: The module only reads.
  diff_mode:
    support: none
    description: The module only reads.
options:
  data_dir:
    description: K3s' data directory on this host.
    type: path
    default: /var/lib/rancher/k3s
  tcp_ports:
    description: TCP ports to look at.
    type: list
    elements: int
    default: []
  udp_ports:
    description: UDP ports to look at.
    type: list
    elements: int
    default: []
  server_token:
    description: Short token that the cluster is to have; it is compared on the host and never returned.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Look at the host
  homelab.gpu.host_info:
    tcp_ports: [6443, 10250]
  register: host
"""

RETURN = r"""
host:
  description: The facts.
  returned: always
  type: dict
  contains:
    root:
      description: Whether the module ran as root.
      type: bool
    systemd:
      description: Whether systemd runs the host.
      type: bool
    architecture:
      description: V(amd64), V(arm64), or what the kernel calls itself.
      type: str
    package_manager:
      description: V(apt), V(dnf), or an empty string.
      type: str
    hostname:
      description: The host's name.
      type: str
    machine_id:
      description: The machine id.
      type: str
    addresses:
      description: Addresses of the host, those of containers left out.
      type: list
      elements: str
    kernel:
      description: C(release) and C(features), each feature being V(present), V(loadable), V(missing) or V(unknown).
      type: dict
    cgroup:
      description: C(version) and C(controllers).
      type: dict
    listeners:
      description: Who holds the asked ports.
      type: list
      elements: dict
    disks:
      description: For the data directory and the binary's directory, free and total MiB.
      type: dict
    default_routes:
      description: Interfaces with a default route.
      type: list
      elements: str
    inotify:
      description: C(limit) of inotify instances for each user, and whether root can have C(another).
      type: dict
    memory_mib:
      description: Size of the memory.
      type: int
    swap:
      description: Active swap areas.
      type: list
      elements: str
    selinux:
      description: C(mode) and whether the policy C(k3s) is installed.
      type: dict
    iptables:
      description: Version text of iptables, if there is one.
      type: str
    firewalls:
      description: Active firewall services.
      type: list
      elements: str
    k3s:
      description:
        - Version of the installed binary, active units, unit files, stale containerd templates, the configured data directory, and whether data is there.
        - C(token_matches) tells whether O(server_token) is that of the cluster; it is null if there is nothing to compare.
      type: dict
    epoch:
      description: The host's clock in seconds since 1970.
      type: float
clock:
  description: Offset of the host's clock from the controller's, and how far that measurement can be wrong.
  returned: always
  type: dict
  contains:
    offset_seconds:
      description: Positive if the host is ahead.
      type: float
    uncertainty_seconds:
      description: Half of the time that the call took.
      type: float
"""

import ctypes
import hmac
import os
import re
import socket
import subprocess
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.homelab.gpu.plugins.module_utils._host_facts import (
    ARCHITECTURES,
    cgroup,
    default_routes,
    kernel_features,
    listeners,
    memory,
    read,
    selinux,
    swaps,
)
from ansible_collections.homelab.gpu.plugins.module_utils._version import from_version_output

_BINARY = "/usr/local/bin/k3s"
_UNITS = ("k3s.service", "k3s-agent.service")
_FIREWALLS = ("firewalld.service", "ufw.service")
_POD_INTERFACES = re.compile(r"^(?:lo|cni\d*|flannel.*|veth.*|docker\d*|br-.*|kube-.*|cali.*|cilium.*)$")


def output(*command: str, timeout: float = 10.0) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def free_mib(path: str) -> dict[str, Any]:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    status = os.statvfs(path)
    return {"path": path, "free_mib": status.f_bavail * status.f_frsize // 2**20, "total_mib": status.f_blocks * status.f_frsize // 2**20}


def addresses() -> list[str]:
    found = []
    for line in output("ip", "-oneline", "address", "show", "scope", "global").splitlines():
        fields = line.split()
        if len(fields) > 3 and not _POD_INTERFACES.match(fields[1]):
            found.append(fields[3].split("/")[0])
    return found


def active() -> set[str]:
    units = (*_UNITS, *_FIREWALLS)
    states = output("systemctl", "is-active", *units).split()
    return {unit for unit, state in zip(units, states) if state in ("active", "activating", "reloading")}


def kernel(release: str) -> dict[str, Any]:
    features = kernel_features("/", release)
    if features["vxlan"] == "unknown":
        # Nothing on disk tells: try it in a network namespace that ends with the command.
        try:
            done = subprocess.run(
                ["unshare", "--net", "ip", "link", "add", "probe", "type", "vxlan", "id", "1", "dstport", "4789"], capture_output=True, timeout=10, check=False
            )
            features["vxlan"] = "present" if done.returncode == 0 else "unknown"
        except (OSError, subprocess.TimeoutExpired):
            pass
    return {"release": release, "features": features}


def inotify() -> dict[str, Any]:
    # Whoever shares the kernel and the user counts, so only trying tells.
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init()
    if descriptor >= 0:
        os.close(descriptor)
    limit = read("/", "proc/sys/fs/inotify/max_user_instances").strip()
    return {"limit": int(limit) if limit.isdigit() else 0, "another": descriptor >= 0}


def token_matches(data_dir: str, wanted: str) -> bool | None:
    token = read(data_dir, "server/token").strip()
    if not token or not wanted:
        return None
    return hmac.compare_digest(token.rpartition(":")[2].encode(), wanted.encode())


def k3s(data_dir: str, server_token: str, running: set[str]) -> dict[str, Any]:
    configured = re.search(r"^data-dir: *[\"']?([^\"'\n]+)", read("/", "etc/rancher/k3s/config.yaml"), re.MULTILINE)
    containerd = os.path.join(data_dir, "agent/etc/containerd")
    templates = [os.path.join(containerd, name) for name in ("config.toml.tmpl", "config-v3.toml.tmpl")]
    target = os.path.realpath(_BINARY) if os.path.exists(_BINARY) else ""
    # The name of our own directory tells the version without starting a program of 70 MB and more.
    placed = re.fullmatch(r"/usr/local/lib/k3s/(v[^/]+)/k3s", target)
    version = placed.group(1) if placed else from_version_output(output(_BINARY, "--version")) if target else None
    return {
        "binary": target,
        "version": version,
        "active_units": [unit for unit in _UNITS if unit in running],
        "unit_files": [unit for unit in _UNITS if os.path.exists(f"/etc/systemd/system/{unit}")],
        "containerd_templates": [path for path in templates if os.path.exists(path)],
        "has_server_data": os.path.exists(os.path.join(data_dir, "server/token")),
        "has_agent_data": os.path.exists(os.path.join(data_dir, "agent/client-kubelet.crt")),
        "configured_data_dir": configured.group(1) if configured else "",
        "token_matches": token_matches(data_dir, server_token),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "data_dir": {"type": "path", "default": "/var/lib/rancher/k3s"},
            "tcp_ports": {"type": "list", "elements": "int", "default": []},
            "udp_ports": {"type": "list", "elements": "int", "default": []},
            "server_token": {"type": "str", "default": "", "no_log": True},
        },
        supports_check_mode=True,
    )
    data_dir = module.params["data_dir"]
    if not os.path.isabs(data_dir):
        data_dir = "/var/lib/rancher/k3s"
    machine = os.uname().machine
    running = active()
    ports = {("tcp", port) for port in module.params["tcp_ports"]} | {("udp", port) for port in module.params["udp_ports"]}
    host = {
        "root": os.geteuid() == 0,
        "systemd": os.path.isdir("/run/systemd/system"),
        "architecture": ARCHITECTURES.get(machine, machine),
        "package_manager": next((name for name, program in (("apt", "apt-get"), ("dnf", "dnf")) if module.get_bin_path(program)), ""),
        "hostname": socket.gethostname(),
        "machine_id": read("/", "etc/machine-id").strip(),
        "addresses": addresses(),
        "kernel": kernel(os.uname().release),
        "cgroup": cgroup("/"),
        "listeners": listeners("/", ports),
        "disks": {"data": free_mib(data_dir), "binaries": free_mib("/usr/local/lib")},
        "default_routes": default_routes("/"),
        "inotify": inotify(),
        "memory_mib": memory("/"),
        "swap": swaps("/"),
        "selinux": {
            "mode": selinux("/"),
            "k3s_policy": os.path.isdir("/usr/share/selinux/packages/k3s") or os.path.exists("/usr/share/selinux/packages/k3s.pp"),
        },
        "iptables": output("iptables", "--version").strip(),
        "firewalls": [unit for unit in _FIREWALLS if unit in running],
        "k3s": k3s(data_dir, module.params["server_token"], running),
        "epoch": time.time(),
    }
    module.exit_json(changed=False, host=host)


if __name__ == "__main__":
    main()
