# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# The generation of a GPU, and what of NVIDIA's driver that takes. A driver that cannot drive a GPU does not tell its name either, so it is told by the PCI ID.

from __future__ import annotations

import dataclasses
import re

__all__ = ["Architecture", "of_gpu"]


@dataclasses.dataclass(frozen=True)
class Architecture:
    name: str
    driver_branches: tuple[int, int | None]
    kernel_modules: str
    """open, proprietary, or any."""


_OLD = Architecture("Kepler or older", (1, 470), "proprietary")
_MAXWELL = Architecture("Maxwell", (384, 580), "proprietary")
_PASCAL = Architecture("Pascal", (384, 580), "proprietary")
_VOLTA = Architecture("Volta", (384, 580), "proprietary")
_TURING = Architecture("Turing", (410, None), "any")
_AMPERE = Architecture("Ampere", (455, None), "any")
_ADA = Architecture("Ada", (525, None), "any")
_HOPPER = Architecture("Hopper", (525, None), "any")
_BLACKWELL = Architecture("Blackwell", (570, None), "open")

# First device ID of each run of one generation, by the public list of PCI IDs
_STARTS: tuple[tuple[int, Architecture], ...] = (
    (0x0000, _OLD),
    (0x1340, _MAXWELL),
    (0x15F0, _PASCAL),
    (0x1600, _MAXWELL),
    (0x1B00, _PASCAL),
    (0x1D80, _VOLTA),
    (0x1E00, _TURING),
    (0x2080, _AMPERE),
    (0x2180, _TURING),
    (0x2200, _AMPERE),
    (0x2300, _HOPPER),
    (0x2400, _AMPERE),
    (0x2600, _ADA),
    (0x2900, _BLACKWELL),
)
# What comes after it is not known yet
_END = 0x3200
_CAPABILITIES: tuple[tuple[tuple[int, int], Architecture], ...] = (
    ((0, 0), _OLD),
    ((5, 0), _MAXWELL),
    ((6, 0), _PASCAL),
    ((7, 0), _VOLTA),
    ((7, 5), _TURING),
    ((8, 0), _AMPERE),
    ((8, 9), _ADA),
    ((9, 0), _HOPPER),
    ((10, 0), _BLACKWELL),
)


def of_gpu(pci_id: str, compute_capability: str) -> Architecture | None:
    """By the compute capability, such as 8.6, if the driver tells it, else by the PCI ID, such as 10de:2504."""
    told = re.fullmatch(r"(\d+)\.(\d+)", compute_capability)
    if told:
        capability = (int(told[1]), int(told[2]))
        return [architecture for start, architecture in _CAPABILITIES if start <= capability][-1] if capability < (13, 0) else None
    found = re.fullmatch(r"10de:([0-9a-f]{4})", pci_id)
    device = int(found[1], 16) if found else _END
    return [architecture for start, architecture in _STARTS if start <= device][-1] if device < _END else None
