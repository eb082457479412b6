# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
# Pure: an object in, a verdict out. What "ready" means is decided here and nowhere else.

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._times import NANO, nanoseconds

__all__ = ["Verdict", "by_condition", "creation_failure", "is_leftover", "outdated", "readiness", "ready_when_there", "trouble"]

Object = t.Mapping[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """C(ok): it is so. C(what): the state in words, the same while nothing changes.

    C(failed): waiting will not help, once it has been like this for C(patience) seconds.
    """

    ok: bool
    what: str
    failed: bool = False
    patience: float = 0.0


# Set by the node's own life cycle; with one of them Ready=True is not yet true for pods
_NODE_LIFECYCLE_TAINTS = frozenset(
    {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
        "node.kubernetes.io/network-unavailable",
        "node.cloudprovider.kubernetes.io/uninitialized",
    }
)
# A node or a device may be about to come; a registry may be about to answer
_UNSCHEDULABLE_PATIENCE = 30.0
# A quota may be raised, or freed by pods that are about to end
_CREATION_PATIENCE = 30.0
_PROGRESS_SECONDS = 600
# Times in objects are whole seconds, by the clocks of several writers
_CLOCK_SLACK = 2.0
_IMAGE_TROUBLE = {"InvalidImageName": 0.0, "ErrImageNeverPull": 0.0, "ErrImagePull": 30.0, "ImagePullBackOff": 30.0}
_CRASH_LOOP = 3
_REPLACING_CONTROLLERS = frozenset({"DaemonSet", "ReplicaSet", "ReplicationController", "StatefulSet"})
# Kinds without a state of readiness: being there is all there is
_READY_WHEN_THERE = frozenset(
    {
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "ControllerRevision",
        "CronJob",
        "CSIDriver",
        "CSINode",
        "Endpoints",
        "EndpointSlice",
        "Event",
        "HorizontalPodAutoscaler",
        "Ingress",
        "IngressClass",
        "Lease",
        "LimitRange",
        "MutatingWebhookConfiguration",
        "NetworkPolicy",
        "PriorityClass",
        "ResourceQuota",
        "Role",
        "RoleBinding",
        "RuntimeClass",
        "Secret",
        "ServiceAccount",
        "StorageClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
    }
)


def readiness(obj: Object, *, kubelet_version: str | None = None, changed_at: float | None = None) -> Verdict:
    """Whether an object does what it is there for. C(changed_at): when its spec was changed, as far as the caller knows, in seconds since the epoch."""
    kind = str(obj.get("kind", ""))
    metadata = obj.get("metadata") or {}
    if metadata.get("deletionTimestamp"):
        return Verdict(False, "is being deleted")
    if kind == "Node":
        return _node(obj, kubelet_version)
    unseen = outdated(obj)
    if unseen is not None:
        return unseen
    if kind == "Deployment":
        return _deployment(obj, changed_at)
    judge = _JUDGES.get(kind)
    if judge is not None:
        return judge(obj)
    if kind in _READY_WHEN_THERE:
        return Verdict(True, "exists")
    return by_condition(obj, "Ready")


def ready_when_there(kind: str) -> bool:
    """Whether objects of a kind are ready as soon as they exist."""
    return kind in _READY_WHEN_THERE


def outdated(obj: Object) -> Verdict | None:
    """A verdict if what the status says is not about the object as it is now."""
    wanted, observed = (obj.get("metadata") or {}).get("generation") or 0, _status(obj).get("observedGeneration")
    if observed is None or observed >= wanted:
        return None
    return Verdict(False, f"the controller has seen generation {observed} of {wanted}")


def by_condition(obj: Object, name: str, status: str = "True", reason: str | None = None) -> Verdict:
    """Whether a condition has a status, and a reason if one is given."""
    condition = _condition(obj, name)
    if condition is None:
        return Verdict(False, f"no condition {name} yet")
    text = _condition_text(condition)
    if condition.get("status") == status and reason is not None and condition.get("reason") != reason:
        return Verdict(False, f"{text}, but with the reason {condition.get('reason') or '(none)'}, not {reason}")
    return Verdict(condition.get("status") == status, text)


def creation_failure(workload: Object, seen: str) -> Verdict | None:
    """A verdict if the controller cannot make the pods it wants, because of a quota for example. C(seen): what else is known."""
    condition = _condition(workload, "ReplicaFailure")
    if condition is None or condition.get("status") != "True":
        return None
    why = ": ".join(part for part in (condition.get("reason"), condition.get("message")) if part)
    return Verdict(False, f"{seen}, ReplicaFailure ({why})", failed=True, patience=_CREATION_PATIENCE)


def trouble(pod: Object) -> Verdict:
    """The state of a pod of a workload; failed if it will not pass by waiting, although its controller never gives up."""
    status = _status(pod)
    seen = _pod(pod)
    scheduled = _condition(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return Verdict(False, seen.what, failed=True, patience=_UNSCHEDULABLE_PATIENCE)
    for container in _container_statuses(status):
        reason = ((container.get("state") or {}).get("waiting") or {}).get("reason")
        if reason == "CrashLoopBackOff" and (container.get("restartCount") or 0) >= _CRASH_LOOP:
            last = (container.get("lastState") or {}).get("terminated") or {}
            end = f", the last one with exit code {last.get('exitCode')}" if last else ""
            return Verdict(False, f"{container.get('name')} crashed {container['restartCount']} times{end}", failed=True)
        if reason in _IMAGE_TROUBLE:
            return Verdict(False, seen.what, failed=True, patience=_IMAGE_TROUBLE[reason])
    return Verdict(seen.ok, seen.what)


def is_leftover(obj: Object) -> bool:
    """A failed pod that its controller has replaced or will replace: nobody deletes it, and it says nothing about the rest."""
    if obj.get("kind") != "Pod" or _status(obj).get("phase") != "Failed":
        return False
    owners = (obj.get("metadata") or {}).get("ownerReferences") or []
    return any(owner.get("controller") and owner.get("kind") in _REPLACING_CONTROLLERS for owner in owners)


def _status(obj: Object) -> t.Mapping[str, t.Any]:
    return obj.get("status") or {}


def _condition(obj: Object, name: str) -> t.Mapping[str, t.Any] | None:
    return next((entry for entry in _status(obj).get("conditions") or [] if entry.get("type") == name), None)


def _condition_text(condition: t.Mapping[str, t.Any]) -> str:
    text = f"{condition.get('type')}={condition.get('status')}"
    if condition.get("status") == "True":
        return text
    if condition.get("lastTransitionTime"):
        text += f" since {condition['lastTransitionTime']}"
    why = " ".join(part for part in (condition.get("reason"), condition.get("message")) if part)
    return f"{text} ({why})" if why else text


def _node(obj: Object, kubelet_version: str | None) -> Verdict:
    verdict = by_condition(obj, "Ready")
    parts = [verdict.what]
    taints = sorted({taint.get("key", "") for taint in (obj.get("spec") or {}).get("taints") or []} & _NODE_LIFECYCLE_TAINTS)
    if taints:
        parts.append(f"tainted {', '.join(taints)}")
    found = (_status(obj).get("nodeInfo") or {}).get("kubeletVersion", "unknown")
    outdated = kubelet_version is not None and found != kubelet_version
    if outdated:
        parts.append(f"kubelet reports {found}, not {kubelet_version}")
    return Verdict(verdict.ok and not taints and not outdated, ", ".join(parts))


def _deployment(obj: Object, changed_at: float | None) -> Verdict:
    if "observedGeneration" not in _status(obj):
        return Verdict(False, "not seen by its controller yet")
    wanted = _replicas(obj)
    status = _status(obj)
    updated, total, available = (status.get(key) or 0 for key in ("updatedReplicas", "replicas", "availableReplicas"))
    text = f"{updated} of {wanted} updated, {available} available"
    if total > updated:
        text += f", {total - updated} old still there"
    if updated >= wanted and total <= updated and available >= updated and available >= wanted:
        return Verdict(True, text)
    late = _condition(obj, "Progressing")
    if late is None or late.get("reason") != "ProgressDeadlineExceeded":
        return creation_failure(obj, text) or Verdict(False, text)
    if not _is_of_before(late, obj, changed_at):
        return Verdict(False, _condition_text(late), failed=True)
    # The controller sees the new generation, but replaces this condition only at the first progress; a template has its whole deadline for that
    text += f", {_condition_text(late)} from before the last change of its spec"
    return creation_failure(obj, text) or Verdict(False, text, failed=True, patience=_progress_seconds(obj))


def _progress_seconds(deployment: Object) -> float:
    seconds = (deployment.get("spec") or {}).get("progressDeadlineSeconds")
    return float(_PROGRESS_SECONDS if seconds is None else seconds)


def _is_of_before(late: t.Mapping[str, t.Any], deployment: Object, changed_at: float | None) -> bool:
    """Whether a deadline was missed before what the Deployment is now can have missed it."""
    missed = nanoseconds(late.get("lastUpdateTime"))
    changes = [changed_at, *map(_spec_written_at, (deployment.get("metadata") or {}).get("managedFields") or [])]
    known = [moment for moment in changes if moment is not None]
    return missed is not None and bool(known) and missed / NANO + _CLOCK_SLACK < max(known) + _progress_seconds(deployment)


def _spec_written_at(entry: Object) -> float | None:
    """When a field manager last wrote something of the spec, or of what else it owns."""
    moment = nanoseconds(entry.get("time"))
    if moment is None or entry.get("subresource") == "status" or "f:spec" not in (entry.get("fieldsV1") or {}):
        return None
    return moment / NANO


def _stateful_set(obj: Object) -> Verdict:
    status = _status(obj)
    if "observedGeneration" not in status:
        return Verdict(False, "not seen by its controller yet")
    wanted = _replicas(obj)
    strategy = (obj.get("spec") or {}).get("updateStrategy") or {}
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    ready, updated = status.get("readyReplicas") or 0, status.get("updatedReplicas") or 0
    if strategy.get("type") == "OnDelete":
        return Verdict(ready >= wanted, f"{ready} of {wanted} ready")
    to_update = max(wanted - partition, 0)
    complete = updated >= to_update if partition else status.get("updateRevision") == status.get("currentRevision")
    return Verdict(ready >= wanted and complete, f"{updated} of {to_update} updated, {ready} of {wanted} ready")


def _daemon_set(obj: Object) -> Verdict:
    status = _status(obj)
    if "observedGeneration" not in status:
        return Verdict(False, "not seen by its controller yet")
    wanted = status.get("desiredNumberScheduled") or 0
    updated, available = status.get("updatedNumberScheduled") or 0, status.get("numberAvailable") or 0
    if ((obj.get("spec") or {}).get("updateStrategy") or {}).get("type") == "OnDelete":
        return Verdict(available >= wanted, f"{available} of {wanted} available")
    return Verdict(updated >= wanted and available >= wanted, f"{updated} of {wanted} updated, {available} available")


def _replica_set(obj: Object) -> Verdict:
    wanted, ready = _replicas(obj), _status(obj).get("readyReplicas") or 0
    if "observedGeneration" not in _status(obj):
        return Verdict(False, "not seen by its controller yet")
    text = f"{ready} of {wanted} ready"
    return Verdict(True, text) if ready >= wanted else creation_failure(obj, text) or Verdict(False, text)


def _replicas(obj: Object) -> int:
    wanted = (obj.get("spec") or {}).get("replicas")
    return 1 if wanted is None else int(wanted)


def _pod(obj: Object) -> Verdict:
    status = _status(obj)
    phase = status.get("phase") or "Pending"
    if phase == "Succeeded":
        return Verdict(True, "Succeeded")
    if phase == "Failed":
        why = " ".join(part for part in (status.get("reason"), status.get("message")) if part) or _terminations(status)
        return Verdict(False, f"Failed ({why})" if why else "Failed", failed=True)
    ready = _condition(obj, "Ready")
    if ready is not None and ready.get("status") == "True":
        return Verdict(True, "Ready=True")
    scheduled = _condition(obj, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False":
        return Verdict(False, f"{phase}, {_condition_text(scheduled)}")
    waiting = _waiting(status)
    if waiting:
        return Verdict(False, f"{phase}, {waiting}")
    if phase == "Pending" and scheduled is None and not (obj.get("spec") or {}).get("nodeName"):
        return Verdict(False, "Pending, not looked at by the scheduler yet")
    return Verdict(False, f"{phase}, not ready")


def _container_statuses(status: t.Mapping[str, t.Any]) -> t.Iterator[t.Mapping[str, t.Any]]:
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def _waiting(status: t.Mapping[str, t.Any]) -> str:
    parts = []
    for container in _container_statuses(status):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            parts.append(f"{container.get('name')}: {waiting['reason']}" + (f" ({waiting['message']})" if waiting.get("message") else ""))
    return "; ".join(parts)


def _terminations(status: t.Mapping[str, t.Any]) -> str:
    parts = []
    for container in _container_statuses(status):
        terminated = (container.get("state") or {}).get("terminated") or {}
        if terminated.get("exitCode"):
            parts.append(f"{container.get('name')}: exit code {terminated['exitCode']}" + (f", {terminated['reason']}" if terminated.get("reason") else ""))
    return "; ".join(parts)


def _job(obj: Object) -> Verdict:
    status = _status(obj)
    for name, failed in (("Failed", True), ("Complete", False)):
        condition = _condition(obj, name)
        if condition is not None and condition.get("status") == "True":
            why = " ".join(part for part in (condition.get("reason"), condition.get("message")) if part and failed)
            return Verdict(not failed, f"{name} ({why})" if why else name, failed=failed)
    if (obj.get("spec") or {}).get("suspend"):
        return Verdict(False, "suspended")
    counts = (f"{status.get(key) or 0} {key}" for key in ("active", "succeeded", "failed"))
    return Verdict(False, ", ".join(counts))


def _service(obj: Object) -> Verdict:
    if (obj.get("spec") or {}).get("type") == "LoadBalancer" and not (_status(obj).get("loadBalancer") or {}).get("ingress"):
        return Verdict(False, "no load balancer address yet")
    return Verdict(True, "exists")


def _definition(obj: Object) -> Verdict:
    names = _condition(obj, "NamesAccepted")
    if names is not None and names.get("status") == "False":
        return Verdict(False, _condition_text(names), failed=True)
    return by_condition(obj, "Established")


def _phase(*good: str) -> t.Callable[[Object], Verdict]:
    def judge(obj: Object) -> Verdict:
        phase = _status(obj).get("phase") or "no phase yet"
        return Verdict(phase in good, str(phase))

    return judge


def _budget(obj: Object) -> Verdict:
    return Verdict("observedGeneration" in _status(obj), "exists")


_JUDGES: t.Final[dict[str, t.Callable[[Object], Verdict]]] = {
    "APIService": lambda obj: by_condition(obj, "Available"),
    "CustomResourceDefinition": _definition,
    "DaemonSet": _daemon_set,
    "Job": _job,
    "Namespace": _phase("Active"),
    "PersistentVolume": _phase("Available", "Bound"),
    "PersistentVolumeClaim": _phase("Bound"),
    "Pod": _pod,
    "PodDisruptionBudget": _budget,
    "ReplicaSet": _replica_set,
    "ReplicationController": _replica_set,
    "Service": _service,
    "StatefulSet": _stateful_set,
}
