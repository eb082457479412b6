# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._packages import locks

Run = t.Callable[..., dict[str, t.Any]]

DPKG = """#!/bin/sh
for name in "$@"; do
  case "$name" in --*) ;; *) [ -f "$STATE/$name" ] && cat "$STATE/$name" ;; esac
done
echo "no packages found" >&2
exit 1
"""
APT = """#!/bin/sh
echo "$*" >>"$STATE/calls"
case " $* " in *" broken.deb "*) exit 1 ;; esac
[ ! -f "$STATE/refuse" ] || { cat "$STATE/refuse" >&2; exit 100; }
[ -f "$STATE/idle" ] || for file in "$STATE"/next-*; do
  [ ! -f "$file" ] || mv "$file" "$STATE/${file##*/next-}"
done
"""
MARK = """#!/bin/sh
echo "$*" >>"$STATE/calls"
case "$*" in showhold) cat "$STATE/held" 2>/dev/null || true ;; *hold*) shift 2; printf '%s\\n' "$@" >>"$STATE/held" ;; esac
"""
# As dnf 4.14 and rpm 4.18 answer
RPM = """#!/bin/sh
case "$1" in
--eval)
  set -- $(echo "$2" | tr -c '[:alnum:].-' ' ')
  [ "$4" = "$5" ] && echo 0 && exit
  [ "$(printf '%s\n' "$4" "$5" | sort -V | head -n 1)" = "$4" ] && echo -1 || echo 1 ;;
*) shift 3; exec dpkg-query "$@" ;;
esac
"""
DNF = """#!/bin/sh
echo "$*" >>"$STATE/calls"
case "$*" in
*"versionlock list") cat "$STATE/locks" 2>/dev/null || true ;;
*"versionlock delete"*) shift 3; for name in "$@"; do sed -i "/^$name-[0-9]*:/d" "$STATE/locks"; done ;;
*"versionlock add"*) shift 3; for name in "$@"; do read -r _ version _ <"$STATE/$name"; echo "$name-0:$version.*" >>"$STATE/locks"; done ;;
*install*) grep -q . "$STATE/locks" 2>/dev/null && { echo "Error: Unable to find a match: $*" >&2; exit 1; }; exec apt-get "$@" ;;
esac
"""


class Machine:
    """A host whose package manager keeps its packages in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str, version: str, status: str = "installed") -> None:
        (self.folder / name).write_text(f"{name} {version} {status}\n")

    def will_have(self, name: str, version: str) -> None:
        (self.folder / f"next-{name}").write_text(f"{name} {version} installed\n")

    def file(self, name: str) -> str:
        path = self.folder / name
        path.touch()
        return str(path)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    programs, state = tmp_path / "bin", tmp_path / "state"
    programs.mkdir()
    state.mkdir()
    for name, text in {"dpkg-query": DPKG, "apt-get": APT, "apt-mark": MARK, "rpm": RPM, "dnf": DNF}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("STATE", str(state))
    return Machine(state)


def packages(machine: Machine, version: str = "2-1") -> list[dict[str, str]]:
    return [{"name": name, "version": version, "file": machine.file(f"{name}.deb")} for name in ("base", "toolkit")]


def test_all_go_into_one_transaction(machine: Machine, run_host_module: Run) -> None:
    # One of them is right already: alone, the other could not be installed
    machine.has("base", "2-1")
    machine.will_have("toolkit", "2-1")
    result = run_host_module("host_packages", packages=packages(machine))
    assert result["changed"]
    assert result["installed"] == ["base", "toolkit"]
    (call,) = machine.calls
    assert call.endswith(f"install {machine.folder}/base.deb {machine.folder}/toolkit.deb")
    assert "--no-remove" in call


def test_nothing_is_done_if_all_are_there(machine: Machine, run_host_module: Run) -> None:
    machine.has("base", "2-1")
    machine.has("toolkit", "2-1")
    assert not run_host_module("host_packages", packages=packages(machine))["changed"]
    assert machine.calls == []


def test_removed_package_with_configuration_left_counts_as_missing(machine: Machine, run_host_module: Run) -> None:
    machine.has("base", "2-1", status="config-files")
    assert run_host_module("host_packages", check_mode=True, packages=packages(machine)[:1])["installed"] == ["base"]


def test_check_mode_needs_no_files_and_installs_nothing(machine: Machine, run_host_module: Run) -> None:
    result = run_host_module("host_packages", check_mode=True, packages=[{"name": "base", "version": "2-1", "file": "/missing.deb"}])
    assert result["changed"]
    assert result["diff"] == {"before": "", "after": "base 2-1\n"}
    assert machine.calls == []


def test_from_the_repositories(machine: Machine, run_host_module: Run) -> None:
    machine.will_have("base", "2-1")
    machine.has("any", "7")
    run_host_module("host_packages", packages=[{"name": "base", "version": "2-1"}, {"name": "any"}])
    assert machine.calls[0].endswith("install base=2-1 any")


def test_downgrade_only_on_demand(machine: Machine, run_host_module: Run) -> None:
    machine.has("base", "3-1")
    machine.will_have("base", "2-1")
    run_host_module("host_packages", packages=packages(machine)[:1], allow_downgrade=True)
    assert "--allow-downgrades" in machine.calls[0]


def test_hold(machine: Machine, run_host_module: Run) -> None:
    machine.has("base", "2-1")
    machine.has("toolkit", "2-1")
    (machine.folder / "held").write_text("base\n")
    first = run_host_module("host_packages", packages=packages(machine), hold=True)
    assert first["held"] == ["toolkit"]
    assert not run_host_module("host_packages", packages=packages(machine), hold=True)["changed"]


def test_dnf_holds_each_package_at_its_version(machine: Machine, run_host_module: Run) -> None:
    machine.has("toolkit", "2-1")
    machine.has("toolkit-base", "2-1")
    # The name of one begins with that of the other, and another version of it is held
    (machine.folder / "locks").write_text("toolkit-base-0:1-1.*\n")
    wanted = [{"name": name, "version": "2-1"} for name in ("toolkit", "toolkit-base")]
    first = run_host_module("host_packages", packages=wanted, manager="dnf", hold=True)
    assert first["held"] == ["toolkit", "toolkit-base"]
    assert sorted((machine.folder / "locks").read_text().splitlines()) == ["toolkit-0:2-1.*", "toolkit-base-0:2-1.*"]
    assert not run_host_module("host_packages", packages=wanted, manager="dnf", hold=True)["changed"]


def test_dnf_upgrades_what_is_held_and_holds_it_again(machine: Machine, run_host_module: Run) -> None:
    machine.has("base", "1-1")
    machine.will_have("base", "2-1")
    (machine.folder / "locks").write_text("base-0:1-1.*\n")
    run_host_module("host_packages", packages=[{"name": "base", "version": "2-1"}], manager="dnf", hold=True)
    assert (machine.folder / "locks").read_text() == "base-0:2-1.*\n"


def test_dnf_holds_again_what_could_not_be_upgraded(machine: Machine, run_host_module: Run) -> None:
    machine.has("base", "1-1")
    (machine.folder / "locks").write_text("base-0:1-1.*\n")
    (machine.folder / "refuse").write_text("Error: broken")
    assert run_host_module("host_packages", packages=[{"name": "base", "version": "2-1"}], manager="dnf", hold=True)["failed"]
    assert (machine.folder / "locks").read_text() == "base-0:1-1.*\n"


def test_dnf_takes_an_older_version_only_on_demand(machine: Machine, run_host_module: Run) -> None:
    """By itself it would."""
    machine.has("base", "2-1")
    machine.will_have("base", "1-1")
    wanted = [{"name": "base", "version": "1-1"}]
    result = run_host_module("host_packages", packages=wanted, manager="dnf")
    assert "base is installed as 2-1, and 1-1 is older. Set allow_downgrade" in result["msg"]
    assert machine.calls == []
    assert run_host_module("host_packages", packages=wanted, manager="dnf", allow_downgrade=True)["installed"] == ["base"]


def test_version_that_is_none_is_refused(machine: Machine, run_host_module: Run) -> None:
    machine.has("base", "2-1")
    result = run_host_module("host_packages", packages=[{"name": "base", "version": "1') os.exit()"}], manager="dnf")
    assert "write it as the package manager does" in result["msg"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", {}),
        ("base\nbase-tools\n", {"base": "", "base-tools": ""}),
        ("nvidia-container-toolkit-base-0:1.20.1-1.*\n", {"nvidia-container-toolkit-base": "1.20.1-1"}),
        ("# Added by 'versionlock add' command on 2026-01-01 10:00:00\nPackage name: base\nevr = 1:2-1\n\nPackage name: any\n", {"base": "2-1", "any": ""}),
    ],
    ids=["none", "apt", "dnf 4", "dnf 5"],
)
def test_locks(output: str, expected: dict[str, str]) -> None:
    assert locks(output) == expected


@pytest.mark.parametrize(
    ("refusal", "what"),
    [("E: Packages were downgraded and -y was used without --allow-downgrades.", "allow_downgrade"), ("dpkg: error: broken", "dpkg: error: broken")],
)
def test_refusal_is_told(machine: Machine, run_host_module: Run, refusal: str, what: str) -> None:
    (machine.folder / "refuse").write_text(refusal)
    result = run_host_module("host_packages", packages=packages(machine))
    assert result["failed"]
    assert what in result["msg"]
    assert "base, toolkit" in result["msg"]


def test_missing_file_is_told_before_anything_is_done(machine: Machine, run_host_module: Run) -> None:
    result = run_host_module("host_packages", packages=[{"name": "base", "version": "2-1", "file": "/missing.deb"}])
    assert "/missing.deb is not on this host" in result["msg"]
    assert machine.calls == []


def test_transaction_that_did_not_bring_the_version_fails(machine: Machine, run_host_module: Run) -> None:
    result = run_host_module("host_packages", packages=packages(machine))
    assert "base still has not the version 2-1" in result["msg"]


def test_host_without_a_known_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_host_module: Run) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.get_bin_path", lambda *_arguments, **_options: None)
    assert "neither apt-get nor dnf" in run_host_module("host_packages", packages=[{"name": "base"}])["msg"]
