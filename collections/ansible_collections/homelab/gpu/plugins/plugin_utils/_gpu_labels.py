# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# What the labels of a node tell of its GPUs.

from __future__ import annotations

import re
import typing as t

__all__ = ["LABELS", "labels"]

Object = t.Mapping[str, t.Any]

TYPE, SKU, MEMORY, EXTERNAL, COUNT, PRESENT = (
    "gpu-type",
    "homelab.gpu/sku",
    "homelab.gpu/memory-mib",
    "homelab.gpu/external",
    "homelab.gpu/count",
    "nvidia.com/gpu.present",
)
LABELS = (TYPE, SKU, MEMORY, EXTERNAL, COUNT, PRESENT)
_MEMORY_OF_NAME = re.compile(r"-\d+gb$")


def labels(gpus: t.Sequence[Object], present: t.Mapping[str, str]) -> dict[str, str]:
    """From the GPUs, as C(gpu_info) tells them. What they do not tell now, because one is unplugged or does not answer, stays as it is."""
    kept = {key: present[key] for key in LABELS if key in present}
    if not gpus:
        return kept
    found = {EXTERNAL: str(any(gpu["external"] for gpu in gpus)).lower(), PRESENT: "true", COUNT: str(len(gpus))}
    if any(gpu["state"] != "ready" for gpu in gpus):
        return {**kept, **found}
    skus = sorted({gpu["sku"] or "unknown" for gpu in gpus})
    sku = skus[0] if len(skus) == 1 else "mixed"
    memory = [gpu["memory_mib"] for gpu in gpus if gpu["memory_mib"]]
    return {
        **found,
        SKU: sku,
        TYPE: _MEMORY_OF_NAME.sub("", sku).replace("-", ""),
        **({MEMORY: str(min(memory))} if memory else {}),
    }
