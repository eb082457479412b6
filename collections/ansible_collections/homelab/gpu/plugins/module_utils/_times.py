# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
# Pure: the times of the API are texts, whole seconds in some places and down to nanoseconds in others.

from __future__ import annotations

import datetime
import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError

__all__ = ["NANO", "nanoseconds", "rfc3339", "since_of"]

NANO: t.Final = 10**9
_FORM = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))")


def nanoseconds(text: str | None) -> int | None:
    """Since the epoch; None if the text is no time of RFC 3339."""
    match = _FORM.fullmatch(text or "")
    if match is None:
        return None
    day, clock, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime.datetime.strptime(f"{day}T{clock}+0000", "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return None
    offset = (int(hours) * 60 + int(minutes)) * 60 * (1 if sign == "+" else -1) if sign else 0
    return (int(moment.timestamp()) - offset) * NANO + int((fraction or "0").ljust(9, "0"))


def rfc3339(moment: int) -> str:
    """Whole seconds, rounded down: all that the API takes."""
    return datetime.datetime.fromtimestamp(moment // NANO, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def since_of(params: t.Mapping[str, t.Any]) -> int | None:
    """The options since_seconds and since_time checked; the moment that the latter names."""
    seconds = params["since_seconds"]
    if seconds is not None and params["since_time"] is not None:
        raise InputError("since_seconds and since_time exclude each other; leave one of them out")
    if seconds is not None and seconds < 1:
        raise InputError(f"since_seconds is {seconds}; it cannot be less than 1")
    if params["since_time"] is None:
        return None
    moment = nanoseconds(params["since_time"])
    if moment is None:
        raise InputError(f"since_time is {params['since_time']!r}; write it with its zone, as 2026-01-31T15:04:05Z")
    return moment
