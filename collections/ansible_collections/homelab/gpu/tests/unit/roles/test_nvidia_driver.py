# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role as a whole, on this machine, with a package manager that installs nothing and GPUs that the preflight is said to have found."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import typing as t

import pytest

from ansible_collections.homelab.gpu.tests.unit.driver_hosts import gpu

Object = dict[str, t.Any]

COLLECTIONS = pathlib.Path(__file__).parents[6]
PACKAGES = ["nvidia-headless-580-server-open", "nvidia-utils-580-server"]
VERSION = "580.95.05-0ubuntu1"
PLAY = """---
- hosts: localhost
  connection: local
  gather_facts: false
  environment:
    PATH: "{{ programs }}:/usr/bin:/bin"
  roles:
    - homelab.gpu.nvidia_driver
"""
# They remember between calls what was installed and held
PROGRAMS = {
    "apt-get": 'case "$*" in *" install "*) for one in "$@"; do case "$one" in nvidia-*) echo "$one" | tr = " " >>{0}/installed;; esac; done;; esac',
    "apt-cache": "\n".join(f"echo '{name} | {VERSION} | http://archive x'" for name in PACKAGES),
    "dpkg-query": 'test -e {0}/installed && while read -r line; do echo "$line installed"; done <{0}/installed || exit 1',
    "apt-mark": 'case "$*" in *showhold*) cat {0}/held 2>/dev/null || true;; *) shift; shift; printf "%s\\n" "$@" >>{0}/held;; esac',
    "modprobe": "exit 1",
}


@pytest.fixture
def run(tmp_path: pathlib.Path) -> t.Callable[..., tuple[int, str, list[str]]]:
    """Exit status, what was printed, and which of the programs that change something were called."""
    for name, text in PROGRAMS.items():
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "{name} $*" >>{tmp_path}/asked\n{text.replace("{0}", str(tmp_path))}\n')
        path.chmod(0o755)
    (tmp_path / "play.yml").write_text(PLAY)

    def playbook(*options: str, gpus: Object | None = None, **variables: t.Any) -> tuple[int, str, list[str]]:
        variables = {"programs": str(tmp_path), **variables, **({"host_preflight_gpus": gpus} if gpus else {})}
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"}
        command = ["ansible-playbook", str(tmp_path / "play.yml"), "--extra-vars", json.dumps(variables), *options]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
        asked = (tmp_path / "asked").read_text().splitlines() if (tmp_path / "asked").exists() else []
        (tmp_path / "asked").unlink(missing_ok=True)
        return done.returncode, done.stdout + done.stderr, [line for line in asked if not re.match("dpkg-query|apt-cache|.*showhold", line)]

    return playbook


def test_only_looks_by_default(run: t.Callable[..., tuple[int, str, list[str]]]) -> None:
    code, output, asked = run(gpus=gpu("p40", "blackwell", loaded=""))
    assert code == 2
    assert "NVIDIA's driver of localhost is not as its GPUs need it; nothing was changed.\n" in output
    assert re.search(r"\[mix\] the Pascal GPU 10de:1b38 \(0000:01:00\.0\) needs .*, the Blackwell GPU .*\. Fix: put one of them into another host", output)
    assert (asked, "Traceback" in output) == ([], False)


def test_no_gpu_is_a_warning(run: t.Callable[..., tuple[int, str, list[str]]]) -> None:
    code, output, asked = run(gpus=gpu(loaded=""))
    assert (code, asked) == (0, [])
    assert "the host has no NVIDIA GPU now" in output
    assert "changed=0 " in output


def test_refuses_what_cannot_drive_the_gpus(run: t.Callable[..., tuple[int, str, list[str]]]) -> None:
    code, output, asked = run(gpus=gpu("p40", loaded=""), nvidia_driver_install=True, nvidia_driver_packages=PACKAGES)
    assert (code, asked) == (2, [])
    assert "is not installed on localhost; nothing was changed.\n" in output
    assert "[modules] the open kernel modules shall be installed, and the Pascal GPU 10de:1b38 (0000:01:00.0) needs the proprietary ones" in output


def test_installs_and_holds_what_the_lists_have(run: t.Callable[..., tuple[int, str, list[str]]]) -> None:
    wanted = {"gpus": gpu("3060", loaded=""), "nvidia_driver_install": True, "nvidia_driver_packages": PACKAGES, "nvidia_driver_version": "580"}
    code, output, asked = run("--check", **wanted)
    assert (code, asked) == (0, []), output
    assert "changed=1 " in output
    _code, output, asked = run(**wanted)
    pinned = " ".join(f"{name}={VERSION}" for name in PACKAGES)
    assert [line for line in asked if " install " in line and line.endswith(pinned)] == [asked[0]], output
    assert asked[1:] == [f"apt-mark --quiet hold {' '.join(PACKAGES)}", "modprobe nvidia"]
    assert "is not as its GPUs need it; nothing was changed" not in output
