# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The examples in the documentation of the modules are run as they stand."""

from __future__ import annotations

import importlib
import pathlib
import typing as t

import pytest
import yaml

from ansible_collections.homelab.gpu.tests.unit import fake_exec
from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi

Object = dict[str, t.Any]
Run = t.Callable[..., Object]

MODULES = (
    "kube_apply",
    "kube_drain",
    "kube_events",
    "kube_exec",
    "kube_info",
    "kube_logs",
    "kube_node",
    "kube_rollout",
    "kube_scale",
    "kube_wait",
)


def examples() -> t.Iterator[t.Any]:
    for name in MODULES:
        module = importlib.import_module(f"ansible_collections.homelab.gpu.plugins.modules.{name}")
        for task in yaml.safe_load(module.EXAMPLES):
            options = task.get(f"homelab.gpu.{name}")
            if options is not None:
                yield pytest.param(name, options, id=f"{name}: {task['name']}")


def succeed(session: fake_exec.Session) -> None:
    """Examples write files, and not on this machine."""
    if session.has_stdin:
        list(session.stdin())
    session.end(fake_exec.exit_status(0))


@pytest.mark.parametrize(("module_name", "options"), list(examples()))
def test_example(api: FakeApi, run_module: Run, tmp_path: pathlib.Path, module_name: str, options: Object) -> None:
    for node in ("k3s-server", "k3s-worker", "k3s-gpu-worker"):
        status = {
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1.34.1+k3s1"},
            "allocatable": {"nvidia.com/gpu": "4"},
        }
        api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "status": status})
    progressing = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    for namespace, pod, app, container in (
        ("kube-system", "coredns-1", "coredns", "coredns"),
        ("models", "new-model-1", "new-model", "server"),
        ("models", "crashed", "crashed", "server"),
    ):
        metadata = {"name": pod, "namespace": namespace, "labels": {"app": app}}
        runs = {"containerID": f"{pod}-2", "state": {"running": {}}, "lastState": {"terminated": {"containerID": f"{pod}-1"}}}
        status = {"containerStatuses": [{"name": container, **runs}]}
        api.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": container}]}, "status": status})
        api.log(f"{pod}-2", "model loaded in 12.4 s")
    for namespace, kind, name in (
        ("kube-system", "Deployment", "coredns"),
        ("models", "Deployment", "new-model"),
        ("models", "Deployment", "old-model"),
        ("models", "StatefulSet", "queue"),
    ):
        metadata = {"name": name, "namespace": namespace}
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": name, "image": "second"}]}}
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}
        made = api.put({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec, "status": {"conditions": [progressing]}})
        owner = {"kind": kind, "name": name, "uid": made["metadata"]["uid"], "controller": True}
        old = {**metadata, "labels": {"app": name}, "annotations": {"deployment.kubernetes.io/revision": "1"}, "ownerReferences": [owner]}
        api.put({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": old, "spec": {"replicas": 0, "template": {"spec": {}}}})
    api.settle()

    def act(_path: str) -> None:
        api.settle()
        if api.find("Deployment", "new-model")["spec"]["replicas"] == 0:
            api.drop("Pod", "new-model-1")

    api.on_watch = act
    claim = {"metadata": {"name": "weights", "namespace": "models"}, "spec": {"volumeName": "pv-1"}, "status": {"phase": "Bound"}}
    api.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim})
    api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "models"}})
    running = {"containerStatuses": [{"name": "server", "state": {"running": {}}}]}
    pod = {"metadata": {"name": "model-server-0", "namespace": "models"}, "spec": {"containers": [{"name": "server"}]}, "status": running}
    api.put({"apiVersion": "v1", "kind": "Pod", **pod})
    api.run_command = succeed
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / "settings.yml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}}")

    (tmp_path / "models.yml.j2").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: rendered, labels: {app.kubernetes.io/part-of: models}}}")

    arguments = yaml.safe_load(yaml.safe_dump(options).replace("{{ playbook_dir }}", str(tmp_path)))
    assert arguments.pop("kubeconfig") == "~/.kube/lab"
    if "stable_seconds" in arguments:
        arguments["stable_seconds"] = 0
    if "template" in arguments:
        # What the action of this name does before the module gets it
        arguments["template"] = [{"path": path, "content": pathlib.Path(path).read_text()} for path in arguments["template"]]
    result = run_module(module_name, **arguments, kubeconfig=api.kubeconfig())
    assert not result.get("failed"), result["msg"]
