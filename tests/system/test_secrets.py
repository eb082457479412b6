# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens and keys occur in no output, no diff and no process list. Runs after the scenario that makes the cluster."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from conftest import ProcessWatch, Shell

PROJECT = Path(__file__).resolve().parents[2]
KUBECONFIG = PROJECT / ".lab" / "kubeconfig"
CONFIG = "/etc/rancher/k3s/config.yaml"


def on_host(host: str, command: str) -> str:
    return subprocess.run([str(PROJECT / ".lab" / "podman"), "exec", host, "sh", "-c", command], capture_output=True, text=True, check=True).stdout


def middle(text: str) -> str:
    """A piece that is long enough to be unique and free of what all keys begin and end with."""
    start = len(text) // 2
    return text[start : start + 40]


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    """Pieces of every secret of the running cluster, by what they are."""
    found: dict[str, str] = {}
    for name in ("token", "node-token"):
        found[name] = on_host("k3s-server", f"cat /var/lib/rancher/k3s/server/{name}").strip().rpartition(":")[2]
    for user in yaml.safe_load(KUBECONFIG.read_text(encoding="utf-8"))["users"]:
        key = user["user"]["client-key-data"]
        found["kubeconfig, encoded key"] = middle(key)
        found["kubeconfig, key"] = middle("".join(base64.b64decode(key).decode("ascii").splitlines()[1:-1]))
    assert all(len(piece) >= 16 for piece in found.values()), "too short to search for"
    return found


def occurrences(secrets: dict[str, str], text: str) -> list[str]:
    return [name for name, piece in secrets.items() if piece in text]


def test_search_would_find_a_secret(secrets: dict[str, str]) -> None:
    for name, piece in secrets.items():
        assert name in occurrences(secrets, f"before {piece} after")


def test_making_the_cluster_told_no_secret(secrets: dict[str, str], reports: Path) -> None:
    log = (reports / "molecule-default.log").read_text(encoding="utf-8", errors="replace")
    assert "homelab.gpu.kube_wait" in log or "k3s_server" in log
    assert occurrences(secrets, log) == []


def test_repairing_the_cluster_tells_no_secret(secrets: dict[str, str], shell: Shell, reports: Path, process_watch: ProcessWatch) -> None:
    """Files that hold secrets are spoilt or removed, so that the run writes them anew and shows their diffs."""
    for host in ("k3s-server", "k3s-worker"):
        on_host(host, f"echo '# spoilt' >> {CONFIG}")
    on_host("k3s-worker", "rm /etc/rancher/k3s/token")
    KUBECONFIG.unlink()
    log = reports / "site-vvv.log"
    status = shell.into(log, "ansible-playbook", "-vvv", "--diff", "playbooks/site.yml")
    text = log.read_text(encoding="utf-8", errors="replace")
    if status != 0:
        shell.diagnose()
    assert status == 0, text[-4000:]
    for host in ("k3s-server", "k3s-worker"):
        assert "spoilt" not in on_host(host, f"cat {CONFIG}")
    assert on_host("k3s-worker", "cat /etc/rancher/k3s/token").startswith("K10")
    assert "clusters" in yaml.safe_load(KUBECONFIG.read_text(encoding="utf-8"))
    assert occurrences(secrets, text) == []


def test_no_process_had_a_secret_on_its_command_line(secrets: dict[str, str], process_watch: ProcessWatch) -> None:
    lines = process_watch.command_lines
    assert any("k3s" in line for line in lines), "the watch saw no process of the cluster"
    assert [(name, line) for line in lines for name in occurrences(secrets, line)] == []
