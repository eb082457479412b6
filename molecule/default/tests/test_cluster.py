# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is true of the cluster: cluster.yml asks through the collection's modules."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCENARIO = Path(__file__).resolve().parents[1]
PROJECT = SCENARIO.parents[1]


def test_nodes_workloads_pod_network_and_names(capfd: pytest.CaptureFixture[str]) -> None:
    environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
    with capfd.disabled():
        status = subprocess.run(
            ["ansible-playbook", "--inventory", "inventories/lab/hosts.yml", str(SCENARIO / "cluster.yml")], cwd=PROJECT, env=environment, check=False
        ).returncode
    assert status == 0, "cluster.yml failed: its output above names what was last seen"
