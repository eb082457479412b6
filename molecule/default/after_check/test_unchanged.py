# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run in check mode on virgin hosts told what it would do, and did nothing."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import LabHost

PROJECT = Path(__file__).resolve().parents[3]


def test_host_is_as_it_was(node: LabHost) -> None:
    before = (PROJECT / ".lab" / f"fingerprint-{node.name}.txt").read_text(encoding="utf-8").splitlines()
    script = (PROJECT / "molecule" / "shared" / "fingerprint.sh").read_text(encoding="utf-8")
    after = node.host.check_output(script).splitlines()
    assert len(before) > 100, "the list made before is not one of a whole host"
    assert list(difflib.unified_diff(before, after, "before", "after", n=0, lineterm="")) == []


def test_nothing_was_written_on_the_controller() -> None:
    assert not (PROJECT / ".lab" / "kubeconfig").exists()
