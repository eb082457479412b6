# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is true of each host of a cluster."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from conftest import LabHost

PROJECT = Path(__file__).resolve().parents[3]
DATA = "/var/lib/rancher/k3s"
CONFIG = "/etc/rancher/k3s"


def test_unit_is_enabled_and_active(node: LabHost) -> None:
    unit = node.host.service(node.unit)
    assert unit.is_enabled
    assert unit.is_running, node.host.run(f"journalctl --no-pager --lines=40 --unit={node.unit}").stdout


def test_host_has_the_unit_of_its_role_only(node: LabHost) -> None:
    other = "k3s-agent" if node.is_server else "k3s"
    assert not node.host.file(f"/etc/systemd/system/{other}.service").exists
    assert node.host.check_output(f"systemctl show --property=ActiveState --value {other}.service") == "inactive"


def test_unit_does_not_limit_its_tasks(node: LabHost) -> None:
    """With systemd's default of 15 % containerd could not fork for the twentieth pod."""
    assert node.host.check_output(f"systemctl show --property=TasksMax --value {node.unit}.service") == "infinity"


def test_no_unit_has_failed(node: LabHost) -> None:
    assert node.host.check_output("systemctl list-units --failed --plain --no-legend k3s\\*") == ""


def test_binary_is_a_link_to_its_version(node: LabHost) -> None:
    link = node.host.file("/usr/local/bin/k3s")
    assert link.is_symlink
    version = node.host.check_output("/usr/local/bin/k3s --version").splitlines()[0].split()[2]
    assert version in Path(link.linked_to).parts
    binary = node.host.file(link.linked_to)
    assert (binary.user, binary.group, binary.mode) == ("root", "root", 0o755)


@pytest.mark.parametrize("path", [f"{CONFIG}/config.yaml", f"{CONFIG}/k3s.yaml", f"{DATA}/server/token", f"{DATA}/server/node-token"])
def test_secret_file_of_a_server_is_roots_alone(server: LabHost, path: str) -> None:
    file = server.host.file(server.host.check_output("readlink -f %s", path))
    assert file.is_file
    assert (file.user, file.group, file.mode) == ("root", "root", 0o600)
    assert file.size > 0


def test_configuration_of_an_agent_is_roots_alone(agent: LabHost) -> None:
    file = agent.host.file(f"{CONFIG}/config.yaml")
    assert (file.user, file.group, file.mode) == ("root", "root", 0o600)


def test_agent_joins_with_the_secure_token(agent: LabHost) -> None:
    settings = yaml.safe_load(agent.host.file(f"{CONFIG}/config.yaml").content_string)
    token = settings["token"] if "token" in settings else agent.host.file(settings["token-file"]).content_string
    assert token.startswith("K10")


def test_no_secret_is_readable_by_others(node: LabHost) -> None:
    """Secure tokens and private keys, wherever a run put them, are for root only."""
    places = f"{CONFIG} {DATA}/server {DATA}/agent/etc /etc/systemd /etc/default /usr/local /var/log /tmp /run/k3s"
    secrets = "-e 'K10[0-9a-f]{64}::' -e 'PRIVATE KEY-----'"
    holders = node.host.run(f"find {places} -xdev -type f -size -1024k -print0 2>/dev/null | xargs -0 --no-run-if-empty grep -lE {secrets}").stdout.split()
    assert holders, "the search finds no secret at all, not even in the files that must hold one"
    assert [path for path in holders if node.host.run("runuser -u nobody -- test -r %s", path).rc == 0] == []


@pytest.mark.parametrize("port", [6443, 10250])
def test_server_listens(server: LabHost, port: int) -> None:
    assert server.host.socket(f"tcp://{port}").is_listening


def test_agent_listens_to_the_kubelets_callers_only(agent: LabHost) -> None:
    assert agent.host.socket("tcp://10250").is_listening
    ports = agent.host.check_output("ss --listening --tcp --numeric --no-header | awk '{print $4}'")
    assert not any(line.endswith(":2379") for line in ports.splitlines())


def test_kubeconfig_on_the_controller_is_its_owners_and_names_the_server(lab_hosts: dict[str, LabHost]) -> None:
    path = PROJECT / ".lab" / "kubeconfig"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lab = json.loads((PROJECT / ".lab" / "lab.json").read_text(encoding="utf-8"))
    addresses = [lab["hosts"][host.name]["address"] for host in lab_hosts.values() if host.is_server]
    (cluster,) = yaml.safe_load(path.read_text(encoding="utf-8"))["clusters"]
    assert cluster["cluster"]["server"] in [f"https://{address}:6443" for address in addresses]
    assert "certificate-authority-data" in cluster["cluster"]


def test_run_without_change_restarted_nothing(node: LabHost) -> None:
    before = dict(line.split("=") for line in (PROJECT / ".lab" / f"starts-{node.name}.txt").read_text(encoding="utf-8").split())
    now = dict(line.split("=") for line in node.host.check_output(f"systemctl show --property={','.join(before)} {node.unit}.service").split())
    assert now == before
