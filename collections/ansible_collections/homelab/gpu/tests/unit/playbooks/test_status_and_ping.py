# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks as a user runs them, against a fake API server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml

from ansible_collections.homelab.gpu.tests.unit import fake_api
from ansible_collections.homelab.gpu.tests.unit.fake_api import Fault, Kind

COLLECTIONS = next(parent.parent for parent in Path(fake_api.__file__).parents if parent.name == "ansible_collections")
NODE_METRICS = Kind("metrics.k8s.io/v1beta1", "NodeMetrics", "nodes", False)


def put_node(api, name: str, *, ready: str = "True") -> None:
    now = datetime.now(timezone.utc)
    status = {
        "conditions": [{"type": "Ready", "status": ready}],
        "nodeInfo": {"kubeletVersion": "v1.34.1+k3s1"},
        "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"},
    }
    metadata = {"name": name, "creationTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
    api.put({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status})
    lease = {"name": name, "namespace": "kube-node-lease"}
    api.put({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": lease, "spec": {"renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}})


@pytest.fixture
def cluster(api):
    api.kinds += [Kind("apps/v1", "StatefulSet", "statefulsets"), Kind("apiregistration.k8s.io/v1", "APIService", "apiservices", False), NODE_METRICS]
    put_node(api, "server")
    put_node(api, "worker")
    api.put(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "coredns", "namespace": "kube-system"},
            "spec": {"replicas": 1},
            "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
        }
    )
    for name, phase in (("running", "Running"), ("done", "Succeeded")):
        api.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"nodeName": "worker"}, "status": {"phase": phase}})
    return api


@pytest.fixture
def play(tmp_path):
    """Runs a playbook of the collection in an empty directory. Returns its return code and output."""

    def run(name: str, *arguments: str, inventory: dict | None = None, configuration: str = "callback_result_format = yaml\n") -> tuple[int, str]:
        (tmp_path / "ansible.cfg").write_text(f"[defaults]\n{configuration}")
        (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory or {}))
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")},
            "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
            "ANSIBLE_HOME": str(tmp_path / "home"),
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
        }
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "inventory.yml", f"homelab.gpu.{name}", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.fixture
def kubeconfig(cluster, tmp_path):
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(cluster.kubeconfig()))
    return str(path)


def hosts(kubeconfig: str | None = None, **variables) -> dict:
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    settings = {"k3s_kubeconfig": kubeconfig} if kubeconfig else {}
    return {"k3s_cluster": {"children": {"k3s_server": {"hosts": {"one": {**local, **variables}}}}, "vars": settings}}


def test_status_shows_a_table_with_the_verdict_last(play, kubeconfig):
    rc, output = play("status", inventory=hosts(kubeconfig))
    assert rc == 0, output
    assert "worker  Ready   worker  v1.34.1+k3s1" in output
    assert "1 of 110  - of 2  - of 4.0 GiB" in output, output
    assert "No CPU and memory usage" in output
    report = output[output.index("Cluster ") : output.index("PLAY RECAP")].rstrip()
    assert report.splitlines()[-1].strip() == "HEALTHY: 2 of 2 nodes are Ready, 1 of 1 workloads are available"


def test_status_keeps_its_lines_where_results_are_json(play, kubeconfig):
    rc, output = play("status", inventory=hosts(kubeconfig), configuration="")
    assert rc == 0, output
    assert '"HEALTHY: 2 of 2 nodes are Ready, 1 of 1 workloads are available"' in output
    assert "\\n" not in output


def test_status_writes_json_with_usage(play, kubeconfig, cluster, tmp_path):
    metadata = {"name": "v1beta1.metrics.k8s.io"}
    cluster.put(
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": metadata,
            "status": {"conditions": [{"type": "Available", "status": "True"}]},
        }
    )
    cluster.put({"apiVersion": NODE_METRICS.api_version, "kind": "NodeMetrics", "metadata": {"name": "worker"}, "usage": {"cpu": "500m", "memory": "1Gi"}})
    rc, output = play("status", "-e", "status_format=json", "-e", f"status_output={tmp_path}/state.json", inventory=hosts(kubeconfig))
    assert rc == 0, output
    state = json.loads((tmp_path / "state.json").read_text(encoding="utf-8"))
    assert (state["healthy"], state["cluster_uid"], state["metrics"]) == (True, cluster.cluster_uid, True)
    assert {node["name"]: node["cpu_cores"]["used"] for node in state["nodes"]} == {"server": None, "worker": 0.5}


def test_status_does_not_ask_for_usage_that_is_not_available(play, kubeconfig, cluster):
    metadata = {"name": "v1beta1.metrics.k8s.io"}
    cluster.put(
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": metadata,
            "status": {"conditions": [{"type": "Available", "status": "False"}]},
        }
    )
    cluster.faults.append(Fault(path="metrics.k8s.io/v1beta1", status=503, times=100))
    rc, output = play("status", inventory=hosts(kubeconfig))
    assert rc == 0, output
    assert "No CPU and memory usage" in output


def test_status_of_an_unhealthy_cluster_fails_on_demand(play, kubeconfig, cluster):
    put_node(cluster, "worker", ready="False")
    rc, output = play("status", "-e", "status_fail=true", inventory=hosts(kubeconfig))
    assert rc == 2, output
    assert "UNHEALTHY: 1 of 2 nodes are Ready" in output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-e", "k3s_kubeconfig=/nowhere/kubeconfig"], "there is no kubeconfig /nowhere/kubeconfig yet: the cluster is not installed"),
        (["-e", "status_format=xml"], "status_format is xml; use table or json."),
    ],
)
def test_status_says_what_is_missing(play, arguments, expected):
    rc, output = play("status", *arguments)
    assert rc == 2
    assert expected in " ".join(output.split())


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes root here")


@needs_root
def test_ping_when_all_answer(play, kubeconfig):
    rc, output = play("ping", inventory=hosts(kubeconfig))
    assert rc == 0, output
    assert "ALL ANSWER: 1 host, the API server and 2 nodes" in output


@needs_root
def test_ping_names_everybody_who_is_silent(play, kubeconfig, cluster):
    put_node(cluster, "worker", ready="False")
    inventory = hosts(kubeconfig)
    inventory["k3s_cluster"]["hosts"] = {"two": {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_common_args": "-F none -o BatchMode=yes"}}
    rc, output = play("ping", inventory=inventory)
    assert rc == 2, output
    text = " ".join(output.split())
    assert "two no - - Failed to connect to the host via ssh" in text
    assert re.search(r"worker no \d+s ago Ready=False", text)
    assert "No answer: host two, node worker. The table above tells why." in text


def test_ping_before_the_cluster_is_installed(play):
    rc, output = play("ping", inventory=hosts("/nowhere/kubeconfig"))
    assert rc == 2, output
    assert "there is no kubeconfig /nowhere/kubeconfig yet" in " ".join(output.split())
    assert "inventory.yml homelab.gpu.site" in output


@needs_root
def test_ping_of_an_api_server_that_is_gone(play, kubeconfig, cluster):
    cluster.stop()
    rc, output = play("ping", inventory=hosts(kubeconfig))
    assert rc == 2, output
    assert "cannot reach the API server at http://127.0.0.1" in " ".join(output.split())
    assert "No answer: API server." in output


def test_ping_without_hosts_is_an_error(play, kubeconfig):
    rc, output = play("ping", "-e", f"k3s_kubeconfig={kubeconfig}")
    assert rc == 2, output
    assert "no hosts in the group k3s_cluster" in " ".join(output.split())
