# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.models.ollama import image, llama_server, store

SERVES = "--model /m --port 4 --host 127.0.0.1 --no-webui --offline -c 512 -np 2 --log-verbosity 4 --no-log-prefix --no-log-timestamps"


def fake_llama() -> Any:
    enums = {
        "llama_load_mode": llama_server.LOAD_MODES,
        "llama_flash_attn_type": llama_server.FLASH_ATTENTION,
        "llama_split_mode": llama_server.SPLIT_MODES,
    }
    made = {name: SimpleNamespace(**{word: word for word in words.values()}) for name, words in enums.items()}
    parameters = {"model": SimpleNamespace(), "cpuparams": SimpleNamespace(), "cpuparams_batch": SimpleNamespace(), "mmproj": SimpleNamespace()}
    return SimpleNamespace(CommonParams=lambda: SimpleNamespace(**parameters), ggml_type={"GGML_TYPE_Q8_0": 8}, **made)


@pytest.mark.parametrize(
    ("more", "name", "value"),
    [
        ("", "n_ctx", 512),
        ("", "n_parallel", 2),
        ("", "verbosity", 4),
        ("", "ui", False),
        ("", "use_jinja", True),
        ("--no-jinja --chat-template chatml", "chat_template", "chatml"),
        ("-b 64 -ub 32", "n_ubatch", 32),
        ("-ngl 0", "n_gpu_layers", 0),
        ("--embedding", "embedding", True),
        ("--context-shift --keep 4", "n_keep", 4),
        ("--cache-type-k q8_0 --cache-type-v q8_0", "cache_type_v", 8),
        ("--flash-attn auto", "flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_AUTO"),
        ("--load-mode none", "load_mode", "LLAMA_LOAD_MODE_NONE"),
        ("--split-mode none --main-gpu 1", "main_gpu", 1),
    ],
)
def test_options_reach_llama(more: str, name: str, value: object) -> None:
    made = llama_server.parameters(llama_server.parsed(f"{SERVES} {more}".split()), fake_llama())
    assert getattr(made, name) == value
    assert made.model.path == "/m"


def test_threads_are_for_prompts_and_answers() -> None:
    made = llama_server.parameters(llama_server.parsed([*SERVES.split(), "-t", "3"]), fake_llama())
    assert (made.cpuparams.n_threads, made.cpuparams_batch.n_threads) == (3, 3)


@pytest.mark.parametrize("more", ["--no-such-option", "--lora /l", "--spec-type draft", "--flash-attn maybe", "-c many"])
def test_what_cannot_be_done_is_refused(more: str) -> None:
    with pytest.raises(SystemExit):
        llama_server.parsed(f"{SERVES} {more}".split())


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [(None, [2, 10]), ("", []), ("-1", []), ("0", [2]), ("1", [10]), ("1,0", [10, 2]), ("0,-1,1", [2]), ("7", []), ("GPU-1", [2, 10])],
)
def test_gpus_as_cuda_chooses_them(tmp_path: Path, visible: str | None, numbers: list[int]) -> None:
    for name in ("nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert [*llama_server.gpus(environment, tmp_path)] == numbers


def test_store_is_consistent() -> None:
    made = {entry.path: entry.data or b"" for entry in store.entries(store.Model("tiny", b"GGUF"), "ollama/")}
    manifest = json.loads(made.pop("ollama/manifests/registry.ollama.ai/library/tiny/latest"))
    described = {f"ollama/blobs/{part['digest'].replace(':', '-')}": part["size"] for part in (manifest["config"], *manifest["layers"])}
    assert {path: len(data) for path, data in made.items()} == described
    assert all(path.endswith(hashlib.sha256(data).hexdigest()) for path, data in made.items())


def test_version_is_the_modules() -> None:
    assert image.name() == f"localhost/homelab-lab/ollama:{image.version()}-lab1"


def test_every_source_enters_the_key() -> None:
    sources = {path for path in image.HERE.iterdir() if path.is_file() and not path.name.startswith("test_") and path.suffix != ".md"}
    assert sources <= set(image.INPUTS)
