# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.inference_service_objects import inference_service_objects
from ansible_collections.homelab.gpu.plugins.plugin_utils._inference_service import PROBES, ROW, STORAGE
from ansible_collections.homelab.gpu.tests.unit.rendered import expect_valid

Object = dict[str, t.Any]

IMAGE = "ghcr.io/example/server:1.2.0"
SPECS = yaml.safe_load((pathlib.Path(__file__).parents[4] / "roles/inference_service/meta/argument_specs.yml").read_text(encoding="utf-8"))
ROWS = SPECS["argument_specs"]["main"]["options"]["inference_service_services"]["options"]


def made(*rows: Object) -> list[Object]:
    found: list[Object] = inference_service_objects([{"name": "server", "image": IMAGE, **row} for row in rows], namespace="ml")
    expect_valid(found)
    return found


def one(found: list[Object], kind: str, name: str = "server") -> Object:
    (only,) = [one for one in found if one["kind"] == kind and one["metadata"]["name"] == name]
    return only


def pod(found: list[Object]) -> Object:
    spec: Object = one(found, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(found: list[Object]) -> Object:
    (only,) = pod(found)["containers"]
    return only


def test_defaults() -> None:
    found = made({})
    assert [one["kind"] for one in found] == ["Namespace", "Service", "Deployment"]
    asked = container(found)
    assert asked["startupProbe"] == {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 30}
    assert asked["livenessProbe"] == {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 30, "timeoutSeconds": 10, "failureThreshold": 3}
    assert asked["readinessProbe"] == {"httpGet": {"path": "/health/ready", "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3}
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in asked["env"]
    assert "runtimeClassName" not in pod(found)
    assert one(found, "Deployment")["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert one(found, "Service")["spec"] == {"selector": {"app": "server"}, "ports": [{"name": "http", "port": 8080, "targetPort": "http"}]}


def test_gpu() -> None:
    found = made({"gpus": 1, "resources": {"limits": {"memory": "8Gi"}}, "taints": ["gpu=true:NoSchedule"], "node_lost_seconds": 5})
    assert container(found)["resources"] == {"requests": {"nvidia.com/gpu": "1"}, "limits": {"memory": "8Gi", "nvidia.com/gpu": "1"}}
    assert "NVIDIA_VISIBLE_DEVICES" not in [variable["name"] for variable in container(found)["env"]]
    assert pod(found)["runtimeClassName"] == "nvidia"
    assert pod(found)["tolerations"][0] == {"key": "gpu", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
    assert {toleration.get("tolerationSeconds") for toleration in pod(found)["tolerations"][1:]} == {5}
    assert one(found, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert "runtimeClassName" not in pod(made({"gpus": 1, "runtime_class": ""}))


@pytest.mark.parametrize(
    ("mode", "strategy", "type_"),
    [("ReadWriteOnce", "auto", "Recreate"), ("ReadWriteMany", "auto", "RollingUpdate"), ("ReadWriteOnce", "RollingUpdate", "RollingUpdate")],
)
def test_storage(mode: str, strategy: str, type_: str) -> None:
    found = made({"storage": {"size": "50Gi", "access_mode": mode, "mount_path": "/models", "storage_class": "local-path"}, "strategy": strategy})
    claim = one(found, "PersistentVolumeClaim", "server-data")["spec"]
    assert claim == {"accessModes": [mode], "resources": {"requests": {"storage": "50Gi"}}, "storageClassName": "local-path"}
    assert container(found)["volumeMounts"] == [{"name": "data", "mountPath": "/models"}]
    assert one(found, "Deployment")["spec"]["strategy"]["type"] == type_


def test_storage_that_exists_is_only_used() -> None:
    found = made({"storage": {"name": "models", "existing": True}})
    assert "PersistentVolumeClaim" not in [one["kind"] for one in found]
    assert pod(found)["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "models"}}]


def test_config_as_environment_restarts_pods_when_it_changes() -> None:
    first = made({"config": {"MODEL": "a", "DEBUG": False, "LIMIT": 4}, "config_name": "inference-config"})
    assert one(first, "ConfigMap", "inference-config")["data"] == {"MODEL": "a", "DEBUG": "false", "LIMIT": "4"}
    assert container(first)["envFrom"] == [{"configMapRef": {"name": "inference-config"}}]
    other = made({"config": {"MODEL": "b", "DEBUG": False, "LIMIT": 4}, "config_name": "inference-config"})
    same = made({"config": {"LIMIT": 4, "DEBUG": False, "MODEL": "a"}, "config_name": "inference-config"})
    templates = [one(found, "Deployment")["spec"]["template"] for found in (first, other, same)]
    assert templates[0] != templates[1]
    assert templates[0] == templates[2]


def test_config_as_files() -> None:
    found = made({"config": {"settings.yml": "a: 1\n"}, "config_mount_path": "/etc/server"})
    assert container(found)["volumeMounts"] == [{"name": "config", "mountPath": "/etc/server", "readOnly": True}]
    assert "envFrom" not in container(found)


def test_services() -> None:
    found = made({"port": 8000, "service_port": 80, "node_port": 30080, "service_name": "api", "service_aliases": ["old-api"], "metrics_port": 9090})
    metrics = {"name": "metrics", "port": 9090, "targetPort": "metrics"}
    outer = one(found, "Service", "api")["spec"]
    assert outer["type"] == "NodePort"
    assert outer["ports"] == [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080}, metrics]
    assert one(found, "Service", "old-api")["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "http"}, metrics]
    annotations = one(found, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"prometheus.io/scrape": "true", "prometheus.io/port": "9090", "prometheus.io/path": "/metrics"}


def test_replicas_can_be_left_to_an_autoscaler() -> None:
    assert "replicas" not in one(made({"replicas": None}), "Deployment")["spec"]
    assert one(made({"replicas": 0}), "Deployment")["spec"]["replicas"] == 0


def test_the_rest_of_a_pod() -> None:
    found = made(
        {
            "command": ["serve"],
            "args": ["--port", 8080],
            "env": {"A": 1},
            "env_secrets": {"KEY": {"name": "keys", "key": "api"}},
            "affinity": "preferred-host",
            "priority_class": "forge-llm-critical",
            "pre_stop_seconds": 5,
            "liveness": {"enabled": False},
            "readiness": {"path": "/ready", "port": 9000},
            "selector": {"app": "other"},
        }
    )
    asked = container(found)
    assert (asked["command"], asked["args"]) == (["serve"], ["--port", "8080"])
    assert asked["env"][:2] == [{"name": "A", "value": "1"}, {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "api"}}}]
    assert asked["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert "livenessProbe" not in asked
    assert asked["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 9000}
    assert pod(found)["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["weight"] == 100
    assert pod(found)["priorityClassName"] == "forge-llm-critical"
    assert one(found, "Deployment")["spec"]["selector"]["matchLabels"] == {"app": "other"}
    node = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    assert pod(made({"affinity": node}))["affinity"] == node


WRONG: list[tuple[Object, str, str]] = [
    ({"name": "Server"}, "inference_service_services[0] (Server).name is 'Server'", "write small letters"),
    ({"image": "server"}, ".image is 'server'", "give it a version's tag"),
    ({"image": "a b:1"}, ".image is 'a b:1'", "name an image"),
    ({"imag": "x"}, "(server).imag: there is no such setting", "did you mean image?"),
    ({"image_pull_policy": "Sometimes"}, ".image_pull_policy is 'Sometimes'", "Always, IfNotPresent or Never"),
    ({"port": 0}, ".port: 0 is no whole number", "from 1 to 65535"),
    ({"node_port": 8080}, ".node_port: 8080 is no whole number", "from 30000 to 32767"),
    ({"replicas": -1}, ".replicas: -1", "from 0 to 100"),
    ({"gpus": "1"}, ".gpus: '1'", "from 0 to 16"),
    ({"gpu_resource": "gpu"}, ".gpu_resource is 'gpu'", "nvidia.com/gpu.shared"),
    ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, ".resources", "an option of its own"),
    ({"resources": {"requests": {"cpu": "much"}}}, "requests.cpu is 'much'", "500m or 2Gi"),
    ({"resources": {"requests": {"cpu": 2}, "limits": {"cpu": 1}}}, "more than the limit 1", "raise the limit"),
    ({"strategy": "Replace"}, ".strategy is 'Replace'", "auto, Recreate or RollingUpdate"),
    ({"storage": {"mount_path": "/models"}}, ".storage.size: None is no amount", "such as 50Gi"),
    ({"storage": {"size": "50 GB"}}, ".storage.size: '50 GB'", "such as 50Gi"),
    ({"storage": {"size": "1Gi", "access_mode": "RWO"}}, ".storage.access_mode: 'RWO'", "ReadWriteOnce"),
    ({"storage": {"size": "1Gi", "path": "/x"}}, ".storage.path: there is no such setting", "mount_path"),
    ({"storage": {"existing": True}}, ".storage.existing", "name the claim"),
    ({"storage": {"size": "1Gi", "mount_path": "models"}}, ".storage.mount_path: 'models'", "absolute path"),
    ({"startup": {"failures": 0}}, ".startup.failures: 0", "from 1 to 10000"),
    ({"startup": {"period": 5}}, ".startup.period: there is no such setting", "period_seconds"),
    ({"readiness": {"path": "ready"}}, ".readiness.path: 'ready'", "absolute path"),
    ({"affinity": "prefered-host"}, ".affinity is 'prefered-host'", "did you mean preferred-host?"),
    ({"taints": ["gpu=true"]}, ".taints", "key=value:Effect"),
    ({"pre_stop_seconds": 30}, ".pre_stop_seconds is 30", "raise that, or wait for less"),
    ({"env": {"1A": "x"}}, ".env", "no name of an environment variable"),
    ({"env_secrets": {"KEY": "secret"}}, ".env_secrets: KEY", "name and key of a Secret"),
    ({"config": {"a": {"b": 1}}}, ".config: a is no text", "write files as text"),
    ({"config_mount_path": "/etc/x"}, ".config_mount_path", "no config to go with it"),
    ({"args": "--port 1"}, ".args is '--port 1'", "a list of texts"),
    ({"metrics_path": "metrics", "metrics_port": 1}, ".metrics_path: 'metrics'", "absolute path"),
]


@pytest.mark.parametrize(("row", "fact", "fix"), WRONG)
def test_wrong_rows(row: Object, fact: str, fix: str) -> None:
    told = inference_service_objects([{"name": "server", "image": IMAGE, **row}], namespace="ml", tell_problems=True)
    assert told["objects"] == []
    (line,) = told["problem"].splitlines()
    assert fact in line
    assert fix in line
    assert "secret" not in line.replace("env_secrets", ""), "a value that belongs into a Secret was shown"


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(AnsibleFilterError) as failure:
        inference_service_objects([{"name": "a", "image": "x"}, {"name": "b", "image": IMAGE, "port": -1}], namespace="ml")
    assert len(str(failure.value).splitlines()) == 2


@pytest.mark.parametrize("rows", [None, {}, [], ["server"]])
def test_what_is_no_table(rows: t.Any) -> None:
    with pytest.raises(AnsibleFilterError, match="give a list of services"):
        inference_service_objects(rows, namespace="ml")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({"name": "a"}, {"name": "a"}, "Deployment a is made by"),
        ({"name": "a"}, {"name": "b", "service_aliases": ["a"]}, "Service a is made by"),
        ({"name": "a", "node_port": 30080}, {"name": "b", "node_port": 30080}, "node_port is 30080, which inference_service_services[0] (a) has"),
    ],
)
def test_rows_that_are_in_each_others_way(first: Object, second: Object, words: str) -> None:
    with pytest.raises(AnsibleFilterError) as failure:
        inference_service_objects([{"image": IMAGE, **first}, {"image": IMAGE, **second}], namespace="ml")
    assert words in str(failure.value)


def test_the_role_documents_every_setting_with_its_default() -> None:
    assert set(ROWS) == set(ROW)
    assert {name: spec.get("default") for name, spec in ROWS.items()} == dict(ROW)
    assert {name: spec.get("default", None if name == "size" else STORAGE[name]) for name, spec in ROWS["storage"]["options"].items()} == dict(STORAGE)
    for which, probe in PROBES.items():
        assert set(ROWS[which]["options"]) == set(probe)
