# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Molecule scenarios, one test each; their steps and tests print to the terminal as they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import ProcessWatch, Shell


@pytest.fixture(scope="session")
def first_log(reports: Path) -> Path:
    """What Ansible would have told with -vvv, beginning with hosts on which nothing was yet."""
    log = reports / "molecule-default.log"
    log.unlink(missing_ok=True)
    return log


def test_default(shell: Shell, process_watch: ProcessWatch, first_log: Path) -> None:
    """From virgin hosts to a cluster that survives failures."""
    # With shared state Molecule leaves out the `destroy` at the start of a sequence
    assert shell.stream("molecule", "destroy", "--scenario-name", "default") == 0
    status = shell.stream(
        *("molecule", "test", "--scenario-name", "default", "--destroy", "never"),
        ANSIBLE_LOG_PATH=str(first_log),
        ANSIBLE_LOG_VERBOSITY="3",
    )
    if status != 0:
        shell.diagnose()
    assert status == 0, "the scenario failed: see its output above, and the hosts' journals and the cluster's events after it"
    assert process_watch.command_lines


@pytest.mark.parametrize("scenario", ["gpu_node", "policies", "serving"])
def test_on_that_cluster(shell: Shell, scenario: str) -> None:
    status = shell.stream("molecule", "test", "--scenario-name", scenario, "--destroy", "never")
    if status != 0:
        shell.diagnose()
    assert status == 0, "the scenario failed: see its output above, and the hosts' journals and the cluster's events after it"
