# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.

from __future__ import annotations

import collections
import copy
import dataclasses
import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._client import KindNotServed
from ansible_collections.homelab.gpu.plugins.module_utils._definitions import Definition, presentable
from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, ApplyConflict, InputError, KubeError
from ansible_collections.homelab.gpu.plugins.module_utils._managed_fields import applied_by, is_as_applied
from ansible_collections.homelab.gpu.plugins.module_utils._ready import readiness, ready_when_there
from ansible_collections.homelab.gpu.plugins.module_utils._wait import Selection, WaitResult, judge_for, wait_for
from ansible_collections.homelab.gpu.plugins.module_utils._workloads import CLOCK_SLACK, label_selector, made_since, pods_that_fail

if t.TYPE_CHECKING:
    from ansible_collections.homelab.gpu.plugins.module_utils._client import Client
    from ansible_collections.homelab.gpu.plugins.module_utils._resources import Resource

__all__ = ["Applier", "Change", "Prune", "diff_of"]

Object = dict[str, t.Any]

_ESTABLISH_SECONDS = 30
# Waiting for these is waiting for their user: storage is often bound only when a pod comes
_NOT_WAITED_FOR = frozenset({"PersistentVolume", "PersistentVolumeClaim"})
_WORKLOADS = frozenset({"DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet"})
# A new one has nothing of what the old one held
_HOLD_DATA = frozenset({"CustomResourceDefinition", "Namespace", "PersistentVolume", "PersistentVolumeClaim"})
# What validation says of fields that are fixed once an object exists; there is no reason code for it
_FIXED = re.compile(r"immutable|may not change|updates to .* for fields other than|may not be (?:changed|updated)")
# From so many objects of a kind in a namespace on, one list is cheaper than asking for each
_LIST_FROM = 4
_LIST_PAGE = 500
# Others may be among them: no more than so many objects are read for each of ours
_LIST_TIMES = 3


@dataclasses.dataclass(frozen=True)
class Change:
    """What happened to one definition, or in check mode would happen."""

    definition: Definition
    result: str
    """created, changed, unchanged, recreated, pruned, or deleted; absent if there was nothing to delete."""
    before: Object | None
    after: Object | None

    @property
    def changed(self) -> bool:
        return self.result not in ("unchanged", "absent")


@dataclasses.dataclass(frozen=True)
class Prune:
    """Which objects are removed because no definition names them any more."""

    kinds: tuple[tuple[str, str | None], ...]
    """Kinds and, where one was given, API versions."""
    label_selector: str


class Applier:
    """Brings definitions into a cluster or out of it, over one connection and with at most two requests for each."""

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        field_manager: str,
        force_conflicts: bool,
        dry_run: bool,
        recreate: bool = False,
        deletion_seconds: float = 0.0,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._field_manager = field_manager
        self._force = force_conflicts
        self._dry_run = dry_run
        self._recreate = recreate
        # How long to wait for an object of the same name that is on its way out
        self._deletion_seconds = deletion_seconds
        self._started = client.server_time() - CLOCK_SLACK
        # Dry runs know nothing of each other: these would exist by now
        self._namespaces_to_be: set[str] = set()
        self._kinds_to_be: dict[tuple[str, str], str] = {}
        self._expected: collections.Counter[tuple[str, str, str]] = collections.Counter()
        self._listed: dict[tuple[str, str | None], _Listed] = {}

    def present(self, definitions: t.Sequence[Definition]) -> t.Iterator[Change]:
        waiting_for: list[Definition] = []
        self._expected.update(self._group(definition) for definition in definitions)
        for definition in definitions:
            if waiting_for and definition.kind != "CustomResourceDefinition":
                self._await_established(waiting_for)
                waiting_for = []
            change = self._apply(definition)
            yield change
            if definition.kind == "CustomResourceDefinition" and not self._dry_run and not readiness(change.after or {}).ok:
                waiting_for.append(definition)
        if waiting_for:
            self._await_established(waiting_for)

    def absent(self, definitions: t.Sequence[Definition]) -> t.Iterator[Change]:
        for definition in reversed(definitions):
            yield self._remove(definition)

    def prune(self, definitions: t.Sequence[Definition], prune: Prune) -> t.Iterator[Change]:
        """Removes objects of the kinds that carry the labels, were applied by our field manager, and are not defined.

        Looks in the namespaces of the definitions and in the one for definitions that name none.
        """
        defined: set[tuple[str, str | None, str]] = set()
        namespaces = {self._namespace}
        for definition in definitions:
            try:
                resource, namespace = self._place(definition)
            except KindNotServed:
                continue
            defined.add((resource.kind, namespace, definition.name))
            namespaces.update([namespace] if namespace else [])
        for kind, api_version in prune.kinds:
            resource = self._client.resource(kind, api_version)
            for namespace in sorted(namespaces) if resource.namespaced else [None]:
                for found in self._client.list_all(resource, namespace, label_selector=prune.label_selector).items:
                    name = found["metadata"]["name"]
                    if (kind, namespace, name) in defined or found["metadata"].get("deletionTimestamp") or applied_by(found, self._field_manager) is None:
                        continue
                    change = self._delete(Definition(found, f"prune of {kind}"), found)
                    yield dataclasses.replace(change, result="pruned") if change.changed else change

    def selections(self, definitions: t.Sequence[Definition], until: str) -> list[Selection]:
        """What a wait for these definitions has to watch: one watch for each kind and namespace."""
        names: dict[tuple[str, str, str | None], list[str]] = {}
        for definition in definitions:
            if until == "ready" and (definition.kind in _NOT_WAITED_FOR or ready_when_there(definition.kind)):
                continue
            try:
                _resource, namespace = self._place(definition)
            except KindNotServed:
                continue
            names.setdefault((definition.api_version, definition.kind, namespace), []).append(definition.name)
        return [
            Selection(kind=kind, api_version=api_version, namespace=namespace, names=tuple(dict.fromkeys(found)), judge=judge_for(until))
            for (api_version, kind, namespace), found in names.items()
        ]

    def wait(self, changes: t.Sequence[Change], until: str, timeout_seconds: float) -> WaitResult:
        pruned = [change.definition for change in changes if change.result == "pruned"]
        selections = self.selections([change.definition for change in changes if change.result != "pruned"], until) + self.selections(pruned, "gone")
        if until == "ready":
            selections += [selection for selection in map(self._pods_of, changes) if selection is not None]
        if not selections:
            return WaitResult(0.0, [], [])
        what = "the objects applied to be ready" if until == "ready" else "the objects deleted to be gone"
        return wait_for(self._client, selections, timeout_seconds=timeout_seconds, what=what)

    def _pods_of(self, change: Change) -> Selection | None:
        """The pods that a workload makes; after a change only those made since, for the trouble of the old ones may be the reason for it."""
        obj = change.after or {}
        if change.definition.kind not in _WORKLOADS or change.result == "pruned":
            return None
        selector = f"batch.kubernetes.io/job-name={change.definition.name}" if change.definition.kind == "Job" else label_selector(obj)
        return pods_that_fail(selector, obj["metadata"].get("namespace"), made_since(self._started if change.changed else 0.0, obj))

    # One definition

    def _place(self, definition: Definition) -> tuple[Resource, str | None]:
        resource = self._client.resource(definition.kind, definition.api_version)
        if not resource.namespaced:
            return resource, None
        return resource, self._namespace_of(definition)

    def _namespace_of(self, definition: Definition) -> str:
        return definition.body["metadata"].get("namespace") or self._namespace

    def _apply(self, definition: Definition) -> Change:
        kind_key = (definition.api_version, definition.kind)
        try:
            resource, namespace = self._place(definition)
        except KindNotServed:
            if kind_key not in self._kinds_to_be:
                raise
            namespaced = self._kinds_to_be[kind_key] == "Namespaced"
            return self._would_create(definition, self._namespace_of(definition) if namespaced else None)
        body = copy.deepcopy(definition.body)
        if namespace is None:
            body["metadata"].pop("namespace", None)
        else:
            body["metadata"]["namespace"] = namespace
        if namespace in self._namespaces_to_be:
            return self._would_create(definition, namespace)
        before = self._before(definition, resource, namespace)
        if before is not None and before["metadata"].get("deletionTimestamp"):
            if self._dry_run:
                self._note_new(definition)
                return self._would_create(definition, namespace)
            self._await_gone(definition, resource, namespace)
            before = None
        if before is not None and is_as_applied(before, body, self._field_manager):
            return Change(definition, "unchanged", before, before)
        try:
            after = self._patch(resource, definition, namespace, body)
        except ApiError as error:
            if before is None or not self._recreate or not _fixed_fields(error):
                raise self._explained(error, definition, namespace) from error
            return self._make_anew(definition, resource, namespace, body, before, error)
        if before is None:
            self._note_new(definition)
            return Change(definition, "created", None, after)
        return Change(definition, "unchanged" if _same(before, after) else "changed", before, after)

    def _patch(self, resource: Resource, definition: Definition, namespace: str | None, body: Object) -> Object:
        return t.cast(
            "Object",
            self._client.request(
                "PATCH",
                resource.path(namespace, definition.name),
                query={"fieldManager": self._field_manager, "force": "true" if self._force else "false", "dryRun": "All" if self._dry_run else None},
                body=body,
                content_type="application/apply-patch+yaml",
            ),
        )

    def _make_anew(self, definition: Definition, resource: Resource, namespace: str | None, body: Object, before: Object, error: ApiError) -> Change:
        if definition.kind in _HOLD_DATA:
            raise KubeError(
                f"{definition.describe()} ({definition.origin}): {_fixed_fields(error)} cannot be changed, and recreate=true does not delete "
                f"a {definition.kind}, for what it holds would be lost; delete it yourself if that is meant. {error.message}",
                **error.data,
            ) from error
        if self._dry_run:
            return Change(definition, "recreated", before, self._would_create(definition, namespace).after)
        self._delete(definition, before, propagation="Foreground")
        self._await_gone(definition, resource, namespace)
        try:
            after = self._patch(resource, definition, namespace, body)
        except ApiError as refusal:
            raise self._explained(refusal, definition, namespace) from refusal
        return Change(definition, "recreated", before, after)

    def _group(self, definition: Definition) -> tuple[str, str, str]:
        return definition.api_version, definition.kind, self._namespace_of(definition)

    def _before(self, definition: Definition, resource: Resource, namespace: str | None) -> Object | None:
        """The object as it is; many of one kind are read by one list, except Secrets, for a list would read those of others, too."""
        place = (resource.path(namespace), namespace)
        if place not in self._listed and resource.kind != "Secret" and self._expected[self._group(definition)] >= _LIST_FROM:
            self._listed[place] = self._list(resource, namespace, self._expected[self._group(definition)])
        listed = self._listed.get(place)
        if listed is not None and (listed.complete or definition.name in listed.objects):
            return listed.objects.get(definition.name)
        return self._client.get(resource, definition.name, namespace)

    def _list(self, resource: Resource, namespace: str | None, expected: int) -> _Listed:
        """All of a kind, unless there are so many that asking for ours is cheaper."""
        objects: dict[str, Object] = {}
        query: Object = {"limit": _LIST_PAGE}
        while True:
            try:
                answer = self._client.request("GET", resource.path(namespace), query=query)
            except ApiError as error:
                if error.status in (403, 404, 405, 410):
                    # Who may get and patch need not be allowed to list
                    return _Listed(objects, complete=False)
                raise
            for item in answer.get("items") or []:
                objects[item["metadata"]["name"]] = {"apiVersion": resource.api_version, "kind": resource.kind, **item}
            query["continue"] = (answer.get("metadata") or {}).get("continue")
            if not query["continue"] or len(objects) >= _LIST_TIMES * expected:
                return _Listed(objects, complete=not query["continue"])

    def _would_create(self, definition: Definition, namespace: str | None) -> Change:
        after = copy.deepcopy(definition.body)
        if namespace:
            after["metadata"]["namespace"] = namespace
        return Change(definition, "created", None, after)

    def _note_new(self, definition: Definition) -> None:
        if not self._dry_run:
            return
        if definition.kind == "Namespace":
            self._namespaces_to_be.add(definition.name)
        elif definition.kind == "CustomResourceDefinition":
            spec = definition.body.get("spec") or {}
            for version in spec.get("versions") or []:
                key = (f"{spec.get('group')}/{version.get('name')}", (spec.get("names") or {}).get("kind", ""))
                self._kinds_to_be[key] = spec.get("scope", "Namespaced")

    def _remove(self, definition: Definition) -> Change:
        try:
            resource, namespace = self._place(definition)
        except KindNotServed:
            return Change(definition, "absent", None, None)
        before = self._client.get(resource, definition.name, namespace)
        if before is None:
            return Change(definition, "absent", None, None)
        if before["metadata"].get("deletionTimestamp"):
            return Change(definition, "unchanged", before, before)
        return self._delete(definition, before)

    def _delete(self, definition: Definition, before: Object, propagation: str = "Background") -> Change:
        resource, namespace = self._place(definition)
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation, "preconditions": {"uid": before["metadata"]["uid"]}}
        if self._dry_run:
            options["dryRun"] = ["All"]
        try:
            self._client.request("DELETE", resource.path(namespace, definition.name), body=options)
        except ApiError as error:
            # Gone since it was read: most likely by this request, whose first answer was lost
            if error.status != 404:
                raise self._explained(error, definition, namespace) from error
        return Change(definition, "deleted", before, None)

    def _await_established(self, definitions: t.Sequence[Definition]) -> None:
        selection = Selection(
            kind="CustomResourceDefinition", names=tuple(definition.name for definition in definitions), judge=judge_for("ready"), api_version=None
        )
        wait_for(self._client, [selection], timeout_seconds=_ESTABLISH_SECONDS, what=f"{selection.describe()} to be established")
        self._client.forget_discovery()

    def _await_gone(self, definition: Definition, resource: Resource, namespace: str | None) -> None:
        if not self._deletion_seconds:
            raise KubeError(f"{definition.describe()} is being deleted; set wait=true to wait until it is gone, and apply it then")
        selection = Selection(kind=definition.kind, api_version=resource.api_version, namespace=namespace, names=(definition.name,), judge=judge_for("gone"))
        wait_for(self._client, [selection], timeout_seconds=self._deletion_seconds, what=f"{definition.describe()}, which is being deleted, to be gone")

    def _explained(self, error: ApiError, definition: Definition, namespace: str | None) -> KubeError:
        what = f"{definition.describe()} ({definition.origin})"
        if error.status == 409 and any(cause.get("reason") == "FieldManagerConflict" for cause in error.causes):
            return ApplyConflict(what, error)
        if error.status == 404 and namespace and error.message.startswith("namespaces "):
            return InputError(f"{what}: the namespace {namespace} does not exist; apply a Namespace with it, or correct namespace", **error.data)
        fixed = _fixed_fields(error)
        if fixed:
            return KubeError(
                f"{what}: {fixed} cannot be changed in an existing object; set recreate=true if it may be deleted and made anew. {error.message}", **error.data
            )
        return KubeError(f"{what}: {error}", **error.data)


@dataclasses.dataclass(frozen=True)
class _Listed:
    objects: dict[str, Object]
    complete: bool


def _fixed_fields(error: ApiError) -> str:
    """The fields that the API server lets nobody change, as it names them."""
    if error.status != 422:
        return ""
    return ", ".join(sorted({cause.get("field", "") for cause in error.causes if _FIXED.search(cause.get("message", ""))}))


def _same(before: Object, after: Object) -> bool:
    """Whether an apply changed anything but its own bookkeeping."""
    return _comparable(before) == _comparable(after)


def _comparable(obj: Object) -> Object:
    metadata = {key: value for key, value in obj["metadata"].items() if key not in ("managedFields", "resourceVersion", "generation")}
    return {**{key: value for key, value in obj.items() if key not in ("status", "metadata")}, "metadata": metadata}


def diff_of(changes: t.Iterable[Change]) -> list[Object]:
    """One entry for each changed object, as Ansible shows them."""
    entries = []
    for change in changes:
        if not change.changed:
            continue
        before, after = presentable(change.before, change.after)
        name = change.definition.describe()
        entries.append({"before": before, "after": after, "before_header": name, "after_header": name})
    return entries
