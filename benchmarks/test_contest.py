# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks import cluster_apply, cluster_drain, cluster_wait, contest, measured_lab, peers
from benchmarks.measured_lab import BenchmarkError


@pytest.fixture
def arena(tmp_path: Path) -> contest.Contest:
    """One that writes plays, without a cluster."""
    return contest.Contest(tmp_path, cast("Any", None), peers.Peer(Path("/peer/bin/python"), Path("/peer/site-packages")), Path("/k3s"))


def test_each_contestant_begins_in_turn() -> None:
    rounds = [contest.rotated(("a", "b", "c"), number) for number in range(4)]
    assert rounds == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]


def test_plays_name_the_cluster_and_the_python_of_the_peer(arena: contest.Contest) -> None:
    objects = cluster_apply.mixed_objects(3)
    plays = {name: json.loads(path.read_text())[0] for name, path in cluster_apply.plays(arena, objects, Path("/lab/kubeconfig")).items()}
    assert {name: len(play["tasks"]) for name, play in plays.items()} == {"empty": 0, "ours": 1, "list": 1, "tasks": 3}
    for name in ("list", "tasks"):
        assert plays[name]["vars"] == {"ansible_python_interpreter": "/peer/bin/python"}
        assert plays[name]["module_defaults"] == {"group/kubernetes.core.k8s": {"kubeconfig": "/lab/kubeconfig"}}
    for name in ("empty", "ours"):
        assert "vars" not in plays[name]
        assert plays[name]["module_defaults"] == {"group/homelab.gpu.gpu": {"kubeconfig": "/lab/kubeconfig"}}
    assert plays["ours"]["tasks"][0]["homelab.gpu.kube_apply"]["definitions"] == objects


def test_objects_are_mixed_and_named_once() -> None:
    objects = cluster_apply.mixed_objects(20)
    assert Counter(body["kind"] for body in objects) == {"ConfigMap": 8, "Deployment": 6, "Service": 6}
    assert len({body["metadata"]["name"] for body in objects}) == 20
    new, changed = (cluster_apply.config_maps(2, state) for state in ("new", "changed"))
    assert [body["metadata"] for body in new] == [body["metadata"] for body in changed]
    assert all(before["data"] != after["data"] for before, after in zip(new, changed, strict=True))


def test_waits_are_off_the_beat_of_a_second() -> None:
    moments = [cluster_wait.off_beat(number) for number in range(24)]
    assert all(0.2 <= moment < 1.2 for moment in moments)
    assert len({round(moment, 2) for moment in moments}) > 20


def test_lines_are_told_as_they_come() -> None:
    seen: list[float] = []
    assert cluster_wait.lines_of(["TASK\n", "ok: [localhost] => (item=a)\n", "ok: [localhost] => (item=b)\n"], "(item=", seen.append).startswith("TASK")
    assert len(seen) == 2


def test_failure_is_read_from_the_output_of_the_play() -> None:
    output = 'fatal: [localhost]: FAILED! => {\n    "changed": false,\n    "msg": "Failed: the \\"budget\\" of it."\n}\n'
    assert cluster_drain.failure_of(contest.Ended(2, output, 0.0)) == 'Failed: the "budget" of it.'
    with pytest.raises(measured_lab.BenchmarkError, match="did not fail"):
        cluster_drain.failure_of(contest.Ended(0, output, 0.0))
    with pytest.raises(measured_lab.BenchmarkError, match="no message"):
        cluster_drain.failure_of(contest.Ended(2, "Killed", 0.0))


def test_a_process_that_does_not_end_is_stopped() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with pytest.raises(measured_lab.BenchmarkError, match="did not end within 0"):
        contest.ended(process, 0)
    assert process.returncode


def test_idle_share_is_a_share() -> None:
    assert 0 <= measured_lab.idle_share(0.02) <= 1


def test_peers_are_those_of_the_development_environment() -> None:
    constraints = dict(line.split("==") for line in peers.CONSTRAINTS.read_text().splitlines() if "==" in line)
    pinned = dict(line.split("==") for line in peers.REQUIREMENTS.read_text().splitlines() if "==" in line)
    assert "ansible" not in constraints, "kubernetes.core must not enter the development environment"
    assert {name: version for name, version in pinned.items() if name in constraints} == {name: constraints[name] for name in pinned if name in constraints}
    assert {"ansible-core", "kubernetes"} <= constraints.keys()


def test_environment_is_made_anew_when_its_input_changes() -> None:
    keys = {peers.environment_key(*texts) for texts in (("a", "b", "c"), ("a2", "b", "c"), ("a", "b2", "c"), ("a", "b", "c2"))}
    assert len(keys) == 4


def test_kubelets_share_of_a_drain() -> None:
    output = 'changed: [localhost] => {"pods": [{"gone_at_seconds": 9.5, "requested_at_seconds": 8.25}, {"gone_at_seconds": 9.0, "requested_at_seconds": 8.0}]}'
    assert cluster_drain.kubelet_seconds(output) == 1.5
    with pytest.raises(BenchmarkError, match="no times of pods"):
        cluster_drain.kubelet_seconds("ok: [localhost]")
