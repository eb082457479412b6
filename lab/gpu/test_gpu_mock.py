# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mock library and nvidia-smi's stand-in, run on this machine against state files."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab.gpu import __main__ as command
from lab.gpu import build
from lab.gpu.state import INIT_ERRORS, PRODUCTS, State, StateError, of_products, parsed, rendered

QUERY = "--query-gpu=pci.bus_id,uuid,name,memory.total,driver_version,persistence_mode,compute_cap"
CSV = "--format=csv,noheader,nounits"


@pytest.fixture(scope="module")
def made() -> Path:
    return build.build()


class Host:
    def __init__(self, made: Path, path: Path) -> None:
        self._made = made
        self._path = path

    def is_in(self, state: State) -> None:
        self._path.write_text(rendered(state))

    def nvidia_smi(self, *arguments: str, timeout: float = 20) -> tuple[int, str]:
        environment = {**os.environ, "MOCK_NVML_STATE": str(self._path), "LD_LIBRARY_PATH": str(self._made)}
        done = subprocess.run([str(self._made / build.PROGRAM), *arguments], env=environment, capture_output=True, text=True, timeout=timeout, check=False)
        return done.returncode, done.stdout


@pytest.fixture
def host(made: Path, tmp_path: Path) -> Host:
    return Host(made, tmp_path / "state")


def test_state_files_are_read_as_they_are_written() -> None:
    state = replace(of_products(["thor", "tesla-p40"]).with_xid(1, 79).changed(0, lost=True, persistence=True), hang=True, init_error=18)
    assert parsed(rendered(state)) == state


def test_nothing_happens_to_gpus_that_are_not_there() -> None:
    with pytest.raises(StateError, match="gpu 1: there is no such GPU. There are: 0"):
        of_products(["tesla-p40"]).with_xid(1, 79)
    with pytest.raises(StateError, match="product rtx-9090: not known"):
        of_products(["rtx-9090"])


def test_products_as_nvidia_smi_tells_them(host: Host) -> None:
    state = of_products([*PRODUCTS])
    host.is_in(state.changed(0, persistence=True))
    code, output = host.nvidia_smi(QUERY, CSV)
    assert code == 0
    lines = [line.split(", ") for line in output.splitlines()]
    assert lines[0] == ["00000000:3F:00.0", state.gpus[0].uuid, "NVIDIA GeForce RTX 3060", "12288", "580.95.05", "Enabled", "8.6"]
    assert [line[2] for line in lines] == [product.name for product in PRODUCTS.values()]
    assert lines[-1][3] == "[N/A]"
    assert host.nvidia_smi("-L")[1].splitlines()[0] == f"GPU 0: NVIDIA GeForce RTX 3060 (UUID: {state.gpus[0].uuid})"
    assert host.nvidia_smi("--query-gpu=name,memory.total", "--format=csv")[1].splitlines()[:2] == [
        "name, memory.total [MiB]",
        "NVIDIA GeForce RTX 3060, 12288 MiB",
    ]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        ("not-loaded", 9, "couldn't communicate with the NVIDIA driver"),
        ("mismatch", 18, "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.95.05"),
        ("unknown", 255, "Failed to initialize NVML: Unknown Error"),
    ],
)
def test_libraries_that_cannot_be_started(host: Host, error: str, code: int, words: str) -> None:
    host.is_in(replace(of_products(["tesla-p40"]), init_error=INIT_ERRORS[error]))
    found, output = host.nvidia_smi(QUERY, CSV)
    assert found == code
    assert words in output


def test_gpus_that_are_lost_or_gone(host: Host) -> None:
    state = of_products(["tesla-p40", "rtx-3060-12gb"])
    host.is_in(state.changed(0, lost=True))
    code, output = host.nvidia_smi(QUERY, CSV)
    assert code == 15
    first, second = output.splitlines()
    assert first == "Unable to determine the device handle for GPU0000:3F:00.0: GPU is lost.  Reboot the system to recover this GPU"
    assert second.startswith("00000000:41:00.0, ")
    host.is_in(state.changed(0, present=False).changed(1, present=False))
    assert host.nvidia_smi(QUERY, CSV) == (6, "No devices were found\n")


def test_driver_that_hangs(host: Host) -> None:
    host.is_in(replace(of_products(["tesla-p40"]), hang=True))
    with pytest.raises(subprocess.TimeoutExpired):
        host.nvidia_smi("-L", timeout=0.3)


def test_compute_mode_is_taken_of_gpus_that_answer(host: Host) -> None:
    state = of_products(["rtx-4000-ada", "rtx-3060-12gb"])
    host.is_in(state)
    said = "Set compute mode to EXCLUSIVE_PROCESS for GPU 00000000:41:00.0.\nAll done.\n"
    assert host.nvidia_smi("-i", state.gpus[1].uuid, "-c", "EXCLUSIVE_PROCESS") == (0, said)
    assert host.nvidia_smi("-c", "0")[1].count("Set compute mode to 0") == 2
    assert host.nvidia_smi("-c", "SHARED") == (2, "Invalid compute mode: SHARED\n")
    assert host.nvidia_smi("-i", "GPU-none", "-c", "DEFAULT") == (6, "No devices were found\n")
    host.is_in(state.changed(1, lost=True))
    assert host.nvidia_smi("-i", state.gpus[1].uuid, "-c", "DEFAULT") == (15, "Unable to set the compute mode of gpu 1: GPU is lost\n")


class Mps:
    def __init__(self, made: Path, folder: Path) -> None:
        self._program = made / "nvidia-cuda-mps-control"
        self.pipe, self.log = folder / "pipe", folder / "log/control.log"

    def run(self, *arguments: str, given: str = "") -> tuple[int, str]:
        # No more than these two, as NVIDIA's device plugin gives it
        environment = {"CUDA_MPS_PIPE_DIRECTORY": str(self.pipe), "CUDA_MPS_LOG_DIRECTORY": str(self.log.parent)}
        done = subprocess.run([str(self._program), *arguments], input=given, env=environment, capture_output=True, text=True, timeout=20, check=False)
        return done.returncode, done.stdout


@pytest.fixture
def mps(made: Path, tmp_path: Path) -> Iterator[Mps]:
    control = Mps(made, tmp_path)
    yield control
    control.run(given="quit")


def test_mps_daemon_starts_once_and_quits(mps: Mps) -> None:
    nobody = (1, "Cannot find MPS control daemon process\n")
    assert mps.run(given="get_default_active_thread_percentage") == nobody
    assert mps.run("-d") == (0, "")
    assert mps.run("-d") == (1, "An instance of this daemon is already running\n")
    assert f"Starting control daemon using socket {mps.pipe}/control" in mps.log.read_text()
    assert mps.run(given="quit") == (0, "")
    assert mps.run(given="get_server_list") == nobody
    assert [*mps.pipe.iterdir()] == []
    # What one leaves that was killed is no hindrance
    mps.run("-d")
    process = os.pidfd_open(int((mps.pipe / "nvidia-cuda-mps-control.pid").read_text()))
    signal.pidfd_send_signal(process, signal.SIGKILL)
    assert select.select([process], [], [], 20)[0]
    os.close(process)
    assert mps.run(given="get_server_list") == nobody
    assert mps.run("-d") == (0, "")


def test_mps_daemon_keeps_limits(mps: Mps) -> None:
    mps.run("-d")
    assert mps.run(given="set_default_active_thread_percentage 33\nget_default_active_thread_percentage") == (0, "33.0\n33.0\n")
    assert mps.run(given="set_default_device_pinned_mem_limit 1 6144M") == (0, "")
    assert mps.run(given="get_default_device_pinned_mem_limit 1") == (0, "6144M\n")
    assert mps.run(given="get_default_device_pinned_mem_limit 0") == (0, "\n")
    for wrong in ("set_default_active_thread_percentage 101", "set_default_device_pinned_mem_limit 1 6144", "no_command"):
        assert mps.run(given=wrong) == (1, f"This stand-in does not know, or not with this value: {wrong}\n")
    assert mps.run(given="get_default_active_thread_percentage") == (0, "33.0\n")


def test_mps_servers_end_with_their_daemon(mps: Mps) -> None:
    mps.run("-d")
    assert mps.run(given="get_server_list") == (0, "")
    assert mps.run(given="start_server -uid 1000") == (0, "")
    pid = int(mps.run(given="get_server_list")[1])
    assert b"nvidia-cuda-mps-server\x001000" in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert mps.run(given="quit") == (0, "")
    assert not Path(f"/proc/{pid}").exists()


def test_what_it_cannot_do(host: Host) -> None:
    host.is_in(of_products(["tesla-p40"]))
    assert host.nvidia_smi("--query-gpu=name,colour", CSV)[0] == 2
    assert host.nvidia_smi("--reset")[0] == 2


class Event(ctypes.Structure):
    _fields_ = (
        ("device", ctypes.c_void_p),
        ("type", ctypes.c_ulonglong),
        ("data", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


def test_events(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    state = of_products(["tesla-p40"]).with_xid(0, 13)
    path.write_text(rendered(state))
    monkeypatch.setenv("MOCK_NVML_STATE", str(path))
    library = ctypes.CDLL(str(made / build.LIBRARY))
    device, events, event = ctypes.c_void_p(), ctypes.c_void_p(), Event()
    assert library.nvmlInit_v2() == 0
    assert library.nvmlDeviceGetHandleByUUID(state.gpus[0].uuid.encode(), ctypes.byref(device)) == 0
    assert library.nvmlEventSetCreate(ctypes.byref(events)) == 0
    assert library.nvmlDeviceRegisterEvents(device, ctypes.c_ulonglong(8), events) == 0
    assert library.nvmlEventSetWait_v2(events, ctypes.byref(event), 0) == 10, "what was before is no event"
    path.write_text(rendered(state.with_xid(0, 79).changed(0, lost=True)))
    assert library.nvmlEventSetWait_v2(events, ctypes.byref(event), 1000) == 0
    assert (event.data, event.device) == (79, device.value)
    name = ctypes.create_string_buffer(96)
    assert library.nvmlDeviceGetName(device, name, 96) == 15
    assert library.nvmlEventSetWait_v2(events, ctypes.byref(event), 0) == 10, "each is told once"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["lose"], of_products(["tesla-p40", "thor"]).changed(0, lost=True)),
        (["remove", "--gpu", "1"], of_products(["tesla-p40", "thor"]).changed(1, present=False, absent=frozenset({"gpu", "audio"}))),
        (["xid", "79", "--gpu", "1"], of_products(["tesla-p40", "thor"]).with_xid(1, 79)),
        (["hang"], replace(of_products(["tesla-p40", "thor"]), hang=True)),
        (["fail", "mismatch"], replace(of_products(["tesla-p40", "thor"]), init_error=18)),
        (["swap", "rtx-3060-8gb"], of_products(["rtx-3060-8gb"])),
    ],
)
def test_commands_change_the_file(words: list[str], expected: State, monkeypatch: pytest.MonkeyPatch) -> None:
    before = of_products(["tesla-p40", "thor"])
    written = {}
    monkeypatch.setattr(command, "on_host", lambda _host, _command, _given=b"": rendered(before).encode())
    monkeypatch.setattr(command, "put_state", lambda host, state: written.update({host: state}))
    assert command.main(words) == 0
    assert written == {"k3s-gpu-worker": expected}


def test_state_is_written_into_the_file_that_containers_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {"PATH": tmp_path / "mock/state", "PATH_IN_CONTAINERS": tmp_path / "persistenced/socket"}
    for name, path in paths.items():
        monkeypatch.setattr(command, name, str(path))
    monkeypatch.setattr(command, "on_host", lambda _host, line, given: subprocess.run(["sh", "-ec", line], input=given, check=True))
    command.put_state("host", of_products(["tesla-p40", "thor"]))
    with paths["PATH_IN_CONTAINERS"].open() as held:
        command.put_state("host", of_products(["thor"]))
        assert parsed(held.read()) == of_products(["thor"])
    assert paths["PATH"].samefile(paths["PATH_IN_CONTAINERS"])


def test_persistence_mode_is_kept(host: Host) -> None:
    host.is_in(of_products(["tesla-p40", "thor"]))
    assert host.nvidia_smi("-i", of_products(["tesla-p40", "thor"]).gpus[1].uuid, "-pm", "1")[0] == 0
    code, output = host.nvidia_smi("--query-gpu=persistence_mode", CSV)
    assert (code, output.split()) == (0, ["Disabled", "Enabled"])


def test_return_makes_all_well() -> None:
    before = replace(of_products(["tesla-p40"]).changed(0, lost=True, present=False), hang=True, init_error=9)
    assert command.CHANGES["return"](before, command.arguments(["return"])) == of_products(["tesla-p40"])


def test_command_for_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "on_host", lambda _host, _command: rendered(of_products(["tesla-p40"])).encode())
    assert command.main(["lose", "--gpu", "3"]) == 1
    assert "gpu 3: there is no such GPU. There are: 0" in capsys.readouterr().err
