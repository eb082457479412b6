# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.local_volume_objects import local_volume_objects
from ansible_collections.homelab.gpu.plugins.plugin_utils._local_storage import VOLUME
from ansible_collections.homelab.gpu.tests.unit.rendered import expect_valid

Object = dict[str, t.Any]

NODES = {"gpu-worker": "node-of-gpu-worker", "worker": "worker"}
ROW = {"name": "models", "host": "gpu-worker", "path": "/srv/models", "size": "200Gi"}
SPECS = yaml.safe_load((pathlib.Path(__file__).parents[4] / "roles/local_storage/meta/argument_specs.yml").read_text(encoding="utf-8"))


def made(*rows: Object) -> list[Object]:
    found: list[Object] = local_volume_objects([{**ROW, **row} for row in rows], nodes=NODES, storage_class="local")
    expect_valid(found)
    return found


def test_volume_for_anybody() -> None:
    storage_class, volume = made({})
    assert (storage_class["provisioner"], storage_class["volumeBindingMode"]) == ("kubernetes.io/no-provisioner", "WaitForFirstConsumer")
    spec = volume["spec"]
    assert (spec["local"], spec["capacity"], spec["storageClassName"]) == ({"path": "/srv/models"}, {"storage": "200Gi"}, "local")
    assert spec["persistentVolumeReclaimPolicy"] == "Retain"
    (term,) = spec["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-of-gpu-worker"]}]
    assert "claimRef" not in spec


def test_volume_for_a_claim() -> None:
    found = made({"claim": {"namespace": "ml", "name": "models"}}, {"name": "other", "path": "/srv/other", "claim": {"namespace": "ml", "name": "other"}})
    assert [one["kind"] for one in found] == [
        "StorageClass",
        "Namespace",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "PersistentVolume",
        "PersistentVolumeClaim",
    ]
    assert found[1]["metadata"] == {"name": "ml"}
    volume, claim = found[2:4]
    assert volume["spec"]["claimRef"]["name"] == claim["metadata"]["name"] == "models"
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]


WRONG: list[tuple[Object, str, str]] = [
    ({"name": "Models"}, "(Models).name is 'Models'", "small letters"),
    ({"host": "gpuworker"}, ".host is 'gpuworker'", "did you mean gpu-worker?"),
    ({"path": "srv/models"}, ".path is 'srv/models'", "absolute path"),
    ({"path": "/"}, ".path is '/'", "below /"),
    ({"path": "/srv/../etc"}, ".path is '/srv/../etc'", "absolute path"),
    ({"path": "/etc/models"}, ".path is '/etc/models', which belongs to the system", "/srv/models"),
    ({"size": "200 GB"}, ".size is '200 GB'", "200Gi"),
    ({"size": None}, ".size is None", "200Gi"),
    ({"size": "0"}, ".size is '0'", "200Gi"),
    ({"access_mode": "RWO"}, ".access_mode is 'RWO'", "ReadWriteOnce"),
    ({"owner": "ollama"}, ".owner is 'ollama'", "number"),
    ({"group": -1}, ".group is -1", "number"),
    ({"mode": 775}, ".mode is 775", "in quotes"),
    ({"claim": {"name": "models"}}, ".claim is {'name': 'models'}", "namespace and name"),
    ({"claim": "ml/models"}, ".claim is 'ml/models'", "namespace and name"),
    ({"siez": "1Gi"}, "(models).siez: there is no such setting", "did you mean size?"),
]


@pytest.mark.parametrize(("row", "fact", "fix"), WRONG)
def test_wrong_rows(row: Object, fact: str, fix: str) -> None:
    told = local_volume_objects([{**ROW, **row}], nodes=NODES, storage_class="local", tell_problems=True)
    assert told["objects"] == []
    (line,) = told["problem"].splitlines()
    assert fact in line
    assert fix in line


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"path": "/srv/b"}, "its name is that of"),
        ({"name": "b", "path": "/srv/models/"}, "its path is that of local_storage_volumes[0] (models), too"),
    ],
)
def test_volumes_in_each_others_way(other: Object, words: str) -> None:
    with pytest.raises(AnsibleFilterError) as failure:
        local_volume_objects([ROW, {**ROW, **other}], nodes=NODES, storage_class="local")
    assert words in str(failure.value)


def test_the_same_path_on_another_host() -> None:
    assert len(made({}, {"name": "b", "host": "worker"})) == 3


def test_all_that_is_wrong_is_told_at_once() -> None:
    told = local_volume_objects([{**ROW, "size": 0, "path": "x"}], nodes=NODES, storage_class="Local", tell_problems=True)
    assert len(told["problem"].splitlines()) == 3


def test_the_role_documents_every_setting_with_its_default() -> None:
    rows = SPECS["argument_specs"]["main"]["options"]["local_storage_volumes"]["options"]
    assert {name: spec.get("default") for name, spec in rows.items()} == dict(VOLUME)
