# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
# What a wait is for, from options to selections. Pure, but for the client that tells the server's time.

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._expressions import Expression
from ansible_collections.homelab.gpu.plugins.module_utils._predicates import WITH_REPLICAS, Judge, all_of, has_condition, has_replicas, offers, satisfies
from ansible_collections.homelab.gpu.plugins.module_utils._quantity import QuantityError, quantity
from ansible_collections.homelab.gpu.plugins.module_utils._resources import builtin, check_kind
from ansible_collections.homelab.gpu.plugins.module_utils._wait import Selection, judge_for

__all__ = ["TARGET", "Target", "targets_of"]

Params = t.Mapping[str, t.Any]

TARGET: dict[str, dict[str, t.Any]] = {
    "kind": {"type": "str"},
    "api_version": {"type": "str"},
    "namespace": {"type": "str"},
    "name": {"type": "str"},
    "names": {"type": "list", "elements": "str"},
    "label_selectors": {"type": "list", "elements": "str"},
    "field_selectors": {"type": "list", "elements": "str"},
    "at_least": {"type": "int"},
    "until": {"type": "str", "choices": ["ready", "exists", "gone", "condition", "expression"]},
    "condition": {
        "type": "dict",
        "options": {
            "type": {"type": "str", "required": True},
            "status": {"type": "str", "choices": ["True", "False", "Unknown"], "default": "True"},
            "reason": {"type": "str"},
        },
    },
    "expression": {"type": "str"},
    "allocatable": {"type": "dict"},
    "replicas": {"type": "int"},
    "kubelet_version": {"type": "str"},
    "heartbeat_seconds": {"type": "int"},
}
"""The options that say what is waited for."""

_LEAST = (("at_least", 1), ("replicas", 0), ("heartbeat_seconds", 1))


@dataclasses.dataclass(frozen=True)
class Target:
    """Objects of one kind, and what is wanted of them."""

    selection: Selection
    wanted: str
    """Completes "waiting for"."""
    heartbeat_seconds: int | None


def targets_of(params: Params) -> list[Target]:
    """The options as targets; refuses what contradicts itself before anything is sent."""
    if params["targets"] is None:
        if not params["kind"]:
            raise InputError("kind is missing; give the kind of the objects, or several of them in targets")
        return [_target(params, "")]
    beside = [option for option in TARGET if params[option] is not None]
    if beside:
        raise InputError(f"{beside[0]} stands beside targets; move it into the entries of targets")
    if not params["targets"]:
        raise InputError("targets is empty; give at least one entry, or kind")
    return [_target(target, f"targets[{index}].") for index, target in enumerate(params["targets"])]


def _target(params: Params, where: str) -> Target:
    kind, until = params["kind"], params["until"] or "ready"
    check_kind(f"{where}kind", kind)
    names = _names(params, where)
    for option in ("label_selectors", "field_selectors"):
        if any(not selector.strip() for selector in params[option] or []):
            raise InputError(f"{where}{option} contains an empty selector, which would select everything; give a selector, or leave it out")
    _check_fit(params, where, until, names)
    judges, wanted = _judges(params, where, until)
    namespace = params["namespace"]
    known = builtin(kind, params["api_version"])
    if known is not None and not known.namespaced:
        namespace = None
    elif namespace is None and names:
        namespace = "default"
    selection = Selection(
        kind=kind,
        judge=all_of(judges) if judges else None,
        api_version=params["api_version"],
        namespace=namespace,
        names=names,
        label_selector=",".join(params["label_selectors"] or []) or None,
        field_selector=",".join(params["field_selectors"] or []) or None,
        at_least=params["at_least"] or 1,
    )
    return Target(selection, f"{selection.describe()} {wanted}", params["heartbeat_seconds"])


def _names(params: Params, where: str) -> tuple[str, ...]:
    if params["name"] is not None and params["names"] is not None:
        raise InputError(f"{where}name and {where}names exclude each other; put all names into names")
    option = "name" if params["name"] is not None else "names"
    names = tuple(dict.fromkeys([params["name"]] if option == "name" else params["names"] or []))
    if any(not name for name in names):
        raise InputError(f"{where}{option} {'is' if option == 'name' else 'contains'} an empty name; give the name of each object")
    if option == "names" and params["names"] == []:
        raise InputError(f"{where}names is empty; give at least one name, or leave names out to wait for all objects")
    return names


def _check_fit(params: Params, where: str, until: str, names: tuple[str, ...]) -> None:
    kind = params["kind"]
    for option, least in _LEAST:
        if params[option] is not None and params[option] < least:
            raise InputError(f"{where}{option} is {params[option]}; it cannot be less than {least}")
    for option in ("condition", "expression"):
        if (until == option) != (params[option] is not None):
            fix = f"add {option}" if until == option else f"set until={option} or leave {option} out"
            raise InputError(f"{where}until={until} and {option} do not fit together: {fix}")
    for option in ("kubelet_version", "heartbeat_seconds"):
        if params[option] and (kind, until) != ("Node", "ready"):
            raise InputError(f"{where}{option} is for kind=Node with until=ready, not for kind={kind} with until={until}; leave it out")
    for option, kinds in (("allocatable", ("Node",)), ("replicas", tuple(WITH_REPLICAS))):
        if params[option] is not None and (kind not in kinds or until == "gone"):
            raise InputError(f"{where}{option} is for {', '.join(kinds)}, and not with until=gone; here are kind={kind} and until={until}; leave it out")
    if params["heartbeat_seconds"] and not names:
        raise InputError(f"{where}heartbeat_seconds needs name or names: leases are known by the names of their nodes")
    if params["at_least"] is not None and (names or until == "gone"):
        raise InputError(f"{where}at_least is for objects that are selected and not for those that are named or have to be gone; leave it out")


def _judges(params: Params, where: str, until: str) -> tuple[list[Judge], str]:
    """No judge at all means gone."""
    if until == "condition":
        condition = params["condition"]
        judges = [has_condition(condition["type"], condition["status"], condition["reason"])]
        wanted = f"to have the condition {condition['type']}={condition['status']}"
        if condition["reason"]:
            wanted += f" with the reason {condition['reason']}"
    elif until == "expression":
        judges, wanted = [satisfies(Expression(f"{where}expression", params["expression"]))], f"to satisfy {params['expression']}"
    else:
        judge = judge_for(until, kubelet_version=params["kubelet_version"])
        judges, wanted = [judge] if judge else [], {"ready": "to be ready", "exists": "to exist", "gone": "to be gone"}[until]
    if params["allocatable"] is not None:
        judges.append(offers(_amounts(params["allocatable"], f"{where}allocatable")))
        wanted += f" and to offer {', '.join(f'{resource}: {amount}' for resource, amount in params['allocatable'].items())}"
    if params["replicas"] is not None:
        judges.append(has_replicas(params["replicas"]))
        wanted += f" and to have replicas: {params['replicas']}"
    return judges, wanted


def _amounts(given: Params, where: str) -> dict[str, t.Any]:
    if not given:
        raise InputError(f"{where} is empty; give at least one resource, for example nvidia.com/gpu: 4")
    amounts = {}
    for resource, amount in given.items():
        try:
            amounts[str(resource)] = quantity(amount)
        except QuantityError as error:
            raise InputError(f"{where}[{resource!r}]: {error}; write it as 4, 500m or 16Gi") from error
    return amounts
