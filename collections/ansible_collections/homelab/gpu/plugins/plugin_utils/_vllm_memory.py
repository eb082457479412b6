# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# How much of a GPU one vLLM may take, and whether its model fits in there. Nothing enforces the shares of a GPU that is shared by time: each vLLM takes a
# fraction of the whole memory, and the one that comes too late finds none.

from __future__ import annotations

import dataclasses
import math
import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError

__all__ = ["BITS", "Gpu", "Need", "arithmetic", "bits_of", "fraction_of", "judged", "parameters_of"]

FRACTION_MOST = 0.9
"""Of a GPU's memory. The driver, and the CUDA contexts of others, need the rest."""
FRACTION_MOST_SHARED_WITH_CPU = 0.8
"""Where the CPU has the same memory, the page cache counts as used."""
# Bits of a weight; scales of quantised groups are counted with them
BITS: t.Mapping[str, float] = {
    "awq": 4.5,
    "awq_marlin": 4.5,
    "bitsandbytes": 4.5,
    "experts_int8": 8.5,
    "fbgemm_fp8": 8.5,
    "fp8": 8.5,
    "gguf": 5,
    "gptq": 4.5,
    "gptq_marlin": 4.5,
    "mxfp4": 4.5,
}
_BITS_IN_NAMES = ((r"awq|gptq|int4|4bit|w4a16|nf4|mxfp4", 4.5), (r"fp8|int8|8bit|w8a8", 8.5))
_PARAMETERS = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)b(?![\w])")


@dataclasses.dataclass(frozen=True)
class Gpu:
    """One GPU of a node, and in how many slices it is offered."""

    node: str
    sku: str
    memory_gib: float
    slices: int = 1
    with_cpu: bool = False
    """Whether the CPU has the same memory."""


@dataclasses.dataclass(frozen=True)
class Need:
    """What one vLLM needs on one GPU, in GiB. What is not known is None."""

    weights_gib: float | None
    kv_kib_per_token: float | None
    tokens: int
    overhead_gib: float

    @property
    def kv_gib(self) -> float:
        return (self.kv_kib_per_token or 0) * self.tokens / 1024**2

    @property
    def total_gib(self) -> float | None:
        return None if self.weights_gib is None else self.weights_gib + self.kv_gib + self.overhead_gib


def parameters_of(model: str) -> float | None:
    """Milliards of parameters, as the names of models tell them: 6.7B, 0.5b. Not of mixtures, such as 8x7B."""
    found = _PARAMETERS.findall(re.sub(r"[-_/:]", " ", model.lower()))
    return float(found[-1]) if found else None


def bits_of(model: str, quantization: str | None) -> float:
    if quantization and quantization in BITS:
        return BITS[quantization]
    return next((bits for pattern, bits in _BITS_IN_NAMES if re.search(pattern, model.lower())), 16)


def fraction_of(gpu: Gpu) -> float:
    """The share of one slice, rounded down to hundredths: all of them together stay within what one GPU can give."""
    most = FRACTION_MOST_SHARED_WITH_CPU if gpu.with_cpu else FRACTION_MOST
    return math.floor(round(most / gpu.slices * 100, 6)) / 100


def arithmetic(gpu: Gpu, fraction: float, need: Need) -> str:
    parts = [f"{need.weights_gib or 0:.1f} GiB of weights"]
    if need.kv_kib_per_token:
        parts.append(f"{need.kv_gib:.1f} GiB of KV cache ({need.tokens} tokens of {need.kv_kib_per_token:g} KiB)")
    parts.append(f"{need.overhead_gib:.1f} GiB for activations and CUDA graphs")
    has = f"{gpu.memory_gib:.1f} GiB of {gpu.sku} on {gpu.node} × {fraction:g}"
    return f"{has} = {gpu.memory_gib * fraction:.1f} GiB, and one vLLM needs {' + '.join(parts)} = {need.total_gib or 0:.1f} GiB"


def judged(gpu: Gpu, fraction: float, need: Need) -> None:
    """Raises InputError, with the sum and with what would help, if the model does not fit into that fraction of the GPU."""
    total = need.total_gib
    if total is None or need.weights_gib is None or total <= gpu.memory_gib * fraction:
        return
    most = FRACTION_MOST_SHARED_WITH_CPU if gpu.with_cpu else FRACTION_MOST
    help_by = []
    enough = math.floor(gpu.memory_gib * most / total)
    if enough >= 1 and enough < gpu.slices:
        help_by.append(f"share the GPU in {enough} instead of {gpu.slices} slices (nvidia_device_plugin_replicas)")
    elif enough >= 1:
        help_by.append(f"leave vllm_gpu_memory_utilization to the role, which would take {fraction_of(gpu):g}")
    if need.kv_kib_per_token:
        room = gpu.memory_gib * fraction - need.weights_gib - need.overhead_gib
        tokens = math.floor(room * 1024**2 / need.kv_kib_per_token / 256) * 256
        if tokens >= 256:
            help_by.append(f"set vllm_max_model_len to at most {tokens}")
    if need.weights_gib + need.overhead_gib > gpu.memory_gib * fraction:
        help_by.append("take a smaller or more strongly quantised model")
    raise InputError(f"the model does not fit: {arithmetic(gpu, fraction, need)}; {', or '.join(help_by)}")
