# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Labels and taints of nodes as settings: their syntax, and what must be changed on a node to hold them. Pure; private to this collection.

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["EFFECTS", "SettingError", "label_problems", "parse_taint", "plan", "registration_labels", "taint_problems"]

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_ANNOTATION = "homelab.gpu/managed-"

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
# What a kubelet may give itself among the names that belong to Kubernetes.
_SELF_LABELS = re.compile(
    r"(?:(?:[a-z0-9.-]+\.)?(?:kubelet|node)\.kubernetes\.io/.+|kubernetes\.io/(?:hostname|arch|os)|topology\.kubernetes\.io/(?:zone|region)"
    r"|node\.kubernetes\.io/instance-type)"
)
_RESERVED = re.compile(r"(?:[a-z0-9.-]+\.)?(?:kubernetes|k8s)\.io/")


class SettingError(ValueError):
    """A label or taint that Kubernetes would refuse."""


def _key_problem(key: Any) -> str | None:
    if not isinstance(key, str):
        return "is not text"
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _PREFIX.fullmatch(prefix)):
        return f"has the prefix {prefix!r}, which is no lower-case DNS name"
    if not _NAME.fullmatch(name):
        return "must have a name of at most 63 letters, digits, '-', '_' or '.', that starts and ends with a letter or digit"
    return None


def label_problems(labels: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    for key, value in labels.items():
        problem = _key_problem(key)
        if problem:
            yield f"the label key {key!r} {problem}", "correct the key"
        if not isinstance(value, str):
            yield f"the label {key} has the value {value!r}, which is no text", f"put it in quotes: {key}: '{str(value).lower()}'"
        elif value and not _NAME.fullmatch(value):
            yield (
                f"the label {key} has the value {value!r}",
                "use at most 63 letters, digits, '-', '_' or '.', starting and ending with a letter or digit",
            )


def parse_taint(text: Any) -> dict[str, str]:
    """key=value:Effect or key:Effect."""
    if not isinstance(text, str):
        raise SettingError(f"the taint {text!r} is not text")
    body, colon, effect = text.rpartition(":")
    key, _equals, value = body.partition("=")
    if not colon or effect not in EFFECTS:
        raise SettingError(f"the taint {text!r} has no effect: write key=value:Effect with one of {', '.join(EFFECTS)}")
    problem = _key_problem(key)
    if problem:
        raise SettingError(f"the key of the taint {text!r} {problem}")
    if value and not _NAME.fullmatch(value):
        raise SettingError(f"the value of the taint {text!r} is not made of at most 63 letters, digits, '-', '_' or '.'")
    return {"key": key, "value": value, "effect": effect}


def taint_problems(taints: list[Any]) -> Iterator[tuple[str, str]]:
    seen = set()
    for text in taints:
        try:
            taint = parse_taint(text)
        except SettingError as error:
            yield str(error), "write it as key=value:Effect, for example homelab.gpu/reserved=true:NoSchedule"
            continue
        if (taint["key"], taint["effect"]) in seen:
            yield f"the taint {taint['key']}:{taint['effect']} is listed twice", "keep one of the two"
        seen.add((taint["key"], taint["effect"]))


def registration_labels(labels: Mapping[str, str]) -> list[str]:
    """Those labels a kubelet may give itself when it registers; the others come through the API alone."""
    return sorted(f"{key}={value}" for key, value in labels.items() if not _RESERVED.match(key) or _SELF_LABELS.fullmatch(key))


def _words(annotations: Mapping[str, str], name: str) -> set[str]:
    return {word for word in annotations.get(name, "").split(",") if word}


def plan(nodes: list[Mapping[str, Any]], settings: list[Mapping[str, Any]], owner: str = "") -> list[dict[str, Any]]:
    """What each node must have and must no longer have: its settings, and the absence of what former settings put there.

    An annotation on the node remembers what came from settings of this owner, so labels and taints of anybody else are left alone.
    """
    labels_annotation, taints_annotation = (f"{_ANNOTATION}{owner}{'-' if owner else ''}{what}" for what in ("labels", "taints"))
    present = {node["metadata"]["name"]: node for node in nodes}
    result = []
    for setting in settings:
        annotations = present.get(setting["name"], {}).get("metadata", {}).get("annotations") or {}
        taints = [parse_taint(text) for text in setting["taints"]]
        taint_ids = {f"{taint['key']}:{taint['effect']}" for taint in taints}
        former_labels = _words(annotations, labels_annotation) - set(setting["labels"])
        former_taints = _words(annotations, taints_annotation) - taint_ids
        gone = [taint_id.rpartition(":") for taint_id in sorted(former_taints)]
        entry: dict[str, Any] = {
            "name": setting["name"],
            "labels": {**setting["labels"], **dict.fromkeys(sorted(former_labels))},
            "annotations": {},
            "taints": [
                *({**taint, "state": "present"} for taint in taints),
                *({"key": key, "effect": effect, "state": "absent"} for key, _colon, effect in gone),
            ],
        }
        for annotation, words in ((labels_annotation, set(setting["labels"])), (taints_annotation, taint_ids)):
            if words or annotation in annotations:
                entry["annotations"][annotation] = ",".join(sorted(words)) or None
        if entry["labels"] or entry["annotations"] or entry["taints"]:
            result.append(entry)
    return result
