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
from ansible_collections.homelab.gpu.plugins.plugin_utils._device_plugin import LABEL, MPS_PREFIX, NAME_PREFIX, RESOURCES

__all__ = ["Evidence", "Verdict", "judge"]

Object = t.Mapping[str, t.Any]

_IDLE = "No devices found. Waiting indefinitely"
_MPS_IDLE = "No devices are configured for MPS sharing"
_MPS_FAILED = "Failed to start MPS daemon"
_MPS_UNREACHED = "error waiting for MPS daemon"
# What the plugin and the MPS daemon say at the beginning of each try; they run on after one that failed
_PLUGIN_TRY, _MPS_TRY = "Starting Plugins.", "Starting Daemons."
_LAST_LINES = 3
# Pods of any DaemonSet tolerate them
_ALWAYS_TOLERATED = tuple(
    f"node.kubernetes.io/{name}" for name in ("not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")
)


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
    mps_pods: t.Sequence[Object] = ()
    """Likewise, of MPS daemons."""
    logs: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    """By pod."""
    runtime_class: str = "nvidia"
    runtime_classes: t.Sequence[str] | None = None
    """Not known, if None."""

    @property
    def plugin_pods(self) -> list[Object]:
        """Those of the wanted config: the namespace may have others."""
        return self._of_config(self.pods)

    @property
    def daemon_pods(self) -> list[Object]:
        return self._of_config(self.mps_pods)

    def _of_config(self, pods: t.Sequence[Object]) -> list[Object]:
        return [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(LABEL) == self.slices["key"]]


@dataclasses.dataclass(frozen=True)
class Verdict:
    link: str
    """gpu, driver, runtime, runtime_class, node, label, daemon_set, mps, pod, idle, unhealthy, allocatable, or an empty string."""
    text: str
    restart: bool = False
    """Whether a new pod of the plugin, and of the MPS daemon if that is the link, could mend it."""


def judge(found: Evidence) -> Verdict:
    """The first link that is broken; the later ones depend on it."""
    # Where no GPU shall be offered, none of the others is needed
    for look in (_gpu, _driver, _runtime, _node, _label, _daemon_set, _mps, _pod, _offer) if found.slices["allocatable"] else (_offer,):
        verdict = look(found)
        if verdict:
            return verdict
    return Verdict("", f"{found.node['metadata']['name']} offers what it should")


def _gpu(found: Evidence) -> Verdict | None:
    if not found.gpus:
        return Verdict("gpu", f"the host has no NVIDIA GPU now; {_driver_state(found)}")
    broken = [gpu for gpu in found.gpus if gpu["state"] != "ready"]
    if broken:
        first = broken[0]
        return Verdict("gpu", f"GPU {first.get('pci_address') or '?'} is in the state {first['state']}: {first.get('state_reason') or 'no reason is given'}")
    return None


def _driver(found: Evidence) -> Verdict | None:
    if found.driver.get("state") not in ("ready", "no_nvidia_smi"):
        return Verdict("driver", _driver_state(found))
    return None


def _driver_state(found: Evidence) -> str:
    return f"the driver's state is {found.driver.get('state') or 'unknown'}: {found.driver.get('message') or 'no message'}"


def _runtime(found: Evidence) -> Verdict | None:
    if found.runtime.get("state") != "registered":
        return Verdict("runtime", found.runtime.get("reason") or f"the runtime's state is {found.runtime.get('state') or 'unknown'}")
    handlers = [handler.get("name") for handler in (found.node.get("status") or {}).get("runtimeHandlers") or []]
    if handlers and "nvidia" not in handlers:
        return Verdict("runtime", f"the kubelet knows no runtime nvidia, only {', '.join(name for name in handlers if name) or 'its default'}; restart K3s")
    if found.runtime_classes is not None and found.runtime_class not in found.runtime_classes:
        return Verdict(
            "runtime_class",
            f"the cluster has no RuntimeClass {found.runtime_class}{', only ' if found.runtime_classes else ''}{', '.join(sorted(found.runtime_classes))}; "
            "K3s brings it, so it was deleted: restart K3s on a server",
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
    return _scheduled(found, "daemon_set", NAME_PREFIX, found.plugin_pods)


def _scheduled(found: Evidence, link: str, prefix: str, pods: t.Sequence[Object]) -> Verdict | None:
    name = f"{prefix}{found.slices['key']}"
    daemon_set = next((one for one in found.daemon_sets if one["metadata"]["name"] == name), None)
    if daemon_set is None:
        return Verdict(link, f"its label {LABEL} chooses the DaemonSet {name}, which does not exist")
    if not pods:
        taints = [
            f"{taint['key']}{'=' if taint.get('value') else ''}{taint.get('value') or ''}:{taint['effect']}"
            for taint in (found.node.get("spec") or {}).get("taints") or []
            if _keeps_away(taint, daemon_set)
        ]
        because = f"; the node has the taints {', '.join(taints)}: put them into nvidia_device_plugin_tolerations" if taints else ""
        return Verdict(link, f"the DaemonSet {name} has no pod on the node{because}")
    return None


def _keeps_away(taint: Object, daemon_set: Object) -> bool:
    if taint["key"] in _ALWAYS_TOLERATED or taint["effect"] == "PreferNoSchedule":
        return False
    template = (daemon_set.get("spec") or {}).get("template") or {}
    return not any(
        one.get("key") in (None, "", taint["key"])
        and one.get("effect") in (None, "", taint["effect"])
        and (one.get("operator") == "Exists" or (one.get("value") or "") == (taint.get("value") or ""))
        for one in (template.get("spec") or {}).get("tolerations") or []
    )


def _mps(found: Evidence) -> Verdict | None:
    """The plugin's pod starts only after the MPS daemon is ready, and then asks it for an answer."""
    if found.slices["sharing"] != "mps":
        return None
    verdict = _scheduled(found, "mps", MPS_PREFIX, found.daemon_pods) or _runs(found, "mps", "the MPS daemon's pod", found.daemon_pods)
    if verdict:
        return verdict
    name, log = _newest(found, found.daemon_pods)
    if _MPS_IDLE in log:
        return Verdict("mps", f"the MPS daemon's pod {name} runs, but found no GPU when it started and will not look again", restart=True)
    failed = _said(log, _MPS_TRY, _MPS_FAILED)
    if failed:
        return Verdict("mps", f"the MPS daemon's pod {name} runs, but MPS does not start on the GPUs: {failed}", restart=True)
    plugin, log = _newest(found, found.plugin_pods)
    unreached = _said(log, _PLUGIN_TRY, _MPS_UNREACHED)
    if unreached:
        return Verdict("mps", f"the MPS daemon of pod {name} does not answer the plugin's pod {plugin}: {unreached}", restart=True)
    return None


def _said(log: str, beginning: str, what: str) -> str:
    """From there on, the line that says so since the last beginning."""
    line = next((line for line in log.rpartition(beginning)[2].splitlines() if what in line), "")
    return line[line.find(what) :].strip()


def _newest(found: Evidence, pods: t.Sequence[Object]) -> tuple[str, str]:
    """Name and log."""
    name = max(pods, key=_created)["metadata"]["name"]
    return name, found.logs.get(name) or ""


def _created(pod: Object) -> str:
    return pod["metadata"].get("creationTimestamp") or ""


def _pod(found: Evidence) -> Verdict | None:
    verdict = _runs(found, "pod", "the plugin's pod", found.plugin_pods)
    if verdict:
        return verdict
    name, log = _newest(found, found.plugin_pods)
    if _IDLE in log:
        return Verdict("idle", f"the plugin's pod {name} runs, but found no GPU when it started and will not look again", restart=True)
    return None


def _runs(found: Evidence, link: str, what: str, pods: t.Sequence[Object]) -> Verdict | None:
    pod = max(pods, key=_created)
    name, log = _newest(found, pods)
    status = pod.get("status") or {}
    before = [one for one in status.get("initContainerStatuses") or [] if ((one.get("state") or {}).get("terminated") or {}).get("exitCode") != 0]
    for container in [*before, *(status.get("containerStatuses") or [])]:
        state = container.get("state") or {}
        stopped = state.get("waiting") or state.get("terminated")
        if stopped:
            ended = (container.get("lastState") or {}).get("terminated") or {}
            reason = stopped.get("reason") or "no reason is given"
            told = stopped.get("message") or ended.get("message") or ended.get("reason") or "no message"
            crashes = reason == "CrashLoopBackOff" or bool(state.get("terminated"))
            return Verdict(link, f"{what} {name} does not run: {reason}: {told}{_last_lines(log)}", restart=crashes)
    if status.get("phase") != "Running":
        reasons = [
            f"{entry['type']}: {entry.get('message') or entry.get('reason') or 'no reason is given'}"
            for entry in status.get("conditions") or []
            if entry.get("status") == "False"
        ]
        return Verdict(link, f"{what} {name} is {status.get('phase') or 'in no known phase'}: {'; '.join(reasons) or 'no reason is given'}")
    return None


def _offer(found: Evidence) -> Verdict | None:
    status, resource, wanted = found.node.get("status") or {}, found.slices["resource"], found.slices["allocatable"]

    def count(kind: str, name: str) -> int:
        return int(quantity((status.get(kind) or {}).get(name) or "0"))

    offered, capacity = count("allocatable", resource), count("capacity", resource)
    if offered == wanted:
        other = next((name for name in RESOURCES if name != resource and count("allocatable", name)), None)
        if other:
            return Verdict("allocatable", f"the node offers {count('allocatable', other)} of {other} as well: another device plugin runs there; remove it")
        return None
    if offered < capacity == wanted:
        return Verdict(
            "unhealthy",
            f"{capacity - offered} of {capacity} slices are unhealthy to the plugin, for ever: it never takes back what an Xid told it",
            restart=True,
        )
    names = ", ".join(pod["metadata"]["name"] for pod in found.plugin_pods)
    because = f"the plugin's pod {names} runs with another config" if names else "another device plugin runs there"
    return Verdict(
        "allocatable",
        f"the node offers {offered} of {resource} instead of {wanted}, and has registered {capacity}: {because}, "
        "or the kubelet does not take what it registers",
        restart=bool(names),
    )


def _last_lines(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()][-_LAST_LINES:]
    return f". The last it said: {' | '.join(lines)}" if lines else ""
