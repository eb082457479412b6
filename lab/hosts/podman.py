# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A podman of the lab's own: storage, settings, network and, on machines with cgroup v1, a mount namespace.

On a machine whose controllers sit in cgroup v1 trees, containers need the hugetlb tree too, which many such machines do not mount.
The lab mounts it in a mount namespace of its own, which one sleeping process keeps alive, and the machine stays as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.hosts.identity import Lab, LabError

CGROUP = Path("/sys/fs/cgroup")
# Folders outside the lab's own which podman and crun write to; the namespace has its own ones
PRIVATE_RUN_FOLDERS = ("containers", "crun", "netns")
ADDRESS_LIST = Path("/run/containers/networks")
# What the labs make on the machine outside their own folders
MACHINE_FOLDERS = (CGROUP / "hugetlb", *(Path("/run") / name for name in PRIVATE_RUN_FOLDERS))

KEEPER_SCRIPT = r"""
set -eu
if grep -q '^hugetlb' /proc/cgroups && ! mountpoint -q /sys/fs/cgroup/hugetlb; then
  mkdir -p /sys/fs/cgroup/hugetlb
  mount -t cgroup -o hugetlb cgroup /sys/fs/cgroup/hugetlb
fi
for folder in @FOLDERS@; do
  mkdir -p "$0/private/$folder" "/run/$folder"
  mount --bind "$0/private/$folder" "/run/$folder"
done
echo ready
exec </dev/null >/dev/null 2>&1
exec -a "$1" sleep infinity
"""

WRAPPER_PLAIN = """#!/bin/sh
# podman of the lab {lab}: its own storage, network and settings
exec env CONTAINERS_CONF={conf} NETAVARK_FW=iptables podman --root {root} --runroot {runroot} --storage-driver overlay{stores} "$@"
"""

WRAPPER_NAMESPACE = """#!/bin/sh
# podman of the lab {lab}: its own storage, network and settings, in its own mount namespace
pid=$(cat {keeper} 2>/dev/null)
if ! grep -qs {name} "/proc/${{pid:-none}}/cmdline"; then
  echo "The lab is not up: run ansible-playbook lab/up.yml" >&2
  exit 125
fi
exec nsenter --target "$pid" --mount --wd="$PWD" env CONTAINERS_CONF={conf} NETAVARK_FW=iptables \\
  podman --root {root} --runroot {runroot} --storage-driver overlay{stores} "$@"
"""


def cgroup_v2() -> bool:
    return (CGROUP / "cgroup.controllers").exists()


def cgroup_manager() -> str:
    return "systemd" if cgroup_v2() and Path("/run/systemd/system").is_dir() else "cgroupfs"


def containers_conf(lab: Lab) -> str:
    return f"""[containers]
log_driver = "k8s-file"
log_size_max = 16777216
[engine]
runtime = "crun"
cgroup_manager = "{cgroup_manager()}"
lock_type = "file"
events_logger = "none"
tmp_dir = "{lab.run}/tmp"
[network]
network_backend = "netavark"
network_config_dir = "{lab.state}/networks"
"""


def network_config(lab: Lab, name: str, subnet: ipaddress.IPv4Network) -> str:
    """podman's own file: its command picks the bridge's name itself and knows nothing of other labs' networks."""
    return (
        json.dumps(
            {
                "name": name,
                "id": hashlib.sha256(name.encode()).hexdigest(),
                "driver": "bridge",
                "network_interface": lab.bridge,
                "created": "2026-01-01T00:00:00Z",
                "subnets": [{"subnet": str(subnet), "gateway": str(subnet.network_address + 1)}],
                "ipv6_enabled": False,
                "internal": False,
                "dns_enabled": False,
                "ipam_options": {"driver": "host-local"},
            },
            indent=2,
        )
        + "\n"
    )


def wrapper(lab: Lab, image_stores: Sequence[str]) -> str:
    template = WRAPPER_PLAIN if cgroup_v2() else WRAPPER_NAMESPACE
    return template.format(
        lab=lab.id,
        name=lab.name,
        keeper=lab.run / "keeper.pid",
        conf=lab.state / "containers.conf",
        root=lab.state / "storage",
        runroot=lab.run / "storage",
        stores="".join(f" --storage-opt {shlex.quote(f'overlay.imagestore={store}')}" for store in image_stores),
    )


def wrapper_path(lab: Lab) -> Path:
    return lab.state / "podman"


def podman(lab: Lab, *arguments: str, check: bool = True, text: str | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(wrapper_path(lab)), *arguments], capture_output=True, text=True, input=text)
    if check and done.returncode != 0:
        raise LabError(f"podman {shlex.join(arguments)} failed ({done.returncode}): {(done.stderr or done.stdout).strip()[-2000:]}")
    return done


# --- the namespace ----------------------------------------------------------------------------------------------------


def keeper_pid(lab: Lab) -> int | None:
    """The process that keeps the lab's mount namespace, if it lives."""
    try:
        pid = int((lab.run / "keeper.pid").read_text(encoding="ascii"))
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if lab.name.encode() in title else None


def _survivor_in_namespace(lab: Lab) -> int | None:
    """A process of the lab, the monitor of a host, that is still in the namespace whose keeper died."""
    try:
        inode = (lab.run / "namespace").read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    for pid in processes_of(lab):
        try:
            if os.readlink(f"/proc/{pid}/ns/mnt") == inode:
                return pid
        except OSError:
            continue
    return None


def start_keeper(lab: Lab) -> bool:
    """Make the lab's mount namespace if this machine needs one and it is not there; True if it was made."""
    if cgroup_v2() or keeper_pid(lab) is not None:
        return False
    survivor = _survivor_in_namespace(lab)
    if survivor is not None:
        # Hosts still run in it: only the keeper died
        entry = ["nsenter", f"--target={survivor}", "--mount", "bash", "-c", 'echo ready; exec </dev/null >/dev/null 2>&1; exec -a "$1" sleep infinity']
    else:
        entry = ["unshare", "--mount", "--propagation=slave", "bash", "-c", KEEPER_SCRIPT.replace("@FOLDERS@", " ".join(PRIVATE_RUN_FOLDERS))]
        # No host is watched any more: what podman noted of running hosts is as void as after a reboot
        kill_processes(lab)
        remove_cgroups(lab)
        for folder in ("tmp", "storage", "private"):
            shutil.rmtree(lab.run / folder, ignore_errors=True)
        (lab.run / "tmp").mkdir(mode=0o700)
    with (lab.run / "keeper.log").open("w+b") as log:
        keeper = subprocess.Popen([*entry, str(lab.run), lab.name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
        assert keeper.stdout is not None
        answer = keeper.stdout.readline()
        if answer != b"ready\n":
            keeper.kill()
            keeper.wait()
            log.seek(0)
            raise LabError(f"The lab's mount namespace could not be made: {log.read().decode(errors='replace').strip()}")
    # From here on `sleep` carries the lab's name
    deadline = time.monotonic() + 5
    (lab.run / "keeper.pid").write_text(f"{keeper.pid}\n", encoding="ascii")
    while keeper_pid(lab) is None:
        if time.monotonic() > deadline:
            raise LabError("The process that keeps the lab's mount namespace did not stay.")
        time.sleep(0.005)
    (lab.run / "namespace").write_text(os.readlink(f"/proc/{keeper.pid}/ns/mnt"), encoding="ascii")
    return True


def stop_keeper(lab: Lab) -> bool:
    pid = keeper_pid(lab)
    if pid is None:
        return False
    os.kill(pid, signal.SIGKILL)
    return True


# --- what podman leaves, or what is left when podman cannot work --------------------------------------------------------


def cgroup_parent(lab: Lab) -> str | None:
    """The hosts' own branch of the cgroup trees; systemd, where it is in charge, has its own place for containers."""
    return f"/{lab.name}" if cgroup_manager() == "cgroupfs" else None


def cgroup_branches(lab: Lab) -> Iterator[Path]:
    """The lab's branch in each tree."""
    for tree in [CGROUP, *(path for path in CGROUP.iterdir() if path.is_dir() and not path.is_symlink())]:
        branch = tree / lab.name
        if branch.is_dir():
            yield branch


def monitors_of(lab: Lab) -> dict[int, str]:
    """The processes that watch the lab's hosts, and the container each of them watches."""
    found = {}
    marker = f"{lab.state}/".encode()
    for command_line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command_line.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"conmon") and b"-c" in words and any(marker in word for word in words):
            found[int(command_line.parts[2])] = words[words.index(b"-c") + 1].decode()
    return found


def containers_run() -> bool:
    """Whether any podman on the machine, a user's own too, runs a container."""
    for name in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if name.read_text(encoding="utf-8").strip() == "conmon":
                return True
    return False


def processes_of(lab: Lab) -> set[int]:
    """Processes of the lab's hosts and the monitors beside them, but not the keeper."""
    found: set[int] = set()
    for branch in cgroup_branches(lab):
        for members in branch.rglob("cgroup.procs"):
            try:
                found.update(int(line) for line in members.read_text(encoding="ascii").split())
            except OSError:
                continue
    for monitor in monitors_of(lab):
        found.add(monitor)
        # Its child is the host's first process, wherever systemd put its cgroup
        with contextlib.suppress(OSError):
            found.update(int(child) for child in Path(f"/proc/{monitor}/task/{monitor}/children").read_text(encoding="ascii").split())
    return found - {keeper_pid(lab) or 0}


def kill_processes(lab: Lab, limit_seconds: float = 10) -> None:
    deadline = time.monotonic() + limit_seconds
    while remaining := processes_of(lab):
        for pid in remaining:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise LabError(
                f"These processes of the lab did not end: {' '.join(map(str, sorted(remaining)))}. They may hang in the kernel; look at /proc/PID/stack."
            )
        time.sleep(0.05)


@dataclass(frozen=True)
class RunFiles:
    """What podman and crun keep of running hosts in /run, on machines where the lab has no namespace to hide it."""

    networks: set[int]
    containers: set[str]

    @classmethod
    def of(cls, lab: Lab) -> RunFiles:
        networks = set()
        for pid in processes_of(lab):
            with contextlib.suppress(OSError):
                networks.add(os.stat(f"/proc/{pid}/ns/net").st_ino)
        containers = {path.name.removeprefix("libpod-") for branch in cgroup_branches(lab) for path in branch.glob("libpod-*")}
        return cls(networks - {os.stat("/proc/self/ns/net").st_ino}, containers | set(monitors_of(lab).values()))

    def remove(self) -> None:
        for path in Path("/run/netns").glob("netns-*"):
            if path.stat().st_ino in self.networks:
                subprocess.run(["umount", str(path)], check=True, capture_output=True, text=True)
                path.unlink()
        for container in self.containers:
            shutil.rmtree(Path("/run/crun") / container, ignore_errors=True)


def remove_cgroups(lab: Lab) -> None:
    for branch in cgroup_branches(lab):
        for folder, _folders, _files in os.walk(branch, topdown=False):
            try:
                os.rmdir(folder)
            except OSError as error:
                raise LabError(f"The cgroup {folder} could not be removed: {error.strerror}. A process may still be in it.") from error


def mounts_below(folders: Sequence[Path], mountinfo: str) -> list[str]:
    """Mount points inside the folders, the deepest first."""
    prefixes = tuple(f"{folder}/" for folder in folders)
    found = [line.split()[4].replace("\\040", " ") for line in mountinfo.splitlines()]
    return sorted((path for path in found if path.startswith(prefixes)), key=len, reverse=True)


def is_mounted(path: Path) -> bool:
    """Also where a folder is mounted onto itself, which os.path.ismount does not see."""
    return any(line.split()[4] == str(path) for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines())


def remove_mounts(lab: Lab) -> None:
    for path in mounts_below([lab.state, lab.run], Path("/proc/self/mountinfo").read_text(encoding="utf-8")):
        subprocess.run(["umount", "--lazy", path], check=False, capture_output=True)


def firewall_rules_of(subnet: str, saved: str) -> tuple[list[list[str]], list[str]]:
    """From the text of ``iptables-save -t TABLE``: the rules to delete and netavark's chains for this subnet."""
    rules: list[list[str]] = []
    chains: list[str] = []
    for line in saved.splitlines():
        words = shlex.split(line) if line.startswith("-A ") else []
        if subnet in words and not words[1].startswith("NETAVARK-"):
            rules.append(words[1:])
            target = words[words.index("-j") + 1] if "-j" in words else ""
            if target.startswith("NETAVARK-") and not target.startswith("NETAVARK-HOSTPORT"):
                chains.append(target)
    return rules, chains


def remove_firewall(subnet: str) -> None:
    for table in ("filter", "nat"):
        saved = subprocess.run(["iptables-save", "-t", table], capture_output=True, text=True, check=True).stdout
        rules, chains = firewall_rules_of(subnet, saved)
        for rule in rules:
            subprocess.run(["iptables", "-w", "-t", table, "-D", *rule], check=True, capture_output=True, text=True)
        for chain in chains:
            subprocess.run(["iptables", "-w", "-t", table, "-F", chain], check=True, capture_output=True, text=True)
            subprocess.run(["iptables", "-w", "-t", table, "-X", chain], check=True, capture_output=True, text=True)


def netavark_base(saved: str) -> tuple[list[list[str]], list[str], bool]:
    """From ``iptables-save -t TABLE``: rules that lead to netavark's own chains, these chains, and whether a network still uses them."""
    rules: list[list[str]] = []
    chains: list[str] = []
    in_use = False
    for line in saved.splitlines():
        if line.startswith(":NETAVARK"):
            chain = line[1:].split()[0]
            if chain == "NETAVARK_FORWARD" or chain.startswith("NETAVARK-HOSTPORT"):
                chains.append(chain)
            else:
                in_use = True
        elif line.startswith("-A "):
            words = shlex.split(line)
            target = words[words.index("-j") + 1] if "-j" in words else ""
            if words[1] in ("NETAVARK_FORWARD", "NETAVARK-HOSTPORT-DNAT"):
                in_use = True
            elif not words[1].startswith("NETAVARK") and target.startswith("NETAVARK"):
                rules.append(words[1:])
    return rules, chains, in_use


def remove_netavark_base() -> None:
    """netavark never takes its common chains away; nobody else uses them when they are empty and were not there before the first lab."""
    found = {}
    for table in ("filter", "nat"):
        found[table] = netavark_base(subprocess.run(["iptables-save", "-t", table], capture_output=True, text=True, check=True).stdout)
    if any(in_use for _rules, _chains, in_use in found.values()):
        return
    for table, (rules, chains, _in_use) in found.items():
        for rule in rules:
            subprocess.run(["iptables", "-w", "-t", table, "-D", *rule], check=True, capture_output=True, text=True)
        for chain in chains:
            subprocess.run(["iptables", "-w", "-t", table, "-F", chain], check=True, capture_output=True, text=True)
        for chain in chains:
            subprocess.run(["iptables", "-w", "-t", table, "-X", chain], check=True, capture_output=True, text=True)


def remove_bridge(lab: Lab) -> None:
    if Path(f"/sys/class/net/{lab.bridge}").exists():
        subprocess.run(["ip", "link", "delete", lab.bridge], check=True, capture_output=True, text=True)
