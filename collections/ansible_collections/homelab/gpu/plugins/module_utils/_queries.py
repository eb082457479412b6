# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
# Reading objects: what is asked for, checked before anything is sent, and what comes of it.

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._client import KindNotServed
from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, InputError
from ansible_collections.homelab.gpu.plugins.module_utils._expressions import Expression
from ansible_collections.homelab.gpu.plugins.module_utils._resources import check_kind

if t.TYPE_CHECKING:
    from ansible_collections.homelab.gpu.plugins.module_utils._client import Client

__all__ = ["QUERY", "Query", "queries_of", "read"]

Params = t.Mapping[str, t.Any]

QUERY: dict[str, dict[str, t.Any]] = {
    "kind": {"type": "str"},
    "api_version": {"type": "str"},
    "namespace": {"type": "str"},
    "name": {"type": "str"},
    "label_selectors": {"type": "list", "elements": "str"},
    "field_selectors": {"type": "list", "elements": "str"},
}
"""The options that say which objects are read."""


@dataclasses.dataclass(frozen=True)
class Query:
    """Objects of one kind."""

    kind: str
    api_version: str | None
    namespace: str | None
    name: str | None
    label_selector: str
    field_selector: str
    projection: Expression | None = None
    """What to make of the list of the objects."""


def queries_of(params: Params) -> list[Query]:
    """The options as queries; the simple form is one query."""
    if params["kind"] is not None:
        if params["queries"]:
            raise InputError("kind and queries exclude each other; move kind and what belongs to it into an entry of queries")
        return [_query(params, "", None)]
    beside = [option for option in QUERY if params[option] is not None]
    if beside:
        fix = "move it into the entries of queries" if params["queries"] else "add kind"
        raise InputError(f"{beside[0]} is given without kind; {fix}")
    return [_query(query, f"queries[{index}].", query["query"]) for index, query in enumerate(params["queries"])]


def _query(params: Params, where: str, projection: str | None) -> Query:
    check_kind(f"{where}kind", params["kind"])
    if params["name"] == "":
        raise InputError(f"{where}name is empty; give a name, or leave it out to read all objects")
    for option in ("label_selectors", "field_selectors"):
        if params["name"] and params[option]:
            raise InputError(f"{where}name excludes {where}{option}; give one of them")
        if any(not selector.strip() for selector in params[option] or []):
            raise InputError(f"{where}{option} contains an empty selector, which would select everything; give a selector, or leave it out")
    return Query(
        kind=params["kind"],
        api_version=params["api_version"],
        namespace=params["namespace"],
        name=params["name"],
        label_selector=",".join(params["label_selectors"] or []),
        field_selector=",".join(params["field_selectors"] or []),
        projection=None if projection is None else Expression(f"{where}query", projection),
    )


def read(client: Client, query: Query) -> list[dict[str, t.Any]]:
    """The objects, without managed fields; KindNotServed where the server knows no such kind."""
    resource = client.resource(query.kind, query.api_version)
    namespace = query.namespace if resource.namespaced else None
    if query.name:
        found = client.get(resource, query.name, (namespace or "default") if resource.namespaced else None)
        objects = [found] if found else []
    else:
        try:
            objects = client.list_all(resource, namespace, label_selector=query.label_selector, field_selector=query.field_selector).items
        except ApiError as error:
            if error.status == 404:
                raise KindNotServed(query.kind, resource.api_version) from error
            raise
    for obj in objects:
        obj["metadata"].pop("managedFields", None)
    return objects
