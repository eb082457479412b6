# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._nvidia_driver import Answer, Kernel, ask, kernel_driver, parsed

GPU = "0000:3f:00.0"
LINE = "00000000:3F:00.0, GPU-1, NVIDIA GeForce RTX 3060, 12288, 580.95.05, Disabled, 8.6\n"
Script = t.Callable[[str], str]

COULD_NOT = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.\n"


@pytest.fixture
def script(tmp_path: pathlib.Path) -> Script:
    """A program in the place of nvidia-smi."""

    def make(text: str) -> str:
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@x)  Tue Sep 23\nGCC version: gcc 13.3.0\n",
            Kernel("580.95.05", "open"),
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n", Kernel("535.183.01", "proprietary")),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  595.78  Release Build\n", Kernel("595.78", "open")),
        ("", Kernel("", "")),
    ],
)
def test_loaded_module(tmp_path: pathlib.Path, text: str, kernel: Kernel) -> None:
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(text)
    assert kernel_driver(str(tmp_path)) == kernel


def test_module_without_a_file_in_proc(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sys/module/nvidia").mkdir(parents=True)
    (tmp_path / "sys/module/nvidia/version").write_text("540.4.0\n")
    assert kernel_driver(str(tmp_path)) == Kernel("540.4.0", "")


def test_answer_of_a_driver_that_works() -> None:
    answer = parsed(0, LINE)
    assert answer.state == "ready"
    assert answer.gpus[GPU] == {
        "uuid": "GPU-1",
        "product": "NVIDIA GeForce RTX 3060",
        "memory_mib": 12288,
        "compute_capability": "8.6",
        "persistence": False,
        "driver_version": "580.95.05",
    }


def test_what_it_cannot_tell() -> None:
    answer = parsed(0, "00000000:01:00.0, GPU-2, NVIDIA Thor, [N/A], 595.78, [N/A], 11.0\n")
    told = answer.gpus["0000:01:00.0"]
    assert (told["memory_mib"], told["persistence"], told["product"]) == (None, None, "NVIDIA Thor")


@pytest.mark.parametrize(
    ("code", "output", "state", "lost"),
    [
        (9, COULD_NOT, "not_loaded", ()),
        (18, "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.95\n", "mismatch", ()),
        (6, "No devices were found\n", "no_devices", ()),
        (255, "Failed to initialize NVML: Unknown Error\n", "failing", ()),
        (1, "", "failing", ()),
        (15, "Unable to determine the device handle for GPU0000:3F:00.0: GPU is lost.  Reboot the system to recover this GPU\n", "ready", (GPU,)),
        (15, "Unable to determine the device handle for GPU 0000:3F:00.0: GPU is lost.  Reboot the system\n", "ready", (GPU,)),
        (0, "00000000:3F:00.0, [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost]\n", "ready", (GPU,)),
    ],
)
def test_answers_of_drivers_that_do_not(code: int, output: str, state: str, lost: tuple[str, ...]) -> None:
    answer = parsed(code, output)
    assert (answer.state, answer.lost) == (state, lost)
    assert answer.message


def test_one_lost_and_one_well() -> None:
    answer = parsed(15, f"Unable to determine the device handle for GPU0000:41:00.0: GPU is lost.\n{LINE}")
    assert (answer.state, answer.lost, list(answer.gpus)) == ("ready", ("0000:41:00.0",), [GPU])


def test_no_program() -> None:
    assert ask(None, 1) == Answer("no_nvidia_smi", "nvidia-smi is not installed")
    assert ask("/does/not/exist", 1).message == "/does/not/exist cannot be run: No such file or directory"


def test_driver_before_compute_capabilities(script: Script) -> None:
    path = script(f"""case "$1" in
*compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2 ;;
*) echo '{LINE.rpartition(", ")[0]}' ;;
esac""")
    answer = ask(path, 5)
    assert (answer.state, answer.gpus[GPU]["compute_capability"]) == ("ready", "")


def test_program_that_hangs_is_given_up_with_its_children(script: Script, tmp_path: pathlib.Path) -> None:
    answer = ask(script(f"sleep 600 & echo $! > {tmp_path}/child; wait"), 0.5)
    assert (answer.state, answer.message) == ("hung", "nvidia-smi did not answer within 0.5 s and was killed")
    state = pathlib.Path("/proc", (tmp_path / "child").read_text().strip(), "stat")
    assert not state.exists() or ") Z" in state.read_text()
