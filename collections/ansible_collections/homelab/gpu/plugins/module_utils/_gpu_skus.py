# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# The table of known GPUs. Products of one name differ in memory, so both have to fit.

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError

__all__ = ["SKUS", "SKU_SPEC", "Match", "Sku", "match_sku", "merged"]

NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,40}[a-z0-9])?")


@dataclasses.dataclass(frozen=True)
class Sku:
    """One product, and what may be asked of it."""

    name: str
    product: str
    """Regular expression for the whole of the name that NVML gives, or the device tree on Tegra."""
    memory_mib: tuple[int, int]
    """The least and the most that NVML may report; ECC, firmware and an operating system that shares it take some away."""
    replicas: tuple[int, int]
    """The fewest and the most slices of one GPU."""
    default_replicas: int
    compute_capability: str
    driver_branches: tuple[int, int | None]
    """The oldest and the newest branch that drives it; no newest one means that it is still supported."""
    kernel_modules: str
    """open, proprietary, or any."""
    serves: tuple[str, ...]
    """Servers whose GPU builds run on it."""
    tegra: bool = False


# Branches: R580 is the last one for Pascal; Blackwell runs only on the open modules. vLLM needs compute capability 7.0.
SKUS: tuple[Sku, ...] = (
    Sku(
        name="jetson-thor-128gb",
        product=r"NVIDIA Thor|NVIDIA Jetson (AGX )?Thor.*",
        memory_mib=(110_000, 131_072),
        replicas=(4, 8),
        default_replicas=4,
        compute_capability="11.0",
        driver_branches=(580, None),
        kernel_modules="open",
        serves=("vllm", "ollama"),
        tegra=True,
    ),
    Sku(
        name="rtx-pro-4000-20gb",
        product=r"NVIDIA RTX (PRO 4000.*|4000 (SFF )?Ada Generation)",
        memory_mib=(19_000, 20_480),
        replicas=(2, 4),
        default_replicas=4,
        compute_capability="8.9",
        driver_branches=(525, None),
        kernel_modules="any",
        serves=("vllm", "ollama"),
    ),
    Sku(
        name="tesla-p40-24gb",
        product=r"Tesla P40",
        memory_mib=(22_000, 24_576),
        replicas=(2, 4),
        default_replicas=4,
        compute_capability="6.1",
        driver_branches=(384, 580),
        kernel_modules="proprietary",
        serves=("ollama",),
    ),
    Sku(
        name="rtx-3060-12gb",
        product=r"NVIDIA GeForce RTX 3060",
        memory_mib=(11_500, 12_288),
        replicas=(1, 2),
        default_replicas=1,
        compute_capability="8.6",
        driver_branches=(460, None),
        kernel_modules="any",
        serves=("vllm", "ollama"),
    ),
)

# What an inventory may say of an SKU; a new one says all that has no default
SKU_SPEC: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "product": {"type": "str"},
    "memory_mib_min": {"type": "int"},
    "memory_mib_max": {"type": "int"},
    "replicas_min": {"type": "int"},
    "replicas_max": {"type": "int"},
    "replicas_default": {"type": "int"},
    "compute_capability": {"type": "str"},
    "driver_branch_min": {"type": "int"},
    "driver_branch_max": {"type": "int"},
    "kernel_modules": {"type": "str", "choices": ["any", "open", "proprietary"]},
    "serves": {"type": "list", "elements": "str"},
    "tegra": {"type": "bool"},
}
_NEEDED = ("product", "memory_mib_min", "memory_mib_max", "replicas_max", "compute_capability")


def merged(overrides: t.Sequence[t.Mapping[str, t.Any]] | None) -> tuple[Sku, ...]:
    """The table with what an inventory adds or changes; its own entries are looked at first. Raises InputError."""
    known = {sku.name: sku for sku in SKUS}
    own: dict[str, Sku] = {}
    for number, entry in enumerate(overrides or []):
        where = f"skus[{number}]"
        if not isinstance(entry, t.Mapping):
            raise InputError(f"{where} is {entry!r}; it has to be a dictionary with a name")
        given = {key: value for key, value in entry.items() if value is not None}
        unknown = sorted(set(given) - set(SKU_SPEC))
        if unknown:
            raise InputError(f"{where} has the unknown key {unknown[0]}; the keys are {', '.join(SKU_SPEC)}")
        name = given.get("name")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise InputError(f"{where}.name is {name!r}; it goes into labels: small letters, digits, dots and dashes, at most 42 of them")
        if name in own:
            raise InputError(f"{where}.name is {name}, which an entry before it has too; join them")
        own[name] = _checked(_of(given, known.get(name), where), where)
    return (*own.values(), *(sku for sku in SKUS if sku.name not in own))


def _of(given: t.Mapping[str, t.Any], base: Sku | None, where: str) -> Sku:
    if base is None:
        missing = [key for key in _NEEDED if key not in given]
        if missing:
            raise InputError(f"{where} ({given['name']}) is not in the table of known GPUs and lacks {', '.join(missing)}; add them, or correct its name")
    for key in ("memory_mib_min", "memory_mib_max", "replicas_min", "replicas_max", "replicas_default", "driver_branch_min", "driver_branch_max"):
        if key in given and (not isinstance(given[key], int) or isinstance(given[key], bool) or given[key] < 1):
            raise InputError(f"{where}.{key} is {given[key]!r}; it has to be a whole number of at least 1, without quotes")
    memory, replicas, branches = (base.memory_mib, base.replicas, base.driver_branches) if base else ((1, 1), (1, 1), (1, None))
    replicas = (given.get("replicas_min", replicas[0]), given.get("replicas_max", replicas[1]))
    default = base.default_replicas if base else replicas[0]
    return Sku(
        name=given["name"],
        product=str(given.get("product", base.product if base else "")),
        memory_mib=(given.get("memory_mib_min", memory[0]), given.get("memory_mib_max", memory[1])),
        replicas=replicas,
        default_replicas=given.get("replicas_default", min(max(default, replicas[0]), replicas[1])),
        compute_capability=str(given.get("compute_capability", base.compute_capability if base else "")),
        driver_branches=(given.get("driver_branch_min", branches[0]), given.get("driver_branch_max", branches[1])),
        kernel_modules=given.get("kernel_modules", base.kernel_modules if base else "any"),
        serves=tuple(given.get("serves", base.serves if base else ())),
        tegra=bool(given.get("tegra", base.tegra if base else False)),
    )


def _checked(sku: Sku, where: str) -> Sku:
    try:
        re.compile(sku.product)
    except re.error as error:
        raise InputError(f"{where}.product is {sku.product!r}, which is no regular expression: {error}") from error
    for what, (least, most) in {"memory_mib": sku.memory_mib, "replicas": sku.replicas, "driver_branch": sku.driver_branches}.items():
        if most is not None and least > most:
            raise InputError(f"{where}.{what}_min is {least}, more than {what}_max, which is {most}; swap them")
    if not sku.replicas[0] <= sku.default_replicas <= sku.replicas[1]:
        raise InputError(f"{where}.replicas_default is {sku.default_replicas}; it has to be from {sku.replicas[0]} to {sku.replicas[1]}")
    if not re.fullmatch(r"\d+\.\d+", sku.compute_capability):
        raise InputError(f"{where}.compute_capability is {sku.compute_capability!r}; it has to be like '8.6', in quotes")
    if sku.kernel_modules not in SKU_SPEC["kernel_modules"]["choices"]:
        raise InputError(f"{where}.kernel_modules is {sku.kernel_modules!r}; it has to be any, open or proprietary")
    return sku


@dataclasses.dataclass(frozen=True)
class Match:
    sku: Sku | None
    reason: str


def match_sku(product: str, memory_mib: int | None, skus: t.Sequence[Sku] = SKUS) -> Match:
    """Which SKU a GPU is, and why, or why none."""
    if not product:
        return Match(None, "its product name is not known, because the driver does not answer")
    near = []
    for sku in skus:
        if not re.fullmatch(sku.product, product):
            continue
        least, most = sku.memory_mib
        if memory_mib is None:
            near.append(f"{sku.name} has its name, but how much memory it has is not known")
        elif least <= memory_mib <= most:
            return Match(sku, f"the name {product!r} and {memory_mib} MiB of memory are those of {sku.name}")
        else:
            near.append(f"{sku.name} has its name, but from {least} to {most} MiB of memory, not {memory_mib}")
    return Match(None, "; ".join(near) or f"no entry of the table has the name {product!r}")
