# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# From the settings of the role ollama, and the cluster's nodes, to what its template needs; or what is wrong with them.

from __future__ import annotations

import math
import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.plugin_utils._gpu_labels import SKU
from ansible_collections.homelab.gpu.plugins.plugin_utils._pod_settings import GPU_RESOURCES, Settings

__all__ = ["plan"]

Object = t.Mapping[str, t.Any]

MODES = ("cpu", "gpu")
MODEL_KEYS = ("name", "pull", "gguf", "store", "copy_of", "warm")
ORIGINS = ("pull", "gguf", "store", "copy_of")
MODEL_NAME = re.compile(r"(?:[a-z0-9.-]+(?::\d+)?/)?(?:[A-Za-z0-9_][A-Za-z0-9_.-]*/)?[A-Za-z0-9_][A-Za-z0-9_.-]*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
ACCESS_MODES = ("ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod")
KEEP_ALIVE = re.compile(r"-1|\d+|(?:\d+(?:\.\d+)?(?:ms|s|m|h))+")
# Each is given by an option of the role, or keeps the GPU out of reach
RESERVED_ENVIRONMENT = (
    *("CUDA_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES", "HOME", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_VISIBLE_DEVICES"),
    *("OLLAMA_CONTEXT_LENGTH", "OLLAMA_HOST", "OLLAMA_KEEP_ALIVE", "OLLAMA_LOAD_TIMEOUT", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_MODELS"),
    *("OLLAMA_NO_CLOUD", "OLLAMA_NUM_PARALLEL", "OLLAMA_VULKAN"),
)
# Three ways to a GPU: NVIDIA's runtime, CUDA, Vulkan
NO_GPU = {"NVIDIA_VISIBLE_DEVICES": "void", "CUDA_VISIBLE_DEVICES": "-1", "OLLAMA_VULKAN": "0", "GGML_VK_VISIBLE_DEVICES": "-1"}
IMPORTS = "/import"
STARTUP_PERIOD_SECONDS = 5


def plan(given: Object, nodes: t.Sequence[Object]) -> dict[str, t.Any]:
    settings = Settings("ollama", given)
    messages: list[str] = []
    mode = settings["mode"]
    if mode not in MODES:
        settings.refuse("mode", f"it has to be one of {', '.join(MODES)}")
    gpus = settings.number("gpus", 1, 16) if mode == "gpu" else 0
    if settings["gpu_resource"] not in GPU_RESOURCES:
        settings.refuse("gpu_resource", f"it has to be one of {', '.join(GPU_RESOURCES)}")
    if mode == "cpu" and settings["runtime_class"]:
        settings.refuse("runtime_class", "in mode cpu no runtime may bring a GPU into the container; leave it empty, or set ollama_mode to gpu")
    models = _models(settings)
    home = settings.mount_path("data_path")
    user = settings.number("run_as_user", 0, 2**31 - 1)
    settings.number("run_as_group", 0, 2**31 - 1)
    made: dict[str, t.Any] = {
        "name": settings.name("name", service=True),
        "namespace": settings.name("namespace"),
        "service_name": settings.name("service_name", service=True),
        "image": settings.image("image"),
        "port": settings.number("port", 1, 65535),
        "replicas": settings.number("replicas", 0, 64, none=True),
        "tolerations": settings.tolerations("tolerations", "node_lost_seconds"),
        "node_selector": settings.selector("node_selector"),
        "affinity": settings.mapping("affinity"),
        "resources": settings.resources("resources", int(gpus), str(settings["gpu_resource"])),
        "import_volume": settings.volume("import", read_only=True),
        "models": models,
        "warm": [model["name"] for model in models if model["warm"]],
        "home_path": home.rpartition("/")[0] if home.endswith("/.ollama") else home,
        **_storage(settings),
        **_times(settings, models),
    }
    if made["home_path"] == "":
        settings.refuse("data_path", "its parent becomes the home of the server, which / cannot be; take /root/.ollama")
    if any(model["origin"] in ("gguf", "store") for model in models) and not made["import_volume"]:
        settings.refuse("import", "models are to be imported, and nothing says from where; give host_path, claim or image", shown=False)
    loaded = settings.number("max_loaded_models", 1, 64, none=True)
    if loaded is not None and loaded < len(made["warm"]):
        settings.refuse("max_loaded_models", f"{len(made['warm'])} models are kept warm ({', '.join(made['warm'])}); raise it, or set warm: false for some")
    for option, least in (("num_parallel", 1), ("context_length", 16)):
        settings.number(option, least, none=True)
    if not KEEP_ALIVE.fullmatch(str(settings["keep_alive"])):
        settings.refuse("keep_alive", "write -1 for ever, or a time such as 30m")
    elif str(settings["keep_alive"]) != "-1" and made["warm"]:
        settings.refuse(
            "keep_alive", f"models are kept warm ({', '.join(made['warm'])}), and this would unload them; write '-1', or set warm: false for all of them"
        )
    environment = settings.environment("extra_env", RESERVED_ENVIRONMENT)
    if settings["strategy"] == "RollingUpdate" and made["storage_once"]:
        settings.refuse("strategy", "a new pod on another node would wait for the old one's volume, which one node has at a time; take Recreate")
    settings.finish()

    if mode == "gpu":
        _on_gpus(settings, nodes)
    if made["storage_once"] and (made["replicas"] or 1) > 1:
        messages.append(f"{made['storage_once']} can be used by one node at a time, so all {made['replicas']} pods have to be on one node.")
    if not made["warm"]:
        messages.append("No model is kept warm: pods are ready without one, and the first answer waits until its model is loaded.")
    made["environment"] = _environment(settings, made, mode, home, environment)
    # The home of root is closed to others: there they get one that is empty but for the volume
    made["home_volume"] = int(user) != 0 and made["home_path"] != home
    made["data_path"] = home
    made["messages"] = messages
    return made


def _models(settings: Settings) -> list[dict[str, t.Any]]:
    given = settings["models"]
    if not isinstance(given, (list, tuple)) or not given:
        settings.refuse("models", "list at least one, such as {name: 'llama3.2:1b'}")
        return []
    models: list[dict[str, t.Any]] = []
    for number, entry in enumerate(given):
        where = f"models[{number}]"
        if isinstance(entry, str):
            entry = {"name": entry}
        if not isinstance(entry, t.Mapping) or not isinstance(entry.get("name"), str):
            settings.problems.append(f"ollama_{where} is {entry!r}: it has to have a name")
            continue
        unknown = sorted(set(entry) - set(MODEL_KEYS))
        if unknown:
            settings.problems.append(f"ollama_{where} has the unknown key {unknown[0]}; the keys are {', '.join(MODEL_KEYS)}")
        name = entry["name"]
        if not MODEL_NAME.fullmatch(name):
            settings.problems.append(f"ollama_{where}.name is {name!r}: write it as clients do, such as llama3.2:1b or org/model")
        origins = [key for key in ORIGINS if entry.get(key)]
        if len(origins) > 1:
            settings.problems.append(f"ollama_{where} ({name}) has {' and '.join(origins)}; one of them says where it comes from")
        origin = origins[0] if origins else "pull"
        warm = entry.get("warm", origin != "copy_of")
        if not isinstance(warm, bool):
            settings.problems.append(f"ollama_{where}.warm is {warm!r}; it has to be true or false")
        models.append({"name": name, "origin": origin, "of": entry.get(origin) if origin != "pull" else "", "warm": warm, "where": where})
    tagged = [_tagged(model["name"]) for model in models]
    for position, model in enumerate(models):
        if tagged.index(tagged[position]) != position:
            settings.problems.append(f"ollama_{model['where']}.name is {model['name']}, which an entry before it has too; leave one out")
        if model["origin"] == "copy_of" and _tagged(str(model["of"])) not in tagged[:position]:
            settings.problems.append(f"ollama_{model['where']}.copy_of is {model['of']!r}, which no entry before it has; list that model first")
        if model["origin"] in ("gguf", "store"):
            path = str(model["of"])
            if model["of"] is True and model["origin"] == "store":
                model["of"] = path = "."
            if path.startswith("/") or ".." in path.split("/") or not re.fullmatch(r"[A-Za-z0-9._/+-]+", path):
                settings.problems.append(
                    f"ollama_{model['where']}.{model['origin']} is {model['of']!r}: give a path below that of ollama_import, without '..' and blanks"
                )
            elif model["origin"] == "gguf" and not path.endswith(".gguf"):
                settings.problems.append(f"ollama_{model['where']}.gguf is {path!r}: it has to be a file that ends in .gguf")
    return [{**{key: model[key] for key in ("origin", "of", "warm")}, "name": tag, "manifest": _manifest(tag)} for model, tag in zip(models, tagged)]


def _manifest(name: str) -> str:
    """Where a store has it, from its name with a tag."""
    path, _colon, tag = name.rpartition(":")
    parts = path.split("/")
    host = [] if len(parts) > 2 else ["registry.ollama.ai"]
    owner = [] if len(parts) > 1 else ["library"]
    return "/".join([*host, *owner, *parts, tag])


def _tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _storage(settings: Settings) -> dict[str, t.Any]:
    """A claim of its own, an existing one, a folder of the node, or nothing that lasts."""
    storage = settings["storage"]
    keys = ("size_gib", "storage_class", "access_mode", "claim", "host_path", "empty_dir")
    none: dict[str, t.Any] = {"claim": None, "data_volume": {"emptyDir": {}}, "storage_once": ""}
    if not isinstance(storage, t.Mapping) or set(storage) - set(keys):
        settings.refuse("storage", f"give some of {', '.join(keys)}")
        return none
    chosen = [key for key in ("size_gib", "claim", "host_path", "empty_dir") if storage.get(key)]
    if len(chosen) != 1:
        settings.refuse("storage", "give one of size_gib (a claim of its own), claim, host_path and empty_dir: true")
        return none
    kind = chosen[0]
    if kind == "empty_dir":
        return none
    if kind in ("claim", "host_path"):
        volume = Settings("ollama", {"storage": {kind: storage[kind]}})
        found = volume.volume("storage", read_only=False)
        settings.problems.extend(volume.problems)
        return {"claim": None, "data_volume": found, "storage_once": ""}
    size = storage["size_gib"]
    if isinstance(size, bool) or not isinstance(size, (int, float)) or size <= 0:
        settings.refuse("storage", f"size_gib is {size!r}; give a number of GiB")
        size = 1
    access = storage.get("access_mode") or "ReadWriteOnce"
    if access not in ACCESS_MODES:
        settings.refuse("storage", f"access_mode is {access!r}; it has to be one of {', '.join(ACCESS_MODES)}")
    name = f"{settings['name']}-models"
    claim = {
        "accessModes": [access],
        "resources": {"requests": {"storage": f"{math.ceil(size * 1024)}Mi" if size != int(size) else f"{int(size)}Gi"}},
        **({"storageClassName": str(storage["storage_class"])} if storage.get("storage_class") else {}),
    }
    volume_of = {"persistentVolumeClaim": {"claimName": name}}
    return {"claim": {"name": name, "spec": claim}, "data_volume": volume_of, "storage_once": name if access != "ReadWriteMany" else ""}


def _times(settings: Settings, models: t.Sequence[Object]) -> dict[str, int]:
    load = settings.number("load_timeout_seconds", 1, 86400)
    provision = settings.number("provision_timeout_seconds", 1, 86400)
    pre_stop = settings.number("pre_stop_seconds", 0, 300)
    grace = settings.number("termination_grace_seconds", 1, 3600)
    if grace <= pre_stop:
        settings.refuse("termination_grace_seconds", f"ollama_pre_stop_seconds, {pre_stop}, is part of it; give more")
    wait = settings.number("timeout_seconds", 1, none=True)
    warm = max(1, sum(1 for model in models if model["warm"]))
    return {
        "load_timeout_seconds": int(load),
        "provision_timeout_seconds": int(provision),
        "pre_stop_seconds": int(pre_stop),
        "termination_grace_seconds": int(grace),
        # One probe loads all of them
        "warm_timeout_seconds": int(load) * warm,
        "startup_failures": 3,
        "progress_deadline_seconds": int(provision + 3 * (load * warm + STARTUP_PERIOD_SECONDS) + grace + 60),
        "timeout_seconds": int(wait or provision + load * warm + grace + 60),
    }


def _on_gpus(settings: Settings, nodes: t.Sequence[Object]) -> None:
    selector = settings.selector("node_selector")
    labels = [node["metadata"].get("labels") or {} for node in nodes]
    if not any(SKU in one and all(one.get(name) == value for name, value in selector.items()) for one in labels):
        where = f" with the labels of ollama_node_selector, {settings['node_selector']}" if selector else ""
        raise InputError(
            f"ollama_mode is gpu, and no node of the cluster{where} has the label {SKU}; run homelab.gpu.site for the hosts of gpu_node, or set it to cpu"
        )


def _environment(settings: Settings, made: Object, mode: str, data: str, extra: t.Mapping[str, str]) -> dict[str, str]:
    environment = {
        "HOME": made["home_path"],
        "OLLAMA_HOST": f"0.0.0.0:{made['port']}",
        "OLLAMA_MODELS": f"{data}/models",
        "OLLAMA_KEEP_ALIVE": str(settings["keep_alive"]),
        "OLLAMA_LOAD_TIMEOUT": f"{made['load_timeout_seconds']}s",
        "OLLAMA_MAX_LOADED_MODELS": str(settings["max_loaded_models"] or max(1, len(made["warm"]))),
        "OLLAMA_NO_CLOUD": "1",
    }
    for name, option in (("OLLAMA_NUM_PARALLEL", "num_parallel"), ("OLLAMA_CONTEXT_LENGTH", "context_length")):
        if settings[option]:
            environment[name] = str(settings[option])
    if mode == "cpu":
        environment |= NO_GPU
    return {**environment, **extra}
