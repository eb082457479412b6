# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The checks of hosts with GPUs before anything is changed. Pure; private to this collection.
#
# A GPU that is lost or unplugged is no reason not to look after the cluster, so what such states mean is told by the roles that need the GPU.

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._gpu_skus import merged
from ansible_collections.homelab.gpu.plugins.module_utils._node_settings import label_problems, taint_problems
from ansible_collections.homelab.gpu.plugins.module_utils._preflight import Finding, Host, HostCheck, Site
from ansible_collections.homelab.gpu.plugins.module_utils._slicing import slicing

__all__ = ["GPU_CHECKS", "GPU_ROLES"]

GPU_ROLES = ("gpu_node", "nvidia_container_toolkit", "nvidia_device_plugin", "nvidia_driver")
# Labels that the roles set themselves
_OWNED_LABELS = ("homelab.gpu/device-plugin-config",)
_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PACKAGE_VERSION = re.compile(r"\d[A-Za-z0-9.+~]*-[A-Za-z0-9.+~]+")
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._:/-]*[:@][A-Za-z0-9._:@-]+")
_VOLUME_MOUNTS = "accept-nvidia-visible-devices-as-volume-mounts"
_VARIABLE = "accept-nvidia-visible-devices-envvar-when-unprivileged"
_SLICING = ("replicas", "sharing", "mixed", "rename", "refuse_more_than_one", "fail_on_init_error", "device_list_strategy")


def _option(host: Host, role: str, name: str) -> Any:
    return host.options.get(role, {}).get(f"{role}_{name}")


def check_default_runtime(host: Host, _site: Site) -> Iterator[Finding]:
    config = host.option("extra_config")
    if isinstance(config, Mapping) and str(config.get("default-runtime", "")).startswith("nvidia") and not host.is_gpu:
        yield Finding(
            host.name,
            "default runtime",
            f"k3s_extra_config has default-runtime: {config['default-runtime']}, and K3s does not start on a host without that runtime",
            "set it for GPU nodes only, or put the host into the group gpu_node",
        )


def check_package_manager(host: Host, _site: Site) -> Iterator[Finding]:
    if host.facts and not host.facts.get("package_manager"):
        yield Finding(host.name, "package manager", "the host has neither apt-get nor dnf", "use a distribution with one of them for GPU nodes")


def check_skus(host: Host, _site: Site) -> Iterator[Finding]:
    skus = _option(host, "nvidia_device_plugin", "skus")
    if isinstance(skus, list):
        try:
            merged(skus)
        except InputError as error:
            yield Finding(host.name, "SKUs", f"gpu_skus: {error}", "correct that entry of gpu_skus")


def check_slices(host: Host, _site: Site) -> Iterator[Finding]:
    gpus = (host.gpus or {}).get("gpus") or []
    skus = _option(host, "nvidia_device_plugin", "skus")
    if not gpus or not isinstance(skus, list) or any(gpu["state"] != "ready" for gpu in gpus):
        return
    options = {name: _option(host, "nvidia_device_plugin", name) for name in _SLICING}
    try:
        merged(skus)
    except InputError:
        # That has a finding of its own
        return
    try:
        slicing(gpus, skus=skus, **options)
    except InputError as error:
        what, _semicolon, fix = str(error).rpartition("; ")
        yield Finding(
            host.name,
            "slices",
            f"nvidia_device_plugin_{what}" if what.startswith(_SLICING) else what or fix,
            fix if what else "correct the options nvidia_device_plugin_*",
        )


def check_gpu_states(host: Host, _site: Site) -> Iterator[Finding]:
    found = host.gpus or {}
    for gpu in found.get("gpus") or []:
        if gpu["state"] != "ready":
            where = gpu["pci_address"] or "of the Tegra module"
            yield Finding(host.name, "GPU", f"GPU {where} is in the state {gpu['state']}: {gpu['state_reason']}", "mend that, then run again", "warning")
    if found and not found.get("gpus"):
        yield Finding(
            host.name, "GPU", "the host is in the group gpu_node and has no NVIDIA GPU now", "plug one in and run again, or remove it from the group", "warning"
        )


def check_gpu_labels(host: Host, _site: Site) -> Iterator[Finding]:
    labels = _option(host, "gpu_node", "labels")
    if not isinstance(labels, Mapping):
        return
    for fact, fix in label_problems(labels):
        yield Finding(host.name, "label", f"gpu_node_labels: {fact}", fix)
    for label in _OWNED_LABELS:
        if label in labels:
            yield Finding(
                host.name, "label", f"gpu_node_labels has {label}, which chooses the device plugin's config", "remove it; set nvidia_device_plugin_replicas"
            )


def check_gpu_taints(host: Host, _site: Site) -> Iterator[Finding]:
    for role, name in (("gpu_node", "taints"), ("nvidia_device_plugin", "tolerations")):
        taints = _option(host, role, name)
        if isinstance(taints, list):
            for fact, fix in taint_problems([taint for taint in taints if isinstance(taint, str)]):
                yield Finding(host.name, "taint", f"{role}_{name}: {fact}", fix)


def check_toolkit(host: Host, _site: Site) -> Iterator[Finding]:
    version = _option(host, "nvidia_container_toolkit", "version")
    if isinstance(version, str) and not _PACKAGE_VERSION.fullmatch(version):
        yield Finding(host.name, "version", f"nvidia_container_toolkit_version is {version!r}", "write it with the package's revision, such as 1.20.1-1")
    runtime = _option(host, "nvidia_container_toolkit", "runtime")
    if isinstance(runtime, str) and not runtime.startswith("/"):
        yield Finding(host.name, "runtime", f"nvidia_container_toolkit_runtime is {runtime!r}", "write the absolute path of nvidia-container-runtime")
    packages = _option(host, "nvidia_container_toolkit", "packages")
    if isinstance(packages, list) and "nvidia-container-toolkit-base" not in packages:
        yield Finding(
            host.name,
            "packages",
            "nvidia_container_toolkit_packages lacks nvidia-container-toolkit-base, which has the runtime",
            "add it",
        )


def check_plugin(host: Host, _site: Site) -> Iterator[Finding]:
    image, archive, lock, namespace = (_option(host, "nvidia_device_plugin", name) for name in ("image", "image_archive", "lock_file", "namespace"))
    if isinstance(image, str) and not _IMAGE.fullmatch(image):
        yield Finding(
            host.name,
            "image",
            f"nvidia_device_plugin_image is {image!r}",
            "write it with registry and tag or digest, such as nvcr.io/nvidia/k8s-device-plugin:v0.20.0",
        )
    if archive and not lock:
        yield Finding(
            host.name,
            "image",
            f"nvidia_device_plugin_image_archive is {archive!r}, and there is no lock file to find it in",
            "set nvidia_device_plugin_lock_file",
        )
    if isinstance(namespace, str) and (not _DNS_LABEL.fullmatch(namespace) or namespace == "default"):
        yield Finding(
            host.name,
            "namespace",
            f"nvidia_device_plugin_namespace is {namespace!r}",
            "use a namespace of its own: small letters, digits and dashes, at most 63",
        )
    for name in ("timeout_seconds", "stable_seconds", "drain_timeout_seconds"):
        value = _option(host, "nvidia_device_plugin", name)
        if isinstance(value, int) and value < (0 if name == "stable_seconds" else 1):
            yield Finding(host.name, "time limit", f"nvidia_device_plugin_{name} is {value}", "write a number of seconds above zero")


def check_strategy(host: Host, _site: Site) -> Iterator[Finding]:
    settings = _option(host, "nvidia_container_toolkit", "settings")
    strategy = _option(host, "nvidia_device_plugin", "device_list_strategy")
    if not isinstance(settings, Mapping):
        return
    if strategy == "volume-mounts" and settings.get(_VOLUME_MOUNTS) is not True:
        yield Finding(
            host.name,
            "device list",
            "nvidia_device_plugin_device_list_strategy is volume-mounts, which NVIDIA's runtime does not look at by default",
            f"set nvidia_container_toolkit_settings to {{{_VOLUME_MOUNTS}: true}}, or choose another strategy",
        )
    elif strategy != "volume-mounts" and settings.get(_VARIABLE) is False:
        yield Finding(
            host.name,
            "device list",
            f"nvidia_container_toolkit_settings has {_VARIABLE}: false, so the device plugin and its pods would have no GPU",
            f"set nvidia_device_plugin_device_list_strategy to volume-mounts and {_VOLUME_MOUNTS} to true, or set this one to true",
        )


def check_gpu_locks(host: Host, _site: Site) -> Iterator[Finding]:
    for option, problems in host.gpu_lock_problems.items():
        for what, fix in problems:
            yield Finding(host.name, "lock file", f"{option}: {what}", fix)
    for option, missing in host.gpu_lock_missing.items():
        for what in missing:
            yield Finding(host.name, "artifact", f"the lock file of {option} lacks {what}", "add the entry, or choose a listed version")


_OF_GPU_NODES: tuple[HostCheck, ...] = (
    check_package_manager,
    check_skus,
    check_slices,
    check_gpu_states,
    check_gpu_labels,
    check_gpu_taints,
    check_toolkit,
    check_plugin,
    check_strategy,
    check_gpu_locks,
)


def _for_gpu_nodes(check: HostCheck) -> HostCheck:
    def checked(host: Host, site: Site) -> Iterator[Finding]:
        return check(host, site) if host.is_gpu else iter(())

    return checked


GPU_CHECKS: tuple[HostCheck, ...] = (check_default_runtime, *map(_for_gpu_nodes, _OF_GPU_NODES))
