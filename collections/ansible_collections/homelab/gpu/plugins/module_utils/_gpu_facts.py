# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Brings together what sysfs, /proc and the driver tell of a host's GPUs.

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._gpu_skus import Sku, match_sku
from ansible_collections.homelab.gpu.plugins.module_utils._host_facts import memory, read
from ansible_collections.homelab.gpu.plugins.module_utils._nvidia_driver import Answer, Kernel, kernel_driver
from ansible_collections.homelab.gpu.plugins.module_utils._pci import NVIDIA, PciFunction, enclosures_of, functions_of_vendor, thunderbolt_devices

__all__ = ["gpu_facts", "tegra"]

Object = dict[str, t.Any]

_FREE_DRIVERS = ("nouveau", "nova_core", "NovaCore")
_KINDS = {0x0403: "audio", 0x0C03: "usb", 0x0C80: "ucsi", 0x0600: "bridge", 0x0604: "bridge", 0x0680: "bridge"}
_DRIVER_STATES = {"hung": "driver_hung", "mismatch": "version_mismatch", "not_loaded": "not_answering", "failing": "not_answering"}


def tegra(root: str) -> Object | None:
    """The module that the host is, if it is one of NVIDIA's."""
    model = read(root, "proc/device-tree/model").strip("\0\n ")
    compatible = read(root, "proc/device-tree/compatible").split("\0")
    release = read(root, "etc/nv_tegra_release").strip().partition("\n")[0]
    family = read(root, "sys/devices/soc0/family").strip()
    if not release and not family.lower().startswith("tegra") and not any(re.match(r"nvidia,tegra", name) for name in compatible):
        return None
    return {"model": model, "release": release.lstrip("# ")}


def gpu_facts(root: str, answer: Answer, skus: t.Sequence[Sku]) -> Object:
    functions = functions_of_vendor(root, NVIDIA)
    devices = thunderbolt_devices(root)
    board = tegra(root)
    kernel = kernel_driver(root)
    displays = [function for function in functions if function.is_display]
    gpus = []
    for function in displays:
        companions = [other for other in functions if other.slot == function.slot and other is not function]
        enclosures = enclosures_of(root, function, devices)
        told = answer.gpus.get(function.address)
        state, reason = _state(function, answer, kernel, told)
        gpus.append(
            {
                "pci_address": function.address,
                "pci_id": f"10de:{function.device_id}",
                "pci_subsystem": function.subsystem,
                "pci_class": f"0x{function.pci_class:06x}",
                "pci_driver": function.driver,
                "functions": [{"pci_address": other.address, "kind": _kind(other), "pci_driver": other.driver} for other in companions],
                "link": function.link,
                "bar_bytes": list(function.bars),
                **_place(function, enclosures),
                "state": state,
                "state_reason": reason,
                **_told(told, board, root, skus),
            }
        )
    shown = {gpu["pci_address"] for gpu in gpus}
    # Without the device in sysfs, as on a Tegra whose GPU is no PCI device, or in a container
    for address in sorted({*answer.gpus, *answer.lost} - shown):
        told_state = ("lost", "the driver calls it lost") if address in answer.lost else ("ready", "")
        gpus.append(_bare(address, told_state, answer.gpus.get(address), board, root, skus))
    if board is not None and not gpus:
        gpus.append(_bare("", ("ready", "part of the Tegra module"), None, board, root, skus))
    return {
        "gpus": gpus,
        "driver": _driver(answer, kernel, displays),
        "tegra": board,
        "thunderbolt": [dataclasses.asdict(device) for device in devices],
    }


def _kind(function: PciFunction) -> str:
    return _KINDS.get(function.pci_class >> 8, "other")


def _place(function: PciFunction, enclosures: t.Sequence[t.Any]) -> Object:
    reason = ""
    if enclosures:
        reason = f"its port is served by the Thunderbolt controller {enclosures[0].controller}"
    elif function.removable:
        reason = f"the kernel calls {function.removable} removable"
    if len(enclosures) > 1:
        reason += f"; which of {', '.join(device.unique_id for device in enclosures)} it is in, the topology does not tell"
    return {"external": bool(reason), "external_reason": reason, "enclosure_id": enclosures[0].unique_id if len(enclosures) == 1 else ""}


def _state(function: PciFunction, answer: Answer, kernel: Kernel, told: Object | None) -> tuple[str, str]:
    if not function.answers:
        return "lost", "it no longer answers on the bus: its configuration space reads as ones only"
    if function.driver in _FREE_DRIVERS:
        return "nouveau", f"the driver {function.driver} holds it; blacklist that and rebuild the initial RAM disk"
    if function.driver not in ("", "nvidia"):
        return "other_driver", f"the driver {function.driver} holds it"
    if function.driver == "":
        loaded = f"NVIDIA's {kernel.version} is loaded, but did not take it" if kernel.version else "no driver for it is loaded"
        return "no_driver", loaded
    if function.address in answer.lost:
        return "lost", "the driver calls it lost"
    if told is not None:
        return "ready", ""
    state = _DRIVER_STATES.get(answer.state)
    if state:
        return state, answer.message
    if answer.state == "no_nvidia_smi":
        return "not_answering", "nvidia-smi is not installed, so the driver cannot be asked"
    return "not_answering", "the driver has it, but nvidia-smi does not list it"


def _told(told: Object | None, board: Object | None, root: str, skus: t.Sequence[Sku]) -> Object:
    facts = told or {"uuid": "", "product": board["model"] if board else "", "memory_mib": None, "compute_capability": "", "persistence": None}
    # A Tegra shares its memory, so NVML tells none
    memory_mib = facts["memory_mib"] if facts["memory_mib"] is not None or board is None else memory(root)
    match = match_sku(facts["product"], memory_mib, skus)
    return {
        "uuid": facts["uuid"],
        "product": facts["product"],
        "memory_mib": memory_mib,
        "compute_capability": facts["compute_capability"] or (match.sku.compute_capability if match.sku else ""),
        "persistence": facts["persistence"],
        "sku": match.sku.name if match.sku else None,
        "sku_reason": match.reason,
    }


def _bare(address: str, state: tuple[str, str], told: Object | None, board: Object | None, root: str, skus: t.Sequence[Sku]) -> Object:
    return {
        "pci_address": address,
        "pci_id": "",
        "pci_subsystem": "",
        "pci_class": "",
        "pci_driver": "",
        "functions": [],
        "link": {},
        "bar_bytes": [],
        "external": False,
        "external_reason": "",
        "enclosure_id": "",
        "state": state[0],
        "state_reason": state[1],
        **_told(told, board, root, skus),
    }


def _driver(answer: Answer, kernel: Kernel, displays: t.Sequence[PciFunction]) -> Object:
    """Of the host as a whole: a person with a broken driver should need to read nothing else."""
    state, message = answer.state, answer.message
    if not kernel.version and state in ("no_nvidia_smi", "not_loaded", "failing"):
        state, message = "absent", "no NVIDIA driver is loaded" + ("; nouveau holds the GPU" if any(one.driver in _FREE_DRIVERS for one in displays) else "")
    version = next((told["driver_version"] for told in answer.gpus.values() if told["driver_version"]), kernel.version)
    return {"state": state, "message": message, "version": version, "kernel_version": kernel.version, "flavour": kernel.flavour}
