# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# From the GPU in its slot to what its node offers there is a chain of links, each of which fails silently. Which one is broken?

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._quantity import quantity
from ansible_collections.homelab.gpu.plugins.plugin_utils._device_plugin import LABEL, NAME_PREFIX

__all__ = ["Evidence", "Verdict", "judge"]

Object = t.Mapping[str, t.Any]

_IDLE = "No devices found. Waiting indefinitely"
_LAST_LINES = 3


@dataclasses.dataclass(frozen=True)
class Evidence:
    slices: Object
    """What C(gpu_slicing) told."""
    gpus: t.Sequence[Object]
    driver: Object
    runtime: Object
    """What C(k3s_runtime_info) told."""
    node: Object
    daemon_sets: t.Sequence[Object] = ()
    pods: t.Sequence[Object] = ()
    """Of the plugin's namespace, on this node."""
    logs: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    """By pod."""
    runtime_class: str = "nvidia"
    runtime_classes: t.Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Verdict:
    link: str
    """gpu, driver, runtime, runtime_class, node, label, daemon_set, pod, idle, unhealthy, allocatable, or an empty string."""
    text: str
    restart: bool = False
    """Whether a new pod of the plugin could mend it."""


def judge(found: Evidence) -> Verdict:
    """The first link that is broken; the later ones depend on it."""
    for look in (_gpu, _driver, _runtime, _node, _label, _daemon_set, _pod, _offer):
        verdict = look(found)
        if verdict:
            return verdict
    return Verdict("", f"{found.node['metadata']['name']} offers what it should")


def _gpu(found: Evidence) -> Verdict | None:
    if not found.gpus:
        return Verdict(
            "gpu", f"the host has no NVIDIA GPU now; the driver's state is {found.driver.get('state')}: {found.driver.get('message') or 'no message'}"
        )
    broken = [gpu for gpu in found.gpus if gpu["state"] != "ready"]
    if broken:
        return Verdict("gpu", f"GPU {broken[0]['pci_address']} is in the state {broken[0]['state']}: {broken[0]['state_reason']}")
    return None


def _driver(found: Evidence) -> Verdict | None:
    if found.driver.get("state") not in ("ready", "no_nvidia_smi"):
        return Verdict("driver", f"the driver's state is {found.driver.get('state')}: {found.driver.get('message')}")
    return None


def _runtime(found: Evidence) -> Verdict | None:
    if found.runtime.get("state") != "registered":
        return Verdict("runtime", f"{found.runtime.get('reason')}")
    handlers = [handler.get("name") for handler in (found.node.get("status") or {}).get("runtimeHandlers") or []]
    if handlers and "nvidia" not in handlers:
        return Verdict("runtime", f"the kubelet knows no runtime nvidia, only {', '.join(name for name in handlers if name)}; restart K3s")
    if found.runtime_classes and found.runtime_class not in found.runtime_classes:
        return Verdict(
            "runtime_class",
            f"the cluster has no RuntimeClass {found.runtime_class}, only {', '.join(sorted(found.runtime_classes))}; K3s brings it, so it was deleted: "
            "restart K3s on a server",
        )
    return None


def _node(found: Evidence) -> Verdict | None:
    conditions = {entry["type"]: entry for entry in (found.node.get("status") or {}).get("conditions") or []}
    ready = conditions.get("Ready", {})
    if ready.get("status") != "True":
        return Verdict("node", f"the node is not ready: {ready.get('message') or 'its kubelet does not report'}")
    return None


def _label(found: Evidence) -> Verdict | None:
    has = (found.node["metadata"].get("labels") or {}).get(LABEL)
    if has != found.slices["key"]:
        return Verdict("label", f"its label {LABEL} is {has or 'missing'} instead of {found.slices['key']}; something else sets it")
    return None


def _daemon_set(found: Evidence) -> Verdict | None:
    name = f"{NAME_PREFIX}{found.slices['key']}"
    daemon_set = next((one for one in found.daemon_sets if one["metadata"]["name"] == name), None)
    if daemon_set is None:
        return Verdict("daemon_set", f"its label {LABEL} chooses the DaemonSet {name}, which does not exist")
    if not found.pods:
        taints = [f"{taint['key']}={taint.get('value', '')}:{taint['effect']}" for taint in (found.node.get("spec") or {}).get("taints") or []]
        because = f"; the node has the taints {', '.join(taints)}: put them into nvidia_device_plugin_tolerations" if taints else ""
        return Verdict("daemon_set", f"the DaemonSet {name} has no pod on the node{because}")
    return None


def _pod(found: Evidence) -> Verdict | None:
    pod = max(found.pods, key=lambda one: one["metadata"].get("creationTimestamp") or "")
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    log = _last_lines(found.logs.get(name, ""))
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting")
        if waiting:
            ended = (container.get("lastState") or {}).get("terminated") or {}
            told = waiting.get("message") or ended.get("message") or waiting.get("reason")
            return Verdict(
                "pod", f"the plugin's pod {name} does not run: {waiting.get('reason')}: {told}{log}", restart=waiting.get("reason") == "CrashLoopBackOff"
            )
    if status.get("phase") != "Running":
        reasons = [
            f"{entry['type']}: {entry.get('message') or entry.get('reason')}" for entry in status.get("conditions") or [] if entry.get("status") == "False"
        ]
        return Verdict("pod", f"the plugin's pod {name} is {status.get('phase')}: {'; '.join(reasons) or 'no reason is given'}")
    if _IDLE in found.logs.get(name, ""):
        return Verdict("idle", f"the plugin's pod {name} runs, but found no GPU when it started and will not look again", restart=True)
    return None


def _offer(found: Evidence) -> Verdict | None:
    status, wanted = found.node.get("status") or {}, found.slices
    offered, capacity = (int(quantity(str((status.get(kind) or {}).get(wanted["resource"], "0")))) for kind in ("allocatable", "capacity"))
    if offered == wanted["allocatable"]:
        return None
    names = ", ".join(pod["metadata"]["name"] for pod in found.pods)
    if offered < capacity == wanted["allocatable"]:
        return Verdict(
            "unhealthy",
            f"{capacity - offered} of {capacity} slices are unhealthy to the plugin, for ever: it never takes back what an Xid told it",
            restart=True,
        )
    return Verdict(
        "allocatable",
        f"the node offers {offered} of {wanted['resource']} instead of {wanted['allocatable']}, and has registered {capacity}: "
        f"the plugin's pod {names} runs with another config, or the kubelet does not take what it registers",
        restart=True,
    )


def _last_lines(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()][-_LAST_LINES:]
    return f". The last it said: {' | '.join(lines)}" if lines else ""
