# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
# Revisions of workloads. Deployments keep them as ReplicaSets, StatefulSets and DaemonSets as ControllerRevisions.

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError, KubeError
from ansible_collections.homelab.gpu.plugins.module_utils._ready import Verdict, readiness, trouble
from ansible_collections.homelab.gpu.plugins.module_utils._resources import BUILTIN
from ansible_collections.homelab.gpu.plugins.module_utils._wait import Selection
from ansible_collections.homelab.gpu.plugins.module_utils._workloads import (
    CLOCK_SLACK,
    Place,
    found_all,
    hold,
    label_selector,
    made_since,
    not_concerned,
    places,
    pods_that_fail,
    template_of,
)

if t.TYPE_CHECKING:
    from ansible_collections.homelab.gpu.plugins.module_utils._client import Client
    from ansible_collections.homelab.gpu.plugins.module_utils._resources import Resource
    from ansible_collections.homelab.gpu.plugins.module_utils._wait import Judge

__all__ = [
    "Revision",
    "Rollout",
    "Wish",
    "advice_for",
    "check_wishes",
    "difference",
    "history_of",
    "marked",
    "of_revision",
    "open_rollouts",
    "rolled_out",
    "target_of",
]

Object = dict[str, t.Any]

_KINDS = ("Deployment", "StatefulSet", "DaemonSet")
_REVISION = "deployment.kubernetes.io/revision"
_FORMER = "deployment.kubernetes.io/revision-history"
_CAUSE = "kubernetes.io/change-cause"
_RESTARTED = "kubectl.kubernetes.io/restartedAt"
_TRIGGER = "homelab.gpu/restart-trigger"
_TEMPLATE_HASH = "pod-template-hash"
_REVISION_HASH = "controller-revision-hash"


@dataclasses.dataclass(frozen=True)
class Wish:
    """One entry of the option O(workloads)."""

    place: Place
    to_revision: int | None


@dataclasses.dataclass(frozen=True)
class Revision:
    """One template that a workload has, or had."""

    number: int
    template: Object
    created: str
    change_cause: str
    pod_label: tuple[str, str]
    """What its pods carry."""
    former: tuple[int, ...] = ()
    """Numbers that it had before: going back to a revision gives it a new one."""
    current: bool = False

    def shown(self) -> Object:
        return {
            "revision": self.number,
            "current": self.current,
            "created": self.created,
            "change_cause": self.change_cause,
            "images": [container.get("image", "") for container in (self.template.get("spec") or {}).get("containers") or []],
            "former_revisions": list(self.former),
        }


# Pure


def check_wishes(entries: t.Sequence[t.Mapping[str, t.Any]], namespace: str, state: str) -> list[Wish]:
    """The option O(workloads); refuses what does not fit to O(state) before anything is sent."""
    wishes = []
    for place, entry in zip(places(entries, namespace), entries):
        if place.kind not in _KINDS:
            raise InputError(f"{place.option}.kind is {place.kind}, which has no rollouts; give one of {', '.join(_KINDS)}")
        if state in ("paused", "resumed") and place.kind != "Deployment":
            hint = "; set spec.updateStrategy.rollingUpdate.partition by kube_apply to hold its pods back" if place.kind == "StatefulSet" else ""
            raise InputError(f"{place.option}.kind is {place.kind}, and state={state} is for Deployments, others cannot be paused{hint}")
        to_revision = entry.get("to_revision")
        if to_revision is not None and state != "undone":
            raise InputError(f"{place.option}.to_revision is for state=undone, not for state={state}; leave it out, or set state=undone")
        if to_revision is not None and to_revision < 1:
            raise InputError(f"{place.option}.to_revision is {to_revision}; revisions count from 1, leave it out for the one before the current")
        wishes.append(Wish(place, to_revision))
    return wishes


def history_of(workload: Object, found: t.Iterable[Object]) -> list[Revision]:
    """The revisions among ReplicaSets or ControllerRevisions, the oldest first."""
    uid = workload["metadata"]["uid"]
    revisions = []
    for obj in found:
        owners = obj["metadata"].get("ownerReferences") or []
        if any(owner.get("controller") and owner.get("uid") == uid for owner in owners):
            revision = _of_replica_set(obj) if workload["kind"] == "Deployment" else _of_controller_revision(obj, workload["kind"])
            revisions += [revision] if revision.number else []
    return marked(sorted(revisions, key=lambda revision: revision.number), workload)


def marked(history: t.Sequence[Revision], workload: Object) -> list[Revision]:
    """The revisions with the one as current whose template the workload has."""
    present = _plain_template(template_of(workload))
    number = next((revision.number for revision in reversed(history) if revision.template == present), 0)
    return [dataclasses.replace(revision, current=revision.number == number) for revision in history]


def _of_replica_set(obj: Object) -> Revision:
    annotations, labels = (obj["metadata"].get(field) or {} for field in ("annotations", "labels"))
    former = tuple(int(number) for number in (annotations.get(_FORMER) or "").split(",") if number.isdigit())
    # A ReplicaSet that has just been made has no number yet
    number = int(annotations.get(_REVISION) or 0)
    return Revision(number, _plain_template(template_of(obj)), *_origin(obj), (_TEMPLATE_HASH, labels.get(_TEMPLATE_HASH, "")), former)


def _of_controller_revision(obj: Object, kind: str) -> Revision:
    metadata = obj["metadata"]
    value = metadata["name"] if kind == "StatefulSet" else (metadata.get("labels") or {}).get(_REVISION_HASH, "")
    return Revision(int(obj.get("revision") or 0), _plain_template(template_of(obj.get("data") or {})), *_origin(obj), (_REVISION_HASH, value))


def _origin(obj: Object) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("creationTimestamp") or "", (metadata.get("annotations") or {}).get(_CAUSE) or ""


def _plain_template(template: Object) -> Object:
    """A template as a user may write it: without what controllers add when they keep it."""
    plain = t.cast("Object", _without_nulls({key: value for key, value in template.items() if key != "$patch"}))
    labels = (plain.get("metadata") or {}).get("labels") or {}
    labels.pop(_TEMPLATE_HASH, None)
    return plain


def _without_nulls(node: t.Any) -> t.Any:
    if isinstance(node, dict):
        return {key: _without_nulls(value) for key, value in node.items() if value is not None}
    return [_without_nulls(value) for value in node] if isinstance(node, list) else node


def target_of(history: t.Sequence[Revision], to_revision: int | None, what: str) -> Revision:
    """The revision to go back to."""
    known = ", ".join(str(revision.number) for revision in history) or "none"
    if to_revision is None:
        earlier = [revision for revision in history if not revision.current]
        if not earlier:
            raise KubeError(f"{what} has no earlier revision to go back to, its revisions are: {known}. Nothing was changed.", revisions=_numbers(history))
        return earlier[-1]
    for revision in reversed(history):
        if to_revision == revision.number or to_revision in revision.former:
            return revision
    raise KubeError(
        f"{what} has no revision {to_revision}, its revisions are: {known}. Nothing was changed. Correct to_revision; "
        "how many old ones are kept is said by spec.revisionHistoryLimit.",
        revisions=_numbers(history),
    )


def _numbers(history: t.Sequence[Revision]) -> list[int]:
    return [revision.number for revision in history]


def difference(current: t.Any, wanted: t.Any) -> t.Any:
    """The JSON merge patch that turns one object into another; lists are replaced as a whole."""
    patch = {}
    for key in {**current, **wanted}:
        old, new = current.get(key), wanted.get(key)
        if old == new:
            continue
        patch[key] = difference(old, new) if isinstance(old, dict) and isinstance(new, dict) else new
    return patch


def rolled_out(workload: Object, changed_at: float | None = None) -> Verdict:
    """Whether all pods are of the current template and ready; a Deployment that is paused will not come there."""
    verdict = readiness(workload, changed_at=changed_at)
    if not verdict.ok and (workload.get("spec") or {}).get("paused"):
        return Verdict(False, f"{verdict.what}, paused; set state=resumed", failed=True)
    return verdict


def advice_for(workload: Object) -> list[str]:
    """What a rollout leaves to the user."""
    strategy = (workload.get("spec") or {}).get("updateStrategy") or {}
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    if strategy.get("type") == "OnDelete":
        return ["its updateStrategy is OnDelete: a pod gets the new template only when somebody deletes the old one"]
    if partition:
        return [f"its updateStrategy has partition={partition}: pods with a lower ordinal keep their template"]
    return []


def of_revision(label: tuple[str, str], workload: Object) -> Judge:
    """The trouble of the pods of one revision, for that of others is about to end."""
    key, value = label
    others = not_concerned(workload, "of another revision")
    return lambda pod: trouble(pod) if (pod["metadata"].get("labels") or {}).get(key) == value else others(pod)


def _restart(now: str, trigger: str | None) -> t.Callable[[Object], Object | None]:
    marks = {_RESTARTED: now} if trigger is None else {_RESTARTED: now, _TRIGGER: hashlib.sha256(trigger.encode()).hexdigest()}
    decisive = _RESTARTED if trigger is None else _TRIGGER

    def patch_for(workload: Object) -> Object | None:
        found = (template_of(workload).get("metadata") or {}).get("annotations") or {}
        if found.get(decisive) == marks[decisive]:
            return None
        return {"spec": {"template": {"metadata": {"annotations": marks}}}}

    return patch_for


def _pause(paused: bool) -> t.Callable[[Object], Object | None]:
    return lambda workload: None if bool(workload["spec"].get("paused")) == paused else {"spec": {"paused": paused or None}}


def _return_to(revision: Revision) -> t.Callable[[Object], Object | None]:
    def patch_for(workload: Object) -> Object | None:
        template = difference(_plain_template(template_of(workload)), revision.template)
        if not template:
            return None
        cause = (workload["metadata"].get("annotations") or {}).get(_CAUSE) or ""
        metadata = {"metadata": {"annotations": {_CAUSE: revision.change_cause or None}}} if cause != revision.change_cause else {}
        return {**metadata, "spec": {"template": template}}

    return patch_for


# Input and output


@dataclasses.dataclass
class Rollout:
    """A workload as it was found, and its revisions."""

    client: Client
    wish: Wish
    resource: Resource
    before: Object
    history: list[Revision]
    started: float
    after: Object = dataclasses.field(init=False)
    revision_before: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.after = self.before
        self.revision_before = self.revision

    @property
    def revision(self) -> int:
        """0 where its controller has not made one of its template yet."""
        return next((revision.number for revision in self.history if revision.current), 0)

    @property
    def changed(self) -> bool:
        return bool(self.before["spec"] != self.after["spec"])

    def check(self, state: str) -> None:
        """Fails if the state cannot be reached; called for all before the first one is changed."""
        what = self.wish.place.describe()
        if state in ("restarted", "undone") and self.before["spec"].get("paused"):
            raise KubeError(f"{what} is paused, so nothing would come of it. Nothing was changed. Set state=resumed first.")
        if state == "undone":
            target_of(self.history, self.wish.to_revision, what)

    def carry_out(self, state: str, trigger: str | None, *, dry_run: bool) -> None:
        place = self.wish.place
        if state == "restarted":
            now = datetime.datetime.fromtimestamp(self.client.server_time(), datetime.timezone.utc)
            patch_for = _restart(now.strftime("%Y-%m-%dT%H:%M:%SZ"), trigger)
        elif state == "undone":
            patch_for = _return_to(target_of(self.history, self.wish.to_revision, place.describe()))
        elif state in ("paused", "resumed"):
            patch_for = _pause(state == "paused")
        else:
            return
        path = self.resource.path(place.namespace, place.name)
        self.after = hold(self.client, path, self.before, patch_for, dry_run=dry_run)
        self.history = marked(self.history, self.after)

    def selections(self) -> list[Selection]:
        """What a wait has to watch."""
        place = self.wish.place
        # A patch that only removes fields leaves no time in the object
        changed_at = self.started if template_of(self.before) != template_of(self.after) else None
        judge = functools.partial(rolled_out, changed_at=changed_at)
        found = [Selection(kind=place.kind, namespace=place.namespace, names=(place.name,), judge=judge)]
        current = next((revision for revision in self.history if revision.current), None)
        pods = made_since(self.started, self.before) if self.changed or current is None else of_revision(current.pod_label, self.before)
        failing = pods_that_fail(label_selector(self.before), place.namespace, pods)
        return [*found, failing] if failing else found

    def renew_history(self) -> None:
        """After a wait, by which the controller has made the revision of a new template."""
        if self.changed or not self.revision:
            self.history = _read_history(self.client, self.after)


def open_rollouts(client: Client, wishes: t.Sequence[Wish]) -> list[Rollout]:
    """Reads what has to be known; nothing is changed."""
    started = client.server_time() - CLOCK_SLACK
    found = found_all(client, [wish.place for wish in wishes])
    return [Rollout(client, wish, resource, obj, _read_history(client, obj), started) for wish, (resource, obj) in zip(wishes, found)]


def _read_history(client: Client, workload: Object) -> list[Revision]:
    kind = "ReplicaSet" if workload["kind"] == "Deployment" else "ControllerRevision"
    selector = label_selector(workload)
    return history_of(workload, client.list_all(BUILTIN[kind], workload["metadata"]["namespace"], label_selector=selector).items)
