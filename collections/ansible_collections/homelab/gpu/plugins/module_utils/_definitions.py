# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
# Definitions before they meet a cluster: read, checked, put in order; and objects as a diff shows them.

from __future__ import annotations

import copy
import dataclasses
import os
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import ClientConfigError, InputError
from ansible_collections.homelab.gpu.plugins.module_utils._resources import describe

__all__ = ["Definition", "as_list", "collect", "in_order", "presentable", "secret_values", "without_secrets"]

Object = dict[str, t.Any]

_SUFFIXES = (".yml", ".yaml", ".json")
_HIDDEN = "(hidden)"

# What others refer to comes first, what intercepts requests comes last
_FIRST = (
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "StorageClass",
    "RuntimeClass",
    "IngressClass",
    "ResourceQuota",
    "LimitRange",
    "NetworkPolicy",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "Secret",
    "ConfigMap",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "Service",
)
_LAST = ("APIService", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


@dataclasses.dataclass(frozen=True)
class Definition:
    """One object as written, and where it was written."""

    body: Object
    origin: str

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    @property
    def api_version(self) -> str:
        return str(self.body["apiVersion"])

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    def describe(self) -> str:
        return describe(self.body)


def collect(inline: t.Any, sources: t.Sequence[str], templates: t.Sequence[t.Any] = ()) -> list[Definition]:
    """All definitions of a task, each checked for what every object needs."""
    found: list[Definition] = []
    for index, body in enumerate(as_list(inline)):
        where = f"definitions[{index}]"
        found += _parse(body, where) if isinstance(body, str) else _flatten(body, where)
    for path in sources:
        for file in _files(path):
            found += _read(file)
    for template in templates:
        if not isinstance(template, t.Mapping):
            raise InputError(f"template: {template} was not rendered; templates are rendered on the control machine, by the action of this name")
        found += _parse(str(template["content"]), str(template["path"]))
    if not found:
        raise InputError("there is nothing to apply: definitions, src and template hold no object")
    _refuse_twins(found)
    return found


def as_list(inline: t.Any) -> list[t.Any]:
    """The option O(definitions): a list, one mapping, or YAML text."""
    if inline is None:
        return []
    if isinstance(inline, (str, t.Mapping)):
        return [inline]
    if not isinstance(inline, (list, tuple)):
        raise InputError(f"definitions is a {type(inline).__name__}; give a list of objects, one object, or YAML text")
    return list(inline)


def _refuse_twins(definitions: t.Sequence[Definition]) -> None:
    """Two definitions of one object would take its fields from each other at each run."""
    origins: dict[tuple[str, str, str, str], str] = {}
    for definition in definitions:
        key = (definition.api_version.rpartition("/")[0], definition.kind, definition.body["metadata"].get("namespace") or "", definition.name)
        if key in origins:
            raise InputError(f"{definition.describe()} is defined twice, by {origins[key]} and by {definition.origin}; merge them or leave one out")
        origins[key] = definition.origin


def _files(path: str) -> list[str]:
    if os.path.isdir(path):
        files = sorted(os.path.join(folder, name) for folder, _folders, names in os.walk(path) for name in names if name.endswith(_SUFFIXES))
        if not files:
            raise InputError(f"src: the directory {path} holds no file ending in {', '.join(_SUFFIXES)}")
        return files
    if not os.path.isfile(path):
        raise InputError(f"src: there is no file or directory {path} on the host that runs this module")
    return [path]


def _read(file: str) -> list[Definition]:
    try:
        with open(file, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"src: {file} cannot be read as YAML: {error}") from error
    return _parse(text, file, f"src: {file}")


def _parse(text: str, origin: str, subject: str = "") -> list[Definition]:
    try:
        import yaml
    except ImportError as error:
        raise ClientConfigError(f"YAML needs the Python package PyYAML ({error}); install it for the Python that runs this module") from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: list[Definition] = []
    try:
        for index, body in enumerate(yaml.load_all(text, Loader=loader)):  # noqa: S506
            if body is not None:
                found += _flatten(body, f"{origin}, document {index + 1}")
    except yaml.YAMLError as error:
        raise InputError(f"{subject or origin} cannot be read as YAML: {_what_is_wrong(error)}") from error
    return found


def _what_is_wrong(error: t.Any) -> str:
    """Without the text around it, which some loaders quote: it may be a secret."""
    mark = getattr(error, "problem_mark", None)
    return f"{getattr(error, 'problem', '') or 'no YAML'}" + (f" (line {mark.line + 1}, column {mark.column + 1})" if mark else "")


def _flatten(body: t.Any, origin: str) -> list[Definition]:
    if not isinstance(body, t.Mapping):
        raise InputError(f"{origin} is a {type(body).__name__}, not a mapping with apiVersion, kind and metadata")
    if str(body.get("kind", "")).endswith("List") and isinstance(body.get("items"), list):
        return [found for index, item in enumerate(body["items"]) for found in _flatten(item, f"{origin}, items[{index}]")]
    for field in ("apiVersion", "kind"):
        if not isinstance(body.get(field), str) or not body[field]:
            raise InputError(f"{origin}: {field} is missing or not a string")
    metadata = body.get("metadata")
    if not isinstance(metadata, t.Mapping) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        hint = "; generateName cannot be applied, give a name" if isinstance(metadata, t.Mapping) and metadata.get("generateName") else ""
        raise InputError(f"{origin}: metadata.name of this {body['kind']} is missing or not a string{hint}")
    clean: Object = copy.deepcopy(dict(body))
    # Left over in exported objects; the server refuses or ignores them
    clean.pop("status", None)
    clean["metadata"] = {
        key: value
        for key, value in clean["metadata"].items()
        if key not in ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink")
    }
    return [Definition(clean, origin)]


def in_order(definitions: t.Sequence[Definition]) -> list[Definition]:
    """By kind, and otherwise as given."""

    def rank(definition: Definition) -> int:
        if definition.kind in _FIRST:
            return _FIRST.index(definition.kind)
        return len(_FIRST) + (1 + _LAST.index(definition.kind) if definition.kind in _LAST else 0)

    return sorted(definitions, key=rank)


# Objects for people to read

_NOISE = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def presentable(before: Object | None, after: Object | None) -> tuple[Object, Object]:
    """Both sides of a diff: without what the server keeps for itself, and without the values of Secrets."""
    old, new = _quiet(before), _quiet(after)
    if "Secret" in (old.get("kind"), new.get("kind")):
        for field in ("data", "stringData"):
            old_values, new_values = old.get(field) or {}, new.get(field) or {}
            for key in {*old_values, *new_values}:
                same = key in old_values and key in new_values and old_values[key] == new_values[key]
                if key in new_values:
                    new_values[key] = _HIDDEN if same or key not in old_values else f"{_HIDDEN} another value"
                if key in old_values:
                    old_values[key] = _HIDDEN
    return old, new


def _quiet(obj: Object | None) -> Object:
    if obj is None:
        return {}
    quiet = copy.deepcopy(obj)
    quiet.pop("status", None)
    metadata = quiet.get("metadata") or {}
    for field in _NOISE:
        metadata.pop(field, None)
    annotations = metadata.get("annotations") or {}
    annotations.pop(_LAST_APPLIED, None)
    if not annotations:
        metadata.pop("annotations", None)
    return quiet


def without_secrets(obj: Object) -> Object:
    """An object as a result returns it."""
    shown = copy.deepcopy(obj)
    metadata = shown.get("metadata") or {}
    metadata.pop("managedFields", None)
    if shown.get("kind") == "Secret":
        for field in ("data", "stringData"):
            if shown.get(field):
                shown[field] = dict.fromkeys(shown[field], _HIDDEN)
        (metadata.get("annotations") or {}).pop(_LAST_APPLIED, None)
    if isinstance(shown.get("items"), list):
        shown["items"] = [without_secrets(item) if isinstance(item, dict) else item for item in shown["items"]]
    return shown


def secret_values(definitions: t.Iterable[t.Any]) -> t.Iterator[str]:
    """The values of Secrets among definitions as given, plain and encoded: what must not appear in any output."""
    import base64
    import binascii

    for body in definitions:
        if not isinstance(body, t.Mapping):
            continue
        if isinstance(body.get("items"), list):
            yield from secret_values(body["items"])
        if body.get("kind") != "Secret":
            continue
        for field in ("data", "stringData"):
            values = body.get(field)
            for value in values.values() if isinstance(values, t.Mapping) else ():
                if not isinstance(value, str) or not value:
                    continue
                yield value
                if field == "data":
                    try:
                        yield base64.b64decode(value, validate=True).decode()
                    except (binascii.Error, ValueError):
                        continue
