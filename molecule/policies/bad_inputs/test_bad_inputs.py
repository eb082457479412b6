# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad settings, and settings that can never work on this cluster, end the role before anything is changed, with option and fix in the message."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

import bad_inputs

CASES = bad_inputs.cases("policies")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    yield from bad_inputs.start_all(CASES, tmp_path_factory.mktemp("cases"), playbook="molecule/policies/converge.yml")


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_nothing_is_changed_and_the_message_names_option_and_fix(case: dict, runs: dict) -> None:
    bad_inputs.expect_refusal(case, runs[case["name"]].result())
