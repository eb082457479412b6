# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Folders of nodes as volumes of the cluster.

from __future__ import annotations

import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._options import suggestion
from ansible_collections.homelab.gpu.plugins.module_utils._quantity import QuantityError, quantity

__all__ = ["VOLUME", "objects"]

Object = t.Mapping[str, t.Any]

# The options of a volume, with their defaults
VOLUME: t.Mapping[str, t.Any] = {
    "name": None,
    "host": None,
    "path": None,
    "size": None,
    "access_mode": "ReadWriteOnce",
    "owner": 1000,
    "group": 1000,
    "mode": "0775",
    "claim": {},
}
ACCESS_MODES = ("ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod", "ReadOnlyMany")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MODE = re.compile(r"0[0-7]{3}")
# Folders that are more than a place for data
_NOT_BELOW = ("/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/root", "/run", "/sbin", "/sys", "/usr")
_LABELS = {"app.kubernetes.io/part-of": "homelab-gpu", "app.kubernetes.io/managed-by": "homelab.gpu"}


def objects(volumes: t.Any, nodes: Object, storage_class: str, option: str = "local_storage_volumes") -> list[dict[str, t.Any]]:
    """The storage class, and a PersistentVolume for each folder, with the claim that is to have it.

    C(nodes) has the node's name of each host. Raises InputError with everything that is wrong, a line for each.
    """
    if not isinstance(volumes, (list, tuple)) or any(not isinstance(volume, t.Mapping) for volume in volumes):
        raise InputError(f"{option}: give a list of volumes, each a mapping with name, host, path and size")
    problems: list[str] = []
    if not _NAME.fullmatch(str(storage_class)):
        problems.append(f"local_storage_class is {storage_class!r}: write small letters, digits and dashes, at most 63")
    seen: dict[tuple[str, ...], str] = {}
    made: list[dict[str, t.Any]] = []
    namespaces: list[str] = []
    for index, given in enumerate(volumes):
        where = f"{option}[{index}]" + (f" ({given['name']})" if isinstance(given.get("name"), str) else "")
        problems += _problems(where, given, nodes)
        volume = {**VOLUME, **given}
        for key in (("name", str(volume["name"])), ("path", str(volume["host"]), str(volume["path"]).rstrip("/")), ("claim", str(volume["claim"] or where))):
            if key in seen:
                problems.append(f"{where}: its {key[0]} is that of {seen[key]}, too; give it another one")
            seen[key] = where
        if not problems:
            claim = volume["claim"]
            if claim and claim["namespace"] not in namespaces:
                namespaces.append(claim["namespace"])
            made += _volume(volume, nodes[volume["host"]], storage_class)
    if problems:
        raise InputError("\n".join(problems))
    return [_storage_class(storage_class), *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in namespaces), *made]


def _problems(where: str, given: Object, nodes: Object) -> t.Iterator[str]:
    for name in given:
        if name not in VOLUME:
            yield f"{where}.{name}: there is no such setting{suggestion(str(name), tuple(VOLUME))}"
    volume = {**VOLUME, **given}
    if not isinstance(volume["name"], str) or not _NAME.fullmatch(volume["name"]):
        yield f"{where}.name is {volume['name']!r}: write small letters, digits and dashes, at most 63"
    if volume["host"] not in nodes:
        known = f"{', '.join(sorted(nodes))}{suggestion(str(volume['host']), tuple(nodes))}"
        yield f"{where}.host is {volume['host']!r}, which is no host of the inventory: use one of {known}"
    path = volume["path"]
    if not isinstance(path, str) or not path.startswith("/") or ".." in path.split("/") or path.strip("/") == "":
        yield f"{where}.path is {path!r}: give an absolute path below /"
    elif any(path == folder or path.startswith(f"{folder}/") for folder in _NOT_BELOW):
        yield f"{where}.path is {path!r}, which belongs to the system: take a folder such as /srv/{volume['name']}"
    try:
        if volume["size"] is None or quantity(str(volume["size"])) <= 0:
            raise QuantityError("none")
    except QuantityError:
        yield f"{where}.size is {volume['size']!r}: write an amount such as 200Gi"
    if volume["access_mode"] not in ACCESS_MODES:
        yield f"{where}.access_mode is {volume['access_mode']!r}: use one of {', '.join(ACCESS_MODES)}"
    for name in ("owner", "group"):
        if isinstance(volume[name], bool) or not isinstance(volume[name], int) or volume[name] < 0:
            yield f"{where}.{name} is {volume[name]!r}: give the number of a user or group of the containers, such as 1000"
    if not _MODE.fullmatch(str(volume["mode"])):
        yield f"{where}.mode is {volume['mode']!r}: write it in quotes, such as '0775'"
    claim = volume["claim"]
    if claim and (not isinstance(claim, t.Mapping) or set(claim) != {"namespace", "name"} or not all(_NAME.fullmatch(str(word)) for word in claim.values())):
        yield f"{where}.claim is {claim!r}: give namespace and name of the claim that gets it, or leave it out"


def _storage_class(name: str) -> dict[str, t.Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "labels": _LABELS},
        "provisioner": "kubernetes.io/no-provisioner",
        "reclaimPolicy": "Retain",
        # Only when a pod wants it: it decides on the node
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _volume(volume: Object, node: str, storage_class: str) -> t.Iterator[dict[str, t.Any]]:
    claim = volume["claim"]
    spec: dict[str, t.Any] = {
        "capacity": {"storage": str(volume["size"])},
        "accessModes": [volume["access_mode"]],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": storage_class,
        "local": {"path": volume["path"]},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}},
    }
    if claim:
        # Kept for it, whoever asks first
        spec["claimRef"] = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim["namespace"], "name": claim["name"]}
    yield {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume["name"], "labels": _LABELS}, "spec": spec}
    if claim:
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim["name"], "namespace": claim["namespace"], "labels": _LABELS},
            "spec": {
                "accessModes": [volume["access_mode"]],
                "resources": {"requests": {"storage": str(volume["size"])}},
                "storageClassName": storage_class,
                "volumeName": volume["name"],
            },
        }
