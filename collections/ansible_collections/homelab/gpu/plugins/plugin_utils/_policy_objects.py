# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# From the settings of the role inference_policies to the objects that hold them. Pure.

from __future__ import annotations

import typing as t
from collections.abc import Iterator

from ansible_collections.homelab.gpu.plugins.plugin_utils._policy_settings import completed

__all__ = ["PRUNED_KINDS", "QUEUE_METRICS", "labels", "objects", "selector"]

Object = dict[str, t.Any]

PRUNED_KINDS = (
    "PriorityClass",
    "ResourceQuota",
    "LimitRange",
    "networking.k8s.io/v1/NetworkPolicy",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
)
# How the adapter has to call them: the metrics API has no colons
QUEUE_METRICS = {"queue_depth": "inference_queue_depth", "vllm_waiting": "vllm_num_requests_waiting"}

_SHARED = {"app.kubernetes.io/part-of": "homelab-gpu", "app.kubernetes.io/managed-by": "homelab.gpu"}
_DNS_PORTS = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]
_NAMESPACE_NAME = "kubernetes.io/metadata.name"


def labels(namespace: str) -> dict[str, str]:
    """Of everything that is made for this namespace, also of what lies in none."""
    return {"app.kubernetes.io/name": "inference-policies", "app.kubernetes.io/instance": namespace, "app.kubernetes.io/component": "policies", **_SHARED}


def selector(namespace: str) -> str:
    return ",".join(f"{key}={value}" for key, value in labels(namespace).items())


def objects(settings: Object) -> list[Object]:
    """All of them, the Namespace first. The settings have to be free of problems."""
    whole = completed(settings)
    namespace = whole["namespace"]
    return [
        # Others make it, too, so nothing is said of it but that it is there
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        *(_priority_class(one, namespace) for one in whole["priority_classes"]),
        *_quota(whole["quota"], namespace),
        *_limits(whole["limits"], namespace),
        *_network_policies(whole),
        *(_pdb(service, namespace) for service in whole["services"] if service["pdb"]),
        *(_hpa(service, namespace) for service in whole["services"] if service["hpa"]),
    ]


def _object(api_version: str, kind: str, name: str, namespace: str, **content: t.Any) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace, "labels": labels(namespace)}, **content}


def _priority_class(one: Object, namespace: str) -> Object:
    found = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": one["name"], "labels": labels(namespace)},
        "value": one["value"],
        "globalDefault": one["global_default"],
        "preemptionPolicy": one["preemption_policy"],
    }
    return {**found, "description": one["description"]} if one["description"] else found


def _texts(amounts: Object) -> dict[str, str]:
    return {key: str(value) for key, value in amounts.items()}


def _quota(quota: Object, namespace: str) -> Iterator[Object]:
    if quota["hard"]:
        yield _object("v1", "ResourceQuota", quota["name"], namespace, spec={"hard": _texts(quota["hard"])})


def _limits(limits: Object, namespace: str) -> Iterator[Object]:
    keys = {"default": "default", "default_request": "defaultRequest", "min": "min", "max": "max"}
    parts = {name: _texts(limits[key]) for key, name in keys.items() if limits[key]}
    if parts:
        yield _object("v1", "LimitRange", limits["name"], namespace, spec={"limits": [{"type": "Container", **parts}]})


def _pdb(service: Object, namespace: str) -> Object:
    pdb = service["pdb"]
    numbers = {"minAvailable": pdb["min_available"], "maxUnavailable": pdb["max_unavailable"]}
    spec = {
        **{key: value for key, value in numbers.items() if value is not None},
        "unhealthyPodEvictionPolicy": pdb["unhealthy_pod_eviction_policy"],
        "selector": {"matchLabels": service["selector"]},
    }
    return _object("policy/v1", "PodDisruptionBudget", pdb["name"], namespace, spec=spec)


def _hpa(service: Object, namespace: str) -> Object:
    hpa = service["hpa"]
    spec: Object = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": service["kind"], "name": service["workload"]},
        "minReplicas": hpa["min_replicas"],
        "maxReplicas": hpa["max_replicas"],
        "metrics": list(_metrics(hpa)),
    }
    behavior = {name: _scaling(hpa[key]) for key, name in (("scale_up", "scaleUp"), ("scale_down", "scaleDown")) if hpa[key]}
    if behavior:
        spec["behavior"] = behavior
    return _object("autoscaling/v2", "HorizontalPodAutoscaler", hpa["name"], namespace, spec=spec)


def _metrics(hpa: Object) -> Iterator[Object]:
    for name in ("cpu", "memory"):
        if hpa[f"{name}_percent"]:
            yield {"type": "Resource", "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": hpa[f"{name}_percent"]}}}
    queues = [{"name": metric, "average_value": hpa[key]} for key, metric in QUEUE_METRICS.items() if hpa.get(key) is not None]
    for metric in [*queues, *hpa["pods_metrics"]]:
        identity = {"name": metric["name"], **({"selector": {"matchLabels": metric["labels"]}} if metric.get("labels") else {})}
        yield {"type": "Pods", "pods": {"metric": identity, "target": {"type": "AverageValue", "averageValue": str(metric["average_value"])}}}


def _scaling(rules: Object) -> Object:
    found: Object = {}
    if rules["stabilization_window_seconds"] is not None:
        found["stabilizationWindowSeconds"] = rules["stabilization_window_seconds"]
    if rules.get("select_policy"):
        found["selectPolicy"] = rules["select_policy"]
    if rules["policies"]:
        found["policies"] = [{"type": one["type"], "value": one["value"], "periodSeconds": one["period_seconds"]} for one in rules["policies"]]
    return found


# Who may speak to whom. A row's `from` and another's `to` are the same thing said from both ends, so each opens both.


def _network_policies(whole: Object) -> Iterator[Object]:
    network, namespace = whole["network"], whole["namespace"]
    closed = {part: part in network["default_deny"] for part in ("ingress", "egress")}
    if any(closed.values()):
        types = [part.capitalize() for part, is_closed in closed.items() if is_closed]
        yield _object("networking.k8s.io/v1", "NetworkPolicy", "default-deny", namespace, spec={"podSelector": {}, "policyTypes": types})
    if closed["egress"] and network["dns"]:
        spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [_dns(network)]}
        yield _object("networking.k8s.io/v1", "NetworkPolicy", "allow-dns", namespace, spec=spec)
    edges = _edges(whole["services"])
    for service in whole["services"]:
        rules: Object = {}
        ingress = list(_ingress(service, whole, edges))
        # Of a service that anybody may reach, nothing is said: a policy would close it to all others
        if service["network"] or (closed["ingress"] and ingress):
            rules["ingress"] = ingress
        restricted = (service["network"] or {}).get("to") is not None
        egress = list(_egress(service, whole, edges))
        if restricted or (closed["egress"] and egress):
            # What allow-dns says for all pods need not be said again
            rules["egress"] = [*egress, *([_dns(network)] if network["dns"] and not closed["egress"] else [])]
        if rules:
            spec = {"podSelector": {"matchLabels": service["selector"]}, "policyTypes": [part.capitalize() for part in rules], **rules}
            yield _object("networking.k8s.io/v1", "NetworkPolicy", service["name"], namespace, spec=spec)


def _dns(network: Object) -> Object:
    peer = {"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: network["dns_namespace"]}}, "podSelector": {"matchLabels": network["dns_labels"]}}
    return {"to": [peer], "ports": _DNS_PORTS}


def _edges(services: list[Object]) -> list[tuple[str, str]]:
    """(client, server), each once."""
    found: dict[tuple[str, str], None] = {}
    for service in services:
        network = service["network"] or {}
        found.update(dict.fromkeys((peer["service"], service["name"]) for peer in network.get("from") or [] if peer.get("service")))
        found.update(dict.fromkeys((service["name"], peer["service"]) for peer in network.get("to") or [] if peer.get("service")))
    return list(found)


def _tcp(ports: t.Iterable[t.Any]) -> Object:
    found = [{"protocol": "TCP", "port": int(port)} for port in ports]
    return {"ports": found} if found else {}


def _outsider(peer: Object) -> Object:
    """Somebody who has no row."""
    if peer.get("cidr"):
        return {"ipBlock": {"cidr": peer["cidr"], **({"except": peer["except"]} if peer.get("except") else {})}}
    found: Object = {}
    if peer.get("namespace"):
        found["namespaceSelector"] = {"matchLabels": {_NAMESPACE_NAME: peer["namespace"]}}
    if peer.get("labels"):
        found["podSelector"] = {"matchLabels": peer["labels"]}
    return found


def _ingress(service: Object, whole: Object, edges: list[tuple[str, str]]) -> Iterator[Object]:
    selectors = {one["name"]: one["selector"] for one in whole["services"]}
    network = service["network"] or {"ports": [], "from": [], "metrics_port": None}
    outsiders = [peer for peer in network["from"] if not peer.get("service")]
    everybody = [peer for peer in outsiders if peer.get("anyone")]
    peers = [{"podSelector": {"matchLabels": selectors[client]}} for client, server in edges if server == service["name"]]
    own = [_outsider(peer) for peer in outsiders if not peer.get("ports") and not peer.get("anyone")]
    if any(not peer.get("ports") for peer in everybody):
        yield _tcp(network["ports"])
    elif peers or own:
        yield {"from": [*peers, *own], **_tcp(network["ports"])}
    for peer in outsiders:
        if peer.get("ports"):
            yield {**({} if peer.get("anyone") else {"from": [_outsider(peer)]}), **_tcp(peer["ports"])}
    if not service["network"]:
        return
    prometheus = whole["network"].get("prometheus")
    if prometheus and network["metrics_port"]:
        yield {"from": [_outsider(prometheus)], **_tcp([network["metrics_port"]])}
    nodes = [{"ipBlock": {"cidr": cidr}} for cidr in whole["network"]["node_cidrs"]]
    if nodes:
        yield {"from": nodes, **_tcp(dict.fromkeys([*network["ports"], *([network["metrics_port"]] if network["metrics_port"] else [])]))}


def _egress(service: Object, whole: Object, edges: list[tuple[str, str]]) -> Iterator[Object]:
    rows = {one["name"]: one for one in whole["services"]}
    for client, server in edges:
        if client == service["name"]:
            ports = (rows[server]["network"] or {}).get("ports") or []
            yield {"to": [{"podSelector": {"matchLabels": rows[server]["selector"]}}], **_tcp(ports)}
    for peer in (service["network"] or {}).get("to") or []:
        if not peer.get("service"):
            yield {**({} if peer.get("anyone") else {"to": [_outsider(peer)]}), **_tcp(peer.get("ports") or [])}
