# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
# How many pods a workload has, and what has to be known before there are more of them.

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, InputError, KubeError
from ansible_collections.homelab.gpu.plugins.module_utils._predicates import has_replicas
from ansible_collections.homelab.gpu.plugins.module_utils._ready import Verdict, creation_failure, outdated, trouble
from ansible_collections.homelab.gpu.plugins.module_utils._resources import BUILTIN, builtin
from ansible_collections.homelab.gpu.plugins.module_utils._wait import Selection
from ansible_collections.homelab.gpu.plugins.module_utils._workloads import (
    Place,
    found_all,
    hold,
    label_selector,
    places,
    template_of,
)

if t.TYPE_CHECKING:
    from ansible_collections.homelab.gpu.plugins.module_utils._client import Client
    from ansible_collections.homelab.gpu.plugins.module_utils._resources import Resource
    from ansible_collections.homelab.gpu.plugins.module_utils._wait import Judge

__all__ = ["Concern", "Plan", "Wish", "autoscaler_concern", "check_wishes", "claim_concern", "claims_of", "has_scaled", "make_plans", "pod_after", "refuse"]

Object = dict[str, t.Any]

_SCALABLE = ("Deployment", "ReplicaSet", "ReplicationController", "StatefulSet")
_OTHER_WAYS = {
    "DaemonSet": "it has a pod on every node that it selects; label nodes by kube_node",
    "Job": "set its spec.parallelism by kube_apply",
}
_SHARED_MODES = frozenset({"ReadWriteMany", "ReadOnlyMany"})
# Sources and CSI drivers that mount over the network: nothing is attached to a node, so nothing enforces ReadWriteOnce
_NETWORK_SOURCES = ("nfs", "cephfs", "glusterfs", "azureFile")
_NETWORK_DRIVERS = frozenset(
    {"nfs.csi.k8s.io", "smb.csi.k8s.io", "efs.csi.aws.com", "file.csi.azure.com", "cephfs.csi.ceph.com", "rook-ceph.cephfs.csi.ceph.com"}
)
_HOST = "kubernetes.io/hostname"
# A pod in trouble may be the next one to be removed
_REMOVAL_PATIENCE = 5.0


@dataclasses.dataclass(frozen=True)
class Wish:
    """One entry of the option O(workloads)."""

    place: Place
    replicas: int
    current_replicas: int | None
    resource_version: str | None


@dataclasses.dataclass(frozen=True)
class Concern:
    """What a user has to know before scaling. C(hopeless): it could only fail, or would be undone."""

    what: str
    hopeless: bool = False


# Pure


def check_wishes(entries: t.Sequence[t.Mapping[str, t.Any]], namespace: str) -> list[Wish]:
    """The option O(workloads); refuses what could not be scaled before anything is sent."""
    wishes = []
    for place, entry in zip(places(entries, namespace), entries):
        if builtin(place.kind, place.api_version) and place.kind not in _SCALABLE:
            way = _OTHER_WAYS.get(place.kind, f"give one of {', '.join(_SCALABLE)}, or a kind of your own that has the subresource scale")
            raise InputError(f"{place.option}.kind is {place.kind}, which has no number of replicas; {way}")
        for option in ("replicas", "current_replicas"):
            if entry.get(option) is not None and entry[option] < 0:
                raise InputError(f"{place.option}.{option} is {entry[option]}; it cannot be less than 0")
        version = entry.get("resource_version")
        if version is not None and not version.strip():
            raise InputError(f"{place.option}.resource_version is empty; give metadata.resourceVersion of the object, or leave it out")
        wishes.append(Wish(place, entry["replicas"], entry.get("current_replicas"), version))
    return wishes


def replicas_of(obj: Object) -> int:
    """Of a workload, or of its subresource scale, which leaves out a 0."""
    return int((obj.get("spec") or {}).get("replicas", 0 if obj.get("kind") == "Scale" else 1))


def claims_of(template: Object) -> list[str]:
    """The claims that all pods of a template share. Those of a StatefulSet's volumeClaimTemplates are not among them."""
    volumes = (template.get("spec") or {}).get("volumes") or []
    return list(dict.fromkeys(volume["persistentVolumeClaim"]["claimName"] for volume in volumes if volume.get("persistentVolumeClaim")))


def autoscaler_concern(autoscalers: t.Iterable[Object], place: Place, current: int, wanted: int) -> Concern | None:
    """An autoscaler holds replicas within its bounds, except at 0, where it rests."""
    for autoscaler in autoscalers:
        spec = autoscaler.get("spec") or {}
        target = spec.get("scaleTargetRef") or {}
        group = place.api_version or BUILTIN[place.kind].api_version
        if (target.get("kind"), target.get("name")) != (place.kind, place.name) or _group(target.get("apiVersion") or group) != _group(group):
            continue
        name = f"HorizontalPodAutoscaler {autoscaler['metadata']['name']}"
        if wanted == 0:
            return Concern(f"{name} rests until there are replicas again")
        if current == 0:
            return Concern(f"{name} has rested at 0 replicas and takes over from here")
        bounds = f"between {spec.get('minReplicas', 1)} and {spec.get('maxReplicas')}"
        return Concern(f"{name} holds the replicas {bounds} by its metrics and would undo this; change its minReplicas or maxReplicas", hopeless=True)
    return None


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def claim_concern(name: str, claim: Object | None, volume: Object | None, template: Object, wanted: int) -> Concern | None:
    """What a claim that all pods share means for so many of them."""
    what = f"PersistentVolumeClaim {name}"
    if claim is None:
        return Concern(f"{what} does not exist, so no pod could be scheduled; apply it first", hopeless=True)
    modes = set((claim.get("spec") or {}).get("accessModes") or [])
    if wanted < 2 or modes & _SHARED_MODES:
        return None
    if modes == {"ReadWriteOncePod"}:
        return Concern(f"{what} is ReadWriteOncePod, so only one of {wanted} pods could ever start; use a claim that is ReadWriteMany", hopeless=True)
    source = (volume or {}).get("spec") or {}
    if any(source.get(kind) for kind in _NETWORK_SOURCES) or (source.get("csi") or {}).get("driver") in _NETWORK_DRIVERS:
        return Concern(f"{what} is ReadWriteOnce, which its network storage does not enforce: pods on several nodes would write to it at the same time")
    nodes = _nodes_of(source)
    if nodes:
        where = f"its volume is local to {', '.join(nodes)}, so all {wanted} pods have to run there"
    else:
        where = f"its volume is attached to one node at a time, so all {wanted} pods have to run on the same one; others would hang in ContainerCreating"
    if len(nodes) < 2 and _keeps_apart(template):
        return Concern(f"{what} is ReadWriteOnce: {where}, but their podAntiAffinity keeps them on different nodes", hopeless=True)
    return Concern(f"{what} is ReadWriteOnce: {where}")


def _nodes_of(source: Object) -> list[str]:
    """The nodes that a volume can be reached from, where it names them."""
    required = (source.get("nodeAffinity") or {}).get("required") or {}
    rules = [rule for term in required.get("nodeSelectorTerms") or [] for rule in term.get("matchExpressions") or []]
    return sorted({value for rule in rules if (rule.get("key"), rule.get("operator")) == (_HOST, "In") for value in rule.get("values") or []})


def _keeps_apart(template: Object) -> bool:
    """Whether no node may have two pods of a template."""
    affinity = ((template.get("spec") or {}).get("affinity") or {}).get("podAntiAffinity") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or []:
        selector = term.get("labelSelector") or {}
        same = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
        for rule in selector.get("matchExpressions") or []:
            same = same and _matches(rule, labels)
        if term.get("topologyKey") == _HOST and not term.get("namespaces") and selector and same:
            return True
    return False


def _matches(rule: Object, labels: Object) -> bool:
    value, operator = labels.get(rule["key"]), rule["operator"]
    if operator in ("Exists", "DoesNotExist"):
        return (value is not None) == (operator == "Exists")
    return (value in (rule.get("values") or [])) == (operator == "In")


def has_scaled(wanted: int, status_path: str = "") -> Judge:
    """A workload whose controller has made or removed the pods. C(status_path): where kinds of others count them."""

    def judge(workload: Object) -> Verdict:
        if workload["metadata"].get("deletionTimestamp"):
            return Verdict(False, "is being deleted", failed=True)
        unseen = outdated(workload)
        if unseen is not None:
            return unseen
        if status_path:
            found = _at(workload, status_path) or 0
            return Verdict(found == wanted, f"replicas: {found}" if found == wanted else f"replicas: {found}, not {wanted}")
        verdict = has_replicas(wanted)(workload)
        return verdict if verdict.ok else creation_failure(workload, verdict.what) or verdict

    return judge


def _at(obj: t.Any, path: str) -> t.Any:
    for step in path.strip(".").split("."):
        obj = obj.get(step) if isinstance(obj, dict) else None
    return obj


def pod_after(before: int, wanted: int) -> Judge:
    """A pod of a workload on its way to so many; after fewer were wanted, also those that are ending have to be gone."""
    fewer = wanted < before or wanted == 0

    def judge(pod: Object) -> Verdict:
        ending = pod["metadata"].get("deletionTimestamp")
        if ending:
            return Verdict(not fewer, f"being deleted since {ending}")
        if wanted == 0:
            return Verdict(False, "still there")
        verdict = trouble(pod)
        return dataclasses.replace(verdict, patience=max(verdict.patience, _REMOVAL_PATIENCE)) if verdict.failed and fewer else verdict

    return judge


# Input and output


@dataclasses.dataclass
class Plan:
    """A workload as it was found, and what is wished for it."""

    wish: Wish
    resource: Resource
    workload: Object
    scale: Object
    """The subresource; kinds that every server has show the same themselves."""
    concerns: list[Concern] = dataclasses.field(default_factory=list)
    skipped: str = ""
    """Why nothing was done, where the wish was bound to a state that it is not in."""

    @property
    def before(self) -> int:
        return replicas_of(self.scale)

    def carry_out(self, client: Client, *, dry_run: bool) -> int:
        """Returns how many replicas are wanted now."""
        place = self.wish.place
        path = self.resource.path(place.namespace, place.name, "scale")
        return replicas_of(hold(client, path, self.scale, self.patch_for, dry_run=dry_run))

    def patch_for(self, scale: Object) -> Object | None:
        """What there is to change; notes it where the wish is bound to another state."""
        found, version = replicas_of(scale), scale["metadata"]["resourceVersion"]
        if found == self.wish.replicas:
            return None
        if self.wish.resource_version not in (None, version):
            self.skipped = f"its resource version is {version}, not {self.wish.resource_version}"
        elif self.wish.current_replicas not in (None, found):
            self.skipped = f"it has {found} replicas, not {self.wish.current_replicas}"
        else:
            return {"spec": {"replicas": self.wish.replicas}}
        return None

    def selections(self, client: Client) -> list[Selection]:
        """What a wait has to watch; nothing for what was skipped."""
        if self.skipped:
            return []
        place, wanted = self.wish.place, self.wish.replicas
        known = place.kind in _SCALABLE
        selector = label_selector(self.workload) if known else (self.scale.get("status") or {}).get("selector")
        judge = has_scaled(wanted, "" if known else _status_path(client, self.resource))
        found = [Selection(kind=place.kind, api_version=place.api_version, namespace=place.namespace, names=(place.name,), judge=judge)]
        if selector:
            pods = Selection(
                kind="Pod",
                namespace=place.namespace,
                label_selector=selector,
                judge=pod_after(self.before, wanted),
                # Controllers of these count ready pods themselves, but none that is ending
                at_least=0 if known else wanted,
                only_watch=known and wanted >= max(self.before, 1),
            )
            found.append(pods)
        return found


def make_plans(client: Client, wishes: t.Sequence[Wish]) -> list[Plan]:
    """Reads what has to be known; nothing is changed."""
    autoscalers: dict[str, list[Object] | ApiError] = {}
    plans: list[Plan] = []
    for wish, (resource, workload) in zip(wishes, found_all(client, [wish.place for wish in wishes])):
        scale = workload if wish.place.kind in _SCALABLE else _read_scale(client, resource, wish.place)
        plan = Plan(wish, resource, workload, scale)
        plans.append(plan)
        if plan.patch_for(scale) is not None:
            plan.concerns += _concerns(client, plan, autoscalers)
    return plans


def _read_scale(client: Client, resource: Resource, place: Place) -> Object:
    try:
        return t.cast("Object", client.request("GET", resource.path(place.namespace, place.name, "scale")))
    except ApiError as error:
        if error.status != 404:
            raise
        text = f"{place.describe()}: its kind has no subresource scale. Nothing was changed. Change the object by kube_apply."
        raise KubeError(text, **error.data) from error


def _concerns(client: Client, plan: Plan, autoscalers: dict[str, list[Object] | ApiError]) -> t.Iterator[Concern]:
    place, wanted, template = plan.wish.place, plan.wish.replicas, template_of(plan.workload)
    if place.namespace not in autoscalers:
        try:
            autoscalers[place.namespace] = client.list_all(BUILTIN["HorizontalPodAutoscaler"], place.namespace).items
        except ApiError as error:
            autoscalers[place.namespace] = error
    found = autoscalers[place.namespace]
    if isinstance(found, ApiError):
        yield _unknown("whether an autoscaler would undo this", found)
    else:
        concern = autoscaler_concern(found, place, plan.before, wanted)
        if concern is not None:
            yield concern
    for name in claims_of(template) if wanted > plan.before else []:
        try:
            claim = client.get(BUILTIN["PersistentVolumeClaim"], name, place.namespace)
            bound = ((claim or {}).get("spec") or {}).get("volumeName") if wanted > 1 else None
            volume = client.get(BUILTIN["PersistentVolume"], bound) if bound else None
        except ApiError as error:
            yield _unknown(f"what PersistentVolumeClaim {name} means for several pods", error)
            continue
        concern = claim_concern(name, claim, volume, template, wanted)
        if concern is not None:
            yield concern


def _unknown(what: str, error: ApiError) -> Concern:
    """Who may scale need not be allowed to read everything."""
    if error.status != 403:
        raise error
    return Concern(f"{what} is not known: {error}")


def _status_path(client: Client, resource: Resource) -> str:
    """Where a kind of others counts its replicas."""
    group, _slash, version = resource.api_version.rpartition("/")
    definition = client.get(BUILTIN["CustomResourceDefinition"], f"{resource.plural}.{group}") or {}
    for served in (definition.get("spec") or {}).get("versions") or []:
        if served["name"] == version:
            return str(((served.get("subresources") or {}).get("scale") or {}).get("statusReplicasPath") or ".status.replicas")
    return ".status.replicas"


def refuse(plans: t.Sequence[Plan]) -> None:
    """Fails if one of the plans could only fail."""
    hopeless = [f"{plan.wish.place.describe()}: {concern.what}" for plan in plans for concern in plan.concerns if concern.hopeless]
    if hopeless:
        raise KubeError(f"{'; '.join(hopeless)}. Nothing was changed. To scale nevertheless, set force=true.", refused=hopeless)
