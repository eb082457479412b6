# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# What roles that run a server in a pod have in common: how their settings are judged, and what becomes of them in a pod.

from __future__ import annotations

import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._image_references import full_reference
from ansible_collections.homelab.gpu.plugins.module_utils._node_settings import SettingError, parse_taint
from ansible_collections.homelab.gpu.plugins.module_utils._quantity import QuantityError, quantity

__all__ = ["Settings", "with_node_rule"]

Object = t.Mapping[str, t.Any]

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SERVICE_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_KEY = re.compile(r"[A-Za-z0-9._-]+")
SOURCES = ("claim", "host_path", "image")
GPU_RESOURCES = ("nvidia.com/gpu", "nvidia.com/gpu.shared")
LOST_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def _is_image(text: str) -> bool:
    try:
        full_reference(text)
    except InputError:
        return False
    return True


class Settings:
    """Options of a role, by their names without the role's. All that is wrong with them is collected, and told at once: a line for each."""

    def __init__(self, role: str, given: Object) -> None:
        self.role = role
        self.given = given
        self.problems: list[str] = []

    def __getitem__(self, name: str) -> t.Any:
        return self.given[name]

    def refuse(self, name: str, why: str, shown: bool = True) -> None:
        """Name, value, and a text that goes on with what is wrong and what to do."""
        value = f" is {self.given[name.partition('.')[0].partition('[')[0]]!r}" if shown else ""
        self.problems.append(f"{self.role}_{name}{value}: {why}")

    def finish(self) -> None:
        if self.problems:
            raise InputError("\n".join(self.problems))

    def name(self, option: str, service: bool = False) -> str:
        value = self[option]
        pattern = _SERVICE_NAME if service else _NAME
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self.refuse(option, f"write small letters, digits and dashes, at most 63, beginning with a letter{'' if service else ' or digit'}")
        return str(value)

    def number(self, option: str, least: float, most: float | None = None, none: bool = False) -> t.Any:
        value = self[option]
        if value is None and none:
            return None
        if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value):
            # From a command line, or with quotes
            value = float(value) if "." in value else int(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < least or (most is not None and value > most):
            span = f"from {least} to {most}" if most is not None else f"of at least {least}"
            self.refuse(option, f"give a number {span}{', or leave it out' if none else ''}")
            return None if none else least
        return value

    def image(self, option: str) -> str:
        value = str(self[option] or "")
        if not _is_image(value):
            self.refuse(option, "name an image as registry/repository:tag")
        elif ":" not in value.rpartition("/")[2] or value.endswith(":latest"):
            self.refuse(option, "give it a version's tag, so that a restart cannot bring another version")
        return value

    def environment(self, option: str, reserved: t.Collection[str]) -> dict[str, str]:
        value = self[option]
        if not isinstance(value, t.Mapping):
            self.refuse(option, "give a mapping of names to values")
            return {}
        for name in value:
            if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
                self.refuse(option, f"{name!r} is no name of an environment variable")
            elif name in reserved:
                self.refuse(option, f"{name} is set by the role; leave it out and use the role's own option", shown=False)
            elif isinstance(value[name], (t.Mapping, list)) or value[name] is None:
                self.refuse(option, f"{name} is no text; put its value in quotes")
        return {str(name): str(text).lower() if isinstance(text, bool) else str(text) for name, text in value.items()}

    def secret(self, option: str) -> dict[str, str] | None:
        """Where a Secret holds the value; never the value itself."""
        value = self[option]
        if not value:
            return None
        if not isinstance(value, t.Mapping) or set(value) != {"name", "key"}:
            self.refuse(option, "give name and key of a Secret in the namespace", shown=False)
            return None
        if not _NAME.fullmatch(str(value["name"])) or not _SECRET_KEY.fullmatch(str(value["key"])):
            self.refuse(option, f"{value['name']!r} and {value['key']!r} have to be the name of a Secret and a key of it", shown=False)
        return {"name": str(value["name"]), "key": str(value["key"])}

    def volume(self, option: str, read_only: bool, kinds: t.Sequence[str] = SOURCES) -> dict[str, t.Any] | None:
        """A pod's volume from one of host_path, claim and image, or None if nothing is given."""
        value = self[option]
        if not value:
            return None
        if not isinstance(value, t.Mapping) or len(value) != 1 or next(iter(value)) not in kinds:
            self.refuse(option, f"give one of {', '.join(kinds)}, such as {kinds[0]}: {'/srv/models' if kinds[0] == 'host_path' else 'models'}")
            return None
        ((kind, place),) = value.items()
        if kind == "host_path":
            if not isinstance(place, str) or not place.startswith("/") or ".." in place.split("/") or place == "/":
                self.refuse(option, "host_path has to be an absolute path below /")
            # What is only read has to be there; what is written may be made
            return {"hostPath": {"path": place, "type": "Directory" if read_only else "DirectoryOrCreate"}}
        if kind == "claim":
            if not isinstance(place, str) or not _NAME.fullmatch(place):
                self.refuse(option, "claim has to be the name of a PersistentVolumeClaim in the namespace")
            return {"persistentVolumeClaim": {"claimName": place, **({"readOnly": True} if read_only else {})}}
        if not isinstance(place, str) or not _is_image(place):
            self.refuse(option, "image has to be registry/repository:tag")
        return {"image": {"reference": place, "pullPolicy": "IfNotPresent"}}

    def mount_path(self, option: str) -> str:
        value = self[option]
        if (
            not isinstance(value, str)
            or not value.startswith("/")
            or value.rstrip("/") in ("", "/dev", "/proc", "/sys")
            or ":" in value
            or ".." in value.split("/")
        ):
            self.refuse(option, "give an absolute path in the container, below /")
        return str(value).rstrip("/")

    def resources(self, option: str, gpus: int = 0, gpu_resource: str = "") -> dict[str, dict[str, str]]:
        """With the GPUs, which are asked for by another option."""
        value = self[option]
        if not isinstance(value, t.Mapping) or set(value) - {"requests", "limits"}:
            self.refuse(option, "give requests and limits")
            return {}
        made: dict[str, dict[str, str]] = {}
        for part, amounts in value.items():
            made[part] = {}
            for name, amount in (amounts or {}).items():
                if name in GPU_RESOURCES:
                    self.refuse(option, f"{part} names {name}, for which the role has an option of its own; leave it out here")
                    continue
                try:
                    quantity(str(amount))
                except QuantityError:
                    self.refuse(option, f"{part}.{name} is {amount!r}; write a quantity such as 500m or 2Gi")
                made[part][name] = str(amount)
        for name, amount in made.get("requests", {}).items():
            limit = made.get("limits", {}).get(name)
            if limit is not None and not self.problems and quantity(amount) > quantity(limit):
                self.refuse(option, f"requests.{name} is {amount}, more than the limit {limit}; lower it or raise the limit")
        if gpus:
            for part in ("requests", "limits"):
                made.setdefault(part, {})[gpu_resource] = str(gpus)
        return made

    def tolerations(self, taints: str, lost_seconds: str) -> list[dict[str, t.Any]]:
        """For taints of nodes, and for nodes that are lost: for so long the pod stays on one."""
        made: list[dict[str, t.Any]] = []
        value = self[taints]
        for text in value if isinstance(value, (list, tuple)) else [value]:
            try:
                taint = parse_taint(text)
            except SettingError as error:
                self.refuse(taints, str(error))
                continue
            of_value = {"operator": "Equal", "value": taint["value"]} if taint["value"] else {"operator": "Exists"}
            made.append({"key": taint["key"], **of_value, "effect": taint["effect"]})
        seconds = self.number(lost_seconds, 0, 3600)
        return made + [{"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": int(seconds)} for key in LOST_TAINTS]

    def mapping(self, option: str) -> dict[str, t.Any]:
        value = self[option]
        if not isinstance(value, t.Mapping):
            self.refuse(option, "give a mapping")
            return {}
        return dict(value)

    def selector(self, option: str) -> dict[str, str]:
        value = self.mapping(option)
        for name, text in value.items():
            if not isinstance(text, str):
                self.refuse(option, f"{name} is no text; put it in quotes")
        return {str(name): str(text) for name, text in value.items()}


def with_node_rule(affinity: Object, rule: Object | None) -> dict[str, t.Any]:
    """An affinity of which each choice of nodes also has to satisfy the rule."""
    if rule is None:
        return dict(affinity)
    nodes = dict(affinity.get("nodeAffinity") or {})
    required = dict(nodes.get("requiredDuringSchedulingIgnoredDuringExecution") or {})
    terms = [dict(term) for term in required.get("nodeSelectorTerms") or [{}]]
    for term in terms:
        term["matchExpressions"] = [*(term.get("matchExpressions") or []), dict(rule)]
    nodes["requiredDuringSchedulingIgnoredDuringExecution"] = {**required, "nodeSelectorTerms": terms}
    return {**affinity, "nodeAffinity": nodes}
