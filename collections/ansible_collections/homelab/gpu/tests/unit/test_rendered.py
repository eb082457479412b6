# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The helper that tests of roles use must itself be able to find something."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.tests.unit.rendered import find, rendered, schema_problems

BUDGET = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "metadata": {"name": "one"},
    "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "one"}}},
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"spec": {"minAvailable": [1]}}, "spec.minAvailable"),
        ({"spec": {"minAvailabel": 1}}, "'minAvailabel' was unexpected"),
        ({"kind": "PodDisruptionBudgets"}, "Couldn't find schema"),
        ({"apiVersion": "policy/v1beta1"}, "Couldn't find schema"),
    ],
)
def test_schemas_find_what_is_wrong(change: dict[str, t.Any], words: str | None) -> None:
    found = schema_problems([{**BUDGET, **change}])
    assert (found == []) if words is None else (len(found) == 2 and all(words in line for line in found)), found


def test_renders_templates_of_a_role_with_its_defaults_and_what_is_given() -> None:
    node = {"metadata": {"labels": {"kubernetes.io/hostname": "gpu-host"}}, "status": {"allocatable": {"nvidia.com/gpu": "2"}}}
    found = rendered("gpu_verify", "templates/pods.yml.j2", __gpu_verify_found={"results": [[node], []]}, gpu_verify_node_name="gpu-host")
    assert [one["kind"] for one in found] == ["Namespace", "Pod", "Pod"]
    pod = find(found, "Pod", "slice-1")
    assert pod["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "gpu-host"}
    assert schema_problems(found) == []


def test_tells_what_ansible_said() -> None:
    with pytest.raises(AssertionError, match="'nowhere' is undefined"):
        rendered("gpu_verify", "{{ nowhere }}")
