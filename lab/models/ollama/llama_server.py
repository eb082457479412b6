#!/usr/bin/python3
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ollama starts as llama-server: llama.cpp's own HTTP server out of the wheel xllamacpp, under llama-server's options.

Ollama starts it in three ways: without a model, and reads what it says of the system until it kills it; with --list-devices; and with a model.
An option that is not known here ends it with an error, so that a newer Ollama is not served by half.

llama.cpp is the wheel's, for the CPU. GPUs that the container sees are listed, opened and held all the same, as the CUDA build does,
so that tests find out whether an Ollama that should leave them alone does.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import xllamacpp

PARENT_SECONDS: Final = 0.5
MEMORY_MIB: Final = 16384
"""Said of each GPU: enough for the models of a lab."""
SWITCHES: Final = (
    "--no-webui",
    "--offline",
    "--verbose",
    "--list-devices",
    "--no-log-prefix",
    "--no-log-timestamps",
    "--no-jinja",
    "--embedding",
    "--context-shift",
    "--no-mmproj-offload",
    "--spec-draft-backend-sampling",
)
NUMBERS: Final[Mapping[str, Sequence[str]]] = {
    "port": ("--port",),
    "verbosity": ("--log-verbosity",),
    "n_ctx": ("-c", "--ctx-size"),
    "n_parallel": ("-np", "--parallel"),
    "n_batch": ("-b", "--batch-size"),
    "n_ubatch": ("-ub", "--ubatch-size"),
    "n_gpu_layers": ("-ngl", "--n-gpu-layers"),
    "n_keep": ("--keep",),
    "main_gpu": ("--main-gpu",),
    "image_min_tokens": ("--image-min-tokens",),
    "n_threads": ("-t", "--threads"),
    "spec_draft_n_max": ("--spec-draft-n-max",),
}
WORDS: Final = ("--model", "--host", "--chat-template", "--mmproj", "--spec-type", "--spec-draft-model", "--cache-type-k", "--cache-type-v")
LOAD_MODES: Final = {"none": "LLAMA_LOAD_MODE_NONE", "dio": "LLAMA_LOAD_MODE_DIRECT_IO"}
FLASH_ATTENTION: Final = {state: f"LLAMA_FLASH_ATTN_TYPE_{word}" for state, word in (("on", "ENABLED"), ("off", "DISABLED"), ("auto", "AUTO"))}
SPLIT_MODES: Final = {"none": "LLAMA_SPLIT_MODE_NONE", "layer": "LLAMA_SPLIT_MODE_LAYER", "row": "LLAMA_SPLIT_MODE_ROW"}
UNABLE: Final = ("lora", "spec_type", "spec_draft_model")
"""Would change the answers, and are not handed on."""


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="llama-server", allow_abbrev=False)
    for switch in SWITCHES:
        parser.add_argument(switch, action="store_true")
    for name, words in NUMBERS.items():
        parser.add_argument(*words, dest=name, type=int)
    for word in WORDS:
        parser.add_argument(word)
    parser.add_argument("--lora", action="append", default=[])
    parser.add_argument("--load-mode", choices=sorted(LOAD_MODES))
    parser.add_argument("--flash-attn", choices=sorted(FLASH_ATTENTION))
    parser.add_argument("--split-mode", choices=sorted(SPLIT_MODES))
    options = parser.parse_args(arguments)
    for name in UNABLE:
        if getattr(options, name):
            parser.error(f"argument --{name.replace('_', '-')}: the lab's llama-server cannot do that")
    return options


def gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> dict[int, Path]:
    """Those that CUDA would take: what is there, unless CUDA_VISIBLE_DEVICES chooses fewer; it stops at the first that is none."""
    found = {int(match[1]): path for path in devices.glob("nvidia*") if (match := re.fullmatch(r"nvidia(\d+)", path.name))}
    found = dict(sorted(found.items()))
    wanted = environment.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return found
    chosen: dict[int, Path] = {}
    for word in wanted.split(","):
        position = int(word) if word.strip().isdigit() else None
        if word.strip().startswith("GPU-"):
            # Which one it is only the driver knows
            return found
        if position is None or position >= len(found):
            break
        number = [*found][position]
        chosen[number] = found[number]
    return chosen


def parameters(options: argparse.Namespace, llama: Any) -> xllamacpp.CommonParams:
    """Llama.cpp's own parameters. What was not given stays as llama.cpp has it."""
    made = llama.CommonParams()
    made.model.path = options.model
    made.hostnames = [options.host or "127.0.0.1"]
    made.ui = not options.no_webui
    made.offline = options.offline
    made.embedding = options.embedding
    made.ctx_shift = options.context_shift
    made.use_jinja = not options.no_jinja
    for name in NUMBERS:
        value = getattr(options, name)
        if value is not None and name not in ("n_threads", "spec_draft_n_max"):
            setattr(made, name, value)
    if options.n_threads:
        made.cpuparams.n_threads = made.cpuparams_batch.n_threads = options.n_threads
    if options.chat_template:
        made.chat_template = options.chat_template
    if options.mmproj:
        made.mmproj.path, made.mmproj_use_gpu = options.mmproj, not options.no_mmproj_offload
    if options.load_mode:
        made.load_mode = getattr(llama.llama_load_mode, LOAD_MODES[options.load_mode])
    if options.flash_attn:
        made.flash_attn_type = getattr(llama.llama_flash_attn_type, FLASH_ATTENTION[options.flash_attn])
    if options.split_mode:
        made.split_mode = getattr(llama.llama_split_mode, SPLIT_MODES[options.split_mode])
    for name in ("cache_type_k", "cache_type_v"):
        if kind := getattr(options, name):
            setattr(made, name, llama.ggml_type[f"GGML_TYPE_{kind.upper()}"])
    return made


def end_with(parent: int) -> None:
    """Ollama kills its runners; if it was killed itself, nobody does."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(0)


def main(arguments: Sequence[str] | None = None) -> int:
    parent = os.getppid()
    options = parsed(sys.argv[1:] if arguments is None else arguments)
    visible = gpus(os.environ)
    if options.list_devices:
        print("Available devices:")
        for number, path in visible.items():
            print(f"  CUDA{number}: GPU of the lab at {path} ({MEMORY_MIB} MiB, {MEMORY_MIB} MiB free)")
        return 0
    held = [] if options.n_gpu_layers == 0 else [path.open("rb+", buffering=0) for path in visible.values()]

    import xllamacpp

    if not options.model:
        print("system_info:", xllamacpp.get_system_info(), file=sys.stderr, flush=True)
        return 0
    try:
        # Returns when the model is loaded and the port listens
        server = xllamacpp.Server(parameters(options, xllamacpp))
    except (RuntimeError, OSError) as error:
        print(f"error: cannot serve {options.model}: {error}", file=sys.stderr)
        return 1
    print(f"listening on {server.listening_address}, with {len(held)} GPUs open", file=sys.stderr, flush=True)
    watch = threading.Thread(target=end_with, args=(parent,))
    watch.start()
    watch.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
