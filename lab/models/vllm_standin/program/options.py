# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `vllm serve` takes, as far as the stand-in knows it. What vLLM does not know is refused here, too."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

VERSION: Final = "0.32.0+standin"
"""The vLLM whose behaviour this follows."""
QUANTIZATIONS: Final = (
    *("awq", "awq_marlin", "auto-round", "bitsandbytes", "compressed-tensors", "experts_int8", "fbgemm_fp8", "fp8", "gguf", "gptq", "gptq_marlin"),
    *("modelopt", "modelopt_fp4", "moe_wna16", "mxfp4", "quark", "torchao"),
)
DTYPES: Final = ("auto", "bfloat16", "float", "float16", "float32", "half")
# Known to vLLM, of no consequence here
WORDS: Final = (
    *("--block-size", "--chat-template", "--cpu-offload-gb", "--distributed-executor-backend", "--download-dir", "--generation-config"),
    *("--kv-cache-dtype", "--kv-cache-memory-bytes", "--load-format", "--max-num-batched-tokens", "--model-impl", "--reasoning-parser", "--revision"),
    *("--root-path", "--seed", "--task", "--tokenizer", "--tool-call-parser", "--uvicorn-log-level"),
)
SWITCHES: Final = (
    *("--async-scheduling", "--disable-log-stats", "--disable-uvicorn-access-log", "--enable-auto-tool-choice", "--enable-chunked-prefill"),
    *("--enable-log-requests", "--enable-prefix-caching", "--enforce-eager", "--no-async-scheduling", "--no-enable-chunked-prefill"),
    *("--no-enable-log-requests", "--no-enable-prefix-caching", "--no-enforce-eager", "--trust-remote-code"),
)
SIZES: Final = {"": 1, "k": 1000, "m": 1000**2, "K": 1024, "M": 1024**2}


def length(value: str) -> int:
    """Also 8k and 8K, as vLLM has them."""
    found = re.fullmatch(r"(\d+)([kmKM]?)", value)
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of tokens")
    return int(found[1]) * SIZES[found[2]]


def fraction(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not a fraction above 0, at most 1")
    return number


def at_least(least: int) -> type[int]:
    class Number(int):
        def __new__(cls, value: str) -> Number:
            try:
                number = int.__new__(cls, value)
            except ValueError as error:
                raise argparse.ArgumentTypeError(f"{value!r} is not a whole number") from error
            if number < least:
                raise argparse.ArgumentTypeError(f"{value!r} is less than {least}")
            return number

    return Number


def parsed(arguments: Sequence[str], environment: Mapping[str, str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vllm", description="A stand-in for vLLM: llama.cpp behind vLLM's command and API.", allow_abbrev=False)
    parser.add_argument("--version", "-v", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", allow_abbrev=False)
    serve.add_argument("model_tag", nargs="?", default=None)
    serve.add_argument("--model", default=None)
    serve.add_argument("--served-model-name", nargs="+", default=[])
    serve.add_argument("--host", default="0.0.0.0")
    serve.add_argument("--port", type=at_least(1), default=8000)
    serve.add_argument("--max-model-len", type=length, default=None)
    serve.add_argument("--gpu-memory-utilization", type=fraction, default=0.92)
    serve.add_argument("--quantization", "-q", choices=QUANTIZATIONS, default=None)
    serve.add_argument("--dtype", choices=DTYPES, default="auto")
    serve.add_argument("--max-num-seqs", type=at_least(1), default=128)
    serve.add_argument("--tensor-parallel-size", "-tp", type=at_least(1), default=1)
    serve.add_argument("--shutdown-timeout", type=at_least(0), default=0)
    serve.add_argument("--api-key", nargs="+", default=[])
    for word in WORDS:
        serve.add_argument(word, default=None)
    for switch in SWITCHES:
        serve.add_argument(switch, action="store_true")
    options = parser.parse_args(arguments)
    options.model = options.model_tag or options.model or serve.error("no model is given: vllm serve MODEL")
    options.served_model_name = options.served_model_name or [options.model]
    if not options.api_key and environment.get("VLLM_API_KEY"):
        options.api_key = [environment["VLLM_API_KEY"]]
    options.file = gguf_of(options.model) or serve.error(
        f"{options.model!r} is neither a GGUF file nor a folder with one; the stand-in reads no other format and downloads nothing"
    )
    return options


def gguf_of(model: str) -> Path | None:
    path = Path(model)
    if path.is_file():
        return path
    return next(iter(sorted(path.glob("*.gguf"))), None) if path.is_dir() else None


def visible_gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> list[Path]:
    """The device nodes in the container, in the order of their numbers; none if the variable says so."""
    if environment.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return []
    return [devices / f"nvidia{number}" for number in sorted(int(path.name[6:]) for path in devices.glob("nvidia*") if path.name[6:].isdigit())]


def seconds(environment: Mapping[str, str], name: str) -> float:
    """One of the stand-in's own settings, which let it be as slow as a big model."""
    try:
        return max(0.0, float(environment.get(name) or 0))
    except ValueError as error:
        raise SystemExit(f"{name} is {environment[name]!r}; give seconds") from error


def on_cpu(environment: Mapping[str, str]) -> bool:
    return environment.get("VLLM_STANDIN_DEVICE", "").lower() == "cpu"
