# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the container image of the stand-in for vLLM: llama.cpp and the tiny model behind vLLM's command and API."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from lab import container_image
from lab.distribution.build import toolchain
from lab.models import build as tiny_image
from lab.models import gguf_file, python_base, tiny_model

HERE: Final = Path(__file__).resolve().parent
NAME: Final = "localhost/homelab-lab/vllm-standin:v0.32.0-lab1"
ARCHIVE: Final = "vllm-standin.tar"
INPUTS: Final = (
    *sorted((HERE / "program").glob("[!t]*.py")),
    *(HERE / name for name in ("image.py", "vllm.py")),
    *(Path(str(module.__file__)).resolve() for module in (gguf_file, tiny_model, tiny_image)),
    *python_base.INPUTS,
)


def key() -> str:
    suite, _vendor = python_base.suite_of_this_host()
    return python_base.content_key(container_image.machine_architecture(), suite, INPUTS)


def build() -> Path:
    """The image as a docker-archive."""
    home = toolchain.cache_directory() / "images" / f"vllm-standin-{key()}"
    with python_base.made_once(home) as done:
        if done:
            layers = python_base.layers(python_base.silent)
            with tempfile.TemporaryDirectory(prefix="vllm-standin-", dir=home.parent) as scratch:
                entries = [
                    *python_base.shell_entries(),
                    container_image.file("usr/local/bin/vllm", HERE / "vllm.py"),
                    container_image.text(f"{python_base.PYTHON_PACKAGES}/vllm_standin/__init__.py", ""),
                    *(
                        container_image.file(f"{python_base.PYTHON_PACKAGES}/vllm_standin/{path.name}", path, 0o644)
                        for path in INPUTS
                        if path.parent.name == "program"
                    ),
                    tiny_image.model_entry(),
                ]
                layers.append(container_image.write_layer(Path(scratch, "vllm.tar"), entries))
                python_base.run_inside(layers, ["/usr/local/bin/vllm", "--version"], "asking the stand-in for its version")
                image = container_image.Image(
                    NAME,
                    layers,
                    entrypoint=["vllm", "serve"],
                    env=(*python_base.ENVIRONMENT, "NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"),
                )
                container_image.write_archive(done / ARCHIVE, [image])
    return home / ARCHIVE
