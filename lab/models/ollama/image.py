# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a container image of Ollama from its Go module, and a store with the tiny model.

It takes the place of docker.io/ollama/ollama: the same program, entrypoint, environment and folders. Only llama-server is another one (llama_server.py).
"""

from __future__ import annotations

import platform
import re
import tempfile
from pathlib import Path
from typing import Final

from lab import container_image
from lab.distribution.build import recipe, toolchain
from lab.models import build as tiny_image
from lab.models import gguf_file, python_base, tiny_model
from lab.models.ollama import store

HERE: Final = Path(__file__).resolve().parent
MODULE: Final = "github.com/ollama/ollama"
ARCHIVE: Final = "ollama.tar"
STORE: Final = "ollama-store.tar"
INPUTS: Final = (
    *(HERE / name for name in ("go.mod", "go.sum", "image.py", "llama_server.py", "store.py")),
    *(Path(str(module.__file__)).resolve() for module in (gguf_file, tiny_model, tiny_image)),
    *python_base.INPUTS,
)
# As in Ollama's own image
ENVIRONMENT: Final = (
    *python_base.ENVIRONMENT,
    "LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64",
    "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    "NVIDIA_VISIBLE_DEVICES=all",
    "OLLAMA_HOST=0.0.0.0:11434",
)


def version() -> str:
    found = re.search(rf"^require {re.escape(MODULE)} v(\S+)", (HERE / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise python_base.BuildError(f"{HERE / 'go.mod'} requires no version of {MODULE}")
    return found[1]


def name() -> str:
    return f"localhost/homelab-lab/ollama:{version()}-lab1"


def key() -> str:
    suite, _vendor = python_base.suite_of_this_host()
    return python_base.content_key(f"{container_image.machine_architecture()} {' '.join(platform.libc_ver())}", suite, INPUTS)


def build() -> tuple[Path, Path]:
    """The image as a docker-archive, and the store as a tar."""
    home = toolchain.cache_directory() / "images" / f"ollama-{key()}"
    with python_base.made_once(home) as done:
        if done:
            layers = python_base.layers(python_base.silent)
            with tempfile.TemporaryDirectory(prefix="ollama-", dir=home.parent) as scratch:
                work = Path(scratch)
                entries = [
                    *python_base.shell_entries(),
                    container_image.file("usr/bin/ollama", compile_program(work)),
                    container_image.file("usr/lib/ollama/llama-server", HERE / "llama_server.py"),
                ]
                layers.append(container_image.write_layer(work / "ollama.tar", entries))
                said = python_base.run_inside(layers, ["/bin/ollama", "--version"], "asking Ollama for its version")
                if version() not in said:
                    raise python_base.BuildError(f"the image's Ollama says {said.strip()!r} instead of {version()}")
                image = container_image.Image(name(), layers, entrypoint=["/bin/ollama"], command=["serve"], env=ENVIRONMENT)
                container_image.write_archive(done / ARCHIVE, [image])
                write_store(done / STORE)
    return home / ARCHIVE, home / STORE


def write_store(path: Path) -> None:
    """Unpacked where a pod finds it: models/*.gguf for servers of files, ollama/ for Ollama."""
    gguf = tiny_image.model_entry(f"models/{tiny_model.NAME}.gguf")
    model = store.Model(tiny_model.NAME, gguf.data or b"", size="471K")
    container_image.write_layer(path, [gguf, *store.entries(model, "ollama/")])


def compile_program(work: Path) -> Path:
    cache = toolchain.cache_directory()
    log = work / "log"
    go = toolchain.find_go(cache, toolchain.go_needed([HERE / "go.mod"]), log)
    # Parts of Ollama are C and C++
    environment = {
        **recipe.go_environment(container_image.machine_architecture()),
        "CGO_ENABLED": "1",
        "CC": toolchain.find_dynamic_c_compiler(cache, log),
    }
    made = work / "ollama"
    link = f"-s -w -X {MODULE}/version.Version={version()}"
    command = ["nice", "-n", "15", str(go), "build", "-ldflags", link, "-o", str(made), MODULE]
    if toolchain.run(command, log, environment, HERE) != 0:
        raise python_base.BuildError(f"Ollama could not be compiled:\n{log.read_text(errors='replace')[-3000:]}")
    return made
