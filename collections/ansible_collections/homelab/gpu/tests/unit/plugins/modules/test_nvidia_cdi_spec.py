# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.homelab.gpu.plugins.modules.nvidia_cdi_spec import named

Run = t.Callable[..., dict[str, t.Any]]

FIRST, SECOND = "GPU-00000000-0000-4000-8000-000000000001", "GPU-00000000-0000-4000-8000-000000000002"

# Lists the devices that a file has, one a line
NVIDIA_CTK = """#!/bin/sh
echo "nvidia-ctk $*" >>"$STATE/calls"
[ ! -f "$STATE/broken" ] || { echo "failed to refresh CDI registry" >&2; exit 1; }
[ ! -f "$STATE/hangs" ] || exec sleep 600
while read -r line; do echo "$line"; done <"$STATE/spec"
"""
# The service finds what is there
SYSTEMCTL = """#!/bin/sh
echo "systemctl $*" >>"$STATE/calls"
[ ! -f "$STATE/refuse" ] || { echo "Job for $2 failed because the control process exited with error code." >&2; exit 1; }
while read -r line; do echo "$line"; done <"$STATE/there" >"$STATE/spec"
"""
LIST = "nvidia-ctk --quiet cdi list"
REFRESH = "systemctl restart nvidia-cdi-refresh.service"


class Machine:
    """A host with a CDI specification and GPUs; both are lines of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def specified(self, *uuids: str) -> None:
        self._write("spec", uuids)

    def there(self, *uuids: str) -> None:
        self._write("there", uuids)

    def _write(self, name: str, uuids: t.Sequence[str]) -> None:
        devices = [*map(str, range(len(uuids))), *uuids, *(["all"] if uuids else [])]
        (self.folder / name).write_text("".join(f"nvidia.com/gpu={device}\n" for device in devices))

    def has(self, what: str) -> None:
        (self.folder / what).touch()

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    programs, state = tmp_path / "bin", tmp_path / "state"
    programs.mkdir()
    state.mkdir()
    for name, text in {"nvidia-ctk": NVIDIA_CTK, "systemctl": SYSTEMCTL}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("STATE", str(state))
    made = Machine(state)
    made.specified()
    made.there()
    return made


@pytest.mark.parametrize(
    ("output", "names"),
    [
        ("", []),
        ("nvidia.com/gpu=0\nnvidia.com/gpu=GPU-2\nnvidia.com/gpu=GPU-1\nnvidia.com/gpu=all\n", ["GPU-1", "GPU-2"]),
        ("  nvidia.com/gpu=GPU-1  \r\n", ["GPU-1"]),
        ("nvidia.com/gpu=0:0\nnvidia.com/gpu=MIG-1\n", ["MIG-1"]),
        # Of other kinds and vendors, and what a program says beside its answer
        ("nvidia.com/igpu=GPU-1\nexample.com/gpu=GPU-2\nFound 2 CDI devices\nwarning: nvidia.com/gpu=GPU-3 is odd\n", []),
    ],
)
def test_names(output: str, names: list[str]) -> None:
    assert named(output) == names


def test_gpu_that_came(machine: Machine, run_host_module: Run) -> None:
    machine.specified(FIRST)
    machine.there(SECOND, FIRST)
    result = run_host_module("nvidia_cdi_spec", uuids=[SECOND, FIRST, SECOND])
    assert (result["changed"], result["before"]) == (True, [FIRST])
    assert result["diff"] == {"before": f"{FIRST}\n", "after": f"{FIRST}\n{SECOND}\n"}
    assert machine.calls == [LIST, REFRESH, LIST]
    again = run_host_module("nvidia_cdi_spec", uuids=[FIRST, SECOND])
    assert (again["changed"], again["before"], machine.calls[3:]) == (False, [FIRST, SECOND], [LIST])


def test_gpu_that_went(machine: Machine, run_host_module: Run) -> None:
    machine.specified(FIRST, SECOND)
    machine.there(SECOND)
    result = run_host_module("nvidia_cdi_spec", uuids=[SECOND])
    assert (result["changed"], result["before"]) == (True, [FIRST, SECOND])
    assert REFRESH in machine.calls


@pytest.mark.parametrize("uuids", [[], [""], ["", ""]])
def test_without_gpus_nothing_is_done(machine: Machine, run_host_module: Run, uuids: list[str]) -> None:
    # A Tegra's GPU may have no UUID
    machine.specified(FIRST)
    result = run_host_module("nvidia_cdi_spec", uuids=uuids)
    assert (result["changed"], result["before"], machine.calls) == (False, [FIRST], [LIST])
    assert result["diff"]["before"] == result["diff"]["after"]


def test_gpu_without_uuid_beside_another(machine: Machine, run_host_module: Run) -> None:
    machine.specified(FIRST)
    assert run_host_module("nvidia_cdi_spec", uuids=["", FIRST])["changed"] is False


def test_check_mode_changes_nothing(machine: Machine, run_host_module: Run) -> None:
    machine.there(FIRST)
    result = run_host_module("nvidia_cdi_spec", check_mode=True, uuids=[FIRST])
    assert (result["changed"], result["diff"], machine.calls) == (True, {"before": "", "after": f"{FIRST}\n"}, [LIST])


def test_another_service(machine: Machine, run_host_module: Run) -> None:
    machine.there(FIRST)
    run_host_module("nvidia_cdi_spec", uuids=[FIRST], service="own.service")
    assert machine.calls[1] == "systemctl restart own.service"


def test_service_that_fails(machine: Machine, run_host_module: Run) -> None:
    machine.has("refuse")
    result = run_host_module("nvidia_cdi_spec", uuids=[FIRST])
    assert result["failed"]
    assert result["msg"].startswith("nvidia-cdi-refresh.service failed: Job for nvidia-cdi-refresh.service failed")
    assert result["msg"].endswith("Why: journalctl -u nvidia-cdi-refresh.service")


def test_service_that_does_not_find_the_gpu(machine: Machine, run_host_module: Run) -> None:
    machine.there(FIRST)
    result = run_host_module("nvidia_cdi_spec", uuids=[FIRST, SECOND])
    assert result["failed"]
    assert f"the CDI specification does not name {SECOND} after nvidia-cdi-refresh.service ran" in result["msg"]


@pytest.mark.parametrize("check_mode", [False, True])
def test_list_that_fails(machine: Machine, run_host_module: Run, check_mode: bool) -> None:
    machine.has("broken")
    result = run_host_module("nvidia_cdi_spec", check_mode=check_mode, uuids=[FIRST])
    assert (result["failed"], result["msg"]) == (True, "nvidia-ctk cdi list failed: failed to refresh CDI registry")
    assert REFRESH not in machine.calls


def test_program_that_does_not_end(machine: Machine, run_host_module: Run) -> None:
    machine.has("hangs")
    result = run_host_module("nvidia_cdi_spec", uuids=[FIRST], timeout_seconds=0)
    assert result["failed"]
    assert "cdi list did not end within timeout_seconds=0" in result["msg"]


def test_host_without_the_toolkit(machine: Machine, run_host_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.get_bin_path", lambda *_arguments, **_options: None)
    assert "install the package nvidia-container-toolkit-base" in run_host_module("nvidia_cdi_spec", uuids=[FIRST])["msg"]
    # It is installed by a task before, which in check mode did nothing
    result = run_host_module("nvidia_cdi_spec", check_mode=True, uuids=[FIRST])
    assert (result["changed"], result["before"], machine.calls) == (True, [], [])


def test_host_without_systemd(machine: Machine, run_host_module: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin/systemctl").unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert run_host_module("nvidia_cdi_spec", uuids=[FIRST])["msg"] == "systemctl is not on this host"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "missing required arguments: uuids"),
        ({"uuids": [FIRST], "timeout_seconds": "soon"}, "timeout_seconds"),
        ({"uuids": [], "spec": "x"}, "Unsupported"),
    ],
)
def test_bad_input(machine: Machine, run_host_module: Run, options: dict[str, t.Any], words: str) -> None:
    result = run_host_module("nvidia_cdi_spec", **options)
    assert result["failed"]
    assert words in result["msg"]
    assert machine.calls == []
