# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.

from __future__ import annotations

import copy
import re
import time
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, InputError, KubeError
from ansible_collections.homelab.gpu.plugins.module_utils._resources import BUILTIN

if t.TYPE_CHECKING:
    from ansible_collections.homelab.gpu.plugins.module_utils._client import Client

__all__ = ["check_wishes", "hold_nodes", "node_patch"]

Object = dict[str, t.Any]

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_CONFLICT_ATTEMPTS = 20
_CONFLICT_PAUSE = 0.01


# Pure


def check_wishes(wishes: t.Sequence[t.Mapping[str, t.Any]]) -> list[Object]:
    """The option O(nodes) with plain values; refuses what the API server would refuse, and what contradicts itself."""
    if not wishes:
        raise InputError("nodes is empty; name at least one node")
    checked: list[Object] = []
    seen: set[str] = set()
    for index, wish in enumerate(wishes):
        where = f"nodes[{index}]"
        name = wish["name"]
        if not name:
            raise InputError(f"{where}.name is empty; give the name of a node")
        if name in seen:
            raise InputError(f"{where}.name: {name} is listed twice; merge the two entries")
        seen.add(name)
        checked.append(
            {
                "name": name,
                "labels": _check_map(wish.get("labels") or {}, f"{where}.labels", _check_label_value),
                "annotations": _check_map(wish.get("annotations") or {}, f"{where}.annotations", lambda value, place: None),
                "taints": _check_taints(wish.get("taints") or [], f"{where}.taints"),
                "unschedulable": wish.get("unschedulable"),
            }
        )
    return checked


def _check_map(values: t.Mapping[str, t.Any], where: str, check: t.Callable[[str, str], None]) -> dict[str, str | None]:
    checked: dict[str, str | None] = {}
    for key, value in values.items():
        _check_key(str(key), f"{where}[{key!r}]")
        if value is None:
            checked[str(key)] = None
            continue
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, (int, float)):
            value = str(value)
        elif not isinstance(value, str):
            raise InputError(f"{where}[{key!r}] is a {type(value).__name__}; give a string, or null to remove it")
        check(value, f"{where}[{key!r}]")
        checked[str(key)] = value
    return checked


def _check_key(key: str, where: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _PREFIX.fullmatch(prefix)):
        raise InputError(f"{where}: {prefix!r} is not a DNS name; write the key as example.com/name")
    if len(name) > 63 or not _NAME.fullmatch(name):
        raise InputError(f"{where}: {name!r} is not a valid key; use at most 63 letters, digits, '-', '_', '.', with a letter or digit at both ends")


def _check_label_value(value: str, where: str) -> None:
    if value and (len(value) > 63 or not _NAME.fullmatch(value)):
        raise InputError(f"{where}: {value!r} is not a valid value; use at most 63 letters, digits, '-', '_', '.', with a letter or digit at both ends")


def _check_taints(taints: t.Sequence[t.Mapping[str, t.Any]], where: str) -> list[Object]:
    checked: list[Object] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        place = f"{where}[{index}]"
        key, effect, state = taint["key"], taint.get("effect"), taint.get("state") or "present"
        _check_key(key, f"{place}.key")
        if state == "present" and not effect:
            raise InputError(f"{place}.effect is missing; set it to one of {', '.join(_EFFECTS)} (only state=absent may leave it out)")
        if state == "absent" and taint.get("value") is not None:
            raise InputError(f"{place}.value: a taint is removed by key and effect, whatever its value; leave value out")
        _check_label_value(taint.get("value") or "", f"{place}.value")
        if any(key == other and (effect == other_effect or not effect or not other_effect) for other, other_effect in seen):
            raise InputError(f"{place}: {key}{':' + effect if effect else ''} is listed twice; keep one entry for each key and effect")
        seen.add((key, effect or ""))
        checked.append({"key": key, "value": taint.get("value") or "", "effect": effect or "", "state": state})
    return checked


def node_patch(node: t.Mapping[str, t.Any], wish: t.Mapping[str, t.Any]) -> Object | None:
    """The JSON merge patch that turns C(node) into what is wished, or None where it is so already.

    It names the resource version it was made for: taints are one list, and a writer in between must not be overwritten.
    """
    metadata = node.get("metadata") or {}
    spec = node.get("spec") or {}
    patch: Object = {}
    for field in ("labels", "annotations"):
        current = metadata.get(field) or {}
        changes = {key: value for key, value in wish[field].items() if current.get(key) != value}
        if changes:
            patch.setdefault("metadata", {})[field] = changes
    taints = _taints_after(spec.get("taints") or [], wish["taints"])
    if taints != (spec.get("taints") or []):
        patch.setdefault("spec", {})["taints"] = taints or None
    unschedulable = wish["unschedulable"]
    if unschedulable is not None and unschedulable != bool(spec.get("unschedulable")):
        patch.setdefault("spec", {})["unschedulable"] = True if unschedulable else None
    if not patch:
        return None
    patch.setdefault("metadata", {})["resourceVersion"] = metadata["resourceVersion"]
    return patch


def _taints_after(current: t.Sequence[Object], wishes: t.Sequence[Object]) -> list[Object]:
    after = [dict(taint) for taint in current]
    for wish in wishes:
        same = [taint for taint in after if taint.get("key") == wish["key"] and wish["effect"] in ("", taint.get("effect"))]
        if wish["state"] == "absent":
            after = [taint for taint in after if taint not in same]
        elif not same:
            after.append({"key": wish["key"], **({"value": wish["value"]} if wish["value"] else {}), "effect": wish["effect"]})
        elif (same[0].get("value") or "") != wish["value"]:
            same[0].pop("value", None)
            if wish["value"]:
                same[0]["value"] = wish["value"]
    return after


def settings_of(node: t.Mapping[str, t.Any], wish: t.Mapping[str, t.Any]) -> Object:
    """What of a node this module deals with: the labels and annotations wished for, and all taints."""
    metadata, spec = node.get("metadata") or {}, node.get("spec") or {}
    settings: Object = {"taints": copy.deepcopy(spec.get("taints") or []), "unschedulable": bool(spec.get("unschedulable"))}
    for field in ("labels", "annotations"):
        current = metadata.get(field) or {}
        settings[field] = {key: current[key] for key in sorted(wish[field]) if key in current}
    return settings


# Input and output


def hold_nodes(
    client: Client, wishes: t.Sequence[Object], *, dry_run: bool, sleep: t.Callable[[float], None] = time.sleep, deadline: float | None = None
) -> t.Iterator[tuple[Object, Object]]:
    """Makes each node as wished; yields its settings before and after, one node after the other.

    A node that does not exist is reported before any is changed. C(deadline) is that of each request, as Client.request has it.
    """
    resource = BUILTIN["Node"]
    if len(wishes) == 1:
        found = client.get(resource, wishes[0]["name"], deadline=deadline)
        nodes = {wishes[0]["name"]: found} if found else {}
    else:
        nodes = {node["metadata"]["name"]: node for node in client.list_all(resource, deadline=deadline).items}
    missing = [wish["name"] for wish in wishes if wish["name"] not in nodes]
    if missing:
        known = ", ".join(sorted(nodes)) or ", ".join(sorted(node["metadata"]["name"] for node in client.list_all(resource, deadline=deadline).items))
        raise KubeError(
            f"no node named {', '.join(missing)} in the cluster; it has {known or 'none'}. Wait for it to register, or correct the name.", missing=missing
        )
    for wish in wishes:
        yield _hold(client, nodes[wish["name"]], wish, dry_run, sleep, deadline)


def _hold(client: Client, node: Object, wish: Object, dry_run: bool, sleep: t.Callable[[float], None], deadline: float | None) -> tuple[Object, Object]:
    resource = BUILTIN["Node"]
    first = node
    attempt = 0
    while True:
        patch = node_patch(node, wish)
        if patch is None:
            # After a conflict it may be an earlier patch whose answer was lost that made it so
            return settings_of(first, wish), settings_of(node, wish)
        try:
            after = client.request(
                "PATCH",
                resource.path(name=wish["name"]),
                query={"dryRun": "All" if dry_run else None, "fieldManager": "homelab.gpu"},
                body=patch,
                content_type="application/merge-patch+json",
                deadline=deadline,
            )
        except ApiError as error:
            attempt += 1
            if error.status != 409 or attempt >= _CONFLICT_ATTEMPTS:
                raise
            sleep(_CONFLICT_PAUSE)
            fresh = client.get(resource, wish["name"], deadline=deadline)
            if fresh is None:
                raise KubeError(f"node {wish['name']} was removed from the cluster while it was being changed") from error
            node = fresh
            continue
        return settings_of(node, wish), settings_of(after, wish)
