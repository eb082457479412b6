# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.homelab.gpu.plugins.plugin_utils._text_table import columns, human_age


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "-"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (9000, "2h30m"),
        (36000, "10h"),
        (37800, "10h"),
        (172799, "47h"),
        (172800, "2d"),
        (180000, "2d2h"),
        (864000, "10d"),
        (900000, "10d"),
    ],
)
def test_human_age(seconds, expected):
    assert human_age(seconds) == expected


def test_columns_are_aligned_to_their_widest_cell():
    assert columns([["A", "B", "C"], ["long", "1", "x"], ["名", "22", ""]], right=(1,)) == ["A      B  C", "long   1  x", "名    22"]


def test_control_characters_cannot_break_a_row():
    assert columns([["a\nb", "c\x1b[0m"]]) == ["a b  c [0m"]


def test_rows_of_different_length_are_a_mistake():
    with pytest.raises((ValueError, IndexError)):
        columns([["a", "b"], ["a"]])


def test_no_rows_are_no_lines():
    assert columns([]) == []
