# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make, change and remove the hosts of a lab. Each command prints one JSON object; the playbooks in lab/ call it.

``engine.py packages|image|up|down|power|list --checkout DIR [...]``
"""

from __future__ import annotations

import argparse
import fcntl
import ipaddress
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

CHECKOUT = Path(__file__).resolve().parents[2]
if str(CHECKOUT) not in sys.path:
    sys.path.insert(0, str(CHECKOUT))

from lab.hosts import image as host_image
from lab.hosts import podman as own
from lab.hosts.identity import (
    DEFAULT_HOSTS,
    Lab,
    LabError,
    assign_addresses,
    check_host_names,
    check_lab_id,
    choose_subnet,
    extra_hosts,
    mac_address,
    networks_in_use,
)

READY_SECONDS = 120
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
# All hosts share those of the machine's root: a node takes about 20, and without one its systemd or kubelet ends. The usual 128 are enough for 6 nodes.
WANTED_INOTIFY_INSTANCES = 8192


@dataclass
class Report:
    """What was done (or would be), in the order it was done, and the state before and after for a diff."""

    actions: list[str] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        return json.dumps(
            {
                "changed": bool(self.actions),
                "actions": self.actions,
                "diff": {"before": self.before, "after": self.after},
                "warnings": self.warnings,
                "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
                **self.facts,
            }
        )

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0) + time.monotonic() - started


# --- small things -------------------------------------------------------------------------------------------------------


@contextmanager
def locked(folder: Path, quiet: bool = False) -> Iterator[None]:
    """One at a time; the folder itself carries the lock, so nothing is left behind."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not quiet:
                print(f"waiting for another run on {folder}", file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write(path: Path, content: str, mode: int = 0o644) -> bool:
    """Write the file if content or mode differ; in one step, so that no reader sees half of it."""
    data = content.encode()
    try:
        if path.read_bytes() == data and path.stat().st_mode & 0o7777 == mode:
            return False
    except FileNotFoundError:
        pass
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)
        stream.write(data)
    partial.rename(path)
    return True


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise LabError(f"{path} cannot be read as JSON ({error}). Remove the lab and make it again: lab/down.yml, lab/up.yml.") from error


def in_parallel(work: Callable[[str], Any], names: Sequence[str]) -> list[Any]:
    if not names:
        return []
    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        return list(pool.map(work, names))


def run_text(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def require_root() -> None:
    if os.geteuid() != 0:
        raise LabError("The lab's hosts are privileged containers: run the playbook as root.")


def require_commands() -> None:
    missing = [name for name in ("podman", "crun", "ip", "iptables-save", "nsenter", "unshare", "ssh", "ssh-keygen") if shutil.which(name) is None]
    if missing:
        raise LabError(f"Missing on this machine: {', '.join(missing)}. Install the packages of lab/hosts/packages.txt.")


# --- the record of the lab, and of the machine before the first lab -------------------------------------------------------


def other_labs(lab: Lab) -> list[dict[str, Any]]:
    return [read_json(path) for path in sorted(lab.state_root.glob("*/lab.json")) if path.parent.name != lab.id]


def machine_before() -> dict[str, Any]:
    """What the first lab changes or adds on the machine, as it was before."""
    absent = [str(path) for path in own.MACHINE_FOLDERS if not path.exists()]
    return {
        "ip_forward": IP_FORWARD.read_text(encoding="ascii").strip(),
        "inotify_instances": INOTIFY_INSTANCES.read_text(encoding="ascii").strip(),
        "netavark_chains": ":NETAVARK" in run_text("iptables-save"),
        "absent": absent,
    }


def claim(lab: Lab, hosts: Sequence[str], image: host_image.Image) -> dict[str, Any]:
    """The lab's record with a subnet nobody else has, written before anything is made from it."""
    with locked(Path("/run")):
        record = read_json(lab.record)
        others = other_labs(lab)
        if not record:
            used = networks_in_use(
                json.loads(run_text("ip", "-json", "-4", "route", "show", "table", "all")), json.loads(run_text("ip", "-json", "-4", "address"))
            )
            used += [ipaddress.IPv4Network(other["subnet"]) for other in others if "subnet" in other]
            record = {"id": lab.id, "checkout": str(lab.checkout), "subnet": str(choose_subnet(lab.id, used)), "image_stores": [], "hosts": {}}
        # podman remembers addresses by the network's name, and may remember those of an earlier lab that did not end well
        record.setdefault("network", f"{lab.name}-{secrets.token_hex(3)}")
        # Hosts made from an earlier image go on using its store
        record["image_stores"] = list(dict.fromkeys([*record.get("image_stores", []), str(image.store)]))
        subnet = ipaddress.IPv4Network(record["subnet"])
        record["hosts"] = assign_addresses(hosts, subnet, record["hosts"])
        for folder in (lab.state_root, lab.state, lab.run_root, lab.run):
            folder.mkdir(mode=0o700, exist_ok=True)
        if not (lab.run_root / "machine.json").exists():
            write(lab.run_root / "machine.json", json.dumps(machine_before()) + "\n", 0o600)
        if int(INOTIFY_INSTANCES.read_text(encoding="ascii")) < WANTED_INOTIFY_INSTANCES:
            INOTIFY_INSTANCES.write_text(f"{WANTED_INOTIFY_INSTANCES}\n", encoding="ascii")
        write(lab.record, json.dumps(record, indent=2) + "\n", 0o600)
    return record


# --- files --------------------------------------------------------------------------------------------------------------


def hosts_file(hosts: Mapping[str, str]) -> str:
    lines = [f"{address}\t{name}" for name, address in hosts.items()]
    return "\n".join(["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", "# The hosts of the lab", *lines]) + "\n"


def host_folder(lab: Lab, host: str) -> Path:
    return lab.state / "hosts" / host


def make_key(path: Path, comment: str) -> bool:
    if path.exists() and path.with_name(f"{path.name}.pub").exists():
        return False
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True, capture_output=True, text=True)
    return True


def known_hosts(lab: Lab, hosts: Mapping[str, str]) -> str:
    lines = []
    for name, address in hosts.items():
        key = " ".join((host_folder(lab, name) / "ssh_host_ed25519_key.pub").read_text(encoding="ascii").split()[:2])
        lines.append(f"{address},{name} {key}")
    return "\n".join(lines) + "\n"


def extra_inventory(lab: Lab, hosts: Mapping[str, str]) -> str | None:
    """An inventory fragment for the hosts that the lab's own inventory does not name."""
    extra = extra_hosts(hosts)
    if not extra:
        return None
    lines = [
        "---",
        "# Written by lab/up.yml; use it beside the lab's inventory: -i inventories/lab/hosts.yml -i .lab/extra_hosts.yml",
        "k3s_agent:",
        "  hosts:",
    ]
    for name in extra:
        lines += [f"    {name}:", f"      lab_directory: {json.dumps(str(lab.dot_lab))}"]
    return "\n".join(lines) + "\n"


def write_files(lab: Lab, record: Mapping[str, Any], report: Report) -> None:
    subnet = ipaddress.IPv4Network(record["subnet"])
    hosts = record["hosts"]
    for folder in (lab.dot_lab, lab.state / "hosts", lab.state / "networks", lab.state / "storage", lab.run / "tmp"):
        folder.mkdir(mode=0o700, exist_ok=True)
    os.chmod(lab.dot_lab, 0o700)
    if make_key(lab.dot_lab / "ssh_key", lab.name):
        report.actions.append("make the SSH key .lab/ssh_key")
    login = (lab.dot_lab / "ssh_key.pub").read_text(encoding="ascii")
    for name in hosts:
        folder = host_folder(lab, name)
        folder.mkdir(mode=0o755, exist_ok=True)
        make_key(folder / "ssh_host_ed25519_key", name)
        if write(folder / "authorized_keys", login):
            report.actions.append(f"admit .lab/ssh_key to {name}")
        write(folder / "hosts", hosts_file(hosts))
    changed = [
        write(lab.state / "containers.conf", own.containers_conf(lab)),
        write(lab.state / "networks" / f"{record['network']}.json", own.network_config(lab, record["network"], subnet)),
        write(own.wrapper_path(lab), own.wrapper(lab, record["image_stores"]), 0o755),
        write(lab.dot_lab / "podman", f'#!/bin/sh\nexec {own.wrapper_path(lab)} "$@"\n', 0o755),
        write(lab.dot_lab / "known_hosts", known_hosts(lab, hosts), 0o600),
    ]
    fragment = extra_inventory(lab, hosts)
    fragment_path = lab.dot_lab / "extra_hosts.yml"
    if fragment is None:
        if fragment_path.exists():
            fragment_path.unlink()
            changed.append(True)
    else:
        changed.append(write(fragment_path, fragment))
    if any(changed):
        report.actions.append("write the settings of podman and SSH")


# --- hosts --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HostState:
    state: str
    image: str


def host_states(lab: Lab) -> dict[str, HostState]:
    """What podman knows; nothing if the lab's podman cannot run, since then no host can either."""
    if not own.wrapper_path(lab).exists() or shutil.which("podman") is None or (not own.cgroup_v2() and own.keeper_pid(lab) is None):
        return {}
    listed = json.loads(own.podman(lab, "ps", "--all", "--format", "json").stdout or "[]")
    return {entry["Names"][0]: HostState(entry["State"], entry["Image"]) for entry in listed or []}


def create_arguments(lab: Lab, host: str, network: str, address: str, reference: str) -> list[str]:
    arguments = [
        "create",
        f"--name={host}",
        f"--hostname={host}",
        "--pull=never",
        f"--network={network}",
        f"--ip={address}",
        # The same after each start: with a new one the neighbours would send to the old one for up to a minute
        f"--mac-address={mac_address(address)}",
        "--no-hosts",
        "--privileged",
        "--cgroupns=private",
        "--pids-limit=-1",
        "--ulimit=nofile=20000:20000",
        "--ulimit=nproc=32768:32768",
        "--stop-timeout=20",
        "--tmpfs=/tmp",
        f"--volume={lab.volume(host)}:/var/lib:exec,dev,suid",
        f"--volume={host_folder(lab, host)}:/etc/homelab-gpu-lab:ro",
        "--volume=/dev/kmsg:/dev/kmsg",
    ]
    if own.cgroup_v2():
        arguments.append("--systemd=always")
    else:
        # podman's own arrangement for systemd binds the machine's name=systemd tree into every host, where the hosts'
        # units would meet in the same groups; without it each host gets its own branch
        arguments += ["--systemd=false", "--tmpfs=/run", "--tmpfs=/run/lock"]
    parent = own.cgroup_parent(lab)
    if parent is not None:
        arguments.append(f"--cgroup-parent={parent}")
    if Path("/lib/modules").is_dir():
        arguments.append("--volume=/lib/modules:/lib/modules:ro")
    return [*arguments, reference]


def ssh_command(lab: Lab, address: str, *command: str) -> list[str]:
    return [
        "ssh",
        "-F",
        "/dev/null",
        "-o",
        f"UserKnownHostsFile={lab.dot_lab / 'known_hosts'}",
        "-o",
        "GlobalKnownHostsFile=/dev/null",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=5",
        "-o",
        "LogLevel=ERROR",
        "-i",
        str(lab.dot_lab / "ssh_key"),
        f"root@{address}",
        *command,
    ]


# Ends when systemd has started all units, well or not
STARTED = 'until state=$(systemctl is-system-running); [ "$state" = running ] || [ "$state" = degraded ]; do sleep 0.1; done; echo $state'


def wait_for_ssh(lab: Lab, host: str, address: str, limit_seconds: float = READY_SECONDS) -> str:
    """The state systemd reports once it has started, asked over SSH."""
    deadline = time.monotonic() + limit_seconds
    last = "no answer on port 22"
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, 22), timeout=1):
                pass
        except OSError as error:
            last = f"port 22: {error.strerror or error}"
            time.sleep(0.05)
            continue
        try:
            done = subprocess.run(ssh_command(lab, address, STARTED), capture_output=True, text=True, timeout=max(1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            last = "systemd is still starting units"
            break
        if done.returncode == 0:
            return done.stdout.strip()
        last = (done.stderr or done.stdout).strip() or f"ssh ended with {done.returncode}"
        time.sleep(0.1)
    jobs = own.podman(lab, "exec", host, "systemctl", "list-jobs", "--no-legend", check=False)
    console = own.podman(lab, "logs", "--tail", "15", host, check=False)
    raise LabError(
        f"{host} ({address}) was not ready after {limit_seconds:g} s: {last}.\nIts jobs: {(jobs.stdout + jobs.stderr).strip()}\n"
        f"Its console: {(console.stdout + console.stderr).strip()}"
    )


def failed_units(lab: Lab, address: str) -> str:
    done = subprocess.run(ssh_command(lab, address, "systemctl --failed --plain --no-legend"), capture_output=True, text=True)
    return " ".join(line.split()[0] for line in done.stdout.splitlines() if line)


def close_connections(lab: Lab, address: str | None = None) -> None:
    """End Ansible's lasting SSH connections: they would hang on a host that is gone. Their sockets lie in the lab's folder."""
    for path in (lab.run / "ssh").glob("*"):
        if path.is_socket() and (address is None or path.name.startswith(f"{address}-")):
            subprocess.run(["ssh", "-F", "/dev/null", "-o", f"ControlPath={path}", "-O", "exit", "lab"], check=False, capture_output=True)
            path.unlink(missing_ok=True)


def lab_json(lab: Lab, record: Mapping[str, Any], software: Mapping[str, str]) -> str:
    return (
        json.dumps(
            {
                "id": lab.id,
                "subnet": record["subnet"],
                **software,
                "control_path": str(lab.run / "ssh"),
                "cgroup_version": 2 if own.cgroup_v2() else 1,
                "hosts": {name: {"address": address} for name, address in record["hosts"].items()},
            },
            indent=2,
        )
        + "\n"
    )


# --- commands -------------------------------------------------------------------------------------------------------------


def start_host(lab: Lab, host: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """One host of all labs at a time: netavark looks for its common firewall chains and makes those it misses, without a lock of its own."""
    with locked(lab.run_root, quiet=True):
        return own.podman(lab, "start", host, check=check)


def describe(hosts: Mapping[str, str], states: Mapping[str, HostState]) -> dict[str, str]:
    return {name: f"{states[name].state} {address}" if name in states else "absent" for name, address in hosts.items()}


SOFTWARE: Final = ("distribution", "artifacts_lock", "gpu_artifacts_lock", "serving_artifacts_lock")
"""Which software the hosts will get: options of this program, keys of lab.json."""


def up(lab: Lab, hosts: Sequence[str], image: host_image.Image, software: Mapping[str, str], check: bool) -> Report:
    report = Report()
    hosts = check_host_names(hosts)
    record = read_json(lab.record)
    known = dict(record.get("hosts", {}))
    # Hosts that were asked for before stay: only lab/down.yml removes any
    wanted = [*known, *(host for host in hosts if host not in known)]
    states = host_states(lab)
    report.before = {"hosts": describe(dict.fromkeys(wanted, "") | known, states)}
    stale = [host for host in wanted if host in states and states[host].image != image.reference]
    if stale:
        report.warnings.append(f"{', '.join(stale)}: made from an older image. To renew them: ansible-playbook lab/down.yml, then lab/up.yml.")
    if check:
        for host in wanted:
            if host not in states:
                report.actions.append(f"create {host}")
            elif states[host].state != "running":
                report.actions.append(f"start {host} (it is {states[host].state})")
        current = read_json(lab.dot_lab / "lab.json") if lab.dot_lab.is_dir() else {}
        if not report.actions and any(current.get(key) != value for key, value in software.items()):
            report.actions.append("write .lab/lab.json")
        report.after = {"hosts": {host: "running" if host not in known else f"running {known[host]}" for host in wanted}}
        return report

    require_commands()
    with report.timed("settings"):
        record = claim(lab, wanted, image)
        addresses: dict[str, str] = record["hosts"]
        write_files(lab, record, report)
        if own.start_keeper(lab):
            report.actions.append("make the lab's mount namespace")
            states = host_states(lab)

    def create(host: str) -> None:
        own.podman(lab, *create_arguments(lab, host, record["network"], addresses[host], image.reference))
        start_host(lab, host)

    def bring_up(host: str) -> str | None:
        action = None
        if host not in states:
            create(host)
            action = f"create {host} at {addresses[host]}"
        elif states[host].state == "paused":
            own.podman(lab, "unpause", host)
            action = f"continue {host}"
        elif states[host].state != "running":
            started = start_host(lab, host, check=False)
            action = f"start {host}"
            if started.returncode != 0:
                # podman lost track of it, as when its monitor was killed
                report.warnings.append(f"{host} could not be started and was made anew, with its old /var/lib: {started.stderr.strip()}")
                own.podman(lab, "rm", "--force", "--time=0", host)
                create(host)
                action = f"create {host} at {addresses[host]}"
        systemd = wait_for_ssh(lab, host, addresses[host])
        if systemd == "degraded":
            report.warnings.append(f"{host}: these units have failed: {failed_units(lab, addresses[host])}")
        return action

    with report.timed("hosts"):
        report.actions += [action for action in in_parallel(bring_up, wanted) if action]
    if any(host in known for host in wanted) and len(wanted) > len(known):
        in_parallel(lambda host: tell_names(lab, host, addresses), list(known))
    if write(lab.dot_lab / "lab.json", lab_json(lab, record, software), 0o600):
        report.actions.append("write .lab/lab.json")
    report.after = {"hosts": {host: f"running {addresses[host]}" for host in wanted}}
    report.facts = {"subnet": record["subnet"], "hosts": addresses}
    return report


def tell_names(lab: Lab, host: str, addresses: Mapping[str, str]) -> None:
    """New hosts' names to a host that is up already."""
    own.podman(lab, "exec", "--interactive", host, "sh", "-c", "cat >/etc/hosts", text=hosts_file(addresses))


def down(lab: Lab, check: bool) -> Report:
    report = Report()
    record = read_json(lab.record)
    states = host_states(lab)
    dot_lab = lab.dot_lab if lab.checkout is not None and (lab.checkout / ".lab").is_dir() else None
    report.before = {
        "hosts": describe(record.get("hosts", {}), states),
        "folders": [str(path) for path in (lab.state, lab.run, dot_lab) if path is not None and path.exists()],
    }
    report.after = {"hosts": {}, "folders": []}
    if not report.before["folders"] and not own.processes_of(lab):
        return report
    report.actions = [f"remove {host}" for host in states] + [f"remove {path}" for path in report.before["folders"]]
    if check:
        return report
    close_connections(lab)
    if states:
        with report.timed("hosts"):
            in_parallel(lambda host: own.podman(lab, "rm", "--force", "--time=0", "--volumes", host, check=False), list(states))
    with report.timed("rest"), locked(Path("/run")):
        # Whatever podman could not do, or was never asked because it could not run
        left = own.RunFiles.of(lab)
        own.kill_processes(lab)
        left.remove()
        own.remove_bridge(lab)
        if record.get("subnet") and shutil.which("iptables-save"):
            own.remove_firewall(record["subnet"])
        own.stop_keeper(lab)
        own.remove_mounts(lab)
        own.remove_cgroups(lab)
        for folder in (lab.state, lab.run):
            if folder.exists():
                shutil.rmtree(folder)
        leave_machine(lab)
    if dot_lab is not None:
        shutil.rmtree(dot_lab)
    return report


def leave_machine(lab: Lab) -> None:
    """After the last lab the machine gets back what the first one found."""
    if other_labs(lab):
        return
    machine_file = lab.run_root / "machine.json"
    machine = read_json(machine_file)
    if machine:
        # An earlier revision noted less
        absent = machine.get("absent", [])
        if not machine.get("netavark_chains", True) and shutil.which("iptables-save"):
            own.remove_netavark_base()
        if str(own.ADDRESS_LIST.parent) in absent and not own.containers_run():
            # podman's list of the addresses that running containers have
            shutil.rmtree(own.ADDRESS_LIST, ignore_errors=True)
        for path in map(Path, absent):
            # Somebody else may have put something into one since
            if path.is_dir() and not any(path.iterdir()):
                if own.is_mounted(path):
                    # podman mounts /run/netns onto itself
                    run_text("umount", str(path))
                path.rmdir()
        bridges = [path for path in Path("/sys/class/net").iterdir() if (path / "bridge").is_dir()]
        if machine.get("ip_forward") == "0" and not bridges:
            IP_FORWARD.write_text("0\n", encoding="ascii")
        if INOTIFY_INSTANCES.read_text(encoding="ascii").strip() == str(WANTED_INOTIFY_INSTANCES):
            INOTIFY_INSTANCES.write_text(f"{machine.get('inotify_instances', WANTED_INOTIFY_INSTANCES)}\n", encoding="ascii")
        machine_file.unlink()
    for folder in (lab.run_root, lab.state_root):
        # Somebody may have mounted a disk there
        if folder.exists() and not any(folder.iterdir()) and not own.is_mounted(folder):
            folder.rmdir()


def require_host(record: Mapping[str, Any], host: str) -> None:
    if host not in record.get("hosts", {}):
        names = ", ".join(record.get("hosts", {})) or "none: the lab is not up"
        raise LabError(f"lab_host: {host!r} is not a host of this lab. Its hosts are {names}.")


def remove_host(lab: Lab, host: str, check: bool) -> Report:
    """Remove one host and keep the others."""
    report = Report()
    record = read_json(lab.record)
    states = host_states(lab)
    require_host(record, host)
    report.before = {"hosts": describe(record["hosts"], states)}
    report.after = {"hosts": {name: text for name, text in report.before["hosts"].items() if name != host}}
    report.actions.append(f"remove {host}")
    if check:
        return report
    address = record["hosts"].pop(host)
    close_connections(lab, address)
    if host in states:
        own.podman(lab, "rm", "--force", "--time=0", "--volumes", host)
    shutil.rmtree(host_folder(lab, host), ignore_errors=True)
    with locked(Path("/run")):
        write(lab.record, json.dumps(record, indent=2) + "\n", 0o600)
    write_files(lab, record, Report())
    running = [name for name, state in states.items() if name != host and state.state == "running"]
    in_parallel(lambda name: tell_names(lab, name, record["hosts"]), running)
    current = read_json(lab.dot_lab / "lab.json")
    if current:
        write(lab.dot_lab / "lab.json", lab_json(lab, record, {key: current[key] for key in SOFTWARE if key in current}), 0o600)
    return report


POWER_ACTIONS = ("start", "stop", "kill", "restart", "pause", "unpause")


def power(lab: Lab, host: str, action: str, check: bool) -> Report:
    """Start, stop or kill a host as if somebody had pressed its button; started ones answer over SSH afterwards."""
    report = Report()
    record = read_json(lab.record)
    require_host(record, host)
    address = record["hosts"][host]
    states = host_states(lab)
    state = states[host].state if host in states else "absent"
    if state == "absent":
        raise LabError(f"lab_host: {host} does not exist any more. Make it again: ansible-playbook lab/up.yml.")
    steps = {
        "start": ["unpause"] if state == "paused" else [] if state == "running" else ["start"],
        "stop": ["stop"] if state == "running" else [],
        "kill": ["unpause", "kill"] if state == "paused" else ["kill"] if state == "running" else [],
        "restart": ["stop", "start"] if state == "running" else ["start"],
        "pause": ["pause"] if state == "running" else [],
        "unpause": ["unpause"] if state == "paused" else [],
    }[action]
    report.before = {host: state}
    report.after = {host: "running" if action in ("start", "restart", "unpause") else "paused" if action == "pause" else "exited"}
    report.actions = [f"{step} {host}" for step in steps]
    if check or not steps:
        return report
    for step in steps:
        with report.timed(step):
            if step in ("stop", "kill"):
                close_connections(lab, address)
            if step == "start":
                start_host(lab, host)
            else:
                own.podman(lab, *(["kill", "--signal=KILL"] if step == "kill" else [step]), host)
            if step in ("stop", "kill"):
                # What podman's monitor does in the background otherwise; a start in between would fail
                own.podman(lab, "wait", "--condition=stopped", "--condition=exited", host)
                own.podman(lab, "container", "cleanup", host)
    if report.after[host] == "running":
        with report.timed("ready"):
            wait_for_ssh(lab, host, address)
    return report


def list_labs(lab: Lab) -> Report:
    labs = []
    for record in (*other_labs(lab), read_json(lab.record)):
        if record:
            labs.append(
                {
                    "id": record["id"],
                    "checkout": record["checkout"],
                    "subnet": record["subnet"],
                    "hosts": record["hosts"],
                    "checkout_exists": Path(record["checkout"]).is_dir(),
                }
            )
    return Report(facts={"labs": labs})


def missing_packages() -> Report:
    """Which packages of packages.txt the machine lacks; nothing is installed here."""
    if shutil.which("dpkg-query") is None:
        raise LabError("The lab's hosts are made with the packages of a Debian or Ubuntu machine; this is another system.")
    listed = run_text("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n").splitlines()
    wanted = host_image.read_packages(Path(__file__).with_name("packages.txt"))
    return Report(facts={"missing": [name for name in wanted if f"installed {name}" not in listed]})


def make_image(check: bool) -> Report:
    image = host_image.wanted_image(host_image.default_cache())
    report = Report(before={"image": str(image.store) if image.built else "absent"}, after={"image": str(image.store)})
    if image.built:
        return report
    if not check:
        with report.timed("build"):
            host_image.build(image, lambda line: print(f"host image: {line}", file=sys.stderr, flush=True))
    report.actions.append(f"build {image.store}")
    return report


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("command", choices=("packages", "image", "up", "down", "power", "list"))
    parser.add_argument("--checkout", type=Path, default=CHECKOUT)
    parser.add_argument("--lab-id", default="", help="with down: a lab whose checkout is gone")
    parser.add_argument("--hosts", default=json.dumps(DEFAULT_HOSTS), help="JSON list of names")
    parser.add_argument("--host", default="")
    parser.add_argument("--action", default="restart")
    for key in SOFTWARE:
        parser.add_argument(f"--{key.replace('_', '-')}", default="")
    parser.add_argument("--check", action="store_true", help="say what would be done")
    options = parser.parse_args(arguments)
    try:
        require_root()
        lab = Lab(check_lab_id(options.lab_id), None) if options.lab_id else Lab.of_checkout(options.checkout)
        if options.command == "list":
            report = list_labs(lab)
        elif options.command == "packages":
            report = missing_packages()
        elif options.command == "image":
            report = make_image(options.check)
        else:
            with locked(options.checkout):
                if options.command == "up":
                    image = host_image.wanted_image(host_image.default_cache())
                    if not image.built and not options.check:
                        raise LabError(f"The host image is not built: {image.store}. Run lab/up.yml, which builds it.")
                    report = up(lab, json.loads(options.hosts), image, {key: getattr(options, key) for key in SOFTWARE}, options.check)
                elif options.command == "down":
                    report = remove_host(lab, options.host, options.check) if options.host else down(lab, options.check)
                else:
                    if options.action not in POWER_ACTIONS:
                        raise LabError(f"lab_power: {options.action!r} is not one of {', '.join(POWER_ACTIONS)}.")
                    report = power(lab, options.host, options.action, options.check)
    except LabError as error:
        print(json.dumps({"failed": True, "msg": str(error)}))
        return 1
    except subprocess.CalledProcessError as error:
        print(json.dumps({"failed": True, "msg": f"{shlex.join(error.cmd)} failed ({error.returncode}): {(error.stderr or error.stdout or '').strip()}"}))
        return 1
    print(report.as_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
