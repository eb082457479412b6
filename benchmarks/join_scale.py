# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What adding an agent by `--limit` costs, from the second to the fifth, in several rounds. Makes this checkout's lab anew in each, with six hosts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.measured_lab import CHECKOUT, BenchmarkError, ansible_playbook, log, machine

TITLE = "One more agent"
SERVER: Final = "k3s-server"
ROUNDS: Final = 3
AGENTS: Final = ("k3s-worker", "k3s-worker-2", "k3s-worker-3", "k3s-worker-4", "k3s-worker-5")


def write_inventory(folder: Path, agents: Sequence[str]) -> Path:
    """The lab's settings with other hosts."""
    settings = folder / "group_vars"
    if not settings.is_symlink():
        settings.symlink_to(CHECKOUT / "inventories/lab/group_vars")
    # Tasks are delegated to the server, where inventory_hostname is still the other host's.
    server = {SERVER: {"ansible_host": f"{{{{ lab.hosts['{SERVER}'].address }}}}"}}
    children = {"k3s_server": {"hosts": server}, "k3s_agent": {"hosts": dict.fromkeys(agents)}}
    path = folder / "hosts.yml"
    path.write_text(yaml.safe_dump({"k3s_cluster": {"children": children}, "gpu_node": {"hosts": {}}}))
    return path


def measure() -> dict[str, Any]:
    about = machine()
    return {**about, "rounds": [one_round() for _ in range(ROUNDS)]}


def one_round() -> list[dict[str, Any]]:
    joins = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        ansible_playbook("lab/down.yml")
        try:
            ansible_playbook("lab/up.yml", "-e", json.dumps({"lab_hosts": [SERVER, *AGENTS]}))
            for number in range(1, len(AGENTS) + 1):
                inventory = write_inventory(Path(name), AGENTS[:number])
                arguments = ("-i", str(inventory), "-e", f"lab_directory={CHECKOUT}/.lab")
                limit = () if number == 1 else ("--limit", AGENTS[number - 1])
                adding = ansible_playbook("playbooks/site.yml", *arguments, *limit)
                whole = ansible_playbook("playbooks/site.yml", *arguments)
                if whole.changed:
                    raise BenchmarkError(f"site.yml over all hosts changed {whole.changed} things after agent {number} was added by itself")
                if number > 1:
                    joins.append({"agent": number, "adding_seconds": round(adding.seconds, 1), "whole_again_seconds": round(whole.seconds, 1)})
                    log(f"  {joins[-1]}")
        finally:
            ansible_playbook("lab/down.yml")
    return joins
