# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
# What is asked of kube_logs, checked before anything is sent. Pure.

from __future__ import annotations

import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._logs import LogQuery
from ansible_collections.homelab.gpu.plugins.module_utils._resources import check_kind
from ansible_collections.homelab.gpu.plugins.module_utils._times import since_of

__all__ = ["names_of", "pattern_of", "query_of"]

Params = t.Mapping[str, t.Any]

_LEAST = (("tail_lines", 0), ("limit_bytes", 1), ("follow_seconds", 1))


def query_of(params: Params) -> LogQuery:
    """The options that say which part of the logs is wanted, checked."""
    for option, least in _LEAST:
        if params[option] is not None and params[option] < least:
            raise InputError(f"{option} is {params[option]}; it cannot be less than {least}")
    if params["container"] == "":
        raise InputError("container is empty; give the name of a container, or leave it out")
    if params["container"] is not None and params["all_containers"]:
        raise InputError("container and all_containers exclude each other; leave one of them out")
    if params["previous"] and params["follow_seconds"] is not None:
        raise InputError("previous and follow_seconds exclude each other: nothing comes from a run that is over; leave one of them out")
    return LogQuery(
        container=params["container"],
        all_containers=params["all_containers"],
        previous=params["previous"],
        tail_lines=params["tail_lines"],
        since_seconds=params["since_seconds"],
        since=since_of(params),
        limit_bytes=params["limit_bytes"],
    )


def pattern_of(params: Params) -> re.Pattern[str] | None:
    """What ends the reading."""
    if params["until_pattern"] is None:
        return None
    if not params["until_pattern"]:
        raise InputError("until_pattern is empty, which every line matches; give a regular expression, or leave it out")
    if params["follow_seconds"] is None:
        raise InputError("until_pattern needs follow_seconds, the longest time to wait for it; add it, for example follow_seconds: 60")
    try:
        return re.compile(params["until_pattern"])
    except re.error as error:
        raise InputError(
            f"until_pattern: {params['until_pattern']!r} is not a regular expression ({error}); correct it, a \\ takes the meaning of a character"
        ) from error


def names_of(params: Params) -> tuple[str, ...]:
    """The names of pods or of one workload, checked together with what stands beside them."""
    kind, selectors = params["kind"], params["label_selectors"]
    check_kind("kind", kind)
    if params["namespace"] == "":
        raise InputError("namespace is empty; give a namespace, or leave it out")
    if params["name"] is not None and params["names"] is not None:
        raise InputError("name and names exclude each other; put all names into names")
    names = tuple(dict.fromkeys(params["names"] or ([] if params["name"] is None else [params["name"]])))
    if any(not name for name in names):
        raise InputError(f"{'name is' if params['name'] is not None else 'names contains'} an empty name; give the name of each pod")
    if any(not selector.strip() for selector in selectors or []):
        raise InputError("label_selectors contains an empty selector, which would select everything; give a selector, or leave it out")
    if kind != "Pod":
        for option in ("names", "label_selectors"):
            if params[option] is not None:
                raise InputError(f"{option} is for kind=Pod, and kind is {kind}; give the name of one {kind}, or leave kind out")
        if not names:
            raise InputError(f"name is missing; give the name of the {kind}")
    elif names and selectors:
        raise InputError("label_selectors stands beside the names of pods; give one of them")
    elif not names and not selectors:
        raise InputError("which pods are meant? Set name, names or label_selectors, or kind and name of a workload")
    return names
