# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# How pods of one service keep away from each other. Pure.

from __future__ import annotations

import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._node_settings import label_problems
from ansible_collections.homelab.gpu.plugins.module_utils._options import suggestion

__all__ = ["HOST", "PRESETS", "ZONE", "placement"]

HOST = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"

# Weights by topology; none of them stands for a must
_PREFERRED = {"none": {}, "preferred-host": {HOST: 100}, "zone-then-host": {ZONE: 100, HOST: 50}}
PRESETS = (*_PREFERRED, "required-host")


def placement(preset: t.Any, labels: t.Any, spread: bool = False) -> dict[str, t.Any]:
    """What of it belongs into the spec of a pod with these labels: C(affinity), C(topologySpreadConstraints), or nothing."""
    if preset not in PRESETS:
        raise InputError(f"the preset is {preset!r}; use one of {', '.join(PRESETS)}{suggestion(str(preset), PRESETS)}")
    if not isinstance(labels, t.Mapping) or not labels:
        raise InputError(f"labels are {labels!r}; give those by which the service's own pods are known, for example app: vllm-server")
    for what, fix in label_problems(labels):
        raise InputError(f"{what}; {fix}")
    selector = {"matchLabels": dict(labels)}
    weights = _PREFERRED.get(preset, {})
    found: dict[str, t.Any] = {}
    if preset == "required-host":
        term = {"labelSelector": selector, "topologyKey": HOST}
        found["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    elif weights:
        preferred = [{"weight": weight, "podAffinityTerm": {"labelSelector": selector, "topologyKey": key}} for key, weight in weights.items()]
        found["affinity"] = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    if spread:
        keys = weights or {HOST: 100}
        found["topologySpreadConstraints"] = [
            {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector} for key in keys
        ]
    return found
