# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._gpu_architectures import of_gpu


@pytest.mark.parametrize(
    ("pci_id", "capability", "name"),
    [
        ("10de:1b38", "", "Pascal"),  # Tesla P40
        ("10de:15f7", "", "Pascal"),  # Tesla P100
        ("10de:13c2", "", "Maxwell"),  # GeForce GTX 970
        ("10de:17c2", "", "Maxwell"),  # GeForce GTX TITAN X
        ("10de:1db4", "", "Volta"),  # Tesla V100
        ("10de:1eb8", "", "Turing"),  # Tesla T4
        ("10de:2184", "", "Turing"),  # GeForce GTX 1660
        ("10de:20b0", "", "Ampere"),  # A100
        ("10de:2504", "", "Ampere"),  # GeForce RTX 3060
        ("10de:2331", "", "Hopper"),  # H100
        ("10de:27b2", "", "Ada"),  # RTX 4000 Ada
        ("10de:2c34", "", "Blackwell"),  # RTX PRO 4000
        ("10de:2f04", "", "Blackwell"),  # GeForce RTX 5070
        ("10de:102d", "", "Kepler or older"),  # Tesla K80
        ("10de:1b38", "6.1", "Pascal"),
        ("10de:ffff", "8.9", "Ada"),
        ("", "11.0", "Blackwell"),
        ("", "12.0", "Blackwell"),
        ("", "7.5", "Turing"),
        ("", "7.0", "Volta"),
        ("10de:ffff", "", None),
        ("10de:2504", "14.0", None),
        ("", "", None),
    ],
)
def test_architecture(pci_id: str, capability: str, name: str | None) -> None:
    found = of_gpu(pci_id, capability)
    assert (found.name if found else None) == name
