# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import yaml

from benchmarks.join_scale import AGENTS, write_inventory
from benchmarks.measured_lab import CHECKOUT


def test_inventory_grows_by_one_agent(tmp_path: Path) -> None:
    for number in (1, 2):
        path = write_inventory(tmp_path, AGENTS[:number])
        children = yaml.safe_load(path.read_text())["k3s_cluster"]["children"]
        assert list(children["k3s_agent"]["hosts"]) == list(AGENTS[:number])
        shipped = yaml.safe_load((CHECKOUT / "inventories/lab/hosts.yml").read_text())["k3s_cluster"]["children"]
        assert children["k3s_server"] == shipped["k3s_server"]
    assert (tmp_path / "group_vars").resolve().is_dir()
