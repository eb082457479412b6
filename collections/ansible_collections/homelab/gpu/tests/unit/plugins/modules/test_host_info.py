# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.homelab.gpu.plugins.modules import host_info

Run = t.Callable[..., dict[str, t.Any]]


@pytest.fixture(autouse=True)
def _bare_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that runs no program of ours, and takes the version of no K3s of its own."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(host_info, "_BINARY", str(tmp_path / "k3s"))


@pytest.mark.parametrize(
    ("programs", "manager"),
    [
        ([], ""),
        (["apt-get"], "apt"),
        (["dnf"], "dnf"),
        # Debian has a package of dnf, Fedora one of apt: the first is more than a curiosity
        (["dnf", "apt-get"], "apt"),
        (["dpkg", "rpm", "zypper", "apt", "microdnf"], ""),
    ],
)
def test_package_manager(programs: list[str], manager: str, monkeypatch: pytest.MonkeyPatch, run_host_module: Run) -> None:
    def get_bin_path(_module: object, name: str, *_arguments: object, **_options: object) -> str | None:
        return f"/usr/bin/{name}" if name in programs else None

    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.get_bin_path", get_bin_path)
    result = run_host_module("host_info")
    assert (result["changed"], result["host"]["package_manager"]) == (False, manager)


def test_programs_of_the_path(tmp_path: Path, run_host_module: Run) -> None:
    (tmp_path / "apt-get").touch()
    # A file that cannot be run is no program
    assert run_host_module("host_info")["host"]["package_manager"] != "apt"
    (tmp_path / "apt-get").chmod(0o755)
    assert run_host_module("host_info")["host"]["package_manager"] == "apt"


def test_host_without_any_program_is_told_all_the_same(run_host_module: Run) -> None:
    host = run_host_module("host_info", tcp_ports=[1], data_dir="/nowhere/k3s")["host"]
    assert (host["addresses"], host["iptables"], host["firewalls"]) == ([], "", [])
    assert (host["k3s"]["binary"], host["k3s"]["version"], host["k3s"]["active_units"]) == ("", None, [])
    assert host["disks"]["data"]["path"] == "/"
    assert host["k3s"]["token_matches"] is None


@pytest.mark.parametrize(
    ("token", "wanted", "matches"),
    [
        ("K10abc::server:secret\n", "secret", True),
        ("secret\n", "secret", True),
        ("K10abc::server:secret\n", "other", False),
        ("K10abc::server:secret\n", "", None),
        ("", "secret", None),
        (None, "secret", None),
    ],
)
def test_token_is_compared_and_not_told(tmp_path: Path, run_host_module: Run, token: str | None, wanted: str, matches: bool | None) -> None:
    if token is not None:
        (tmp_path / "server").mkdir()
        (tmp_path / "server/token").write_text(token)
    result = run_host_module("host_info", data_dir=str(tmp_path), server_token=wanted)
    assert result["host"]["k3s"]["token_matches"] is matches
    assert result["host"]["k3s"]["has_server_data"] is (token is not None)
    assert "secret" not in str(result["host"])
