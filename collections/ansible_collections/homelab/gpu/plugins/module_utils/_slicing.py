# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# One config of the NVIDIA device plugin for one node. The plugin shares all GPUs of a node alike, so the node gets one number.

from __future__ import annotations

import hashlib
import json
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._gpu_skus import Sku, merged

__all__ = ["SHARING", "slicing"]

Object = dict[str, t.Any]

SHARING = ("time-slicing", "mps", "none")
MIXED = ("refuse", "smallest")
_STRATEGIES = ("envvar", "volume-mounts", "cdi-cri", "cdi-annotations")
_SHARING_KEYS = {"time-slicing": "timeSlicing", "mps": "mps"}
_RESOURCE = "nvidia.com/gpu"
# Before Volta, MPS gives all clients one address space and limits neither their memory nor their threads
_MPS_LEAST = (7, 0)
# As the plugin's MPS daemon counts the clients of one GPU, from this compute capability on
_MPS_CLIENTS: tuple[tuple[tuple[int, int], int], ...] = (((7, 5), 48), ((0, 0), 16))


def slicing(
    gpus: t.Any,
    *,
    skus: t.Sequence[t.Mapping[str, t.Any]] | None = None,
    replicas: int | str | None = None,
    sharing: str = "time-slicing",
    mixed: str = "refuse",
    rename: bool = False,
    refuse_more_than_one: bool = True,
    fail_on_init_error: bool = True,
    device_list_strategy: str = "envvar",
) -> Object:
    """From the GPUs of one node, as C(gpu_info) tells them, to its config. Raises InputError."""
    for option, value, choices in (("sharing", sharing, SHARING), ("mixed", mixed, MIXED), ("device_list_strategy", device_list_strategy, _STRATEGIES)):
        if value not in choices:
            raise InputError(f"{option} is {value!r}; it has to be one of {', '.join(choices)}")
    if isinstance(replicas, str) and replicas.isdecimal():
        # From a command line, or with quotes. The plugin itself would refuse that.
        replicas = int(replicas)
    if replicas is not None and (not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 1):
        raise InputError(f"replicas is {replicas!r}; it has to be a whole number of at least 1")
    if not isinstance(gpus, list) or any(not isinstance(gpu, t.Mapping) or "sku" not in gpu for gpu in gpus):
        raise InputError("the input is not the list gpus of homelab.gpu.gpu_info; give it (gpu.gpus | homelab.gpu.gpu_slicing)")
    if sharing == "none" and (replicas or 1) > 1:
        raise InputError(f"replicas is {replicas}, but sharing=none gives each GPU to one container; leave one of them out")
    table = {sku.name: sku for sku in merged(skus)}
    found, unknown = _skus_of(gpus, table)
    messages = [f"{_label(gpu)} is not a known SKU: {gpu.get('sku_reason') or 'no reason was given'}. It is not shared." for gpu in unknown]
    count, chosen = _replicas(found, unknown, replicas, mixed) if sharing != "none" else (1, "")
    if chosen:
        messages.append(chosen)
    tegra = bool(found) and all(sku.tegra for sku in found)
    if any(sku.tegra for sku in found) and not tegra:
        raise InputError("a Tegra and other GPUs are in one node, which the device plugin cannot serve together; correct the skus of the inventory")
    if sharing == "mps" and found and not unknown:
        _check_mps(found, count)
    config = _config(
        count,
        sharing=sharing,
        rename=rename,
        refuse_more_than_one=refuse_more_than_one,
        fail_on_init_error=fail_on_init_error,
        device_list_strategy=device_list_strategy,
        tegra=tegra,
    )
    names = list(dict.fromkeys(sku.name for sku in found))
    name = "unknown" if unknown or not names else names[0] if len(names) == 1 else "mixed"
    return {
        "sku": name,
        "replicas": count,
        "sharing": sharing if count > 1 else "none",
        "resource": f"{_RESOURCE}.shared" if rename and count > 1 else _RESOURCE,
        "allocatable": count * len(gpus),
        "key": f"{name}-x{count}-{hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]}",
        "config": config,
        "messages": messages,
    }


def _skus_of(gpus: t.Sequence[t.Mapping[str, t.Any]], table: t.Mapping[str, Sku]) -> tuple[list[Sku], list[t.Mapping[str, t.Any]]]:
    found, unknown = [], []
    for gpu in gpus:
        state = gpu.get("state", "ready")
        if not gpu["sku"] and state != "ready":
            # Else a GPU that is lost for a moment would take the slices of all others along
            raise InputError(f"{_label(gpu)} is in the state {state}, so which SKU it is cannot be told: {gpu.get('state_reason')}. Mend that first")
        if not gpu["sku"]:
            unknown.append(gpu)
        elif gpu["sku"] not in table:
            raise InputError(f"{_label(gpu)} has the SKU {gpu['sku']}, which is not in the table; give skus to this filter as to gpu_info")
        else:
            found.append(table[gpu["sku"]])
    return found, unknown


def _label(gpu: t.Mapping[str, t.Any]) -> str:
    return f"GPU {gpu.get('pci_address') or gpu.get('uuid') or '?'} ({gpu.get('product') or 'unknown product'})"


def _replicas(found: t.Sequence[Sku], unknown: t.Sequence[t.Mapping[str, t.Any]], wanted: int | None, mixed: str) -> tuple[int, str]:
    """Slices of each GPU of the node, and what has to be said about that."""
    if unknown or not found:
        if (wanted or 1) > 1:
            names = ", ".join(map(_label, unknown)) or "this node, which has no GPU,"
            raise InputError(f"replicas is {wanted}, but {names} is not a known SKU and so is not shared; describe it in skus, or leave replicas out")
        return 1, ""
    skus = list(dict.fromkeys(found))
    names = ", ".join(f"{sku.name} ({sku.replicas[0]} to {sku.replicas[1]})" for sku in skus)
    if len(skus) > 1 and mixed == "refuse":
        raise InputError(
            f"the node has GPUs of several SKUs, {names}, and the device plugin shares all of them alike; set mixed=smallest, or sharing=none for this node"
        )
    least, most = max(sku.replicas[0] for sku in skus), min(sku.replicas[1] for sku in skus)
    if least > most:
        raise InputError(f"no number of replicas fits all GPUs of the node: {names}; set sharing=none for it, or change the ranges in skus")
    if wanted is not None:
        if not least <= wanted <= most:
            raise InputError(f"replicas is {wanted}, but {names} allows from {least} to {most}; choose one of these, or change the range in skus")
        return wanted, ""
    count = min(max(min(sku.default_replicas for sku in skus), least), most)
    return count, f"{count} replicas for all GPUs of the node, which has several SKUs: {names}" if len(skus) > 1 else ""


def _check_mps(found: t.Sequence[Sku], replicas: int) -> None:
    """Raises InputError if MPS cannot share these GPUs into so many slices, or would not keep what it promises."""
    for sku in dict.fromkeys(found):
        major, _dot, minor = sku.compute_capability.partition(".")
        capability = (int(major), int(minor))
        if sku.tegra:
            raise InputError(f"sharing is mps, but {sku.name} is a Tegra, which the device plugin's MPS daemon does not find; set sharing=time-slicing")
        if capability < _MPS_LEAST:
            raise InputError(
                f"sharing is mps, but {sku.name} has compute capability {sku.compute_capability}, and before 7.0 MPS keeps its clients apart neither in memory "
                "nor in threads; set sharing=time-slicing"
            )
        most = next(clients for least, clients in _MPS_CLIENTS if capability >= least)
        if replicas > most:
            raise InputError(f"replicas is {replicas}, but MPS serves no more than {most} clients of one {sku.name}; choose fewer, or set sharing=time-slicing")
    if replicas == 1:
        raise InputError(f"sharing is mps, but replicas is 1 for {found[0].name}, so nothing would be shared; set replicas to 2 or more, or sharing=none")


def _config(
    replicas: int, *, sharing: str, rename: bool, refuse_more_than_one: bool, fail_on_init_error: bool, device_list_strategy: str, tegra: bool
) -> Object:
    flags: Object = {
        "migStrategy": "none",
        "failOnInitError": fail_on_init_error,
        # By itself the plugin takes a container without the host's files for no Tegra, and ends
        "deviceDiscoveryStrategy": "tegra" if tegra else "nvml",
        # The toolkit refuses the only UUID that a Tegra's device has
        "plugin": {"passDeviceSpecs": False, "deviceListStrategy": [device_list_strategy], "deviceIDStrategy": "index" if tegra else "uuid"},
    }
    config: Object = {"version": "v1", "flags": flags}
    # The plugin refuses 1; no sharing is said by leaving it out
    if replicas > 1:
        shared = {"renameByDefault": rename, "resources": [{"name": _RESOURCE, "replicas": replicas}]}
        if sharing == "time-slicing":
            shared["failRequestsGreaterThanOne"] = refuse_more_than_one
        config["sharing"] = {_SHARING_KEYS[sharing]: shared}
    return config
