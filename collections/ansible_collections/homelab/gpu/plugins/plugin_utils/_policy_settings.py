# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# The settings of the role inference_policies: completed by what is not said, and judged before anything is done. Pure.

from __future__ import annotations

import ipaddress
import re
import typing as t
from collections.abc import Iterable, Iterator, Mapping

from ansible_collections.homelab.gpu.plugins.module_utils._node_settings import label_problems
from ansible_collections.homelab.gpu.plugins.module_utils._options import suggestion, type_problems
from ansible_collections.homelab.gpu.plugins.module_utils._quantity import QuantityError, quantity
from ansible_collections.homelab.gpu.plugins.plugin_utils._pod_affinity import PRESETS

__all__ = ["DEFAULTS", "PREFIX", "Problem", "completed", "plain", "problems"]

Object = dict[str, t.Any]
Problem = tuple[str, str]

PREFIX = "inference_policies_"

# Of the parts of a setting that are themselves dictionaries; a test compares them with the argument specs
DEFAULTS: dict[str, Object] = {
    "priority_classes": {"description": "", "global_default": False, "preemption_policy": "PreemptLowerPriority"},
    "quota": {"name": "inference-quota", "hard": {}},
    "limits": {"name": "inference-limits", "default": {}, "default_request": {}, "min": {}, "max": {}},
    "network": {"default_deny": [], "dns": True, "dns_namespace": "kube-system", "dns_labels": {"k8s-app": "kube-dns"}, "node_cidrs": []},
    "services": {"kind": "Deployment", "affinity": "none", "priority_class": "", "resources": {}},
    "services.pdb": {"enabled": True, "unhealthy_pod_eviction_policy": "AlwaysAllow"},
    "services.hpa": {"enabled": True, "min_replicas": 1, "pods_metrics": []},
    "services.network": {"enabled": True, "ports": [], "from": []},
}
# Where neither number is given: one pod at a time leaves, and one that is not ready is in nobody's way
_SAFE_MAX_UNAVAILABLE = 1

_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_METRIC = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PERCENT = re.compile(r"(?P<number>\d{1,3})%")
_HIGHEST_PRIORITY = 1_000_000_000
_LONGEST_PERIOD = 1800
_LONGEST_WINDOW = 3600

_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_COUNTED = (
    "pods",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "configmaps",
    "secrets",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
)
_QUOTA_KEYS = (*_COUNTED, *_COMPUTE, *(f"{part}.{name}" for part in ("requests", "limits") for name in _COMPUTE), "requests.storage")


def plain(value: t.Any) -> t.Any:
    """Without what Ansible puts between: its dictionaries and lists render at each access, and have no sets of keys."""
    if isinstance(value, Mapping):
        return {key: plain(value[key]) for key in value}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _number(value: t.Any) -> t.Any:
    """What --extra-vars and surveys give as text."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,18}", value.strip()) else value


def _truth(value: t.Any) -> t.Any:
    return (
        {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}.get(value.strip().lower(), value)
        if isinstance(value, str)
        else value
    )


def _with(defaults: str, given: t.Any) -> Object:
    """The given parts over the defaults; a null is as good as nothing."""
    return {**DEFAULTS[defaults], **{key: value for key, value in (given or {}).items() if value is not None}}


def _rules(given: t.Any) -> Object | None:
    if not given:
        return None
    policies = [{**policy, "value": _number(policy["value"]), "period_seconds": _number(policy["period_seconds"])} for policy in given.get("policies") or []]
    return {**given, "policies": policies, "stabilization_window_seconds": _number(given.get("stabilization_window_seconds"))}


def _service(given: Object) -> Object:
    service = _with("services", given)
    name = str(service["name"])
    service["workload"] = service.get("workload") or name
    service["selector"] = service.get("selector") if service.get("selector") is not None else {"app": name}
    service["replicas"] = _number(service.get("replicas"))
    pdb = _with("services.pdb", given.get("pdb"))
    pdb["name"] = pdb.get("name") or f"{name}-pdb"
    for key in ("min_available", "max_unavailable"):
        pdb[key] = _number(pdb.get(key))
    if pdb["min_available"] is None and pdb["max_unavailable"] is None:
        pdb["max_unavailable"] = _SAFE_MAX_UNAVAILABLE
    service["pdb"] = pdb if _truth(pdb["enabled"]) else None
    service["hpa"] = None
    if given.get("hpa"):
        hpa = _with("services.hpa", given["hpa"])
        hpa["name"] = hpa.get("name") or f"{name}-hpa"
        for key in ("min_replicas", "max_replicas", "cpu_percent", "memory_percent"):
            hpa[key] = _number(hpa.get(key))
        for key in ("scale_up", "scale_down"):
            hpa[key] = _rules(hpa.get(key))
        service["hpa"] = hpa if _truth(hpa["enabled"]) else None
    service["network"] = None
    if given.get("network") is not None:
        network = _with("services.network", given["network"])
        network["ports"] = [_number(port) for port in network["ports"]]
        network["metrics_port"] = _number(network.get("metrics_port"))
        network["to"] = network.get("to")
        service["network"] = network if _truth(network["enabled"]) else None
    return service


def completed(settings: Object) -> Object:
    """The settings with everything that they leave out; numbers as numbers. They have to have the right types."""
    classes = [_with("priority_classes", given) for given in settings.get("priority_classes") or []]
    for one in classes:
        one["value"] = _number(one["value"])
        one["global_default"] = _truth(one["global_default"])
    network = _with("network", settings.get("network"))
    network["dns"] = _truth(network["dns"])
    return {
        "namespace": settings["namespace"],
        "priority_classes": classes,
        "quota": _with("quota", settings.get("quota")),
        "limits": _with("limits", settings.get("limits")),
        "network": network,
        "services": [_service(given) for given in settings.get("services") or []],
    }


def problems(settings: Object, spec: Mapping[str, Mapping[str, t.Any]]) -> list[Problem]:
    """What cannot be right, as (what, fix) pairs. C(spec) are the role's options."""
    found = [
        problem
        for name, option in spec.items()
        if name.removeprefix(PREFIX) in settings
        for problem in type_problems(name, settings[name.removeprefix(PREFIX)], option)
    ]
    if found:
        # With wrong types the rest could not be read
        return found
    whole = completed(settings)
    return [
        *_namespace(whole["namespace"]),
        *_priority_classes(whole["priority_classes"]),
        *_quota(whole["quota"]),
        *_limits(whole["limits"]),
        *_network(whole["network"]),
        *_services(whole["services"], settings.get("services") or []),
        *_twins(whole),
    ]


def _name_problem(option: str, name: t.Any, pattern: re.Pattern[str] = _DNS_LABEL) -> Iterator[Problem]:
    if not isinstance(name, str) or not pattern.fullmatch(name) or len(name) > 253:
        what = "63 lower-case letters, digits and '-'" if pattern is _DNS_LABEL else "lower-case letters, digits, '-' and '.'"
        yield f"{option} is {name!r}", f"use at most {what}, starting and ending with a letter or digit"


def _namespace(name: t.Any) -> Iterator[Problem]:
    yield from _name_problem(f"{PREFIX}namespace", name)
    if name in ("kube-system", "kube-public", "kube-node-lease"):
        yield f"{PREFIX}namespace is {name}, which belongs to the cluster", "use a namespace of the services, for example ml"


def _repeated(names: Iterable[t.Any]) -> list[t.Any]:
    found = list(names)
    return sorted({name for name in found if found.count(name) > 1})


def _priority_classes(classes: list[Object]) -> Iterator[Problem]:
    for one in classes:
        option = f"{PREFIX}priority_classes[{one['name']}]"
        yield from _name_problem(f"{option}.name", one["name"], _DNS_NAME)
        if str(one["name"]).startswith("system-"):
            yield f"{option}.name begins with system-, which belongs to Kubernetes", "choose another name"
        if one["value"] > _HIGHEST_PRIORITY:
            yield f"{option}.value is {one['value']}", f"use at most {_HIGHEST_PRIORITY}; more belongs to Kubernetes' own classes"
        if one["value"] < -(2**31):
            yield f"{option}.value is {one['value']}", f"use at least {-(2**31)}"
    for name in _repeated(one["name"] for one in classes):
        yield f"{PREFIX}priority_classes has {name} twice", "keep one of the two"
    chosen = [one["name"] for one in classes if one["global_default"]]
    if len(chosen) > 1:
        yield f"{PREFIX}priority_classes: global_default is true for {', '.join(chosen)}", "a cluster has one default: set it for one of them"


def _amounts(option: str, amounts: Mapping[str, t.Any]) -> Iterator[Problem]:
    for key, value in amounts.items():
        try:
            number = quantity(value)
        except QuantityError:
            yield f"{option}.{key} is {value!r}", "write a quantity such as 500m, 4, or 32Gi"
            continue
        if isinstance(value, bool) or number < 0:
            yield f"{option}.{key} is {value!r}", "use a quantity of at least 0"


def _quota(quota: Object) -> Iterator[Problem]:
    option = f"{PREFIX}quota"
    yield from _name_problem(f"{option}.name", quota["name"], _DNS_NAME)
    yield from _amounts(f"{option}.hard", quota["hard"])
    for key, value in quota["hard"].items():
        part, _dot, resource = str(key).partition(".")
        extended = "/" in resource and part in ("requests", "limits")
        if extended and part == "limits":
            yield f"{option}.hard has {key}, and Kubernetes counts {resource} by requests only", f"write requests.{resource}"
        elif extended and not re.fullmatch(r"\d+", str(value).strip()):
            yield f"{option}.hard.{key} is {value!r}", "use a whole number: devices are not divided"
        elif not extended and key not in _QUOTA_KEYS and not str(key).startswith("count/") and ".storageclass.storage.k8s.io/" not in str(key):
            hint = f"requests.{key}" if "/" in str(key) else ""
            yield f"{option}.hard has the unknown key {key}", f"write {hint}" if hint else f"remove it{suggestion(str(key), _QUOTA_KEYS)}"


def _limits(limits: Object) -> Iterator[Problem]:
    option = f"{PREFIX}limits"
    yield from _name_problem(f"{option}.name", limits["name"], _DNS_NAME)
    wrong = [problem for part in ("default", "default_request", "min", "max") for problem in _amounts(f"{option}.{part}", limits[part])]
    yield from wrong
    if wrong:
        return
    order = ("min", "default_request", "default", "max")
    for index, low in enumerate(order):
        for high in order[index + 1 :]:
            for key in limits[low].keys() & limits[high].keys():
                if quantity(limits[low][key]) > quantity(limits[high][key]):
                    yield (
                        f"{option}.{low}.{key} is {limits[low][key]}, more than {high}.{key}, which is {limits[high][key]}",
                        f"keep to min <= default_request <= default <= max: lower {low} or raise {high}",
                    )


def _cidr(option: str, text: t.Any) -> Iterator[Problem]:
    try:
        ipaddress.ip_network(text)
    except (ValueError, TypeError):
        yield f"{option} is {text!r}", "write a network with its length, and no bits behind it, for example 192.0.2.0/24"


def _labels(option: str, labels: Mapping[t.Any, t.Any]) -> Iterator[Problem]:
    for what, fix in label_problems(labels):
        yield f"{option}: {what}", fix


def _network(network: Object) -> Iterator[Problem]:
    option = f"{PREFIX}network"
    for part in network["default_deny"]:
        if part not in ("ingress", "egress"):
            yield f"{option}.default_deny has {part!r}", f"use ingress, egress or both{suggestion(str(part), ('ingress', 'egress'))}"
    yield from _name_problem(f"{option}.dns_namespace", network["dns_namespace"])
    yield from _labels(f"{option}.dns_labels", network["dns_labels"])
    for cidr in network["node_cidrs"]:
        yield from _cidr(f"{option}.node_cidrs", cidr)
    prometheus = network.get("prometheus") or {}
    if prometheus:
        yield from _name_problem(f"{option}.prometheus.namespace", prometheus["namespace"])
        yield from _labels(f"{option}.prometheus.labels", prometheus.get("labels") or {})


def _services(services: list[Object], given: list[Object]) -> Iterator[Problem]:
    names = [service["name"] for service in services]
    for name in _repeated(names):
        yield f"{PREFIX}services has {name} twice", "keep one row for each service"
    for service, row in zip(services, given):
        option = f"{PREFIX}services[{service['name']}]"
        yield from _name_problem(f"{option}.name", service["name"])
        if not service["selector"]:
            yield f"{option}.selector is empty, and would take every pod of the namespace", f"leave it out for app: {service['name']}, or give labels"
        yield from _labels(f"{option}.selector", service["selector"])
        if service["affinity"] not in PRESETS:
            yield f"{option}.affinity is {service['affinity']!r}", f"use one of {', '.join(PRESETS)}{suggestion(str(service['affinity']), PRESETS)}"
        if service["replicas"] is not None and service["replicas"] < 0:
            yield f"{option}.replicas is {service['replicas']}", "use a number of at least 0"
        for part in ("requests", "limits"):
            yield from _amounts(f"{option}.resources.{part}", service["resources"].get(part) or {})
        if service["pdb"]:
            yield from _pdb(f"{option}.pdb", service["pdb"], row.get("pdb") or {})
        if service["hpa"]:
            yield from _hpa(f"{option}.hpa", service["hpa"])
        if service["network"]:
            yield from _service_network(f"{option}.network", service["network"], names)


def _pdb(option: str, pdb: Object, given: Object) -> Iterator[Problem]:
    yield from _name_problem(f"{option}.name", pdb["name"], _DNS_NAME)
    if given.get("min_available") is not None and given.get("max_unavailable") is not None:
        yield f"{option} has min_available and max_unavailable", "Kubernetes takes one of the two: leave the other out"
    for key in ("min_available", "max_unavailable"):
        value = pdb[key]
        if value is None:
            continue
        percent = _PERCENT.fullmatch(value) if isinstance(value, str) else None
        if isinstance(value, bool) or not (percent or isinstance(value, int)):
            yield f"{option}.{key} is {value!r}", "write a number of pods, such as 1, or a share, such as 50%"
        elif percent and int(percent["number"]) > 100:
            yield f"{option}.{key} is {value}", "use at most 100%"
        elif isinstance(value, int) and value < 0:
            yield f"{option}.{key} is {value}", "use a number of at least 0"


def _hpa(option: str, hpa: Object) -> Iterator[Problem]:
    yield from _name_problem(f"{option}.name", hpa["name"], _DNS_NAME)
    low, high = hpa["min_replicas"], hpa["max_replicas"]
    if high is None:
        yield f"{option} has no max_replicas", "add max_replicas; it should not exceed the slices that the pods can get"
    elif low < 1:
        yield f"{option}.min_replicas is {low}", "use at least 1"
    elif low > high:
        yield f"{option}.min_replicas is {low}, more than max_replicas, which is {high}", "raise max_replicas or lower min_replicas"
    for key in ("cpu_percent", "memory_percent"):
        if hpa[key] is not None and hpa[key] < 1:
            yield f"{option}.{key} is {hpa[key]}", "use a share of the request of at least 1, for example 70"
    if not any(hpa.get(key) for key in ("cpu_percent", "memory_percent", "queue_depth", "vllm_waiting", "pods_metrics")):
        yield f"{option} has no metric", "add cpu_percent, memory_percent, queue_depth, vllm_waiting or pods_metrics, or set enabled to false"
    metrics = [(f"pods_metrics[{metric['name']}].average_value", metric["average_value"]) for metric in hpa["pods_metrics"]]
    metrics += [(key, hpa[key]) for key in ("queue_depth", "vllm_waiting") if hpa.get(key) is not None]
    for key, value in metrics:
        try:
            too_little = isinstance(value, bool) or quantity(value) <= 0
        except QuantityError:
            too_little = True
        if too_little:
            yield f"{option}.{key} is {value!r}", "write a quantity above 0, for example 10 or 500m"
    for metric in hpa["pods_metrics"]:
        if not _METRIC.fullmatch(str(metric["name"])):
            fix = (
                f"write {str(metric['name']).replace(':', '_')}, as the adapter has to call it" if ":" in str(metric["name"]) else "use letters, digits and '_'"
            )
            yield f"{option}.pods_metrics has the name {metric['name']!r}, which the metrics API cannot have", fix
    for key in ("scale_up", "scale_down"):
        if hpa[key]:
            yield from _scaling(f"{option}.{key}", hpa[key])


def _scaling(option: str, rules: Object) -> Iterator[Problem]:
    window = rules["stabilization_window_seconds"]
    if window is not None and not 0 <= window <= _LONGEST_WINDOW:
        yield f"{option}.stabilization_window_seconds is {window}", f"use 0 to {_LONGEST_WINDOW}"
    if not rules["policies"] and rules.get("select_policy") != "Disabled":
        yield f"{option} has no policies", "add one with type, value and period_seconds, or set select_policy to Disabled"
    for policy in rules["policies"]:
        if policy["value"] < 1:
            yield f"{option}.policies: value is {policy['value']}", "use at least 1; select_policy Disabled forbids scaling"
        if not 1 <= policy["period_seconds"] <= _LONGEST_PERIOD:
            yield f"{option}.policies: period_seconds is {policy['period_seconds']}", f"use 1 to {_LONGEST_PERIOD}"


def _service_network(option: str, network: Object, names: list[str]) -> Iterator[Problem]:
    yield from _ports(f"{option}.ports", network["ports"])
    if network["metrics_port"] is not None:
        yield from _ports(f"{option}.metrics_port", [network["metrics_port"]])
    for side in ("from", "to"):
        for peer in network[side] or []:
            where = f"{option}.{side}"
            kinds = [key for key in ("service", "namespace", "labels", "cidr", "anyone") if peer.get(key)]
            if not kinds or (len(kinds) > 1 and set(kinds) != {"namespace", "labels"}):
                yield f"{where} has {peer!r}", "name one of service, namespace (with labels or without), labels, cidr, or anyone: true"
                continue
            if "service" in kinds and peer["service"] not in names:
                near = suggestion(str(peer["service"]), names)
                yield f"{where} names the service {peer['service']!r}, which has no row in {PREFIX}services", f"add a row for it, or correct the name{near}"
            if "namespace" in kinds:
                yield from _name_problem(f"{where}.namespace", peer["namespace"])
            yield from _labels(f"{where}.labels", peer.get("labels") or {})
            if "cidr" in kinds:
                yield from _cidr(f"{where}.cidr", peer["cidr"])
            yield from _exceptions(where, peer)
            if peer.get("ports") and "service" in kinds:
                yield f"{where} has ports for the service {peer['service']}", "leave them out: they are those of its own row"
            yield from _ports(f"{where}.ports", [_number(port) for port in peer.get("ports") or []])


def _exceptions(option: str, peer: Object) -> Iterator[Problem]:
    exceptions = peer.get("except") or []
    if exceptions and not peer.get("cidr"):
        yield f"{option} has except without cidr", "give the network from which they are excepted"
        return
    for one in exceptions:
        wrong = list(_cidr(f"{option}.except", one))
        yield from wrong
        if wrong or list(_cidr("", peer["cidr"])):
            continue
        inner, outer = ipaddress.ip_network(one), ipaddress.ip_network(peer["cidr"])
        if inner.version != outer.version or not inner.subnet_of(outer) or inner == outer:  # type: ignore[arg-type]
            yield f"{option}.except has {one}, which is no part of {peer['cidr']}", "name smaller networks within cidr"


def _ports(option: str, ports: Iterable[t.Any]) -> Iterator[Problem]:
    for port in ports:
        if not isinstance(port, int) or not 1 <= port <= 65535:
            yield f"{option} has {port!r}", "use the containers' port numbers, 1 to 65535"


def _twins(whole: Object) -> Iterator[Problem]:
    """Objects of one name: the second would replace the first."""
    for part, what in (("pdb", "PodDisruptionBudget"), ("hpa", "HorizontalPodAutoscaler")):
        rows = [service for service in whole["services"] if service[part]]
        for name in _repeated(service[part]["name"] for service in rows):
            both = ", ".join(service["name"] for service in rows if service[part]["name"] == name)
            yield f"{PREFIX}services: the {what} {name} is that of {both}", f"give each its own {part}.name"
    targets = [(service["kind"], service["workload"]) for service in whole["services"]]
    for kind, name in _repeated(targets):
        both = ", ".join(service["name"] for service in whole["services"] if (service["kind"], service["workload"]) == (kind, name))
        yield f"{PREFIX}services: {both} have the same workload, the {kind} {name}", "keep one row for each workload, or correct workload"
    for service in whole["services"]:
        if service["network"] and service["name"] in ("default-deny", "allow-dns"):
            yield f"{PREFIX}services has the name {service['name']}, which the namespace's own NetworkPolicy has", "rename the service's row"
