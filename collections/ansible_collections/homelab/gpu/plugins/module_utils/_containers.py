# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
# Pure: the containers of a pod, by name and state.

from __future__ import annotations

import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._resources import describe

__all__ = ["container_names", "container_status", "instance", "is_over", "one_container", "state"]

Object = t.Mapping[str, t.Any]

_DEFAULT = "kubectl.kubernetes.io/default-container"
_SPECS = ("initContainers", "containers", "ephemeralContainers")
_STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


def container_names(pod: Object) -> list[str]:
    """All of them, in the order in which they are started."""
    spec = pod.get("spec") or {}
    return [container["name"] for section in _SPECS for container in spec.get(section) or []]


def one_container(pod: Object, wanted: str | None, fix: str = "set container to one of them") -> str:
    """The container that is meant: the named one, the one that the pod calls its default, or the only one."""
    names = container_names(pod)
    if wanted is not None:
        if wanted not in names:
            raise InputError(f"container is {wanted!r}, but {describe(pod)} has {', '.join(names)}; {fix}")
        return wanted
    default = ((pod.get("metadata") or {}).get("annotations") or {}).get(_DEFAULT)
    if default in names:
        return str(default)
    started_together = [container["name"] for container in (pod.get("spec") or {}).get("containers") or []]
    if len(started_together) == 1:
        return str(started_together[0])
    raise InputError(f"container is not set, and {describe(pod)} has {', '.join(names)}; {fix}")


def container_status(pod: Object, name: str) -> Object:
    status = pod.get("status") or {}
    return next((entry for section in _STATUSES for entry in status.get(section) or [] if entry.get("name") == name), {})


def state(pod: Object, name: str) -> tuple[str, str]:
    """running, waiting, or terminated, or nothing if the kubelet has not told yet; and why."""
    for kind, found in (container_status(pod, name).get("state") or {}).items():
        why = [found[key] for key in ("reason", "message") if found.get(key)]
        if kind == "terminated":
            why.insert(0, f"exit code {found.get('exitCode')}")
        return kind, ", ".join(why)
    return "", ""


def instance(pod: Object, name: str) -> str | None:
    """What tells the run of a container that has a log from the runs before it; None if it never ran."""
    status = container_status(pod, name)
    current, last = status.get("state") or {}, status.get("lastState") or {}
    if current.get("running") is not None:
        return str(status.get("containerID") or status.get("restartCount"))
    ended = current.get("terminated") or last.get("terminated")
    return str(ended.get("containerID") or status.get("restartCount")) if ended else None


def is_over(pod: Object) -> bool:
    """Whether none of its containers will run again."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
