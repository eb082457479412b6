# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fake API server of the unit tests behaves as the real one does: its table of behaviours is put to the scenario's cluster, too, and so are races."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Shell

PROJECT = Path(__file__).resolve().parents[2]
# An image with a shell that every node of the lab has: commands are run in it
IMAGE = "localhost/homelab-lab/tools:1"
UNIT_TESTS = PROJECT / "collections/ansible_collections/homelab/gpu/tests/unit"
FILES = [UNIT_TESTS / "test_fake_api.py", UNIT_TESTS / "plugins/modules/test_kube_node_races.py"]


def test_real_cluster_has_the_behaviours_of_the_fake(shell: Shell) -> None:
    kubeconfig = PROJECT / ".lab" / "kubeconfig"
    assert kubeconfig.exists(), "there is no cluster: this runs after the scenario that makes one"
    assert shell.stream("pytest", "--quiet", *map(str, FILES), HOMELAB_GPU_TEST_KUBECONFIG=str(kubeconfig), HOMELAB_GPU_TEST_IMAGE=IMAGE) == 0
