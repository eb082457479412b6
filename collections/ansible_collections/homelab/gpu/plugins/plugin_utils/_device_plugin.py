# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# How nodes come from one config of the device plugin to another. Each config has a DaemonSet of its own, and a node's label chooses one.

from __future__ import annotations

import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._quantity import quantity

__all__ = ["CLOSED_BY", "LABEL", "MPS_PREFIX", "NAME_PREFIX", "RESOURCES", "plan"]

Object = t.Mapping[str, t.Any]

LABEL = "homelab.gpu/device-plugin-config"
# On a node that was made unschedulable for a drain: who has to open it again, whatever becomes of the run
CLOSED_BY = "homelab.gpu/closed-by"
_CLOSER = "nvidia_device_plugin"
NAME_PREFIX = "nvidia-device-plugin-"
MPS_PREFIX = "nvidia-mps-control-daemon-"
_KEY = re.compile(r".+-x(?P<replicas>\d+)-[0-9a-f]{8}")
RESOURCES = ("nvidia.com/gpu", "nvidia.com/gpu.shared")


def plan(wanted: t.Mapping[str, Object], nodes: t.Sequence[Object], daemon_sets: t.Sequence[Object], pods: t.Sequence[Object]) -> dict[str, t.Any]:
    """What has to be done.

    C(wanted) has for each node of this run what C(gpu_slicing) told, C(nodes) are all nodes of the cluster, C(daemon_sets) those of the plugin's namespace, and
    C(pods) those that use a GPU, as C({namespace, name, node}).
    """
    found = {node["metadata"]["name"]: node for node in nodes}
    names = {daemon_set["metadata"]["name"] for daemon_set in daemon_sets}
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise InputError(f"{missing[0]} is no node of this cluster, which has {', '.join(sorted(found)) or 'none'}")
    steps = []
    for name, slices in sorted(wanted.items()):
        labels = found[name]["metadata"].get("labels") or {}
        before = labels.get(LABEL)
        key = slices["key"] if slices["allocatable"] else None
        reason = _why_drained(found[name], before, slices, has_mps=f"{MPS_PREFIX}{before}" in names) if before != key else ""
        users = sorted(f"{pod['namespace']}/{pod['name']}" for pod in pods if pod["node"] == name)
        closed = bool((found[name].get("spec") or {}).get("unschedulable"))
        ours = (found[name]["metadata"].get("annotations") or {}).get(CLOSED_BY) == _CLOSER
        drain = reason if users else ""
        steps.append(
            {
                "name": name,
                "before": before,
                "key": key,
                "allocatable": {resource: slices["allocatable"] if resource == slices["resource"] else 0 for resource in RESOURCES},
                "drain": drain,
                # One that somebody else closed stays closed
                "close": _schedulability(name, closed=True) if drain and not closed else None,
                "open": _schedulability(name, closed=False) if ours or (drain and not closed) else None,
                "pods": users,
            }
        )
    after = {name: (node["metadata"].get("labels") or {}).get(LABEL) for name, node in found.items()} | {step["name"]: step["key"] for step in steps}
    in_use = {f"{prefix}{key}" for key in after.values() if key for prefix in (NAME_PREFIX, MPS_PREFIX)}
    configs = {one["key"]: {"key": one["key"], "config": one["config"], "mps": one["sharing"] == "mps"} for one in wanted.values() if one["allocatable"]}
    return {
        "nodes": steps,
        "configs": [config for _key, config in sorted(configs.items())],
        "stale": sorted(name for name in names - in_use if _is_ours(name)),
    }


def _schedulability(name: str, *, closed: bool) -> Object:
    """As C(kube_node) takes it."""
    return {"name": name, "unschedulable": closed, "annotations": {CLOSED_BY: _CLOSER if closed else None}}


def _is_ours(name: str) -> bool:
    """Others have names with these beginnings, too, such as nvidia-device-plugin-mps-control-daemon."""
    return any(name.startswith(prefix) and _KEY.fullmatch(name.removeprefix(prefix)) for prefix in (NAME_PREFIX, MPS_PREFIX))


def _why_drained(node: Object, before: str | None, slices: Object, *, has_mps: bool) -> str:
    """Why pods must let go of their slices first, or nothing: then all devices that they hold are there afterwards, too."""
    if not slices["allocatable"]:
        return ""
    old = _old_replicas(node, before, gpus=slices["allocatable"] // slices["replicas"])
    if old is None:
        return ""
    # A GPU belongs to one MPS daemon or to its users, and users of a daemon do not outlive it
    if slices["sharing"] == "mps":
        return "another MPS daemon takes over the GPUs" if has_mps else "MPS takes over the GPUs"
    if has_mps:
        return "the MPS daemon of the GPUs goes"
    capacity = (node.get("status") or {}).get("capacity") or {}
    renamed = [name for name in RESOURCES if name != slices["resource"] and quantity(str(capacity.get(name, "0"))) > 0]
    if renamed:
        return f"slices are called {slices['resource']} instead of {renamed[0]}"
    new = slices["replicas"]
    if old > new:
        return f"{new} instead of {old} slices of each GPU"
    if old == 1 and new > 1:
        return f"{new} slices instead of whole GPUs"
    return ""


def _old_replicas(node: Object, before: str | None, gpus: int) -> int | None:
    known = _KEY.fullmatch(before or "")
    if known:
        return int(known["replicas"])
    capacity = (node.get("status") or {}).get("capacity") or {}
    offered = sum(int(quantity(str(capacity.get(name, "0")))) for name in RESOURCES)
    # By another plugin, or another config: in how many slices is not known, but all GPUs of a node are shared alike
    return -(-offered // gpus) or None
