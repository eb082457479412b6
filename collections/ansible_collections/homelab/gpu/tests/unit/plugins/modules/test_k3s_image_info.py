# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.homelab.gpu.plugins.modules.k3s_image_info import wait

Run = t.Callable[..., dict[str, t.Any]]
HAPROXY, OLLAMA = "docker.io/library/haproxy:3.2", "docker.io/ollama/ollama:0.34.1"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("lists", "timeout", "missing", "waited"),
    [
        ([{HAPROXY, OLLAMA}], 0, [], 0),
        ([{HAPROXY}], 0, [OLLAMA], 0),
        ([set(), {HAPROXY}, {HAPROXY, OLLAMA}], 10, [], 1),
        ([{HAPROXY}], 2, [OLLAMA], 2),
    ],
    ids=["there", "one look", "later", "never"],
)
def test_wait(lists: list[set[str]], timeout: float, missing: list[str], waited: float) -> None:
    turns = iter(lists)
    last = lists[-1]
    assert wait(lambda: next(turns, last), [HAPROXY, OLLAMA], timeout, Clock()) == (missing, pytest.approx(waited, abs=0.02))


@pytest.fixture
def k3s(tmp_path: Path) -> Path:
    program = tmp_path / "k3s"
    program.write_text(f'#!/bin/sh\n[ "$*" = "ctr --namespace k8s.io images list --quiet" ] && echo {HAPROXY} && echo sha256:1\n')
    program.chmod(0o755)
    return program


def test_names_are_taken_as_people_write_them(k3s: Path, run_host_module: Run) -> None:
    result = run_host_module("k3s_image_info", references=["haproxy:3.2", "ollama/ollama:0.34.1", "docker.io/haproxy:3.2"], k3s=str(k3s))
    assert (result["present"], result["missing"], result["changed"]) == ([HAPROXY], [OLLAMA], False)


def test_containerd_that_does_not_answer(k3s: Path, run_host_module: Run) -> None:
    k3s.write_text("#!/bin/sh\necho connection refused >&2\nexit 1\n")
    result = run_host_module("k3s_image_info", references=["haproxy:3.2"], k3s=str(k3s))
    assert "could not be asked for its images: connection refused" in result["msg"]


@pytest.mark.parametrize(
    ("options", "words"), [({"references": ["A"]}, "'A' is no name of an image"), ({"references": ["a"], "timeout_seconds": -1}, "timeout_seconds is -1")]
)
def test_wrong_options(run_host_module: Run, options: dict[str, t.Any], words: str) -> None:
    assert words in run_host_module("k3s_image_info", **options)["msg"]
