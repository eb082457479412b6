# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
# Objects that make pods: how modules are told of them, which pods are theirs, and how they are changed beside other writers.

from __future__ import annotations

import dataclasses
import re
import time
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, InputError, KubeError
from ansible_collections.homelab.gpu.plugins.module_utils._ready import Verdict, trouble
from ansible_collections.homelab.gpu.plugins.module_utils._resources import check_kind
from ansible_collections.homelab.gpu.plugins.module_utils._times import NANO, nanoseconds
from ansible_collections.homelab.gpu.plugins.module_utils._wait import Judge, Selection

if t.TYPE_CHECKING:
    from ansible_collections.homelab.gpu.plugins.module_utils._client import Client
    from ansible_collections.homelab.gpu.plugins.module_utils._resources import Resource

__all__ = [
    "CLOCK_SLACK",
    "Place",
    "check_timeout",
    "found_all",
    "hold",
    "label_selector",
    "made_since",
    "not_concerned",
    "places",
    "pods_that_fail",
    "template_of",
]

Object = dict[str, t.Any]

CLOCK_SLACK: t.Final = 2.0
"""Creation times are whole seconds, and so is what is known of the server's clock."""

# The controller may be about to replace it all the same
_STUCK_PATIENCE = 30.0
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_CONFLICT_ATTEMPTS = 20
_CONFLICT_PAUSE = 0.01


@dataclasses.dataclass(frozen=True)
class Place:
    """Which object an entry of the option O(workloads) means."""

    option: str
    """The entry as messages name it."""
    kind: str
    name: str
    namespace: str
    api_version: str | None = None

    def describe(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


# Pure


def places(entries: t.Sequence[t.Mapping[str, t.Any]], namespace: str) -> list[Place]:
    """The entries of O(workloads); C(namespace) is that of entries which name none."""
    if not entries:
        raise InputError("workloads is empty; name at least one workload")
    if not namespace:
        raise InputError("namespace is empty; give a namespace, or leave it out for default")
    found: list[Place] = []
    for index, entry in enumerate(entries):
        where = f"workloads[{index}]"
        check_kind(f"{where}.kind", entry["kind"])
        if not _NAME.fullmatch(entry["name"]):
            raise InputError(f"{where}.name is {entry['name']!r}; give the name of one object, in lower case and without its kind")
        if entry.get("namespace") == "":
            raise InputError(f"{where}.namespace is empty; give a namespace, or leave it out for {namespace}")
        place = Place(where, entry["kind"], entry["name"], entry.get("namespace") or namespace, entry.get("api_version"))
        twin = next((other for other in found if dataclasses.replace(other, option=where) == place), None)
        if twin is not None:
            raise InputError(f"{where}: {place.describe()} is listed twice, also by {twin.option}; keep one of them")
        found.append(place)
    return found


def check_timeout(seconds: int) -> None:
    if seconds < 1:
        raise InputError(f"timeout_seconds is {seconds}; it cannot be less than 1")


def template_of(workload: t.Mapping[str, t.Any]) -> Object:
    """What its pods are made from."""
    return (workload.get("spec") or {}).get("template") or {}


def label_selector(workload: Object) -> str:
    """The selector of a workload as a query has it."""
    selector = (workload.get("spec") or {}).get("selector") or {}
    if all(isinstance(value, str) for value in selector.values()):
        # Services and ReplicationControllers know equality only
        selector = {"matchLabels": selector}
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for rule in selector.get("matchExpressions") or []:
        values = f"({','.join(rule.get('values') or [])})"
        form = {"In": "{key} in {values}", "NotIn": "{key} notin {values}", "Exists": "{key}", "DoesNotExist": "!{key}"}[rule["operator"]]
        parts.append(form.format(key=rule["key"], values=values))
    return ",".join(parts)


def _not_before(timestamp: str | None, moment: float) -> bool:
    return (nanoseconds(timestamp) or 0) >= moment * NANO


def made_since(moment: float, workload: Object) -> Judge:
    """The trouble of pods made since a moment, for that of older ones may be the reason for a change."""
    others = not_concerned(workload, "made before")
    return lambda pod: trouble(pod) if _not_before(pod["metadata"].get("creationTimestamp"), moment) else others(pod)


def not_concerned(workload: Object, what: str) -> Judge:
    """The pods that are to be replaced. Their trouble passes with them, except where it is in the way of their replacement."""
    spec = workload.get("spec") or {}
    ordered = workload.get("kind") == "StatefulSet" and spec.get("podManagementPolicy") != "Parallel"

    def judge(pod: Object) -> Verdict:
        found = trouble(pod)
        if not ordered or not found.failed:
            return Verdict(True, what)
        return Verdict(False, f"{found.what}; a StatefulSet does not replace a pod that is not ready, delete it", failed=True, patience=_STUCK_PATIENCE)

    return judge


def pods_that_fail(selector: str, namespace: str | None, judge: Judge) -> Selection | None:
    """Pods that nobody waits for, but whose trouble ends a wait; None where there is no selector, which would mean all pods."""
    return Selection(kind="Pod", namespace=namespace, label_selector=selector, judge=judge, only_watch=True) if selector else None


# Input and output


def found_all(client: Client, wanted: t.Sequence[Place]) -> list[tuple[Resource, Object]]:
    """The objects as they are; those that do not exist are all named at once, before anything is changed."""
    found: list[tuple[Resource, Object]] = []
    missing: list[Place] = []
    for place in wanted:
        resource = client.resource(place.kind, place.api_version)
        obj = client.get(resource, place.name, place.namespace)
        if obj is None:
            missing.append(place)
        else:
            found.append((resource, obj))
    if missing:
        names = ", ".join(place.describe() for place in missing)
        raise KubeError(f"there is no {names}. Nothing was changed. Correct workloads or namespace.", missing=[place.describe() for place in missing])
    return found


def hold(
    client: Client,
    path: str,
    current: Object,
    patch_for: t.Callable[[Object], Object | None],
    *,
    dry_run: bool,
    sleep: t.Callable[[float], None] = time.sleep,
) -> Object:
    """Patches what is at C(path) until C(patch_for) has nothing more to change; returns the state that it left.

    Each patch is bound to the version that it was made for: what another writer did in between is looked at, never overwritten.
    """
    uid = current["metadata"]["uid"]
    attempt = 0
    while True:
        patch = patch_for(current)
        if patch is None:
            return current
        bound = {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": current["metadata"]["resourceVersion"]}}
        query = {"dryRun": "All" if dry_run else None, "fieldManager": "homelab.gpu"}
        try:
            return t.cast("Object", client.request("PATCH", path, query=query, body=bound, content_type="application/merge-patch+json"))
        except ApiError as error:
            attempt += 1
            if error.status != 409 or attempt >= _CONFLICT_ATTEMPTS:
                raise
        sleep(_CONFLICT_PAUSE)
        current = client.request("GET", path)
        if current["metadata"]["uid"] != uid:
            raise KubeError(f"{path} was deleted and made anew while it was being changed")
