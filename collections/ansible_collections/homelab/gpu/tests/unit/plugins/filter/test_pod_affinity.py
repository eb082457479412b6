# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.pod_affinity import pod_affinity
from ansible_collections.homelab.gpu.tests.unit.rendered import expect_valid

LABELS = {"app": "max-serve-llama"}
SELECTOR = {"matchLabels": LABELS}
HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def preferred(*terms: tuple[int, str]) -> dict[str, t.Any]:
    found = [{"weight": weight, "podAffinityTerm": {"labelSelector": SELECTOR, "topologyKey": key}} for weight, key in terms]
    return {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": found}}}


def spread(*keys: str) -> dict[str, t.Any]:
    found = [{"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": SELECTOR} for key in keys]
    return {"topologySpreadConstraints": found}


REQUIRED = {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": SELECTOR, "topologyKey": HOST}]}}}


@pytest.mark.parametrize(
    ("preset", "with_spread", "expected"),
    [
        ("none", False, {}),
        ("preferred-host", False, preferred((100, HOST))),
        ("zone-then-host", False, preferred((100, ZONE), (50, HOST))),
        ("required-host", False, REQUIRED),
        ("none", True, spread(HOST)),
        ("preferred-host", True, {**preferred((100, HOST)), **spread(HOST)}),
        ("zone-then-host", True, {**preferred((100, ZONE), (50, HOST)), **spread(ZONE, HOST)}),
        ("required-host", True, {**REQUIRED, **spread(HOST)}),
    ],
)
def test_presets(preset: str, with_spread: bool, expected: dict[str, t.Any]) -> None:
    found = pod_affinity(preset, LABELS, spread=with_spread)
    assert found == expected
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": {"containers": [{"name": "one", "image": "i"}], **found}}
    expect_valid([pod], ["1.34"])


@pytest.mark.parametrize(
    ("preset", "labels", "words"),
    [
        ("preferred", LABELS, "use one of none, preferred-host, zone-then-host, required-host; did you mean preferred-host"),
        (None, LABELS, "the preset is None"),
        ("none", {}, "labels are {}; give those by which"),
        ("preferred-host", ["app"], r"labels are \['app'\]"),
        ("preferred-host", {"app": 1}, "the label app has the value 1"),
    ],
)
def test_bad_inputs(preset: t.Any, labels: t.Any, words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words):
        pod_affinity(preset, labels)
