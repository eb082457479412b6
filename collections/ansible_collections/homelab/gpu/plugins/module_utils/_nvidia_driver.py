# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# What the NVIDIA driver says of itself, in /proc, and through nvidia-smi. A driver that lost its GPU may let whoever asks it hang in
# the kernel, where no signal reaches: so it is asked by a child, with a deadline, and the child is left behind then.

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._host_facts import read
from ansible_collections.homelab.gpu.plugins.module_utils._pci import normalised_address

__all__ = ["Answer", "Kernel", "ask", "kernel_driver", "parsed"]

_FIELDS = ("pci.bus_id", "uuid", "name", "memory.total", "driver_version", "persistence_mode", "compute_cap")
_NVRM = re.compile(r"^NVRM version:.*?(?P<open>Open )?Kernel Module.*?(?P<version>\d+\.\d+(?:\.\d+)?)", re.MULTILINE)
_KILLED_SECONDS = 0.2
_LOST = re.compile(r"device handle for GPU ?(?P<address>[0-9A-Fa-f:.]+?):? .*GPU is lost", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """The loaded module; nothing in both if there is none."""

    version: str
    flavour: str
    """open or proprietary."""


def kernel_driver(root: str) -> Kernel:
    found = _NVRM.search(read(root, "proc/driver/nvidia/version"))
    if found:
        return Kernel(found["version"], "open" if found["open"] else "proprietary")
    # Tegra's module has no such file
    return Kernel(read(root, "sys/module/nvidia/version").strip(), "")


@dataclasses.dataclass(frozen=True)
class Answer:
    """What nvidia-smi said."""

    state: str
    """ready, no_devices, not_loaded, mismatch, hung, failing, or no_nvidia_smi."""
    message: str = ""
    gpus: dict[str, dict[str, t.Any]] = dataclasses.field(default_factory=dict)
    """By PCI address."""
    lost: tuple[str, ...] = ()
    """Addresses of GPUs that it calls lost."""


def ask(nvidia_smi: str | None, timeout_seconds: float) -> Answer:
    if nvidia_smi is None:
        return Answer("no_nvidia_smi", "nvidia-smi is not installed")
    fields: tuple[str, ...] = _FIELDS
    code, output = _run([nvidia_smi, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"], timeout_seconds)
    if code is not None and "compute_cap" in output and "not a valid field" in output:
        # Drivers before R510
        fields = _FIELDS[:-1]
        code, output = _run([nvidia_smi, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"], timeout_seconds)
    if code is None:
        return Answer("hung", output)
    return parsed(code, output, fields)


def _run(command: t.Sequence[str], timeout_seconds: float) -> tuple[int | None, str]:
    """Exit status and what was printed; None and why, if it did not end in time."""
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, text=True, errors="replace"
        )
    except OSError as error:
        return 127, f"{command[0]} cannot be run: {error.strerror}"
    try:
        output, _none = child.communicate(timeout=timeout_seconds)
        return child.returncode, output
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        try:
            child.communicate(timeout=_KILLED_SECONDS)
        except subprocess.TimeoutExpired:
            return None, f"nvidia-smi did not answer within {timeout_seconds:g} s and cannot be killed: it hangs in the kernel as process {child.pid}"
        return None, f"nvidia-smi did not answer within {timeout_seconds:g} s and was killed"


def parsed(code: int, output: str, fields: t.Sequence[str] = _FIELDS) -> Answer:
    gpus, lost = {}, []
    for line in output.splitlines():
        values = [value.strip() for value in line.split(",")]
        found = _LOST.search(line)
        if found:
            lost.append(normalised_address(found["address"]))
        elif len(values) == len(fields) and ":" in values[0]:
            row = dict(zip(fields, values))
            address = normalised_address(row["pci.bus_id"])
            if any("GPU is lost" in value for value in values):
                lost.append(address)
            gpus[address] = {
                "uuid": _known(row["uuid"]),
                "product": _known(row["name"]),
                "memory_mib": int(row["memory.total"]) if row["memory.total"].isdigit() else None,
                "compute_capability": _known(row.get("compute_cap", "")),
                "persistence": {"Enabled": True, "Disabled": False}.get(row["persistence_mode"]),
                "driver_version": _known(row["driver_version"]),
            }
    message = " ".join(output.split())[:500]
    if gpus or lost:
        return Answer("ready", message if lost else "", gpus, tuple(dict.fromkeys(lost)))
    if "version mismatch" in output:
        return Answer("mismatch", message)
    if "No devices were found" in output:
        return Answer("no_devices", message)
    if "couldn't communicate with the NVIDIA driver" in output or "Driver Not Loaded" in output:
        return Answer("not_loaded", message)
    return Answer("failing", message or f"nvidia-smi ended with {code} and said nothing")


def _known(text: str) -> str:
    """nvidia-smi puts what it cannot tell in brackets."""
    return "" if text.startswith("[") else text
