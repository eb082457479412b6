# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
# Pure: an object in, a verdict out. What can be demanded of objects besides being ready, there, or gone.

from __future__ import annotations

import typing as t
from decimal import Decimal

from ansible_collections.homelab.gpu.plugins.module_utils._errors import KubeError
from ansible_collections.homelab.gpu.plugins.module_utils._quantity import QuantityError, quantity
from ansible_collections.homelab.gpu.plugins.module_utils._ready import Verdict, by_condition, outdated, readiness

if t.TYPE_CHECKING:
    from ansible_collections.homelab.gpu.plugins.module_utils._expressions import Expression

__all__ = ["WITH_REPLICAS", "all_of", "has_condition", "has_replicas", "offers", "satisfies"]

Object = t.Mapping[str, t.Any]
Judge = t.Callable[[t.Any], Verdict]

# What has failed stays so; conditions of other kinds come and go
_WITH_AN_END = frozenset({"Job", "Pod"})
# How many there are, and how many of them are ready
WITH_REPLICAS: t.Final = {
    "DaemonSet": ("currentNumberScheduled", "numberReady"),
    "Deployment": ("replicas", "readyReplicas"),
    "ReplicaSet": ("replicas", "readyReplicas"),
    "ReplicationController": ("replicas", "readyReplicas"),
    "StatefulSet": ("replicas", "readyReplicas"),
}


def all_of(judges: t.Sequence[Judge]) -> Judge:
    """What every one of C(judges) calls right."""
    if len(judges) == 1:
        return judges[0]

    def judge(obj: Object) -> Verdict:
        verdicts = [judge(obj) for judge in judges]
        failed = [verdict for verdict in verdicts if verdict.failed]
        return Verdict(
            all(verdict.ok for verdict in verdicts),
            ", ".join(verdict.what for verdict in verdicts),
            failed=bool(failed),
            patience=min((verdict.patience for verdict in failed), default=0.0),
        )

    return judge


def has_condition(name: str, status: str, reason: str | None) -> Judge:
    """A condition of the object's present generation."""

    def judge(obj: Object) -> Verdict:
        unseen = outdated(obj)
        if unseen is not None:
            return unseen
        verdict = by_condition(obj, name, status, reason)
        end = readiness(obj)
        if not verdict.ok and end.failed and obj.get("kind") in _WITH_AN_END:
            return Verdict(False, f"{verdict.what}, {end.what}", failed=True)
        return verdict

    return judge


def offers(wanted: t.Mapping[str, Decimal]) -> Judge:
    """A node that has exactly so much to offer; what it does not have at all counts as 0."""

    def judge(node: Object) -> Verdict:
        found = (node.get("status") or {}).get("allocatable") or {}
        good, parts = True, []
        for resource, amount in wanted.items():
            text = found.get(resource, "0")
            try:
                same = quantity(text) == amount
            except QuantityError:
                same = False
            good = good and same
            parts.append(f"{resource}: {text}" if same else f"{resource}: {text}, not {amount.normalize():f}")
        return Verdict(good, ", ".join(parts))

    return judge


def has_replicas(wanted: int) -> Judge:
    """A workload with exactly so many replicas, all of them ready."""

    def judge(workload: Object) -> Verdict:
        status = workload.get("status") or {}
        total, ready = (status.get(field) or 0 for field in WITH_REPLICAS[str(workload["kind"])])
        if total == ready == wanted:
            return Verdict(True, f"replicas: {total}")
        return Verdict(False, f"replicas: {total}, ready: {ready}, not {wanted}")

    return judge


def satisfies(expression: Expression) -> Judge:
    """An object of which a JMESPath expression is true."""

    def judge(obj: Object) -> Verdict:
        try:
            value = expression.value(obj)
        except KubeError as error:
            return Verdict(False, str(error))
        # The value of an expression on a Secret is likely to be one
        text = repr(bool(value) if obj.get("kind") == "Secret" else value)
        return Verdict(bool(value), f"expression gives {text if len(text) <= 200 else text[:197] + '...'}")

    return judge
