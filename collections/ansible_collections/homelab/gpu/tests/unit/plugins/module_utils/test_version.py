# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._version import VersionError, change, from_version_output, parse

ASCENDING = [
    "v1.9.16+k3s1",
    "v1.30.1+k3s1",
    "v1.30.1+k3s2",
    "v1.30.1+k3s10",
    "v1.30.10+k3s1",
    "v1.31.0-alpha.1+k3s1",
    "v1.31.0-rc2+k3s1",
    "v1.31.0-rc10+k3s1",
    "v1.31.0+k3s1",
    "v2.0.0+k3s1",
]


@pytest.mark.parametrize("text", ASCENDING)
def test_text_survives(text: str) -> None:
    assert str(parse(text)) == text


def test_order() -> None:
    assert [str(version) for version in sorted(map(parse, reversed(ASCENDING)))] == ASCENDING


@pytest.mark.parametrize(
    "text",
    ["latest", "stable", "v1.37", "1.37.1+k3s1", "v1.37.1", "v1.37.1-k3s1", "v1.37.1+k3s", "v1.37.1+k3s1 ", "v1.37.1+k3s1/x", "", None, 1.37, ["v1.37.1+k3s1"]],
)
def test_what_is_no_version(text: object) -> None:
    with pytest.raises(VersionError, match="not a K3s version"):
        parse(text)


@pytest.mark.parametrize(
    ("current", "wanted", "expected"),
    [
        ("v1.34.1+k3s1", "v1.34.1+k3s1", "same"),
        ("v1.34.1+k3s1", "v1.34.1+k3s2", "upgrade"),
        ("v1.34.9+k3s1", "v1.34.10+k3s1", "upgrade"),
        ("v1.34.1+k3s1", "v1.35.0+k3s1", "upgrade"),
        ("v1.34.1+k3s2", "v1.34.1+k3s1", "downgrade"),
        ("v1.35.0+k3s1", "v1.34.9+k3s1", "downgrade"),
        ("v1.35.0+k3s1", "v1.35.0-rc1+k3s1", "downgrade"),
        ("v1.34.1+k3s1", "v1.36.0+k3s1", "skip"),
        ("v1.34.1+k3s1", "v2.0.0+k3s1", "skip"),
    ],
)
def test_change(current: str, wanted: str, expected: str) -> None:
    assert change(parse(current), parse(wanted)) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("k3s version v1.37.1+k3s1 (abcdef12)\ngo version go1.26.1\n", "v1.37.1+k3s1"),
        ("homelab-lab-distribution version v1.34.1+lab1 (0123)\ngo version go1.26.0\n", "v1.34.1+lab1"),
        ("command not found", None),
        ("", None),
    ],
)
def test_version_in_the_output_of_the_program(output: str, expected: str | None) -> None:
    assert from_version_output(output) == expected
