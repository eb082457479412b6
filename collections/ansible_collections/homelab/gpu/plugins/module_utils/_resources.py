# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.

from __future__ import annotations

import dataclasses
import typing as t
from urllib.parse import quote

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError

__all__ = ["BUILTIN", "Resource", "builtin", "check_kind", "describe"]


@dataclasses.dataclass(frozen=True)
class Resource:
    """Where objects of one kind live in the API."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def prefix(self) -> str:
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        parts = [self.prefix]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{quote(namespace, safe='')}")
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=":"))
            if subresource:
                parts.append(subresource)
        return "/".join(parts)


def _table() -> dict[str, Resource]:
    served: dict[str, tuple[str, str]] = {
        # api_version: (cluster-wide, namespaced), each "Kind plural"
        "v1": (
            "Namespace namespaces, Node nodes, PersistentVolume persistentvolumes",
            "ConfigMap configmaps, Endpoints endpoints, Event events, LimitRange limitranges, PersistentVolumeClaim persistentvolumeclaims, Pod pods, "
            "ReplicationController replicationcontrollers, ResourceQuota resourcequotas, Secret secrets, Service services, ServiceAccount serviceaccounts",
        ),
        "apps/v1": (
            "",
            "ControllerRevision controllerrevisions, DaemonSet daemonsets, Deployment deployments, ReplicaSet replicasets, StatefulSet statefulsets",
        ),
        "batch/v1": ("", "CronJob cronjobs, Job jobs"),
        "autoscaling/v2": ("", "HorizontalPodAutoscaler horizontalpodautoscalers"),
        "policy/v1": ("", "PodDisruptionBudget poddisruptionbudgets"),
        "networking.k8s.io/v1": ("IngressClass ingressclasses", "Ingress ingresses, NetworkPolicy networkpolicies"),
        "discovery.k8s.io/v1": ("", "EndpointSlice endpointslices"),
        "coordination.k8s.io/v1": ("", "Lease leases"),
        "rbac.authorization.k8s.io/v1": (
            "ClusterRole clusterroles, ClusterRoleBinding clusterrolebindings",
            "Role roles, RoleBinding rolebindings",
        ),
        "storage.k8s.io/v1": ("CSIDriver csidrivers, CSINode csinodes, StorageClass storageclasses, VolumeAttachment volumeattachments", ""),
        "scheduling.k8s.io/v1": ("PriorityClass priorityclasses", ""),
        "node.k8s.io/v1": ("RuntimeClass runtimeclasses", ""),
        "apiextensions.k8s.io/v1": ("CustomResourceDefinition customresourcedefinitions", ""),
        "apiregistration.k8s.io/v1": ("APIService apiservices", ""),
        "admissionregistration.k8s.io/v1": (
            "MutatingWebhookConfiguration mutatingwebhookconfigurations, ValidatingWebhookConfiguration validatingwebhookconfigurations, "
            "ValidatingAdmissionPolicy validatingadmissionpolicies, ValidatingAdmissionPolicyBinding validatingadmissionpolicybindings",
            "",
        ),
    }
    table = {}
    for api_version, scopes in served.items():
        for namespaced, entries in enumerate(scopes):
            for entry in filter(None, entries.split(", ")):
                kind, plural = entry.split()
                table[kind] = Resource(api_version, kind, plural, bool(namespaced))
    return table


# Stable APIs that every supported server has: knowing them saves the discovery requests of almost every call.
BUILTIN: t.Final[dict[str, Resource]] = _table()


def builtin(kind: str, api_version: str | None) -> Resource | None:
    known = BUILTIN.get(kind)
    if known is not None and api_version in (None, known.api_version):
        return known
    return None


def check_kind(option: str, kind: str) -> None:
    """Refuses other ways to write a kind that every server has; they would only be found not to be served."""
    if not kind:
        raise InputError(f"{option} is empty; give a kind, for example Pod")
    if kind in BUILTIN:
        return
    for known in BUILTIN.values():
        if kind.lower() in (known.kind.lower(), known.plural):
            raise InputError(f"{option} is {kind!r}; write it as {known.kind}")


def describe(obj: t.Mapping[str, t.Any]) -> str:
    """How messages name an object: C(Deployment default/web)."""
    metadata = obj.get("metadata") or {}
    name = metadata.get("name") or metadata.get("generateName") or "(unnamed)"
    namespace = metadata.get("namespace")
    return f"{obj.get('kind', 'object')} {namespace + '/' if namespace else ''}{name}"
