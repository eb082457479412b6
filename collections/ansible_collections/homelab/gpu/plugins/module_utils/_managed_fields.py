# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# What the API server notes of who owns which fields, in metadata.managedFields ("FieldsV1" in the API reference): names of fields begin
# with f:, keys of list items with k:, values of sets with v:, and a dot stands for the thing itself. Nothing below a name means that
# the value belongs to its owner as a whole.

from __future__ import annotations

import json
import typing as t

__all__ = ["applied_by", "is_as_applied"]

Object = dict[str, t.Any]

# These name the object; they are nobody's
_IDENTITY = ("apiVersion", "kind")
_METADATA_IDENTITY = ("name", "namespace")


def applied_by(live: Object, manager: str) -> Object | None:
    """The fields that C(manager) owns by server-side apply."""
    entry = _entry(live, manager)
    return None if entry is None else t.cast("Object", entry.get("fieldsV1") or {})


def is_as_applied(live: Object, definition: Object, manager: str) -> bool:
    """Whether applying C(definition) as C(manager) can change nothing.

    It owns exactly the fields of the definition, and they have the very values of it. False where this cannot be told: the API server may
    write a value in another way than the definition, for example V(1000m) as V(1).
    """
    entry = _entry(live, manager)
    if entry is None or entry.get("apiVersion") != definition["apiVersion"] or entry.get("fieldsType", "FieldsV1") != "FieldsV1":
        return False
    wanted = {key: value for key, value in definition.items() if key not in _IDENTITY}
    metadata = {key: value for key, value in definition["metadata"].items() if key not in _METADATA_IDENTITY}
    wanted.pop("metadata")
    if metadata:
        wanted["metadata"] = metadata
    return _owns(entry.get("fieldsV1") or {}, wanted, live)


def _entry(live: Object, manager: str) -> Object | None:
    entries = [
        entry
        for entry in live["metadata"].get("managedFields") or []
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource")
    ]
    return entries[0] if len(entries) == 1 else None


def _owns(fields: Object, wanted: t.Any, live: t.Any) -> bool:
    fields = {key: below for key, below in fields.items() if key != "."}
    if not fields:
        return type(wanted) is type(live) and bool(wanted == live)
    if isinstance(wanted, dict) and isinstance(live, dict):
        if set(fields) != {f"f:{key}" for key in wanted}:
            return False
        return all(key in live and _owns(fields[f"f:{key}"], value, live[key]) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(live, list):
        return _owns_items(fields, wanted, live)
    return False


def _owns_items(fields: Object, wanted: list[t.Any], live: list[t.Any]) -> bool:
    """Items in a list that others may own items of, too; ours have to be in our order."""
    if all(key.startswith("v:") for key in fields):
        owned = [json.loads(key[2:]) for key in fields]
        return [item for item in live if item in owned] == wanted
    if not all(key.startswith("k:") for key in fields) or len(fields) != len(wanted):
        return False
    keys = [(json.loads(key[2:]), below) for key, below in fields.items()]
    mine = [(item, key, below) for item in live for key, below in keys if _has(item, key)]
    if len(mine) != len(wanted):
        return False
    return all(_fits(item, key) and _owns(below, item, found) for item, (found, key, below) in zip(wanted, mine))


def _has(item: t.Any, key: Object) -> bool:
    return isinstance(item, dict) and all(name in item and item[name] == value for name, value in key.items())


def _fits(item: t.Any, key: Object) -> bool:
    """The API server fills in parts of a key that a definition leaves out, the protocol of a port for example."""
    return isinstance(item, dict) and all(name not in item or item[name] == value for name, value in key.items())
