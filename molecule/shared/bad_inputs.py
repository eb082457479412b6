# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad inputs end a playbook before anything is changed, with host, option and fix in the message."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[2]


def cases(scenario: str) -> list[dict]:
    return yaml.safe_load((PROJECT / "molecule" / scenario / "bad_inputs/cases.yml").read_text(encoding="utf-8"))


def prepare(case: dict, directory: Path) -> list[str]:
    """The arguments of ansible-playbook for the case; files that it needs are written to the directory."""
    arguments = ["--inventory", "inventories/lab/hosts.yml"]
    # An inventory elsewhere must find the lab as well.
    variables = {"lab_directory": str(PROJECT / ".lab"), **case.get("vars", {})}
    if "agents" in case:
        # Group variables lie beside an inventory, so they come along as a link.
        (directory / "group_vars").symlink_to(PROJECT / "inventories" / "lab" / "group_vars")
        agents = {"k3s_cluster": {"children": {"k3s_agent": {"hosts": dict.fromkeys(case["agents"])}}}}
        (directory / "hosts.yml").write_text(yaml.safe_dump(agents), encoding="utf-8")
        arguments = ["--inventory", str(directory / "hosts.yml")]
    if "inventory" in case:
        (directory / "further.yml").write_text(yaml.safe_dump(case["inventory"]), encoding="utf-8")
        arguments += ["--inventory", str(directory / "further.yml")]
    if "lock" in case:
        lab = json.loads((PROJECT / ".lab" / "lab.json").read_text(encoding="utf-8"))
        lock = yaml.safe_load(Path(lab["artifacts_lock"]).read_text(encoding="utf-8"))
        lock["artifacts"][0].update(case["lock"])
        (directory / "artifacts.lock.yml").write_text(yaml.safe_dump(lock), encoding="utf-8")
        variables["k3s_artifacts_lock_file"] = str(directory / "artifacts.lock.yml")
    if "limit" in case:
        arguments += ["--limit", case["limit"]]
    return [*arguments, "--extra-vars", json.dumps(variables)]


def refused(case: dict, directory: Path, playbook: str) -> subprocess.CompletedProcess[str]:
    directory.mkdir()
    environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "true", "COLUMNS": "1000"}
    command = ["ansible-playbook", *prepare(case, directory), playbook]
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=180)


def start_all(found: Sequence[dict], directory: Path, playbook: str = "playbooks/site.yml") -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """The runs by the cases' names, two at a time: nothing is changed, so they do not meet."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {case["name"]: pool.submit(refused, case, directory / str(number), playbook) for number, case in enumerate(found)}


def expect_refusal(case: dict, done: subprocess.CompletedProcess[str]) -> None:
    """Nothing is changed, and the message has what the case says."""
    output = done.stdout + done.stderr
    assert done.returncode != 0, output
    assert [text for text in case["says"] if text not in output] == [], output
    assert set(re.findall(r"changed=(\d+)", output)) == {"0"}, output
    assert "s3cretvalue" not in output
