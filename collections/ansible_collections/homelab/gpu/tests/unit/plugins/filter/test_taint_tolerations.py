# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.taint_tolerations import taint_tolerations


@pytest.mark.parametrize(
    ("taints", "tolerations"),
    [
        ([], []),
        (["gpu=true:NoSchedule"], [{"key": "gpu", "operator": "Equal", "value": "true", "effect": "NoSchedule"}]),
        (["gpu:NoExecute"], [{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}]),
        # An empty value is one that Exists tolerates, too
        (["gpu=:NoSchedule"], [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]),
        (
            ["example.com/a=b:PreferNoSchedule", "a=b:NoSchedule", "a=c:NoSchedule"],
            [
                {"key": "example.com/a", "operator": "Equal", "value": "b", "effect": "PreferNoSchedule"},
                {"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"},
                {"key": "a", "operator": "Equal", "value": "c", "effect": "NoSchedule"},
            ],
        ),
    ],
)
def test_tolerations(taints: list[str], tolerations: list[dict[str, str]]) -> None:
    assert taint_tolerations(taints) == tolerations
    # What a filter such as unique or map gives may be a generator
    assert taint_tolerations(taint for taint in taints) == tolerations


@pytest.mark.parametrize(
    ("taints", "words"),
    [
        (["gpu=true"], "the taint 'gpu=true' has no effect: write key=value:Effect"),
        (["gpu=true:noschedule"], "has no effect"),
        (["a:NoSchedule", "=x:NoSchedule"], "the key of the taint '=x:NoSchedule' must have a name"),
        (["gpu=a b:NoSchedule"], "the value of the taint 'gpu=a b:NoSchedule'"),
        ([""], "the taint '' has no effect"),
        ([{"key": "gpu", "effect": "NoSchedule"}], "taint_tolerations: the taint {'key': 'gpu', 'effect': 'NoSchedule'} is not text"),
        ([None], "taint_tolerations: the taint None is not text"),
        ("gpu=true:NoSchedule", "taint_tolerations: needs a list of taints, not 'gpu=true:NoSchedule'"),
        (None, "taint_tolerations: needs a list of taints, not None"),
    ],
)
def test_bad_input(taints: t.Any, words: str) -> None:
    with pytest.raises(AnsibleFilterError) as failure:
        taint_tolerations(taints)
    assert words in str(failure.value)
