# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models as Ollama stores them: manifests by name, blobs by digest. What is here can be copied into, or used as, a store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lab.container_image import Entry

LIBRARY: Final = "registry.ollama.ai/library"
"""Where a name without a host and an owner is."""
MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG: Final = "application/vnd.docker.container.image.v1+json"
MODEL: Final = "application/vnd.ollama.image.model"


@dataclass(frozen=True)
class Model:
    """A GGUF file that brings its own template. ``size`` and ``file_type`` are what `ollama show` tells."""

    name: str
    gguf: bytes
    family: str = "llama"
    size: str = ""
    file_type: str = "F32"


def entries(model: Model, prefix: str = "") -> Iterator[Entry]:
    """The files of a store with this model, as `ollama create` makes them."""
    config = _json(
        {
            "model_format": "gguf",
            "model_family": model.family,
            "model_families": [model.family],
            "model_type": model.size,
            "file_type": model.file_type,
        }
    )
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": _described(CONFIG, config), "layers": [_described(MODEL, model.gguf)]}
    name, _colon, tag = model.name.partition(":")
    yield Entry(f"{prefix}manifests/{LIBRARY}/{name}/{tag or 'latest'}", 0o644, data=_json(manifest))
    for content in (config, model.gguf):
        yield Entry(f"{prefix}blobs/sha256-{hashlib.sha256(content).hexdigest()}", 0o644, data=content)


def _described(kind: str, content: bytes) -> dict[str, str | int]:
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "size": len(content)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
