# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Options against their argument specs: unknown names, wrong types. Stricter than Ansible's own validation, which turns a text into a list or dictionary
# in silence while templates go on with the text. Pure; private to this collection.

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["coerced", "suggestion", "type_problems", "unknown_options"]

_NAMES = {"str": "text", "path": "a path", "int": "a whole number", "float": "a number", "bool": "true or false", "list": "a list", "dict": "a dictionary"}
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _is(value: Any, kind: str) -> bool:
    if kind in ("str", "path"):
        return isinstance(value, str)
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "list":
        return isinstance(value, (list, tuple))
    if kind == "dict":
        return isinstance(value, Mapping)
    return True


def _shown(value: Any, spec: Mapping[str, Any]) -> str:
    if spec.get("no_log"):
        return "a secret value"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _what(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    for kind, known in (("a whole number", int), ("a number", float), ("text", str), ("a list", (list, tuple)), ("a dictionary", Mapping)):
        if isinstance(value, known):
            return kind
    return type(value).__name__


def coerced(value: Any, spec: Mapping[str, Any]) -> Any:
    """Numbers and truth values from text: --extra-vars and surveys give nothing else."""
    if not isinstance(value, str):
        return value
    kind = str(spec.get("type", "str"))
    text = value.strip().lower()
    if kind == "bool" and text in _TRUTH:
        return _TRUTH[text]
    if kind in ("int", "float"):
        try:
            return int(text) if kind == "int" else float(text)
        except ValueError:
            return value
    return value


def type_problems(name: str, value: Any, spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with the value, as (what, fix) pairs. A null means that the option is not set."""
    if value is None:
        if spec.get("required"):
            yield f"{name} is not set", f"set {name}"
        return
    kind = str(spec.get("type", "str"))
    value = coerced(value, spec)
    if not _is(value, kind):
        hint = ""
        if kind == "str" and not isinstance(value, (list, tuple, Mapping)):
            hint = f"; put it in quotes: {name}: '{_shown(value, spec).lower()}'"
        yield f"{name} is {_shown(value, spec)} ({_what(value)})", f"make it {_NAMES.get(kind, kind)}{hint}"
        return
    choices = spec.get("choices")
    if choices and kind != "list" and value not in choices:
        near = suggestion(str(value), [str(choice) for choice in choices])
        yield f"{name} is {_shown(value, spec)}", f"use one of {', '.join(str(choice) for choice in choices)}{near}"
    if kind == "list" and spec.get("elements"):
        element = {"type": spec["elements"], "options": spec.get("options"), "choices": choices, "no_log": spec.get("no_log")}
        for number, item in enumerate(value):
            if item is None:
                yield f"{name}[{number}] is empty", "remove the element or give it a value"
            yield from type_problems(f"{name}[{number}]", item, element)
    if kind == "dict" and spec.get("options"):
        yield from _sub_options(name, value, spec["options"])


def _sub_options(name: str, value: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for key in value:
        if key not in options:
            yield f"{name} has the unknown key {key}", f"remove it{suggestion(str(key), options)}"
    for key, spec in options.items():
        if key in value:
            yield from type_problems(f"{name}.{key}", value[key], spec)
        elif spec.get("required"):
            yield f"{name} has no {key}", f"add {key}"


def suggestion(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def unknown_options(names: Iterable[str], prefixes: Iterable[str], known: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Variables that start like an option of ours and are none, as (name, fix) pairs."""
    starts, all_known = tuple(prefixes), sorted(known)
    for name in sorted(set(names) - set(all_known)):
        if name.startswith(starts):
            yield name, f"remove it{suggestion(name, all_known)}"
