# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# From the settings of the role vllm, and the cluster's nodes, to what its template needs; or what is wrong with them.

from __future__ import annotations

import math
import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._gpu_skus import Sku, merged
from ansible_collections.homelab.gpu.plugins.module_utils._quantity import quantity
from ansible_collections.homelab.gpu.plugins.plugin_utils._device_plugin import LABEL as CONFIG
from ansible_collections.homelab.gpu.plugins.plugin_utils._gpu_labels import COUNT, MEMORY, SKU
from ansible_collections.homelab.gpu.plugins.plugin_utils._pod_settings import GPU_RESOURCES, Settings, with_node_rule
from ansible_collections.homelab.gpu.plugins.plugin_utils._vllm_memory import (
    FRACTION_MOST_SHARED_WITH_CPU,
    Gpu,
    Need,
    arithmetic,
    bits_of,
    fraction_of,
    judged,
    parameters_of,
)

__all__ = ["NodesProblem", "plan"]

Object = t.Mapping[str, t.Any]

CAPABILITY = 7.0
"""The least compute capability that vLLM's images are made for."""
CAPABILITIES: t.Mapping[str, float] = {"awq": 7.5, "awq_marlin": 8.0, "gptq_marlin": 8.0, "bfloat16": 8.0}
SHUTDOWN_TIMEOUT_SINCE = (0, 18)
RESERVED_ENVIRONMENT = (
    *("CUDA_VISIBLE_DEVICES", "DO_NOT_TRACK", "HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN", "HOME", "NVIDIA_VISIBLE_DEVICES", "TRANSFORMERS_OFFLINE", "USER"),
    *("VLLM_API_KEY", "VLLM_CACHE_ROOT", "VLLM_NO_USAGE_STATS"),
)
# Each is given by an option of the role, or must not be given on a command line
RESERVED_ARGUMENTS: t.Mapping[str, str] = {
    "--api-key": "api_key_secret",
    "--dtype": "dtype",
    "--enforce-eager": "enforce_eager",
    "--gpu-memory-utilization": "gpu_memory_utilization",
    "--host": "port",
    "--max-model-len": "max_model_len",
    "--max-num-seqs": "max_num_seqs",
    "--model": "model",
    "--port": "port",
    "--quantization": "quantization",
    "--served-model-name": "served_names",
    "--shutdown-timeout": "shutdown_timeout_seconds",
    "--tensor-parallel-size": "gpus",
    "-q": "quantization",
    "-tp": "gpus",
}
SERVED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*")
CONFIG_REPLICAS = re.compile(r".+-x(\d+)-[0-9a-f]{8}")
DEFAULT_TOKENS = 4096
"""Of context, where the model's own is not known here."""
START_SECONDS = 120
"""From the container's start until vLLM begins to load, with compilation, on a slow disk."""
EAGER_START_SECONDS = 60
LOAD_GIB_PER_SECOND = 0.1
AFTER_SHUTDOWN_SECONDS = 5
"""What vLLM takes to end after its last request."""
STARTUP_PERIOD_SECONDS = 5
CACHE = "/cache"


class NodesProblem(InputError):
    """The settings are right, but the nodes, as they are, cannot run it."""


def plan(given: Object, nodes: t.Sequence[Object], skus: t.Sequence[Object] | None = None) -> dict[str, t.Any]:
    settings = Settings("vllm", given)
    messages: list[str] = []
    gpus = settings.number("gpus", 0, 16)
    model, local = _model(settings)
    need = _need(settings, model, gpus)
    times = _times(settings, need)
    made: dict[str, t.Any] = {
        "name": settings.name("name", service=True),
        "namespace": settings.name("namespace"),
        "services": _services(settings),
        "image": settings.image("image"),
        "port": settings.number("port", 1, 65535),
        "replicas": settings.number("replicas", 0, 64, none=True),
        "model_volume": settings.volume("model_source", read_only=True),
        "model_mount_path": settings.mount_path("model_mount_path"),
        "cache_volume": settings.volume("cache", read_only=False, kinds=("host_path", "claim")) or {"emptyDir": {}},
        "shm_gib": settings.number("shm_gib", 0.0625, 256),
        "tolerations": settings.tolerations("tolerations", "node_lost_seconds"),
        "node_selector": settings.selector("node_selector"),
        "served_names": _served_names(settings, model),
        "api_key": settings.secret("api_key_secret"),
        "hub_token": settings.secret("hub_token_secret"),
        "offline": local if settings["offline"] is None else bool(settings["offline"]),
        **times,
    }
    resource = settings["gpu_resource"]
    if resource not in GPU_RESOURCES:
        settings.refuse("gpu_resource", f"it has to be one of {', '.join(GPU_RESOURCES)}")
    made["resources"] = settings.resources("resources", int(gpus), str(resource))
    if made["offline"] and not local and not settings["cache"]:
        settings.refuse("offline", "nothing may be downloaded, and neither vllm_model is a path nor vllm_cache keeps what was; give one of them")
    if settings["model_source"] and not str(model).startswith(made["model_mount_path"] + "/"):
        settings.refuse("model", f"vllm_model_source is mounted at {made['model_mount_path']}, so the model is a path below it")
    _shutdown_is_known(settings)
    extra = _extra_arguments(settings)
    environment = settings.environment("extra_env", RESERVED_ENVIRONMENT)
    affinity = settings.mapping("affinity")
    for option in ("run_as_user", "run_as_group"):
        settings.number(option, 0, 2**31 - 1)
    settings.number("max_num_seqs", 1, 4096, none=True)
    settings.number("gpu_memory_utilization", 0.01, 1, none=True)
    settings.finish()

    try:
        fraction, rule, slots = (None, None, None) if not gpus else _on_gpus(settings, nodes, merged(skus), need, messages)
    except InputError as error:
        raise NodesProblem(str(error)) from error
    made["gpu_memory_utilization"] = fraction
    made["affinity"] = with_node_rule(affinity, rule)
    made["strategy"] = _strategy(settings, slots, int(1 if made["replicas"] is None else made["replicas"]) * int(gpus), int(gpus))
    made["arguments"] = _arguments(settings, made, model, fraction, int(gpus), extra)
    made["environment"] = _environment(made, bool(gpus), environment)
    made["messages"] = messages
    return made


def _model(settings: Settings) -> tuple[str, bool]:
    """The model, and whether it is a path in the container."""
    model = settings["model"]
    if not isinstance(model, str) or not model.strip() or any(character.isspace() for character in model) or model.startswith("-"):
        settings.refuse("model", "name a model such as Qwen/Qwen3-0.6B, or a path in the container such as /models/qwen")
        return "", False
    return model, model.startswith("/")


def _need(settings: Settings, model: str, gpus: t.Any) -> Need:
    weights = settings.number("weights_gib", 0.001, none=True)
    kv_kib = settings.number("kv_kib_per_token", 0.001, none=True)
    tokens = settings.number("max_model_len", 1, none=True)
    overhead = settings.number("overhead_gib", 0)
    if weights is None:
        parameters = parameters_of(model)
        weights = None if parameters is None else parameters * 1e9 * bits_of(model, settings["quantization"]) / 8 / 1024**3
    parts = max(1, int(gpus or 1))
    return Need(
        weights_gib=None if weights is None else weights / parts,
        kv_kib_per_token=None if kv_kib is None else kv_kib / parts,
        tokens=int(tokens or DEFAULT_TOKENS),
        overhead_gib=overhead,
    )


def _times(settings: Settings, need: Need) -> dict[str, int]:
    """All that has to fit together: the pod is given as long as its parts take."""
    pre_stop = settings.number("pre_stop_seconds", 0, 120)
    shutdown = settings.number("shutdown_timeout_seconds", 0, 3600)
    least = math.ceil(pre_stop + shutdown + AFTER_SHUTDOWN_SECONDS)
    grace = settings.number("termination_grace_seconds", 1, 7200, none=True)
    if grace is not None and grace < least:
        settings.refuse(
            "termination_grace_seconds",
            f"vllm_pre_stop_seconds ({pre_stop}) + vllm_shutdown_timeout_seconds ({shutdown}) + {AFTER_SHUTDOWN_SECONDS} to end are {least}: "
            "requests in flight would be cut; raise it, or lower one of those",
        )
    startup = settings.number("startup_timeout_seconds", 10, 86400, none=True)
    if startup is None:
        start = EAGER_START_SECONDS if settings["enforce_eager"] else START_SECONDS
        startup = start + (need.weights_gib or 0) / LOAD_GIB_PER_SECOND
    wait = settings.number("timeout_seconds", 1, none=True)
    deadline = settings.number("answer_deadline_seconds", 1, 60)
    period = settings.number("readiness_period_seconds", 1, 300)
    hung = settings.number("hung_restart_seconds", 0, 3600)
    if hung and hung < 3 * (deadline + 2):
        settings.refuse(
            "hung_restart_seconds", f"one unanswered request takes {deadline + 2} s to be noticed; give at least {3 * (deadline + 2)}, or 0 for never"
        )
    failures = math.ceil(startup / STARTUP_PERIOD_SECONDS)
    return {
        "pre_stop_seconds": int(pre_stop),
        "shutdown_timeout_seconds": int(shutdown),
        "termination_grace_seconds": int(grace or least),
        "startup_period_seconds": STARTUP_PERIOD_SECONDS,
        "startup_failures": failures,
        "progress_deadline_seconds": failures * STARTUP_PERIOD_SECONDS + int(grace or least) + 60,
        # With Recreate the old pod ends before the new one starts
        "timeout_seconds": int(wait or failures * STARTUP_PERIOD_SECONDS + (grace or least) + 60),
        "answer_deadline_seconds": int(deadline),
        # A probe that finds no answer then looks whether others are answered
        "probe_timeout_seconds": int(deadline) + 2,
        "readiness_period_seconds": int(period),
        "hung_failures": math.ceil(hung / max(10, deadline + 2)) if hung else 0,
        "hung_period_seconds": int(max(10, deadline + 2)),
    }


def _services(settings: Settings) -> list[str]:
    names = [settings.name("service_name", service=True)]
    aliases = settings["service_aliases"]
    for name in aliases if isinstance(aliases, (list, tuple)) else [aliases]:
        if not isinstance(name, str) or not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name):
            settings.refuse("service_aliases", f"{name!r} is no name of a Service: small letters, digits and dashes, beginning with a letter")
        elif name in names:
            settings.refuse("service_aliases", f"{name} is there twice, or is vllm_service_name; leave it out")
        names.append(str(name))
    return names


def _served_names(settings: Settings, model: str) -> list[str]:
    given = settings["served_names"] or [model]
    names = [str(name) for name in given] if isinstance(given, (list, tuple)) else [str(given)]
    for name in names:
        if settings["served_names"] and not SERVED_NAME.fullmatch(name):
            settings.refuse("served_names", f"{name!r} has to be made of letters, digits and . _ : / -, as clients write it in their requests")
        if names.count(name) > 1:
            settings.refuse("served_names", f"{name} is there twice")
            break
    return names


def _shutdown_is_known(settings: Settings) -> None:
    found = re.search(r":v?(\d+)\.(\d+)", str(settings["image"]))
    if found and (int(found[1]), int(found[2])) < SHUTDOWN_TIMEOUT_SINCE:
        settings.refuse("image", "vLLM lets requests in flight complete since 0.18; before, each restart answers them with nothing. Take a newer image")


def _extra_arguments(settings: Settings) -> list[str]:
    given = settings["extra_args"]
    if not isinstance(given, (list, tuple)):
        settings.refuse("extra_args", "give a list, each word an item of its own")
        return []
    for word in given:
        if not isinstance(word, str):
            settings.refuse("extra_args", f"{word!r} is no text; put it in quotes")
            continue
        name = word.partition("=")[0].replace("_", "-")
        if name in RESERVED_ARGUMENTS:
            settings.refuse("extra_args", f"{name} is given by the role; use vllm_{RESERVED_ARGUMENTS[name]}", shown=name != "--api-key")
    return [str(word) for word in given]


def _on_gpus(settings: Settings, nodes: t.Sequence[Object], skus: t.Sequence[Sku], need: Need, messages: list[str]) -> tuple[float, Object | None, int]:
    """The fraction that fits everywhere, a rule that keeps pods from GPUs that vLLM does not run on, and how many slices there are."""
    known = {sku.name: sku for sku in skus}
    selector = settings.selector("node_selector")
    chosen = [node for node in nodes if _labels(node).get(SKU) and all(_labels(node).get(name) == value for name, value in selector.items())]
    if not chosen:
        where = f" with the labels of vllm_node_selector, {settings['node_selector']}" if settings["node_selector"] else ""
        raise InputError(
            f"no node of the cluster{where} has a GPU that is known: none has the label {SKU}. Run homelab.gpu.site for the hosts of gpu_node, "
            "or set vllm_gpus to 0 and vllm_image to a build for the CPU"
        )
    unfit = {name: why for name in sorted({_labels(node)[SKU] for node in chosen}) if (why := _why_unfit(settings, known.get(name)))}
    fit = [node for node in chosen if _labels(node)[SKU] not in unfit]
    if not fit:
        told = "; ".join(f"{node['metadata']['name']} has {_labels(node)[SKU]}: {unfit[_labels(node)[SKU]]}" for node in chosen)
        raise InputError(f"vLLM cannot run on any GPU that it may use: {told}")
    rule = {"key": SKU, "operator": "NotIn", "values": sorted(unfit)} if unfit else None
    messages.extend(f"vLLM stays away from {name}: {why}" for name, why in unfit.items())
    if len(fit) < len(chosen) or any(known.get(_labels(node)[SKU]) is None for node in fit):
        messages.extend(
            f"Which GPU {node['metadata']['name']} has is not known, so nothing is judged there." for node in fit if _labels(node)[SKU] not in known
        )
    gpus = [gpu for node in fit if (gpu := _gpu(node, known.get(_labels(node)[SKU])))]
    fraction = _fraction(settings.number("gpu_memory_utilization", 0.01, 1, none=True), gpus)
    for gpu in gpus:
        judged(gpu, fraction, need)
    if need.total_gib is None:
        messages.append(f"How much memory {settings['model']} needs is not known, so it is not judged; set vllm_weights_gib (the size of its files).")
    elif gpus:
        messages.append(arithmetic(min(gpus, key=lambda gpu: gpu.memory_gib), fraction, need))
    if settings.number("gpus", 0) > 1 and any(gpu.slices > 1 for gpu in gpus):
        raise InputError(f"vllm_gpus is {settings['gpus']}, and GPUs are shared in slices, of which a pod gets one; set nvidia_device_plugin_sharing to none")
    slots = sum(int(_labels(node).get(COUNT) or 1) * _slices(node) for node in fit)
    return fraction, rule, slots


def _labels(node: Object) -> t.Mapping[str, str]:
    return node["metadata"].get("labels") or {}


def _why_unfit(settings: Settings, sku: Sku | None) -> str:
    if sku is None:
        return ""
    capability = float(sku.compute_capability)
    if capability < CAPABILITY or (sku.serves and "vllm" not in sku.serves):
        return (
            f"its compute capability is {sku.compute_capability}, and vLLM needs {CAPABILITY}; serve models there by Ollama (role ollama with "
            "ollama_mode: gpu), or choose other nodes by vllm_node_selector"
        )
    for option in ("quantization", "dtype"):
        least = CAPABILITIES.get(str(settings[option]), 0)
        if capability < least:
            return f"vllm_{option} is {settings[option]}, which needs compute capability {least}, and it has {sku.compute_capability}; choose another one"
    return ""


def _slices(node: Object) -> int:
    """Of each GPU. The label stays when the GPU is away for a while."""
    labels = _labels(node)
    if found := CONFIG_REPLICAS.fullmatch(labels.get(CONFIG) or ""):
        return int(found[1])
    offered = (node.get("status") or {}).get("allocatable") or {}
    return max(1, sum(int(quantity(str(offered.get(name, "0")))) for name in GPU_RESOURCES) // max(1, int(labels.get(COUNT) or 1)))


def _gpu(node: Object, sku: Sku | None) -> Gpu | None:
    labels = _labels(node)
    memory = int(labels.get(MEMORY) or (sku.memory_mib[0] if sku else 0))
    if not memory:
        return None
    return Gpu(node["metadata"]["name"], labels[SKU], memory / 1024, _slices(node), with_cpu=bool(sku and sku.tegra))


def _fraction(given: float | None, gpus: t.Sequence[Gpu]) -> float:
    if given is None:
        return min((fraction_of(gpu) for gpu in gpus), default=0.9)
    for gpu in gpus:
        if gpu.with_cpu and given > FRACTION_MOST_SHARED_WITH_CPU:
            raise InputError(
                f"vllm_gpu_memory_utilization is {given}: {gpu.node} shares its GPU's memory with the CPU, whose page cache counts as used, so that vLLM "
                f"would not start again; give at most {FRACTION_MOST_SHARED_WITH_CPU}"
            )
    return given


def _strategy(settings: Settings, slots: int | None, used: int, more: int) -> str:
    """A new pod beside the old one only if there is surely a slice for it."""
    wanted = settings["strategy"]
    if wanted != "auto":
        return str(wanted)
    return "RollingUpdate" if slots is None or slots >= used + max(1, more) else "Recreate"


def _arguments(settings: Settings, made: Object, model: str, fraction: float | None, gpus: int, extra: t.Sequence[str]) -> list[str]:
    words = ["serve", model, "--served-model-name", *made["served_names"], "--port", str(made["port"])]
    for option, value in (
        ("--max-model-len", settings["max_model_len"]),
        ("--gpu-memory-utilization", fraction),
        ("--quantization", settings["quantization"]),
        ("--dtype", settings["dtype"]),
        ("--max-num-seqs", settings["max_num_seqs"]),
        ("--tensor-parallel-size", gpus if gpus > 1 else None),
    ):
        if value is not None:
            words += [option, str(value)]
    if settings["enforce_eager"]:
        words.append("--enforce-eager")
    return [*words, "--shutdown-timeout", str(made["shutdown_timeout_seconds"]), *extra]


def _environment(made: Object, on_gpu: bool, extra: t.Mapping[str, str]) -> dict[str, str]:
    environment = {
        "HOME": CACHE,
        # Some of PyTorch asks for the user's name, and an image does not know this user's
        "USER": "vllm",
        "HF_HOME": f"{CACHE}/huggingface",
        "VLLM_CACHE_ROOT": f"{CACHE}/vllm",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if made["offline"]:
        environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if not on_gpu:
        environment |= {"NVIDIA_VISIBLE_DEVICES": "void", "CUDA_VISIBLE_DEVICES": "-1"}
    return {**environment, **extra}
