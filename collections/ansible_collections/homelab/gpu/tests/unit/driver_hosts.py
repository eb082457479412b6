# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts as gpu_info and nvidia_driver_info tell of them, for tests of what judges them."""

from __future__ import annotations

import typing as t

Object = dict[str, t.Any]

GPUS: dict[str, Object] = {
    "p40": {"pci_id": "10de:1b38", "product": "Tesla P40", "sku": "tesla-p40-24gb", "compute_capability": "6.1"},
    "3060": {"pci_id": "10de:2504", "product": "NVIDIA GeForce RTX 3060", "sku": "rtx-3060-12gb", "compute_capability": "8.6"},
    "ada": {"pci_id": "10de:27b2", "product": "NVIDIA RTX 4000 Ada Generation", "sku": "rtx-pro-4000-20gb", "compute_capability": "8.9"},
    "blackwell": {"pci_id": "10de:2c34", "product": "NVIDIA RTX PRO 4000 Blackwell", "sku": None, "compute_capability": "12.0"},
    "thor": {"pci_id": "", "product": "NVIDIA Thor", "sku": "jetson-thor-128gb", "compute_capability": "11.0"},
    "new": {"pci_id": "10de:ffff", "product": "", "sku": None, "compute_capability": ""},
}
KERNEL = "6.8.0-50-generic"


def gpu(*kinds: str, loaded: str = "580.95.05", flavour: str = "open", state: str = "", message: str = "", gpu_state: str = "", tegra: bool = False) -> Object:
    """What gpu_info told; without a driver, GPUs have no names."""
    gpu_state = gpu_state or ("ready" if loaded else "no_driver")
    found = []
    for number, kind in enumerate(kinds, 1):
        facts = {**GPUS[kind], "pci_address": "" if kind == "thor" else f"0000:0{number}:00.0", "state": gpu_state, "state_reason": "so it is"}
        nameless = {"product": "", "sku": None, "compute_capability": ""} if gpu_state in ("no_driver", "nouveau") and kind != "thor" else {}
        found.append({**facts, **nameless})
    state = state or ("ready" if loaded else "absent")
    return {
        "gpus": found,
        "driver": {
            "state": state,
            "message": message or ("" if state == "ready" else "so it says"),
            "version": loaded,
            "kernel_version": loaded,
            "flavour": flavour if loaded else "",
        },
        "tegra": {"model": "NVIDIA Jetson AGX Thor", "release": "R38"} if tegra else None,
    }


def info(version: str = "580.95.05", flavour: str = "open", **changes: t.Any) -> Object:
    """What nvidia_driver_info told of a well kept host with Ubuntu; without a version, of one without the driver."""
    path = f"/lib/modules/{KERNEL}/updates/dkms/nvidia.ko.zst" if version else ""
    branch = version[:3]
    packages = {name: {"version": f"{version}-0ubuntu1", "held": True} for name in (f"nvidia-headless-{branch}-server", f"libnvidia-compute-{branch}-server")}
    return {
        "system": {"distribution": "ubuntu", "distribution_like": ["debian"], "distribution_version": "24.04", "kernel": KERNEL},
        "manager": "apt",
        "module": {"path": path, "version": version, "flavour": flavour if version else "", "signer": "Canonical" if version else "", "signer_known": None},
        "loaded": {"references": 0, "used_by": []},
        "holders": [],
        "kernels": [{"release": KERNEL, "running": True, "module": bool(version)}],
        "dkms": [],
        "libraries": [version] if version else [],
        "packages": packages if version else {},
        "available": {},
        "unattended": {"enabled": False, "blacklist": []},
        "free_driver": {"loaded": "", "blacklisted": False},
        "secure_boot": "disabled",
        "runfile": False,
        **changes,
    }
