# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.cluster_ping_report import cluster_ping_report

OK = {"ok": True}
WELL = {"name": "a", "ssh": OK, "root": OK, "python": OK}


def cluster(**changes) -> dict:
    node = {"name": "a", "answers": True, "heartbeat_age_seconds": 3.4, "problem": None}
    return {
        "server": "https://10.0.0.1:6443",
        "version": "v1.36.4+k3s1",
        "ready": True,
        "failing_checks": [],
        "answered_seconds": 0.0123,
        "nodes": [node],
        **changes,
    }


def test_all_answer():
    report = cluster_ping_report([WELL, {**WELL, "name": "longer"}], cluster())
    assert (report["ok"], report["silent"]) == (True, {})
    assert report["text"].splitlines() == [
        "HOST    SSH  ROOT  PYTHON",
        "a       yes  yes   yes",
        "longer  yes  yes   yes",
        "",
        "API SERVER             VERSION",
        "https://10.0.0.1:6443  v1.36.4+k3s1  ready, answered in 0.012 s",
        "",
        "NODE  ANSWERS  HEARTBEAT",
        "a     yes      3s ago",
        "",
        "ALL ANSWER: 2 hosts, the API server and 1 node",
    ]


@pytest.mark.parametrize(
    ("host", "row", "silent"),
    [
        (
            {"name": "a", "ssh": {"ok": False, "problem": "Task failed: no route\nmore"}, "root": {"ok": False, "problem": ""}, "python": {"ok": False}},
            "a     no   -     -       no route",
            "no route",
        ),
        (
            {"name": "a", "ssh": OK, "root": {"ok": False, "problem": "sudo: a password is required"}},
            "a     yes  no    -       sudo: a password is required",
            "sudo: a password is required",
        ),
        ({"name": "a", "ssh": OK, "root": OK, "python": {"ok": False, "problem": ""}}, "a     yes  yes   no      no reason given", "no reason given"),
    ],
    ids=["ssh", "root", "python"],
)
def test_a_host_is_silent_from_its_first_failure_on(host, row, silent):
    report = cluster_ping_report([host], cluster())
    assert report["ok"] is False
    assert report["silent"] == {"host a": silent}
    assert row in report["text"].splitlines()
    assert report["text"].splitlines()[-1] == "NO ANSWER: host a"


@pytest.mark.parametrize(
    ("answer", "silent"),
    [
        ({"msg": "cannot reach the API server"}, {"API server": "cannot reach the API server"}),
        (cluster(ready=False, failing_checks=["etcd", "log"]), {"API server": "not ready: etcd, log"}),
        (cluster(ready=False), {"API server": "not ready"}),
        (cluster(nodes=[]), {"nodes": "none is registered"}),
        (cluster(nodes=[{"name": "b", "answers": False, "heartbeat_age_seconds": None, "problem": "never"}]), {"node b": "never"}),
    ],
    ids=["unreachable", "failing checks", "not ready", "no nodes", "silent node"],
)
def test_what_the_cluster_leaves_unanswered(answer, silent):
    report = cluster_ping_report([WELL], answer)
    assert report["silent"] == silent
    assert report["text"].splitlines()[-1] == f"NO ANSWER: {', '.join(silent)}"


@pytest.mark.parametrize(
    ("hosts", "answer", "message"),
    [
        ({}, {"msg": ""}, "the input is dict"),
        ("a", {"msg": ""}, "the input is str"),
        ([{}], {"msg": ""}, "entry 0 has no name"),
        ([WELL], None, "cluster is no result of homelab.gpu.kube_ping"),
        ([WELL], {"skipped": True}, "cluster is no result of homelab.gpu.kube_ping"),
        ([{"name": "a", "ssh": {}}], {"msg": ""}, "not as documented: KeyError: 'ok'"),
    ],
)
def test_bad_input_names_what_is_wrong(hosts, answer, message):
    with pytest.raises(AnsibleFilterError, match=f"cluster_ping_report: .*{message}"):
        cluster_ping_report(hosts, answer)
