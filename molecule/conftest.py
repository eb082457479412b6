# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import testinfra
import yaml

if TYPE_CHECKING:
    from testinfra.host import Host

PROJECT = Path(__file__).resolve().parents[1]
LAB = PROJECT / ".lab"


@dataclass(frozen=True)
class LabHost:
    """A host of the lab: its name, the groups it is in, and a connection to it."""

    name: str
    groups: frozenset[str]
    host: Host

    @property
    def is_server(self) -> bool:
        return "k3s_server" in self.groups

    @property
    def unit(self) -> str:
        return "k3s" if self.is_server else "k3s-agent"


def lab_groups() -> dict[str, set[str]]:
    """Groups by host; children count as members of their parents."""
    groups: dict[str, set[str]] = {}

    def collect(name: str, group: dict, parents: tuple[str, ...]) -> None:
        for host in group.get("hosts") or {}:
            groups.setdefault(host, set()).update((*parents, name))
        for child, content in (group.get("children") or {}).items():
            collect(child, content or {}, (*parents, name))

    for name, group in yaml.safe_load((PROJECT / "inventories" / "lab" / "hosts.yml").read_text(encoding="utf-8")).items():
        collect(name, group or {}, ())
    return groups


def connect(address: str) -> Host:
    options = f"-o UserKnownHostsFile={LAB}/known_hosts -o ControlMaster=auto -o ControlPersist=30s -o ServerAliveInterval=5"
    return testinfra.get_host(f"ssh://root@{address}", ssh_identity_file=str(LAB / "ssh_key"), ssh_extra_args=options)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    groups = lab_groups()
    for fixture, wanted in (("node", "k3s_cluster"), ("server", "k3s_server"), ("agent", "k3s_agent")):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, sorted(name for name, memberships in groups.items() if wanted in memberships), indirect=True)


@pytest.fixture(scope="session")
def lab_hosts() -> dict[str, LabHost]:
    lab = json.loads((LAB / "lab.json").read_text(encoding="utf-8"))
    return {name: LabHost(name, frozenset(groups), connect(lab["hosts"][name]["address"])) for name, groups in lab_groups().items() if name in lab["hosts"]}


@pytest.fixture
def node(request: pytest.FixtureRequest, lab_hosts: dict[str, LabHost]) -> LabHost:
    return lab_hosts[request.param]


@pytest.fixture
def server(request: pytest.FixtureRequest, lab_hosts: dict[str, LabHost]) -> LabHost:
    return lab_hosts[request.param]


@pytest.fixture
def agent(request: pytest.FixtureRequest, lab_hosts: dict[str, LabHost]) -> LabHost:
    return lab_hosts[request.param]
