# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.homelab.gpu.plugins.modules import k3s_runtime_info
from ansible_collections.homelab.gpu.plugins.modules.k3s_runtime_info import facts, running_unit

RUNTIME = "/usr/bin/nvidia-container-runtime"
DATA = "/var/lib/rancher/k3s"
PID = 7


class Host:
    """Files of a host below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def program(self, path: str) -> None:
        self.text(path, "#!/bin/sh\n").chmod(0o755)

    def text(self, path: str, text: str) -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def has_registered(self, program: str) -> None:
        self.text(f"{DATA}/agent/etc/containerd/config.toml", f"[plugins.x.containerd.runtimes.'nvidia'.options]\n  BinaryName = \"{program}\"\n")

    def facts(self, unit: str = "k3s-agent.service") -> dict[str, t.Any]:
        return facts(RUNTIME, DATA, unit, PID if unit else 0, str(self.root))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.program(RUNTIME)
    made.text(f"proc/{PID}/environ", "HOME=/root\0PATH=/usr/local/bin:/usr/bin\0")
    return made


def test_registered(host: Host) -> None:
    host.has_registered(RUNTIME)
    found = host.facts()
    assert (found["state"], found["restart_needed"], found["unit"]) == ("registered", False, "k3s-agent.service")
    assert found["runtimes"] == {"nvidia": RUNTIME}


def test_installed_after_the_start(host: Host) -> None:
    host.text(f"{DATA}/agent/etc/containerd/config.toml", "version = 3\n")
    found = host.facts()
    assert (found["state"], found["restart_needed"]) == ("not_registered", True)


def test_foreign_program_in_a_folder_before(host: Host) -> None:
    host.has_registered(RUNTIME)
    host.program("/usr/local/bin/nvidia-container-runtime")
    found = host.facts()
    assert found["state"] == "foreign"
    assert "/usr/local/bin/nvidia-container-runtime" in found["reason"]


def test_file_that_nobody_may_run_is_no_program(host: Host) -> None:
    host.has_registered(RUNTIME)
    host.text("/usr/local/bin/nvidia-container-runtime", "")
    assert host.facts()["state"] == "registered"


def test_same_program_by_another_folder(host: Host) -> None:
    (host.root / "bin").symlink_to("usr/bin")
    host.text(f"proc/{PID}/environ", "PATH=/bin\0")
    host.has_registered("/bin/nvidia-container-runtime")
    assert host.facts()["state"] == "registered"


def test_k3s_that_does_not_run(host: Host) -> None:
    host.has_registered("/opt/old")
    assert host.facts(unit="")["state"] == "stopped"


def test_templates_are_told(host: Host) -> None:
    host.text(f"{DATA}/agent/etc/containerd/config.toml.tmpl", "")
    assert host.facts()["templates"] == [f"{DATA}/agent/etc/containerd/config.toml.tmpl"]


def test_unit_that_runs() -> None:
    def run(command: list[str]) -> tuple[int, str, str]:
        running = command[-1] == "k3s-agent.service"
        return 0, "LoadState=loaded\nActiveState=active\nSubState=running\nMainPID=7\n" if running else "LoadState=not-found\n", ""

    assert running_unit(run) == ("k3s-agent.service", 7)


@pytest.mark.parametrize("option", ["runtime", "data_dir"])
def test_relative_path_is_refused(run_host_module: t.Callable[..., dict[str, t.Any]], option: str) -> None:
    result = run_host_module("k3s_runtime_info", **{option: "bin/x"})
    assert result["failed"]
    assert f"{option} is 'bin/x'; it has to be an absolute path" in result["msg"]


def test_searched_folders_are_those_of_k3s() -> None:
    assert k3s_runtime_info.NVIDIA["nvidia"] == "nvidia-container-runtime"
