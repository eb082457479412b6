# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._times import NANO, nanoseconds, rfc3339, since_of

START = 1767225600


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-01T00:00:00Z", START * NANO),
        ("2026-01-01t00:00:00z", START * NANO),
        ("2026-01-01 00:00:00Z", START * NANO),
        ("2026-01-01T00:00:00.5Z", START * NANO + NANO // 2),
        ("2026-01-01T00:00:00.123456Z", START * NANO + 123456000),
        ("2026-01-01T00:00:00.123456789Z", START * NANO + 123456789),
        ("2026-01-01T00:00:00.1234567891Z", START * NANO + 123456789),
        ("2026-01-01T01:30:00+01:30", START * NANO),
        ("2025-12-31T23:00:00-01:00", START * NANO),
        ("1970-01-01T00:00:00Z", 0),
        ("2026-01-01T00:00:00", None),
        ("2026-01-01", None),
        ("2026-02-30T00:00:00Z", None),
        ("2026-01-01T25:00:00Z", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_times_of_the_api(text: str | None, moment: int | None) -> None:
    assert nanoseconds(text) == moment


@pytest.mark.parametrize("fraction", [0, 1, NANO - 1])
def test_whole_seconds_for_the_api(fraction: int) -> None:
    assert rfc3339(START * NANO + fraction) == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("seconds", "time", "words"),
    [
        (0, None, "since_seconds is 0; it cannot be less than 1"),
        (1, "2026-01-01T00:00:00Z", "since_seconds and since_time exclude each other; leave one of them out"),
        (None, "2026-01-01", "since_time is '2026-01-01'; write it with its zone, as 2026-01-31T15:04:05Z"),
    ],
)
def test_options_that_cannot_be_right(seconds: int | None, time: str | None, words: str) -> None:
    with pytest.raises(InputError) as caught:
        since_of({"since_seconds": seconds, "since_time": time})
    assert str(caught.value) == words


def test_options() -> None:
    assert since_of({"since_seconds": 5, "since_time": None}) is None
    assert since_of({"since_seconds": None, "since_time": "2026-01-01T00:00:00.5Z"}) == START * NANO + NANO // 2
