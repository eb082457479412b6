# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Which settings can never work on this cluster, and why: from objects to advice. Pure. Errors are what cannot work as long as nothing else is changed; warnings
# are what works in part, or not now; notes are what may well be meant.

from __future__ import annotations

import dataclasses
import math
import typing as t
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from ansible_collections.homelab.gpu.plugins.module_utils._drain import selects
from ansible_collections.homelab.gpu.plugins.module_utils._quantity import quantity
from ansible_collections.homelab.gpu.plugins.plugin_utils._pod_affinity import HOST
from ansible_collections.homelab.gpu.plugins.plugin_utils._policy_objects import labels as labels_of_ours
from ansible_collections.homelab.gpu.plugins.plugin_utils._policy_settings import PREFIX, completed

__all__ = ["Advice", "advise"]

Object = Mapping[str, t.Any]

SEVERITIES = ("error", "warning", "note")
_GPUS = ("nvidia.com/gpu", "nvidia.com/gpu.shared")
_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
# They come and go with what happens to a node; what is tolerated for good is another matter
_PASSING_TAINTS = ("node.kubernetes.io/", "homelab.gpu/")


@dataclasses.dataclass(frozen=True)
class Advice:
    severity: str
    service: str
    setting: str
    why: str
    fix: str


@dataclasses.dataclass(frozen=True)
class Workload:
    """What makes pods, or will."""

    kind: str
    name: str
    labels: Mapping[str, str]
    spec: Object
    """Of its pods."""
    body: Object
    """Of itself; empty while it is only planned."""
    replicas: int | None
    most: int | None
    """With a HorizontalPodAutoscaler more than C(replicas), else the same. None for a DaemonSet, and while nothing tells it."""
    service: str
    apart: bool
    """Whether no node may have two of its pods."""
    priority_classes: frozenset[str]
    told: bool
    """Whether it is known what its containers ask for."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def containers(self) -> list[Object]:
        sidecars = [one for one in self.spec.get("initContainers") or [] if one.get("restartPolicy") == "Always"]
        return [*(self.spec.get("containers") or []), *sidecars]

    def gpus(self) -> tuple[str, int]:
        """The resource, and how much of it one pod takes."""
        for resource in _GPUS:
            count = sum((_limit(one, resource) or Decimal(0) for one in self.containers), Decimal(0))
            if count:
                return resource, int(count)
        return _GPUS[0], 0


def _limit(container: Object, resource: str) -> Decimal | None:
    found = ((container.get("resources") or {}).get("limits") or {}).get(resource)
    return None if found is None else quantity(found)


def _request(container: Object, resource: str) -> Decimal | None:
    found = ((container.get("resources") or {}).get("requests") or {}).get(resource)
    return _limit(container, resource) if found is None else quantity(found)


class View:
    """The cluster as it will be: what is wanted in the place of what is there, and what is no longer wanted gone."""

    def __init__(self, found: Iterable[Object], wanted: Sequence[Object], settings: Object) -> None:
        whole = completed(dict(settings))
        self.namespace: str = whole["namespace"]
        self.services: list[dict[str, t.Any]] = whole["services"]
        self.wanted = list(wanted)
        self._new = {_key(one) for one in wanted}
        self.before: dict[tuple[str, str, str], Object] = {_key(one): one for one in found}
        ours = labels_of_ours(self.namespace).items()
        self._gone = {key for key, one in self.before.items() if wanted and ours <= (one["metadata"].get("labels") or {}).items() and key not in self._new}
        self._now = {**{key: one for key, one in self.before.items() if key not in self._gone}, **{_key(one): one for one in wanted}}
        self.workloads = list(self._workloads())

    def all(self, kind: str, everywhere: bool = False) -> list[Object]:
        return [one for (its_kind, namespace, _name), one in self._now.items() if its_kind == kind and (everywhere or namespace in ("", self.namespace))]

    def setting(self, obj: Object) -> str:
        """The option from which an object comes, else the object itself."""
        kind, name = obj["kind"], obj["metadata"]["name"]
        if _key(obj) in self._new:
            part = {"PodDisruptionBudget": "pdb", "HorizontalPodAutoscaler": "hpa"}.get(kind)
            for service in self.services:
                if part and service[part] and service[part]["name"] == name:
                    return f"{PREFIX}services[{service['name']}].{part}"
                if kind == "NetworkPolicy" and service["name"] == name:
                    return f"{PREFIX}services[{name}].network"
            option = {"ResourceQuota": "quota", "LimitRange": "limits", "NetworkPolicy": "network", "PriorityClass": f"priority_classes[{name}]"}.get(kind)
            if option:
                return f"{PREFIX}{option}"
        return f"{kind} {name}"

    def of_budget(self, obj: Object) -> list[Workload]:
        return [one for one in self.workloads if selects((obj.get("spec") or {}).get("selector"), one.labels)]

    def pods(self) -> list[Object]:
        return self.all("Pod", everywhere=True)

    def _workloads(self) -> Iterator[Workload]:
        rows = {(service["kind"], service["workload"]): service for service in self.services}
        ranges = {_target(one): one["spec"] for one in self.all("HorizontalPodAutoscaler")}
        for kind in _WORKLOADS:
            for body in self.all(kind):
                if any(owner.get("controller") for owner in body["metadata"].get("ownerReferences") or []):
                    continue
                row = rows.pop((kind, body["metadata"]["name"]), None)
                template = (body.get("spec") or {}).get("template") or {}
                yield self._workload(kind, body["metadata"]["name"], row, ranges, body, template)
        for (kind, name), row in rows.items():
            container = {"name": row["name"], "resources": row["resources"]}
            # Where it will be allowed to run is not known yet
            template = {"metadata": {"labels": row["selector"]}, "spec": {"containers": [container], "tolerations": [{"operator": "Exists"}]}}
            yield self._workload(kind, name, row, ranges, {}, template)

    def _workload(
        self, kind: str, name: str, row: dict[str, t.Any] | None, ranges: Mapping[tuple[str, str], Object], body: Object, template: Object
    ) -> Workload:
        spec, pod_labels = template.get("spec") or {}, (template.get("metadata") or {}).get("labels") or {}
        replicas: int | None = None
        if body and kind != "DaemonSet":
            replicas = int((body.get("spec") or {}).get("replicas", 1))
        if row and row["replicas"] is not None:
            replicas = row["replicas"]
        most, scale = replicas, ranges.get((kind, name))
        # Kubernetes' own autoscaler leaves a workload alone that somebody has scaled to none
        if scale and replicas != 0:
            replicas, most = int(scale.get("minReplicas") or 1), int(scale["maxReplicas"])
        classes = {spec.get("priorityClassName") or "", (row or {}).get("priority_class") or ""} - {""}
        apart = _keeps_apart(spec, pod_labels) or bool(row and row["affinity"] == "required-host")
        told = bool(body) or bool(row and row["resources"])
        return Workload(kind, name, pod_labels, spec, body, replicas, most, row["name"] if row else "", apart, frozenset(classes), told)

    # Room

    def nodes_for(self, workload: Workload) -> list[Object]:
        """Where its pods may run, if nothing of it is taken away for a while."""
        return [node for node in self.all("Node", everywhere=True) if _may_run(workload.spec, node)]

    def room(self, workload: Workload, resource: str, each: int) -> tuple[int, int]:
        """How many of its pods the nodes' devices suffice for: in all, and with what others use now."""
        whole = free = 0
        for node in self.nodes_for(workload):
            offered = int(quantity(((node.get("status") or {}).get("allocatable") or {}).get(resource, "0")))
            used = sum(self._used(pod, resource) for pod in self._others(workload) if (pod.get("spec") or {}).get("nodeName") == node["metadata"]["name"])
            whole += offered // each
            free += max(offered - used, 0) // each
        return whole, free

    def _others(self, workload: Workload) -> list[Object]:
        mine = set(workload.labels.items())
        return [
            pod
            for pod in self.pods()
            if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
            and not (pod["metadata"].get("namespace") == self.namespace and mine and mine <= set((pod["metadata"].get("labels") or {}).items()))
        ]

    @staticmethod
    def _used(pod: Object, resource: str) -> int:
        return int(sum((_limit(one, resource) or Decimal(0) for one in (pod.get("spec") or {}).get("containers") or []), Decimal(0)))

    def limit_defaults(self) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
        """(requests, limits) that a LimitRange gives to containers without, completed as the API server does it."""
        requests: dict[str, Decimal] = {}
        limits: dict[str, Decimal] = {}
        for one in self.all("LimitRange"):
            for item in (one.get("spec") or {}).get("limits") or []:
                if item["type"] == "Container":
                    default = {**(item.get("max") or {}), **(item.get("default") or {})}
                    limits.update({key: quantity(value) for key, value in default.items()})
                    default_request = {**(item.get("min") or {}), **default, **(item.get("defaultRequest") or {})}
                    requests.update({key: quantity(value) for key, value in default_request.items()})
        return requests, limits


def _key(obj: Object) -> tuple[str, str, str]:
    return str(obj["kind"]), str(obj["metadata"].get("namespace") or ""), str(obj["metadata"]["name"])


def _target(scaler: Object) -> tuple[str, str]:
    target = scaler["spec"]["scaleTargetRef"]
    return target["kind"], target["name"]


def _keeps_apart(spec: Object, pod_labels: Mapping[str, str]) -> bool:
    rules = ((spec.get("affinity") or {}).get("podAntiAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or []
    return any(rule.get("topologyKey") == HOST and selects(rule.get("labelSelector"), pod_labels) for rule in rules)


def _may_run(spec: Object, node: Object) -> bool:
    node_labels = node["metadata"].get("labels") or {}
    if any(node_labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = [[rule for rule in term.get("matchExpressions") or [] if rule["operator"] not in ("Gt", "Lt")] for term in required.get("nodeSelectorTerms") or []]
    if terms and not any(selects({"matchExpressions": rules}, node_labels) for rules in terms):
        return False
    taints = (node.get("spec") or {}).get("taints") or []
    return all(
        taint["effect"] == "PreferNoSchedule"
        or taint["key"].startswith(_PASSING_TAINTS)
        or any(_tolerates(one, taint) for one in spec.get("tolerations") or [])
        for taint in taints
    )


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return toleration.get("key") == taint["key"] and (toleration.get("value") or "") == (taint.get("value") or "")


def _share(value: t.Any, of: int, up: bool = True) -> int:
    """A number, or a percentage of the pods."""
    if isinstance(value, str) and value.endswith("%"):
        exact = int(value[:-1]) * of / 100
        return math.ceil(exact) if up else math.floor(exact)
    return int(value)


def _service_of(workloads: Sequence[Workload]) -> str:
    return next((one.service for one in workloads if one.service), workloads[0].name if workloads else "")


def advise(found: Iterable[Object], wanted: Sequence[Object], settings: Object, replace_priority_classes: bool = False) -> list[Advice]:
    """All advice, errors first.

    C(found) are the objects of the cluster: nodes, pods, workloads, priority classes and API services of all of it, and of the namespace its budgets,
    autoscalers, quotas, limit ranges, network policies and claims. C(wanted) are the objects that shall be applied.
    """
    view = View(found, wanted, settings)
    advice = [
        *_budgets(view),
        *_two_budgets(view),
        *_autoscalers(view),
        *_autoscaler_metrics(view),
        *_devices(view),
        *_apart(view),
        *_rollouts(view),
        *_volumes(view),
        *_quotas(view),
        *_priorities(view),
        *(_fixed_priorities(view) if not replace_priority_classes else ()),
        *_selectors(view),
        *_names_resolved(view),
        *_reachable(view),
    ]
    return sorted(dict.fromkeys(advice), key=lambda one: SEVERITIES.index(one.severity))


def _budgets(view: View) -> Iterator[Advice]:
    """Those that no drain gets by."""
    for budget in view.all("PodDisruptionBudget"):
        concerned = view.of_budget(budget)
        counted = [one for one in concerned if one.replicas is not None]
        if not counted:
            continue
        least, most = sum(one.replicas or 0 for one in counted), sum(one.most or 0 for one in counted)
        spec = budget["spec"]

        def lets_go(pods: int, spec: Object = spec) -> int:
            if spec.get("minAvailable") is not None:
                return pods - _share(spec["minAvailable"], pods)
            return min(_share(spec.get("maxUnavailable", 1), pods), pods)

        said = f"minAvailable {spec['minAvailable']}" if spec.get("minAvailable") is not None else f"maxUnavailable {spec.get('maxUnavailable')}"
        names = ", ".join(map(str, concerned))
        if most and lets_go(most) < 1:
            fix = "use max_unavailable 1" + (f", or min_available of at most {most - 1}" if most > 1 else ", or min_available 0, or more replicas")
            why = f"{said} of {most} pod{'s' if most > 1 else ''} ({names}) lets none go, so every drain of their nodes is blocked for ever"
            yield Advice("error", _service_of(concerned), view.setting(budget), why, fix)
        elif least and lets_go(least) < 1:
            why = f"{said}: as long as there are no more than {least} pods ({names}), no drain of their nodes gets by; there may be up to {most}"
            yield Advice("warning", _service_of(concerned), view.setting(budget), why, f"use max_unavailable 1, or hpa.min_replicas of at least {least + 1}")


def _two_budgets(view: View) -> Iterator[Advice]:
    said = set()
    for what, pod_labels, service in _candidates(view):
        names = sorted(view.setting(one) for one in view.all("PodDisruptionBudget") if selects((one.get("spec") or {}).get("selector"), pod_labels))
        if len(names) > 1 and tuple(names) not in said:
            said.add(tuple(names))
            why = f"{' and '.join(names)} both select the pods of {what}: Kubernetes answers every eviction of theirs with an error"
            yield Advice("error", service, names[0], why, "narrow one of the selectors, or remove one of the budgets")


def _candidates(view: View) -> list[tuple[str, Mapping[str, str], str]]:
    """(what, labels, service) of everything that is or makes a pod in the namespace."""
    found: list[tuple[str, Mapping[str, str], str]] = [(str(one), one.labels, one.service or one.name) for one in view.workloads]
    for pod in view.pods():
        if pod["metadata"].get("namespace") == view.namespace and not pod["metadata"].get("ownerReferences"):
            found.append((f"Pod {pod['metadata']['name']}", pod["metadata"].get("labels") or {}, ""))
    return found


def _autoscalers(view: View) -> Iterator[Advice]:
    targets: dict[tuple[str, str], str] = {}
    workloads = {(one.kind, one.name): one for one in view.workloads}
    for scaler in view.all("HorizontalPodAutoscaler"):
        key, setting = _target(scaler), view.setting(scaler)
        if key in targets:
            yield Advice(
                "error",
                workloads[key].service if key in workloads else "",
                setting,
                f"{targets[key]} scales the {key[0]} {key[1]}, too, and they would undo what the other does",
                "keep one of them",
            )
        targets[key] = setting
        workload = workloads.get(key)
        if workload is None:
            yield Advice("warning", "", setting, f"there is no {key[0]} {key[1]} in the namespace {view.namespace}", "correct its target, or remove it")
            continue
        service = workload.service or workload.name
        if workload.replicas == 0:
            yield Advice(
                "note", service, setting, f"the {workload} is scaled to 0, and Kubernetes does not scale it until somebody scales it up", "scale it to 1"
            )
        if not workload.told:
            continue
        requests, _limits = view.limit_defaults()
        for metric in (scaler["spec"].get("metrics") or []) if workload.containers else []:
            resource = str((metric.get("resource") or {}).get("name"))
            if metric["type"] != "Resource" or "averageUtilization" not in metric["resource"]["target"]:
                continue
            without = [one.get("name", "?") for one in workload.containers if _request(one, resource) is None and resource not in requests]
            if without:
                why = (
                    f"it scales by {resource} in percent of the request, and the container {', '.join(without)} of the {workload} has no request of {resource}"
                )
                yield Advice("error", service, setting, why, f"give each container requests.{resource}, or give {PREFIX}limits a default_request of it")


def _autoscaler_metrics(view: View) -> Iterator[Advice]:
    served = {one["metadata"]["name"].partition(".")[2] for one in view.all("APIService", everywhere=True)}
    if not served:
        return
    for scaler in view.all("HorizontalPodAutoscaler"):
        for kind, api in (("Resource", "metrics.k8s.io"), ("Pods", "custom.metrics.k8s.io")):
            metrics = [metric for metric in scaler["spec"].get("metrics") or [] if metric["type"] == kind]
            if metrics and api not in served:
                names = ", ".join(metric["resource"]["name"] if kind == "Resource" else metric["pods"]["metric"]["name"] for metric in metrics)
                why = f"nothing serves {api}, so {names} is unknown; until it is known the autoscaler takes no pods away"
                fix = "deploy metrics-server" if kind == "Resource" else "deploy an adapter that serves it, or leave the metric out until then"
                service = next((one.service for one in view.workloads if (one.kind, one.name) == _target(scaler)), "")
                yield Advice("warning", service, view.setting(scaler), why, fix)


def _devices(view: View) -> Iterator[Advice]:
    """More pods than GPUs, or slices of them."""
    for workload in view.workloads:
        resource, each = workload.gpus()
        if not each or not workload.replicas:
            continue
        service, least, most = workload.service or workload.name, workload.replicas, workload.most or 0
        setting = f"{PREFIX}services[{workload.service}]" if workload.service else str(workload)
        whole, free = view.room(workload, resource, each)
        if not view.all("Node", everywhere=True):
            continue
        if not whole:
            why = f"no node on which the {workload} may run offers {each} {resource} now"
            yield Advice("warning", service, setting, why, "plug the GPU in, or correct nodeSelector, tolerations, or the device plugin's slices")
        elif least > whole:
            why = f"{least} pods of the {workload} take {each} {resource} each, and the nodes on which they may run have devices for {whole}"
            yield Advice("error", service, f"{setting}.replicas", why, f"use at most {whole} replicas, or more slices of each GPU")
        elif most > whole:
            why = f"up to {most} pods of the {workload} take {each} {resource} each, and its nodes have devices for {whole}: the others stay Pending"
            yield Advice("warning", service, f"{setting}.hpa.max_replicas", why, f"use at most {whole}, or more slices of each GPU")
        elif most > free:
            why = f"up to {most} pods of the {workload} take {each} {resource} each, and others leave devices for {free}"
            yield Advice("warning", service, setting, why, "let other pods go, or give this service a higher priority_class than theirs")


def _apart(view: View) -> Iterator[Advice]:
    for workload in view.workloads:
        if not workload.apart or not workload.replicas or not view.all("Node", everywhere=True):
            continue
        service, nodes = workload.service or workload.name, len(view.nodes_for(workload))
        setting = f"{PREFIX}services[{workload.service}].affinity" if workload.service else str(workload)
        if workload.replicas > nodes:
            why = f"no node may have two of the {workload.replicas} pods of the {workload}, and they may run on {nodes} node{'s' if nodes != 1 else ''}"
            yield Advice("error", service, setting, why, f"use preferred-host, or at most {nodes} replicas")
        elif (workload.most or 0) > nodes:
            why = f"no node may have two of up to {workload.most} pods of the {workload}, and they may run on {nodes} node{'s' if nodes != 1 else ''}"
            yield Advice("warning", service, setting, why, f"use preferred-host, or hpa.max_replicas of at most {nodes}")
        elif workload.replicas == nodes and _surge(workload):
            why = f"each of the {nodes} nodes has one of the pods of the {workload}, and a new version begins with one more"
            yield Advice("error", service, setting, why, "use preferred-host, or maxSurge 0 with maxUnavailable 1 in its strategy")


def _surge(workload: Workload) -> int:
    """How many pods a new version begins with before one of the old may go; 0 if old ones go first."""
    if workload.kind != "Deployment" or not workload.body:
        return 0
    strategy = workload.body["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return 0
    rolling, replicas = strategy.get("rollingUpdate") or {}, workload.replicas or 0
    unavailable = _share(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    return 0 if unavailable else max(_share(rolling.get("maxSurge", "25%"), replicas), 1)


def _rollouts(view: View) -> Iterator[Advice]:
    """A new version that waits for a GPU which the old one holds."""
    for workload in view.workloads:
        resource, each = workload.gpus()
        if not each or not workload.replicas or not _surge(workload):
            continue
        whole, _free = view.room(workload, resource, each)
        if whole and workload.replicas <= whole < workload.replicas + 1:
            why = (
                f"a new version of the {workload} begins with one more pod, and its {workload.replicas} pod{'s' if workload.replicas > 1 else ''} hold every "
                f"{resource} that it could get: the new pod stays Pending and the old ones stay"
            )
            yield Advice("error", workload.service or workload.name, f"{workload} strategy", why, "use strategy Recreate, or maxSurge 0 with maxUnavailable 1")


def _volumes(view: View) -> Iterator[Advice]:
    claims = {one["metadata"]["name"]: one for one in view.all("PersistentVolumeClaim")}
    for workload in view.workloads:
        if workload.kind == "StatefulSet" or (workload.most or 0) < 2:
            continue
        for volume in workload.spec.get("volumes") or []:
            name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            modes = (claims.get(name) or {}).get("spec", {}).get("accessModes") or []
            service, setting = workload.service or workload.name, f"PersistentVolumeClaim {name}"
            if modes == ["ReadWriteOncePod"]:
                why = f"one pod at a time may use it, and the {workload} has up to {workload.most}"
                yield Advice("error", service, setting, why, "use ReadWriteMany, or one replica")
            elif modes == ["ReadWriteOnce"]:
                severity = "error" if workload.apart and (workload.replicas or 0) > 1 else "warning"
                how = ", but no node may have two of them" if workload.apart else ", or hang in ContainerCreating"
                why = f"it is ReadWriteOnce: up to {workload.most} pods of the {workload} have to run on the one node that has it{how}"
                yield Advice(severity, service, setting, why, "use ReadWriteMany, a StatefulSet with a volume for each pod, or one replica")


def _demand(workload: Workload, key: str, defaults: tuple[Mapping[str, Decimal], Mapping[str, Decimal]]) -> tuple[Decimal, list[str]]:
    """What one pod counts for in a quota, as far as that is known, and the containers that do not say what they have to."""
    if key in ("pods", "count/pods"):
        return Decimal(1), []
    part, dot, resource = key.partition(".")
    if not dot or part not in ("requests", "limits"):
        part, resource = "requests", key
    if not workload.told or (resource not in ("cpu", "memory", "ephemeral-storage") and "/" not in resource):
        return Decimal(0), []
    amount, silent = Decimal(0), []
    for container in workload.containers:
        own = _limit(container, resource) if part == "limits" else _request(container, resource)
        if own is None:
            own = defaults[part == "limits"].get(resource)
        if own is None and resource in ("cpu", "memory"):
            silent.append(str(container.get("name", "?")))
        amount += own or Decimal(0)
    return amount, silent


def _plain(number: Decimal) -> str:
    for suffix, factor in (("Gi", 2**30), ("Mi", 2**20)):
        if number >= factor and number % (factor // 1024) == 0:
            return f"{(number / factor).normalize():f}{suffix}"
    return f"{number.normalize():f}"


def _quotas(view: View) -> Iterator[Advice]:
    defaults = view.limit_defaults()
    for quota in view.all("ResourceQuota"):
        spec, setting = quota.get("spec") or {}, view.setting(quota)
        if spec.get("scopes") or spec.get("scopeSelector"):
            continue
        hard = spec.get("hard") or {}
        for key, value in hard.items():
            own = [one for workload in view.workloads for one in _quota_and_workload(workload, key, str(value), f"{setting}.hard.{key}", defaults)]
            yield from own
            together = sum(((_demand(one, key, defaults)[0] or Decimal(0)) * (one.replicas or 0) for one in view.workloads), Decimal(0))
            if together > quantity(value) and not any(one.severity == "error" for one in own):
                why = f"it allows {value}, and all workloads of the namespace together take {_plain(together)}: who comes last is refused"
                yield Advice("warning", "", f"{setting}.hard.{key}", why, f"allow at least {_plain(together)}, or use fewer replicas")
        counted = [key for key in hard if key.removeprefix("requests.").removeprefix("limits.") in ("cpu", "memory")]
        bare = [key for key in counted if key.rpartition(".")[2] not in defaults[key.startswith("limits.")]]
        if bare:
            why = f"it counts {', '.join(bare)}, and no LimitRange gives them to containers that do not say so: their pods are refused"
            yield Advice("note", "", f"{setting}.hard", why, f"give {PREFIX}limits a default and default_request, or see that every container says them")


def _quota_and_workload(
    workload: Workload, key: str, value: str, setting: str, defaults: tuple[Mapping[str, Decimal], Mapping[str, Decimal]]
) -> Iterator[Advice]:
    each, silent = _demand(workload, key, defaults)
    if not each and not silent:
        return
    service, hard, replicas, most = workload.service or workload.name, quantity(value), workload.replicas or 0, workload.most or 0
    if silent:
        what = key if "." in key else f"requests.{key}"
        why = f"it counts {key}, so every container has to say {what}; {', '.join(silent)} of the {workload} does not, and its pods are refused"
        part = "default" if key.startswith("limits.") else "default_request"
        yield Advice("error", service, setting, why, f"add it to the container's resources, or give {PREFIX}limits a {part} of it")
    elif replicas and each > hard:
        why = f"it allows {value}, and one pod of the {workload} takes {_plain(each)}: none can be made"
        yield Advice("error", service, setting, why, f"allow at least {_plain(each * replicas)}")
    elif each * replicas > hard:
        why = f"it allows {value}, and {replicas} pods of the {workload} take {_plain(each * replicas)}"
        yield Advice("error", service, setting, why, f"allow at least {_plain(each * replicas)}, or use {int(hard // each)} replicas")
    elif each * most > hard:
        why = f"it allows {value}, and up to {most} pods of the {workload} take {_plain(each * most)}: the others are refused"
        yield Advice("warning", service, setting, why, f"allow {_plain(each * most)}, or hpa.max_replicas of {int(hard // each)}")


def _priorities(view: View) -> Iterator[Advice]:
    known = {one["metadata"]["name"] for one in view.all("PriorityClass", everywhere=True)}
    known |= {"system-node-critical", "system-cluster-critical"}
    for workload in view.workloads:
        for name in sorted(workload.priority_classes - known):
            setting = f"{PREFIX}services[{workload.service}].priority_class" if workload.service else str(workload)
            why = f"the pods of the {workload} name the priority class {name}, which is not there: they are refused"
            yield Advice(
                "error", workload.service or workload.name, setting, why, f"add it to {PREFIX}priority_classes, or use one of {', '.join(sorted(known))}"
            )
    others = [one for kind in _WORKLOADS for one in view.all(kind, everywhere=True) if one["metadata"].get("namespace") != view.namespace]
    for body in others:
        used = str((((body.get("spec") or {}).get("template") or {}).get("spec") or {}).get("priorityClassName") or "")
        if used and used not in known and ("PriorityClass", "", used) in view.before:
            who = f"{body['kind']} {body['metadata'].get('namespace')}/{body['metadata']['name']}"
            why = f"{used} is no longer in it and would be removed, and the {who} names it: its next pods would be refused"
            yield Advice("error", "", f"{PREFIX}priority_classes", why, "keep the class, or let that workload name another one first")
    chosen = sorted(one["metadata"]["name"] for one in view.all("PriorityClass", everywhere=True) if one.get("globalDefault"))
    if len(chosen) > 1:
        why = f"{', '.join(chosen)} are all the default of the cluster, which can have one"
        yield Advice("error", "", f"{PREFIX}priority_classes", why, "set global_default for one of them")


def _fixed_priorities(view: View) -> Iterator[Advice]:
    for wanted in view.wanted:
        before = view.before.get(_key(wanted))
        if wanted["kind"] != "PriorityClass" or before is None:
            continue
        for field, option in (("value", "value"), ("preemptionPolicy", "preemption_policy")):
            old = before.get(field, "PreemptLowerPriority" if field == "preemptionPolicy" else 0)
            if old != wanted[field]:
                name = wanted["metadata"]["name"]
                why = f"it is {old} in the cluster and {wanted[field]} here, and Kubernetes lets nobody change it; pods that run keep their priority"
                fix = f"keep {old}, use another name, or set {PREFIX}replace_priority_classes to true, which deletes the class and makes it anew"
                yield Advice("error", "", f"{PREFIX}priority_classes[{name}].{option}", why, fix)


def _selectors(view: View) -> Iterator[Advice]:
    workloads = {(one.kind, one.name): one for one in view.workloads if one.body}
    candidates = _candidates(view)
    for service in view.services:
        workload = workloads.get((service["kind"], service["workload"]))
        setting = f"{PREFIX}services[{service['name']}].selector"
        wanted = ", ".join(f"{key}={value}" for key, value in service["selector"].items())
        if workload is None:
            why = f"there is no {service['kind']} {service['workload']} in the namespace {view.namespace} yet"
            yield Advice("note", service["name"], f"{PREFIX}services[{service['name']}]", why, "nothing, if it comes later; else correct workload or kind")
        elif not selects({"matchLabels": service["selector"]}, workload.labels):
            has = ", ".join(f"{key}={value}" for key, value in workload.labels.items()) or "no labels"
            why = f"it is {wanted}, and the pods of the {workload} have {has}: budget and network policy concern none of them"
            yield Advice("error", service["name"], setting, why, "use labels that the pods have")
    wanted_keys = {_key(one) for one in view.wanted}
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for obj in view.all(kind):
            chosen = (obj.get("spec") or {}).get(field)
            if chosen and _key(obj) not in wanted_keys and not any(selects(chosen, found) for _what, found, _service in candidates):
                yield Advice("warning", "", view.setting(obj), "its selector matches no workload and no pod of the namespace", "correct or remove it")


def _port_53(rules: Iterable[Object], protocol: str) -> bool:
    for rule in rules:
        if rule.get("to") and not any("namespaceSelector" in peer or "ipBlock" in peer for peer in rule["to"]):
            # Pods of the namespace itself
            continue
        if not rule.get("ports"):
            return True
        for port in rule["ports"]:
            number = port.get("port")
            if (port.get("protocol") or "TCP") != protocol:
                continue
            if (
                number is None
                or (isinstance(number, str) and "dns" in number)
                or (isinstance(number, int) and number <= 53 <= int(port.get("endPort") or number))
            ):
                return True
    return False


def _policies_of(view: View, pod_labels: Mapping[str, str], direction: str) -> list[Object]:
    found = []
    for policy in view.all("NetworkPolicy"):
        spec = policy.get("spec") or {}
        types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
        if direction in types and selects(spec.get("podSelector") or {}, pod_labels):
            found.append(policy)
    return found


def _names_resolved(view: View) -> Iterator[Advice]:
    for what, pod_labels, service in _candidates(view):
        policies = _policies_of(view, pod_labels, "Egress")
        rules = [rule for policy in policies for rule in policy["spec"].get("egress") or []]
        if not policies or (_port_53(rules, "UDP") and _port_53(rules, "TCP")):
            continue
        names = ", ".join(dict.fromkeys(view.setting(policy) for policy in policies))
        fix = f"set {PREFIX}network.dns to true, or allow UDP and TCP port 53 to the cluster's DNS"
        if _port_53(rules, "UDP"):
            yield Advice("warning", service, names, f"the pods of {what} may ask the DNS by UDP only, and long answers come by TCP", fix)
        elif rules:
            yield Advice("error", service, names, f"the pods of {what} may reach others, but not the DNS, so they find nobody by name", fix)
        else:
            yield Advice("warning", service, names, f"the pods of {what} may reach nobody, not even the DNS", fix)


def _reachable(view: View) -> Iterator[Advice]:
    for what, pod_labels, service in _candidates(view):
        policies = _policies_of(view, pod_labels, "Ingress")
        if policies and not any(policy["spec"].get("ingress") for policy in policies):
            names = ", ".join(dict.fromkeys(view.setting(policy) for policy in policies))
            why = f"nobody may reach the pods of {what}"
            yield Advice("note", service, names, why, f"nothing, if that is meant; else add network.from to its row in {PREFIX}services")
