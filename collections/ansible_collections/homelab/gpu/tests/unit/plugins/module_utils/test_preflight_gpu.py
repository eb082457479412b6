# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._preflight import Finding, Host, Site
from ansible_collections.homelab.gpu.plugins.module_utils._preflight_gpu import GPU_CHECKS

P40 = {
    "pci_address": "0000:3f:00.0",
    "pci_driver": "nvidia",
    "product": "Tesla P40",
    "sku": "tesla-p40-24gb",
    "sku_reason": "",
    "state": "ready",
    "state_reason": "",
}
LOST = {**P40, "sku": None, "state": "lost", "state_reason": "the driver calls it lost"}
STRANGE = {**P40, "sku": None, "product": "GeForce", "sku_reason": "no entry has that name"}
OPTIONS: dict[str, dict[str, t.Any]] = {
    "gpu_node": {"labels": {}, "taints": []},
    "nvidia_container_toolkit": {
        "version": "1.20.1-1",
        "runtime": "/usr/bin/nvidia-container-runtime",
        "packages": ["nvidia-container-toolkit-base", "nvidia-container-toolkit"],
        "settings": {},
    },
    "nvidia_device_plugin": {
        "skus": [],
        "replicas": None,
        "sharing": "time-slicing",
        "mixed": "refuse",
        "rename": False,
        "refuse_more_than_one": True,
        "fail_on_init_error": True,
        "device_list_strategy": "envvar",
        "image": "nvcr.io/nvidia/k8s-device-plugin:v0.20.0@sha256:" + "a" * 64,
        "image_archive": "",
        "lock_file": "",
        "namespace": "nvidia-device-plugin",
        "tolerations": [],
        "timeout_seconds": 120,
        "stable_seconds": 10,
        "drain_timeout_seconds": 300,
    },
}


def host(*, gpus: t.Sequence[t.Mapping[str, t.Any]] = (P40,), groups: t.Sequence[str] = ("k3s_agent", "gpu_node"), **changes: t.Any) -> Host:
    """A good GPU node, with changes by role__option."""
    options = {role: {f"{role}_{name}": value for name, value in own.items()} for role, own in OPTIONS.items()}
    for path, value in changes.items():
        role, _separator, name = path.partition("__")
        options.setdefault(role, {})[f"{role}_{name}"] = value
    facts = {"package_manager": "apt", "architecture": "amd64"}
    return Host(name="one", groups=list(groups), options=options, facts=facts, gpus={"gpus": list(gpus), "tegra": None})


def findings(one: Host) -> list[Finding]:
    site = Site(hosts=[one], specs={}, prefixes=())
    return [finding for check in GPU_CHECKS for finding in check(one, site)]


def test_good_node() -> None:
    assert findings(host()) == []


WRONG: list[tuple[dict[str, t.Any], str, str, str]] = [
    ({"nvidia_device_plugin__replicas": 5}, "slices", "nvidia_device_plugin_replicas is 5, but tesla-p40-24gb (2 to 4) allows from 2 to 4", "choose one"),
    (
        {"nvidia_device_plugin__replicas": 2, "nvidia_device_plugin__sharing": "none"},
        "slices",
        "nvidia_device_plugin_replicas is 2, but sharing=none",
        "leave one",
    ),
    ({"gpus": [P40, {**P40, "sku": "rtx-3060-12gb"}]}, "slices", "the node has GPUs of several SKUs", "set mixed=smallest"),
    ({"gpus": [STRANGE], "nvidia_device_plugin__replicas": 2}, "slices", "is not a known SKU and so is not shared", "describe it in skus"),
    ({"nvidia_device_plugin__skus": [{"name": "x"}]}, "SKUs", "gpu_skus: skus[0] (x) is not in the table", "correct that entry"),
    ({"gpu_node__labels": {"a": True}}, "label", "gpu_node_labels: the label a has the value True", "put it in quotes"),
    ({"gpu_node__labels": {"homelab.gpu/device-plugin-config": "x"}}, "label", "which chooses the device plugin's config", "remove it"),
    ({"gpu_node__taints": ["gpu=true"]}, "taint", "gpu_node_taints: the taint 'gpu=true' has no effect", "write it as key=value:Effect"),
    ({"nvidia_device_plugin__tolerations": ["gpu"]}, "taint", "nvidia_device_plugin_tolerations: the taint 'gpu' has no effect", "write it as"),
    ({"nvidia_container_toolkit__version": "1.20.1"}, "version", "nvidia_container_toolkit_version is '1.20.1'", "such as 1.20.1-1"),
    ({"nvidia_container_toolkit__version": "latest"}, "version", "nvidia_container_toolkit_version is 'latest'", "such as 1.20.1-1"),
    ({"nvidia_container_toolkit__runtime": "runtime"}, "runtime", "nvidia_container_toolkit_runtime is 'runtime'", "absolute path"),
    ({"nvidia_container_toolkit__packages": ["x"]}, "packages", "lacks nvidia-container-toolkit-base", "add it"),
    ({"nvidia_device_plugin__image": "plugin"}, "image", "nvidia_device_plugin_image is 'plugin'", "tag or digest"),
    ({"nvidia_device_plugin__image_archive": "plugin"}, "image", "there is no lock file to find it in", "set nvidia_device_plugin_lock_file"),
    ({"nvidia_device_plugin__namespace": "default"}, "namespace", "nvidia_device_plugin_namespace is 'default'", "a namespace of its own"),
    ({"nvidia_device_plugin__namespace": "GPU"}, "namespace", "nvidia_device_plugin_namespace is 'GPU'", "small letters"),
    ({"nvidia_device_plugin__timeout_seconds": 0}, "time limit", "nvidia_device_plugin_timeout_seconds is 0", "above zero"),
    ({"nvidia_device_plugin__stable_seconds": -1}, "time limit", "nvidia_device_plugin_stable_seconds is -1", "above zero"),
    ({"nvidia_device_plugin__device_list_strategy": "volume-mounts"}, "device list", "runtime does not look at by default", "as-volume-mounts: true"),
    (
        {"nvidia_container_toolkit__settings": {"accept-nvidia-visible-devices-envvar-when-unprivileged": False}},
        "device list",
        "pods would have no GPU",
        "to volume-mounts",
    ),
]


@pytest.mark.parametrize(("changes", "check", "fact", "fix"), WRONG)
def test_wrong_options(changes: dict[str, t.Any], check: str, fact: str, fix: str) -> None:
    (finding,) = findings(host(**changes))
    assert (finding.check, finding.severity) == (check, "error")
    assert fact in finding.fact
    assert fix in finding.fix


@pytest.mark.parametrize(("changes", "_check", "_fact", "_fix"), WRONG)
def test_hosts_without_gpu_are_not_asked(changes: dict[str, t.Any], _check: str, _fact: str, _fix: str) -> None:
    assert findings(host(**{**changes, "gpus": [], "groups": ["k3s_agent"]})) == []


@pytest.mark.parametrize(
    ("gpus", "fact"),
    [([LOST], "GPU 0000:3f:00.0 is in the state lost: the driver calls it lost"), ([], "has no NVIDIA GPU now"), ([P40, LOST], "is in the state lost")],
)
def test_a_gpu_that_is_not_well_is_no_reason_to_leave_the_cluster_alone(gpus: list[dict[str, t.Any]], fact: str) -> None:
    (finding,) = findings(host(gpus=gpus))
    assert finding.severity == "warning"
    assert fact in finding.fact


def test_volume_mounts_with_the_setting_they_need() -> None:
    settings = {"accept-nvidia-visible-devices-as-volume-mounts": True}
    assert findings(host(nvidia_device_plugin__device_list_strategy="volume-mounts", nvidia_container_toolkit__settings=settings)) == []


@pytest.mark.parametrize(
    ("groups", "gpus", "said"),
    [
        (["k3s_agent"], [], True),
        (["k3s_agent", "gpu_node"], [P40], False),
        (["k3s_agent"], [P40], False),
        (["k3s_agent"], [{**P40, "pci_driver": "vfio-pci"}], True),
    ],
)
def test_default_runtime_only_where_it_is(groups: list[str], gpus: list[dict[str, t.Any]], said: bool) -> None:
    found = findings(host(groups=groups, gpus=gpus, k3s_agent__extra_config={"default-runtime": "nvidia"}))
    assert [finding.check for finding in found] == (["default runtime"] if said else [])


def test_host_without_a_package_manager() -> None:
    one = host()
    one.facts = {"package_manager": "", "architecture": "amd64"}
    assert [finding.check for finding in findings(one)] == ["package manager"]


def test_lock_files() -> None:
    one = host()
    one.gpu_lock_problems = {"nvidia_container_toolkit_lock_file": [("it is not YAML", "correct it")]}
    one.gpu_lock_missing = {"nvidia_device_plugin_lock_file": ["plugin (images) amd64; no version of it is listed"]}
    assert [(finding.check, finding.fact) for finding in findings(one)] == [
        ("lock file", "nvidia_container_toolkit_lock_file: it is not YAML"),
        ("artifact", "the lock file of nvidia_device_plugin_lock_file lacks plugin (images) amd64; no version of it is listed"),
    ]


@pytest.mark.parametrize("path", [f"{role}__{name}" for role, options in OPTIONS.items() for name in options])
def test_values_of_wrong_types_are_left_to_the_check_of_types(path: str) -> None:
    """They have a finding of their own; these checks must not end in an error."""
    for value in (None, 7, "text", ["a"], {"a": 1}, True):
        findings(host(**{path: value}))
