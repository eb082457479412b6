# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two checkouts' labs side by side on the machine itself, and what is left of them afterwards.

Runs only if asked to, as root: ``HOMELAB_GPU_LAB_TESTS=1 pytest lab/hosts/test_on_machine.py``. Takes about a minute; the
tests build on each other, in the order in which they stand.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.hosts.identity import Lab

pytestmark = pytest.mark.skipif(os.environ.get("HOMELAB_GPU_LAB_TESTS") != "1", reason="makes labs on this machine: set HOMELAB_GPU_LAB_TESTS=1")

CHECKOUT = Path(__file__).resolve().parents[2]
HOSTS = ["k3s-server", "k3s-worker", "k3s-gpu-worker"]


@dataclass(frozen=True)
class Checkout:
    path: Path

    @property
    def lab(self) -> Lab:
        return Lab.of_checkout(self.path)

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.path / ".lab/lab.json").read_text(encoding="utf-8"))

    def ansible(self, command: str, *arguments: str, check: bool = True) -> str:
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(self.path / "ansible.cfg"), "ANSIBLE_LOCALHOST_WARNING": "0"}
        done = subprocess.run(
            [str(Path(sys.executable).with_name(command)), "-i", "inventories/lab/hosts.yml", *arguments],
            cwd=self.path,
            env=environment,
            capture_output=True,
            text=True,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def up(self, *arguments: str) -> str:
        return self.ansible("ansible-playbook", "lab/up.yml", "-e", f"lab_artifacts_lock={self.path}/artifacts.lock.yml", *arguments)

    def down(self, *arguments: str) -> str:
        return self.ansible("ansible-playbook", "lab/down.yml", *arguments)

    def podman(self, *arguments: str) -> str:
        return subprocess.run([str(self.path / ".lab/podman"), *arguments], capture_output=True, text=True, check=True).stdout

    def ping(self) -> str:
        return self.ansible("ansible", "k3s_cluster", "-m", "ansible.builtin.ping")


def changed(output: str) -> int:
    found = re.search(r"localhost +: ok=\d+ +changed=(\d+)", output)
    assert found, output
    return int(found[1])


@dataclass(frozen=True)
class MachineState:
    """What the machine shows of itself; and the labs of other checkouts, which may come and go meanwhile."""

    links: list[dict[str, Any]]
    rules: list[str]
    mounts: list[str]
    cgroups: list[str]
    folders: list[str]
    settings: list[str]
    labs: dict[str, str]

    @classmethod
    def now(cls) -> MachineState:
        records = [json.loads(path.read_text(encoding="utf-8")) for path in Path("/var/lib/homelab-gpu-lab").glob("*/lab.json")]
        saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout.splitlines()
        return cls(
            json.loads(subprocess.run(["ip", "-json", "link"], capture_output=True, text=True, check=True).stdout),
            # Rules and the chains that somebody made, but not the tables themselves
            [line for line in (re.sub(r" \[\d+:\d+\]$", "", line) for line in saved) if line.startswith("-A ") or line.endswith(" -")],
            [line.split()[4] for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()],
            [str(path) for path in [*Path("/sys/fs/cgroup").glob("*/"), *Path("/sys/fs/cgroup").glob("*/*/")]],
            [str(path) for folder in ("/run", "/var/lib", "/dev/shm") for path in Path(folder).iterdir()],
            [f"{name}: " + Path(f"/proc/sys/{name}").read_text(encoding="ascii") for name in ("net/ipv4/ip_forward", "fs/inotify/max_user_instances")],
            {record["id"]: record["subnet"] for record in records},
        )

    def without(self, labs: dict[str, str]) -> dict[str, set[str]]:
        bridges = [Lab(identity, None).bridge for identity in labs]
        chains = {rule.split()[-1] for rule in self.rules if rule.startswith("-A POSTROUTING") and any(subnet in rule for subnet in labs.values())}
        foreign = [*labs, *labs.values(), *chains]
        return {
            "interfaces": {link["ifname"] for link in self.links if link["ifname"] not in bridges and link.get("master") not in bridges},
            "rules": {rule for rule in self.rules if not any(text in rule for text in foreign)},
            "mounts": {path for path in self.mounts if not any(text in path for text in foreign)},
            "cgroups": {path for path in self.cgroups if not any(text in path for text in foreign)},
            "folders": set(self.folders),
            "settings": set(self.settings),
        }


def differences(before: MachineState, after: MachineState) -> dict[str, set[str]]:
    """What differs, apart from other labs. What all labs share is compared only if none of the others began or ended meanwhile."""
    others = {**before.labs, **after.labs}
    old, new = before.without(others), after.without(others)
    if bool(before.labs) != bool(after.labs):
        for shared in ("rules", "cgroups", "folders", "settings"):
            del old[shared], new[shared]
    return {name: values ^ new[name] for name, values in old.items() if values != new[name]}


def processes_naming(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line and int(path.parts[2]) != os.getpid():
            found.append(line)
    return found


@pytest.fixture(scope="module")
def before() -> MachineState:
    return MachineState.now()


@pytest.fixture(scope="module")
def checkouts(before: MachineState, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Checkout]]:
    made = []
    for name in ("one", "two"):
        path = tmp_path_factory.mktemp(name)
        for folder in ("lab/hosts", "lab/action_plugins", "inventories"):
            shutil.copytree(CHECKOUT / folder, path / folder, ignore=shutil.ignore_patterns("__pycache__"))
        for playbook in ("up.yml", "down.yml", "restart.yml"):
            shutil.copy(CHECKOUT / "lab" / playbook, path / "lab" / playbook)
        (path / "ansible.cfg").write_text("[defaults]\nhost_key_checking = true\n", encoding="utf-8")
        (path / "artifacts.lock.yml").write_text("---\nschema: 1\nartifacts: []\n", encoding="utf-8")
        made.append(Checkout(path))
    try:
        yield made
    finally:
        for checkout in made:
            checkout.down()


def test_inventory_without_a_lab_says_what_to_do(checkouts: list[Checkout]) -> None:
    output = checkouts[0].ansible("ansible", "k3s_cluster", "-m", "ansible.builtin.ping", check=False)
    assert "The lab is not up" in output
    assert "ansible-playbook lab/up.yml" in output


def test_check_mode_makes_nothing(checkouts: list[Checkout]) -> None:
    checkout = checkouts[0]
    assert changed(checkout.up("--check", "--diff")) > 0
    assert not (checkout.path / ".lab").exists()
    assert not checkout.lab.state.exists()
    assert not checkout.lab.run.exists()


def test_two_labs_come_up_at_the_same_time(checkouts: list[Checkout]) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(Checkout.up, checkouts))
    one, two = (checkout.record for checkout in checkouts)
    assert one["id"] != two["id"]
    assert one["subnet"] != two["subnet"]
    for checkout in checkouts:
        assert checkout.ping().count("pong") == len(HOSTS)


def test_a_host_is_as_ordered(checkouts: list[Checkout]) -> None:
    addresses = checkouts[0].record["hosts"]
    assert [addresses[name]["address"].rsplit(".", 1)[1] for name in HOSTS] == ["11", "12", "13"]
    asked = "; ".join(
        [
            "systemctl is-system-running",
            "cat /proc/sys/net/ipv4/ip_forward",
            "findmnt --noheadings --output PROPAGATION /",
            "hostname",
            "getent hosts k3s-server",
            "grep -E -m1 '^[0-9]+:name=systemd:|^0::' /proc/1/cgroup | cut -d: -f3",
            "ls /usr/local/bin /opt/cni /etc/cni 2>/dev/null | grep -v : || true",
            "cat /etc/machine-id",
        ]
    )
    state, forward, propagation, hostname, server, cgroup, *rest = checkouts[0].podman("exec", "k3s-worker", "sh", "-c", asked).splitlines()
    assert (state, forward, propagation, hostname) == ("running", "1", "shared", "k3s-worker")
    assert server.split() == [addresses["k3s-server"]["address"], "k3s-server"]
    assert cgroup == "/init.scope"
    assert len(rest) == 1, f"the host is not bare: {rest}"
    assert rest[0] != checkouts[0].podman("exec", "k3s-server", "cat", "/etc/machine-id").strip()


def test_files_keep_their_secrets(checkouts: list[Checkout]) -> None:
    dot_lab = checkouts[0].path / ".lab"
    assert dot_lab.stat().st_mode & 0o777 == 0o700
    assert (dot_lab / "ssh_key").stat().st_mode & 0o777 == 0o600
    assert checkouts[0].lab.state.stat().st_mode & 0o777 == 0o700


def test_second_run_changes_nothing(checkouts: list[Checkout]) -> None:
    started = checkouts[0].podman("inspect", "--format", "{{.State.StartedAt}}", *HOSTS)
    assert changed(checkouts[0].up()) == 0
    assert changed(checkouts[0].up("--check")) == 0
    assert checkouts[0].podman("inspect", "--format", "{{.State.StartedAt}}", *HOSTS) == started


def test_killed_host_comes_back_with_its_files(checkouts: list[Checkout]) -> None:
    checkout = checkouts[0]
    checkout.podman("exec", "k3s-worker", "touch", "/root/kept", "/var/lib/kept")
    for power in ("kill", "start", "restart"):
        output = checkout.ansible("ansible-playbook", "lab/restart.yml", "-e", f"lab_host=k3s-worker lab_power={power}")
        assert changed(output) == 1
    assert checkout.ping().count("pong") == len(HOSTS)
    checkout.podman("exec", "k3s-worker", "ls", "/root/kept", "/var/lib/kept")
    assert checkout.podman("exec", "k3s-worker", "cat", "/proc/sys/net/ipv4/ip_forward").strip() == "1"


def test_extra_host_comes_and_goes(checkouts: list[Checkout]) -> None:
    checkout = checkouts[0]
    checkout.up("-e", '{"lab_hosts": ["k3s-worker-2"]}')
    output = checkout.ansible("ansible", "-i", ".lab/extra_hosts.yml", "k3s_agent", "-m", "ansible.builtin.ping")
    assert output.count("pong") == 3
    assert "k3s-worker-2" in checkout.podman("exec", "k3s-server", "getent", "hosts", "k3s-worker-2")
    checkout.down("-e", "lab_host=k3s-worker-2")
    assert list(checkout.record["hosts"]) == HOSTS
    assert not (checkout.path / ".lab/extra_hosts.yml").exists()


@pytest.mark.parametrize(
    ("playbook", "variables", "message"),
    [
        ("up.yml", '{"lab_hosts": ["Bad_Name"]}', "lab_hosts: 'Bad_Name' is not a host name"),
        ("up.yml", '{"lab_hosts": "k3s-server"}', "lab_hosts: 'k3s-server' is not a list"),
        ("up.yml", '{"lab_artifacts_lock": "/missing"}', "lab_artifacts_lock: there is no file /missing"),
        ("up.yml", '{"lab_artifacts_lock": "", "lab_distribution": "k8s"}', "lab_distribution: k8s is not one of"),
        ("restart.yml", "{}", "lab_host: no host is named"),
        ("restart.yml", '{"lab_host": "nobody"}', "lab_host: 'nobody' is not a host of this lab"),
        ("restart.yml", '{"lab_host": "k3s-worker", "lab_power": "off"}', "lab_power: 'off' is not one of"),
        ("down.yml", '{"lab_host": "nobody"}', "lab_host: 'nobody' is not a host of this lab"),
        ("down.yml", '{"lab_id": "../x"}', "lab_id: '../x' is not the id of a lab"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(checkouts: list[Checkout], playbook: str, variables: str, message: str) -> None:
    checkout = checkouts[0]
    options = ["-e", f"lab_artifacts_lock={checkout.path}/artifacts.lock.yml", "-e", variables]
    output = " ".join(checkout.ansible("ansible-playbook", f"lab/{playbook}", *options, check=False).split())
    assert message in output
    assert changed(output) == 0


def test_one_goes_and_the_other_stays(checkouts: list[Checkout]) -> None:
    one, two = checkouts
    lab = one.lab
    assert changed(one.down()) == 1
    assert two.ping().count("pong") == len(HOSTS)
    assert not processes_naming(lab.id)
    assert not Path(f"/sys/class/net/{lab.bridge}").exists()
    assert not (one.path / ".lab").exists()
    assert changed(one.down()) == 0


def test_half_a_lab_can_be_removed_and_nothing_is_left(checkouts: list[Checkout], before: MachineState) -> None:
    two = checkouts[1]
    lab = two.lab
    # As if runs had been cut off and files lost
    keeper = lab.run / "keeper.pid"
    if keeper.exists():
        os.kill(int(keeper.read_text(encoding="ascii")), 9)
    shutil.rmtree(lab.state / "storage/libpod")
    (two.path / ".lab/lab.json").unlink()
    assert changed(two.down()) == 1
    assert not processes_naming(lab.id)
    assert not lab.state.exists()
    assert differences(before, MachineState.now()) == {}
