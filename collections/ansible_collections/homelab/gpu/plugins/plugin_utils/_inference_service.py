# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Services of any kind from a table: each row is a Deployment with its Services, its configuration and its storage.

from __future__ import annotations

import hashlib
import json
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._options import suggestion
from ansible_collections.homelab.gpu.plugins.module_utils._quantity import QuantityError, quantity
from ansible_collections.homelab.gpu.plugins.plugin_utils._pod_affinity import PRESETS, placement
from ansible_collections.homelab.gpu.plugins.plugin_utils._pod_settings import GPU_RESOURCES, Settings

__all__ = ["COMPONENT", "ROW", "objects"]

Object = t.Mapping[str, t.Any]

COMPONENT = "inference-service"
ACCESS_MODES = ("ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod", "ReadOnlyMany")
NODE_PORTS = (30000, 32767)

# The options of a row, with their defaults
ROW: t.Mapping[str, t.Any] = {
    "name": None,
    "image": None,
    "image_pull_policy": "IfNotPresent",
    "command": [],
    "args": [],
    "env": {},
    "env_secrets": {},
    "config": {},
    "config_name": "",
    "config_mount_path": "",
    "port": 8080,
    "service_name": "",
    "service_aliases": [],
    "service_port": None,
    "node_port": None,
    "metrics_port": None,
    "metrics_path": "/metrics",
    "replicas": 1,
    "strategy": "auto",
    "gpus": 0,
    "gpu_resource": GPU_RESOURCES[0],
    "runtime_class": "nvidia",
    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
    "storage": {},
    "startup": {},
    "liveness": {},
    "readiness": {},
    "priority_class": "",
    "affinity": "none",
    "node_selector": {},
    "taints": [],
    "node_lost_seconds": 30,
    "pre_stop_seconds": 0,
    "termination_grace_seconds": 30,
    "run_as_user": 1000,
    "run_as_group": 1000,
    "selector": {},
    "ready_seconds": 600,
}
PROBE: t.Mapping[str, t.Any] = {"enabled": True, "path": "/health", "port": None, "period_seconds": 10, "timeout_seconds": 5, "failures": 3}
PROBES: t.Mapping[str, Object] = {
    "startup": {**PROBE, "failures": 30},
    "liveness": {**PROBE, "period_seconds": 30, "timeout_seconds": 10},
    "readiness": {**PROBE, "path": "/health/ready"},
}
STORAGE: t.Mapping[str, t.Any] = {"name": "", "size": None, "storage_class": None, "access_mode": "ReadWriteOnce", "mount_path": "/data", "existing": False}


class _Row(Settings):
    """A row of the table; its problems name it."""

    def __init__(self, option: str, index: int, given: Object) -> None:
        name = given.get("name")
        super().__init__(f"{option}[{index}]" + (f" ({name})" if isinstance(name, str) and name else ""), {**ROW, **given})

    def refuse(self, name: str, why: str, shown: bool = True) -> None:
        value = f" is {self.given[name.partition('.')[0]]!r}" if shown else ""
        self.problems.append(f"{self.role}.{name}{value}: {why}")

    def part(self, option: str, known: Object) -> dict[str, t.Any]:
        """A mapping with options of its own, filled up with defaults."""
        value = self[option]
        if not isinstance(value, t.Mapping):
            self.refuse(option, f"give a mapping with any of {', '.join(known)}")
            return dict(known)
        for name in value:
            if name not in known:
                self.refuse(f"{option}.{name}", f"there is no such setting; use one of {', '.join(known)}{suggestion(str(name), tuple(known))}", shown=False)
        return {**known, **value}

    def count(self, option: str, value: t.Any, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.refuse(option, f"{value!r} is no whole number from {least} to {most}", shown=False)
            return least
        return value

    def words(self, option: str) -> list[str]:
        value = self[option]
        if not isinstance(value, (list, tuple)) or any(isinstance(word, (t.Mapping, list, bool)) or word is None for word in value):
            self.refuse(option, "give a list of texts, one for each word")
            return []
        return [str(word) for word in value]

    def path(self, option: str, value: t.Any) -> str:
        if not isinstance(value, str) or not value.startswith("/") or ".." in value.split("/") or value == "/":
            self.refuse(option, f"{value!r} is no absolute path below /", shown=False)
        return str(value)


def objects(rows: t.Any, namespace: str, option: str = "inference_service_services") -> list[dict[str, t.Any]]:
    """All objects of all rows. Raises InputError with everything that is wrong, a line for each."""
    if not isinstance(rows, (list, tuple)) or not rows or any(not isinstance(row, t.Mapping) for row in rows):
        raise InputError(f"{option}: give a list of services, each a mapping with at least name and image")
    made: list[dict[str, t.Any]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}]
    problems: list[str] = []
    owners: dict[str, str] = {}
    node_ports: dict[int, str] = {}
    for index, given in enumerate(rows):
        row = _Row(option, index, given)
        problems += [f"{row.role}.{name}: there is no such setting{suggestion(str(name), tuple(ROW))}" for name in given if name not in ROW]
        found = _of_row(row, namespace)
        problems += row.problems
        for one in found:
            what = f"{one['kind']} {one['metadata']['name']}"
            if what in owners:
                problems.append(f"{row.role}: {what} is made by {owners[what]}, too; give one of them another name")
            owners[what] = row.role
        port = given.get("node_port")
        if port is not None and port in node_ports:
            problems.append(f"{row.role}.node_port is {port}, which {node_ports[port]} has; choose another")
        node_ports[port] = row.role
        made += found
    if problems:
        raise InputError("\n".join(problems))
    return made


def _of_row(row: _Row, namespace: str) -> list[dict[str, t.Any]]:
    name = row.name("name", service=True)
    labels = {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": COMPONENT,
        "app.kubernetes.io/part-of": "homelab-gpu",
        "app.kubernetes.io/managed-by": "homelab.gpu",
    }
    selector = row.selector("selector") or {"app": name}

    def metadata(own: str) -> dict[str, t.Any]:
        return {"name": own, "namespace": namespace, "labels": labels}

    made: list[dict[str, t.Any]] = []
    config = _config(row, name)
    if config:
        made.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(config["name"]), "data": config["data"]})
    storage = _storage(row, name)
    if storage and storage["claim"]:
        made.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata(storage["name"]), "spec": storage["claim"]})
    made += [{"apiVersion": "v1", "kind": "Service", "metadata": metadata(own), "spec": spec} for own, spec in _services(row, name, selector)]
    made.append(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {**metadata(name), "labels": {**labels, **selector}},
            "spec": _deployment(row, {**labels, **selector}, selector, config, storage),
        }
    )
    return made


def _config(row: _Row, name: str) -> dict[str, t.Any] | None:
    data = row.mapping("config")
    for key, value in data.items():
        if isinstance(value, (t.Mapping, list)) or value is None:
            row.refuse("config", f"{key} is no text; write files as text, and put values in quotes", shown=False)
    if not data:
        for option in ("config_name", "config_mount_path"):
            if row[option]:
                row.refuse(option, "there is no config to go with it; give config, or leave this out")
        return None
    texts = {str(key): str(value).lower() if isinstance(value, bool) else str(value) for key, value in sorted(data.items())}
    own = row.name("config_name") if row["config_name"] else f"{name}-config"
    mount = row.path("config_mount_path", row["config_mount_path"]) if row["config_mount_path"] else ""
    return {"name": own, "data": texts, "mount": mount, "hash": hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:16]}


def _storage(row: _Row, name: str) -> dict[str, t.Any] | None:
    if not row["storage"]:
        return None
    wanted = row.part("storage", STORAGE)
    if wanted["access_mode"] not in ACCESS_MODES:
        row.refuse("storage.access_mode", f"{wanted['access_mode']!r} is none of {', '.join(ACCESS_MODES)}", shown=False)
    if wanted["existing"] and not wanted["name"]:
        row.refuse("storage.existing", "name the claim that exists", shown=False)
    size = wanted["size"]
    if not wanted["existing"]:
        try:
            if size is None or quantity(str(size)) <= 0:
                raise QuantityError("none")
        except QuantityError:
            row.refuse("storage.size", f"{size!r} is no amount of storage; write one such as 50Gi", shown=False)
    claim = None
    if not wanted["existing"]:
        claim = {"accessModes": [wanted["access_mode"]], "resources": {"requests": {"storage": str(size)}}}
        if wanted["storage_class"] is not None:
            claim["storageClassName"] = str(wanted["storage_class"])
    return {
        "name": wanted["name"] or f"{name}-data",
        "claim": claim,
        "mount": row.path("storage.mount_path", wanted["mount_path"]),
        "one_node": wanted["access_mode"] in ("ReadWriteOnce", "ReadWriteOncePod"),
    }


def _services(row: _Row, name: str, selector: Object) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    port = row.count("port", row["port"], 1, 65535)
    outer = port if row["service_port"] is None else row.count("service_port", row["service_port"], 1, 65535)
    node_port = row["node_port"]
    if node_port is not None:
        row.count("node_port", node_port, *NODE_PORTS)
    ports: list[dict[str, t.Any]] = [{"name": "http", "port": outer, "targetPort": "http"}]
    if row["metrics_port"] is not None and row.count("metrics_port", row["metrics_port"], 1, 65535) != port:
        ports.append({"name": "metrics", "port": row["metrics_port"], "targetPort": "metrics"})
    first = row.name("service_name", service=True) if row["service_name"] else name
    outward = [{**ports[0], "nodePort": node_port}, *ports[1:]]
    yield first, {"selector": dict(selector), **({"type": "NodePort", "ports": outward} if node_port is not None else {"ports": ports})}
    for alias in row.words("service_aliases"):
        yield alias, {"selector": dict(selector), "ports": ports}


def _probe(row: _Row, which: str) -> dict[str, t.Any] | None:
    wanted = row.part(which, PROBES[which])
    if not wanted["enabled"]:
        return None
    for name, most in (("period_seconds", 3600), ("timeout_seconds", 3600), ("failures", 10000)):
        row.count(f"{which}.{name}", wanted[name], 1, most)
    made: dict[str, t.Any] = {
        "httpGet": {"path": row.path(f"{which}.path", wanted["path"]), "port": wanted["port"] or "http"},
        "periodSeconds": wanted["period_seconds"],
        "timeoutSeconds": wanted["timeout_seconds"],
        "failureThreshold": wanted["failures"],
    }
    return made


def _deployment(row: _Row, labels: Object, selector: Object, config: Object | None, storage: Object | None) -> dict[str, t.Any]:
    gpus = row.count("gpus", row["gpus"], 0, 16)
    if row["gpu_resource"] not in GPU_RESOURCES:
        row.refuse("gpu_resource", f"it has to be one of {', '.join(GPU_RESOURCES)}")
    annotations = {}
    if row["metrics_port"] is not None:
        annotations = {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(row["metrics_port"]),
            "prometheus.io/path": row.path("metrics_path", row["metrics_path"]),
        }
    if config:
        # Pods read it when they start
        annotations["homelab.gpu/config"] = config["hash"]
    spec: dict[str, t.Any] = {
        "selector": {"matchLabels": dict(selector)},
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": row.count("ready_seconds", row["ready_seconds"], 1, 86400),
        "strategy": _strategy(row, gpus, storage),
        "template": {"metadata": {"labels": dict(labels), "annotations": annotations}, "spec": _pod(row, selector, gpus, config, storage)},
    }
    # An autoscaler owns it otherwise
    if row["replicas"] is not None:
        spec["replicas"] = row.count("replicas", row["replicas"], 0, 100)
    return spec


def _strategy(row: _Row, gpus: int, storage: Object | None) -> dict[str, t.Any]:
    wanted = row["strategy"]
    if wanted not in ("auto", "Recreate", "RollingUpdate"):
        row.refuse("strategy", "it has to be auto, Recreate or RollingUpdate")
    # A second pod would wait for the GPU, or for the volume, that the first one holds
    if wanted == "Recreate" or (wanted == "auto" and (gpus or (storage and storage["one_node"]))):
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def _pod(row: _Row, selector: Object, gpus: int, config: Object | None, storage: Object | None) -> dict[str, t.Any]:
    user = row.count("run_as_user", row["run_as_user"], 0, 2**31 - 1)
    group = row.count("run_as_group", row["run_as_group"], 0, 2**31 - 1)
    grace = row.count("termination_grace_seconds", row["termination_grace_seconds"], 0, 3600)
    pre_stop = row.count("pre_stop_seconds", row["pre_stop_seconds"], 0, 3600)
    if pre_stop and pre_stop >= grace:
        row.refuse("pre_stop_seconds", f"the pod is killed after termination_grace_seconds={grace}; raise that, or wait for less")
    spec: dict[str, t.Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        "securityContext": {
            "runAsUser": user,
            "runAsGroup": group,
            "runAsNonRoot": user > 0,
            "fsGroup": group,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": row.selector("node_selector"),
        "tolerations": row.tolerations("taints", "node_lost_seconds"),
        **_placement(row, selector),
        "containers": [_container(row, gpus, config, storage, pre_stop)],
    }
    if gpus and row["runtime_class"]:
        spec["runtimeClassName"] = row.name("runtime_class")
    if row["priority_class"]:
        spec["priorityClassName"] = row.name("priority_class")
    volumes: list[dict[str, t.Any]] = []
    if config and config["mount"]:
        volumes.append({"name": "config", "configMap": {"name": config["name"]}})
    if storage:
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": storage["name"]}})
    return {**spec, "volumes": volumes} if volumes else spec


def _placement(row: _Row, selector: Object) -> dict[str, t.Any]:
    wanted = row["affinity"]
    if isinstance(wanted, t.Mapping):
        return {"affinity": dict(wanted)}
    if wanted not in PRESETS:
        row.refuse("affinity", f"use one of {', '.join(PRESETS)}, or an affinity as a pod has it{suggestion(str(wanted), PRESETS)}")
        return {}
    return placement(wanted, selector)


def _container(row: _Row, gpus: int, config: Object | None, storage: Object | None, pre_stop: int) -> dict[str, t.Any]:
    env: list[dict[str, t.Any]] = [{"name": name, "value": value} for name, value in row.environment("env", ()).items()]
    for name, place in row.mapping("env_secrets").items():
        if not isinstance(place, t.Mapping) or set(place) != {"name", "key"}:
            row.refuse("env_secrets", f"{name}: give name and key of a Secret in the namespace", shown=False)
        else:
            env.append({"name": str(name), "valueFrom": {"secretKeyRef": dict(place)}})
    if not gpus:
        # Images made for GPUs ask for all of them, which NVIDIA's runtime grants where it is the default
        env.append({"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"})
    container: dict[str, t.Any] = {
        "name": str(row["name"]),
        "image": row.image("image"),
        "imagePullPolicy": row["image_pull_policy"],
        "env": env,
        "ports": [{"name": "http", "containerPort": row["port"]}],
        "resources": row.resources("resources", gpus, str(row["gpu_resource"])),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if row["image_pull_policy"] not in ("Always", "IfNotPresent", "Never"):
        row.refuse("image_pull_policy", "it has to be Always, IfNotPresent or Never")
    for option in ("command", "args"):
        if words := row.words(option):
            container[option] = words
    if row["metrics_port"] not in (None, row["port"]):
        container["ports"].append({"name": "metrics", "containerPort": row["metrics_port"]})
    for which in PROBES:
        if probe := _probe(row, which):
            container[f"{which}Probe"] = probe
    if pre_stop:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": pre_stop}}}
    if config and not config["mount"]:
        container["envFrom"] = [{"configMapRef": {"name": config["name"]}}]
    mounts = []
    if config and config["mount"]:
        mounts.append({"name": "config", "mountPath": config["mount"], "readOnly": True})
    if storage:
        mounts.append({"name": "data", "mountPath": storage["mount"]})
    return {**container, "volumeMounts": mounts} if mounts else container
