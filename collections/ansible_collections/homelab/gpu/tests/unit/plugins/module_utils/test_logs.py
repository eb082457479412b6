# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._logs import Log, LogQuery, merge, presented, split_stamp, wanted_containers, workload_selector

Object = dict[str, t.Any]


def pod(name: str = "p", *containers: str) -> Object:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "d"},
        "spec": {"containers": [{"name": container} for container in containers or ("c",)]},
    }


def line(second: int | float, text: str) -> bytes:
    return f"2026-01-01T00:00:{second:012.9f}Z {text}".encode()


@pytest.mark.parametrize(
    ("raw", "stamp", "text"),
    [
        (b"2026-01-01T00:00:00.123456789Z text", "2026-01-01T00:00:00.123456789Z", "text"),
        (b"2026-01-01T00:00:00Z  two spaces ", "2026-01-01T00:00:00Z", " two spaces "),
        (b"2026-01-01T00:00:00+01:00 text\r", "2026-01-01T00:00:00+01:00", "text"),
        (b"2026-01-01T00:00:00Z ", "2026-01-01T00:00:00Z", ""),
        (b"2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", ""),
        (b"no time at all", "", "no time at all"),
        (b"2026-13-01T00:00:00Z text", "", "2026-13-01T00:00:00Z text"),
        (b"2026-01-01T00:00:00Z \xff", "2026-01-01T00:00:00Z", "\ufffd"),
        (b"", "", ""),
    ],
)
def test_timestamp_and_text(raw: bytes, stamp: str, text: str) -> None:
    assert split_stamp(raw) == (stamp, text)


def test_lines_of_several_logs_by_time() -> None:
    one, two = Log(pod("a"), "c", 1000), Log(pod("b"), "c", 1000)
    for second, text in ((1, "a1"), (3, "a2"), (2, "clock set back")):
        one.add(line(second, text))
    for second, text in ((1, "b1"), (2, "b2"), (4, "b3")):
        two.add(line(second, text))
    assert [entry.text for _log, entry in merge([one, two])] == ["a1", "b1", "b2", "a2", "clock set back", "b3"]
    assert merge([]) == []


def test_runs_of_one_container_by_time() -> None:
    log = Log(pod(), "c", 1000)
    for second, text, run in ((1, "first", "1"), (5, "again", "2"), (2, "last of the first", "1")):
        log.add(line(second, text), run)
    assert [entry.text for entry in log.lines] == ["first", "last of the first", "again"]


@pytest.mark.parametrize(("limit", "kept"), [(1, 0), (3, 0), (4, 1), (7, 1), (8, 2), (11, 2), (12, 3)])
def test_only_whole_lines_are_kept(limit: int, kept: int) -> None:
    log = Log(pod(), "c", limit)
    for text in ("abc", "def", "ghi"):
        assert log.add(line(1, text)).text == text
    assert (len(log.lines), log.truncated) == (kept, kept < 3)


def test_nothing_is_kept_after_a_line_that_was_left_out() -> None:
    log = Log(pod(), "c", 5)
    for text in ("abc", "defghi", "j"):
        log.add(line(1, text))
    assert [entry.text for entry in log.lines] == ["abc"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"timestamps": False, "prefix": False}, "text"),
        ({"timestamps": True, "prefix": False}, "2026-01-01T00:00:01.000000000Z text"),
        ({"timestamps": False, "prefix": True}, "[p/c] text"),
        ({"timestamps": True, "prefix": True, "namespaces": True}, "[d/p/c] 2026-01-01T00:00:01.000000000Z text"),
    ],
)
def test_lines_as_they_are_shown(options: Object, text: str) -> None:
    log = Log(pod(), "c", 100)
    assert presented(log, log.add(line(1, "text")), **options) == text


def test_a_line_without_a_timestamp_is_shown_as_it_is() -> None:
    log = Log(pod(), "c", 100)
    assert presented(log, log.add(b"text"), timestamps=True, prefix=False) == "text"


@pytest.mark.parametrize(
    "text",
    [
        "unable to retrieve container logs for containerd://0123",
        'failed to try resolving symlinks in path "/var/log/pods/x/c/0.log": lstat /var/log/pods/x/c/0.log: no such file or directory',
    ],
)
def test_what_the_kubelet_says_instead_of_a_log(text: str) -> None:
    log = Log(pod(), "c", 100)
    log.add(text.encode())
    assert (log.unavailable, log.lines) == (text, [])
    log = Log(pod(), "c", 1000)
    log.add(line(1, text))
    assert (log.unavailable, len(log.lines)) == ("", 1)


def test_which_containers() -> None:
    one, two = pod("one", "a"), pod("two", "a", "b")
    assert wanted_containers([one], LogQuery()) == ([(one, "a")], [])
    assert wanted_containers([one, two], LogQuery(all_containers=True))[0] == [(one, "a"), (two, "a"), (two, "b")]
    wanted, left_out = wanted_containers([one, two], LogQuery(container="b"))
    assert (wanted, [str(entry) for entry in left_out]) == ([(two, "b")], ["pod d/one, container b: this pod has only a"])
    for query in (LogQuery(), LogQuery(container="none")):
        with pytest.raises(InputError, match="set container to one of them, or all_containers=true"):
            wanted_containers([two], query)


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({"matchLabels": {"a": "b", "c": "d"}}, "a=b,c=d"),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "c"]}, {"key": "d", "operator": "Exists"}]}, "a in (b,c),d"),
        ({"a": "b"}, "a=b"),
    ],
)
def test_selectors_of_workloads(selector: Object, text: str) -> None:
    assert workload_selector({"kind": "Any", "spec": {"selector": selector}}) == text


@pytest.mark.parametrize("workload", [{"kind": "CronJob", "spec": {}}, {"kind": "Service", "spec": {"selector": None}}, {"kind": "ConfigMap"}])
def test_kinds_that_select_no_pods(workload: Object) -> None:
    with pytest.raises(InputError, match=f"kind is {workload['kind']}, which has no selector for pods; give a workload"):
        workload_selector(workload)
