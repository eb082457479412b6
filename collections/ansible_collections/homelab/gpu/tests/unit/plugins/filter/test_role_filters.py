# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.api_url import api_url
from ansible_collections.homelab.gpu.plugins.filter.artifact_destinations import artifact_destinations
from ansible_collections.homelab.gpu.plugins.filter.node_plan import node_plan
from ansible_collections.homelab.gpu.plugins.filter.registration_labels import registration_labels


@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [
        ("192.0.2.1", 6443, "https://192.0.2.1:6443"),
        ("k3s.example.com", 443, "https://k3s.example.com:443"),
        ("fd00::1", 6443, "https://[fd00::1]:6443"),
        ("192.0.2.1, fd00::1", 6443, "https://192.0.2.1:6443"),
    ],
)
def test_api_url(address: str, port: int, expected: str) -> None:
    assert api_url(address, port) == expected


@pytest.mark.parametrize("address", ["", " ", None, ["192.0.2.1"]])
def test_api_url_of_nothing(address: t.Any) -> None:
    with pytest.raises(AnsibleFilterError, match="set k3s_api_address"):
        api_url(address)


def artifact(kind: str, filename: str) -> dict[str, t.Any]:
    return {"name": "n", "kind": kind, "filename": filename, "path": f"/cache/{filename}", "size": 1, "sha256": "0" * 64}


def test_artifact_destinations() -> None:
    found = artifact_destinations([artifact("binary", "k3s-arm64"), artifact("images", "i.tar")], binary="/lib/v1/k3s", images_dir="/data/images")
    assert [(entry["src"], entry["dest"], entry["mode"]) for entry in found] == [
        ("/cache/k3s-arm64", "/lib/v1/k3s", "0755"),
        ("/cache/i.tar", "/data/images/i.tar", "0644"),
    ]


def test_a_bundle_goes_to_no_host() -> None:
    with pytest.raises(AnsibleFilterError, match="kind bundle"):
        artifact_destinations([artifact("bundle", "b.tar")], binary="/b", images_dir="/i")


def test_registration_labels_of_a_list() -> None:
    with pytest.raises(AnsibleFilterError, match="needs a dictionary, not list"):
        registration_labels(t.cast("t.Any", ["a=b"]))


def test_node_plan_with_a_bad_taint() -> None:
    with pytest.raises(AnsibleFilterError, match="has no effect"):
        node_plan([], [{"name": "a", "labels": {}, "taints": ["a=b"]}])


# Of a node that has a label and a taint by each of two roles
MANAGED = {
    "homelab.gpu/managed-labels": "disk",
    "homelab.gpu/managed-taints": "slow:NoSchedule",
    "homelab.gpu/managed-gpu-labels": "gpu-type",
    "homelab.gpu/managed-gpu-taints": "gpu:NoSchedule",
}


@pytest.mark.parametrize(
    ("owner", "label", "taint", "prefix"), [("", "disk", "slow", "homelab.gpu/managed-"), ("gpu", "gpu-type", "gpu", "homelab.gpu/managed-gpu-")]
)
def test_node_plan_removes_only_what_its_owner_set(owner: str, label: str, taint: str, prefix: str) -> None:
    node = {"metadata": {"name": "a", "annotations": MANAGED}}
    nothing: dict[str, t.Any] = {"name": "a", "labels": {}, "taints": []}
    assert node_plan([node], [nothing], owner=owner) == [
        {
            "name": "a",
            "labels": {label: None},
            "taints": [{"key": taint, "effect": "NoSchedule", "state": "absent"}],
            "annotations": {f"{prefix}labels": None, f"{prefix}taints": None},
        }
    ]
    assert node_plan([node], [nothing], owner="third") == []


def test_node_plan_remembers_by_owner() -> None:
    setting = {"name": "a", "labels": {"x": "y"}, "taints": ["t=v:NoExecute"]}
    (plain,), (owned,) = (node_plan([], [setting], *owner) for owner in ([], ["gpu"]))
    assert plain["annotations"] == {"homelab.gpu/managed-labels": "x", "homelab.gpu/managed-taints": "t:NoExecute"}
    assert owned == {**plain, "annotations": {"homelab.gpu/managed-gpu-labels": "x", "homelab.gpu/managed-gpu-taints": "t:NoExecute"}}
