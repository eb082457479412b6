# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
import typing as t
from pathlib import Path

import pytest

from ansible_collections.homelab.gpu.plugins.modules import host_files
from ansible_collections.homelab.gpu.plugins.modules.host_files import masked

Run = t.Callable[..., dict[str, t.Any]]


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


def what(result: dict[str, t.Any]) -> list[tuple[str, str]]:
    return [(Path(change["path"]).name, change["what"]) for change in result["changes"]]


def wanted(root: Path) -> dict[str, t.Any]:
    return {
        "directories": [{"path": str(root / "etc" / "deep"), "mode": "0750"}],
        "files": [{"path": str(root / "etc" / "deep" / "unit"), "content": "ExecStart=x\n"}],
        "secret_files": [{"path": str(root / "etc" / "deep" / "token"), "content": "K10abcdef::server:s3cret\n"}],
        "links": [{"path": str(root / "link"), "target": "etc/deep/unit"}],
        "absent": [str(root / "old")],
    }


def test_everything_in_one_call_and_nothing_the_second_time(tmp_path: Path, run_host_module: Run) -> None:
    (tmp_path / "old").write_text("x", encoding="utf-8")
    result = run_host_module("host_files", **wanted(tmp_path))
    assert result["changed"] is True
    assert what(result) == [("deep", "created"), ("unit", "created"), ("token", "created"), ("link", "created"), ("old", "removed")]
    deep = tmp_path / "etc" / "deep"
    assert (mode(deep), mode(deep / "unit"), mode(deep / "token")) == ("0750", "0644", "0600")
    assert (tmp_path / "link").read_text(encoding="utf-8") == "ExecStart=x\n"
    assert sorted(os.listdir(deep)) == ["token", "unit"]

    times = {path: path.stat().st_mtime_ns for path in deep.iterdir()}
    again = run_host_module("host_files", **wanted(tmp_path))
    assert (again["changed"], again["changes"], again["diff"]) == (False, [], [])
    assert {path: path.stat().st_mtime_ns for path in deep.iterdir()} == times


def test_check_mode_tells_the_same_and_changes_nothing(tmp_path: Path, run_host_module: Run) -> None:
    (tmp_path / "old").write_text("x", encoding="utf-8")
    foretold = run_host_module("host_files", check_mode=True, **wanted(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["old"]
    done = run_host_module("host_files", **wanted(tmp_path))
    assert foretold["changes"] == done["changes"]
    assert foretold["diff"] == done["diff"]


def test_a_secret_is_nowhere_in_the_result(tmp_path: Path, run_host_module: Run) -> None:
    options = wanted(tmp_path)
    assert "s3cret" not in str(run_host_module("host_files", **options))
    options["secret_files"][0]["content"] = "token: s3cret-two\nother: x\n"
    result = run_host_module("host_files", **options)
    assert what(result) == [("token", "content")]
    assert "s3cret" not in str(result)


def test_an_empty_secret_is_removed_only_where_that_is_wanted(tmp_path: Path, run_host_module: Run) -> None:
    path = tmp_path / "token"
    path.write_text("old", encoding="utf-8")
    gone = {"path": str(path), "content": "", "remove_if_empty": True}
    assert what(run_host_module("host_files", secret_files=[gone])) == [("token", "removed")]
    assert run_host_module("host_files", secret_files=[gone])["changed"] is False
    assert what(run_host_module("host_files", secret_files=[{**gone, "remove_if_empty": False}])) == [("token", "created")]


def test_drift_is_mended(tmp_path: Path, run_host_module: Run) -> None:
    options = {**wanted(tmp_path), "absent": []}
    run_host_module("host_files", **options)
    deep = tmp_path / "etc" / "deep"
    deep.chmod(0o777)
    (deep / "token").chmod(0o644)
    (deep / "unit").write_text("changed", encoding="utf-8")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("elsewhere")
    assert what(run_host_module("host_files", **options)) == [("deep", "mode"), ("unit", "content"), ("token", "mode"), ("link", "target")]
    assert (mode(deep), mode(deep / "token")) == ("0750", "0600")


def test_a_secret_replaces_a_readable_file_without_ever_being_readable(tmp_path: Path, run_host_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "token"
    target.write_text("old", encoding="utf-8")
    target.chmod(0o644)
    seen = []
    replace = os.replace

    def watch(source: str, destination: str) -> None:
        seen.append(mode(Path(source)))
        replace(source, destination)

    monkeypatch.setattr(os, "replace", watch)
    run_host_module("host_files", secret_files=[{"path": str(target), "content": "new"}])
    assert (seen, mode(target)) == (["0600"], "0600")


def test_a_link_in_place_of_a_file_is_replaced_by_the_file(tmp_path: Path, run_host_module: Run) -> None:
    (tmp_path / "elsewhere").write_text("kept", encoding="utf-8")
    (tmp_path / "file").symlink_to("elsewhere")
    run_host_module("host_files", files=[{"path": str(tmp_path / "file"), "content": "mine"}])
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "elsewhere").read_text(encoding="utf-8") == "kept"


def test_a_directory_without_a_mode_keeps_its_own(tmp_path: Path, run_host_module: Run) -> None:
    (tmp_path / "own").mkdir(mode=0o700)
    assert run_host_module("host_files", directories=[{"path": str(tmp_path / "own")}])["changed"] is False


@pytest.mark.parametrize(("elsewhere", "made"), [(True, False), (False, True)])
def test_a_link_unless_there_is_such_a_command(tmp_path: Path, run_host_module: Run, monkeypatch: pytest.MonkeyPatch, elsewhere: bool, made: bool) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "local").mkdir()
    if elsewhere:
        (tmp_path / "bin" / "kubectl").write_text("#!/bin/sh\n", encoding="utf-8")
        (tmp_path / "bin" / "kubectl").chmod(0o755)
    monkeypatch.setattr(host_files, "_COMMAND_DIRECTORIES", (str(tmp_path / "local"), str(tmp_path / "bin")))
    links = [{"path": str(tmp_path / "local" / "kubectl"), "target": "k3s", "unless_command": True}]
    assert run_host_module("host_files", links=links)["changed"] is made
    assert (tmp_path / "local" / "kubectl").is_symlink() is made
    assert run_host_module("host_files", links=links)["changed"] is False


def test_a_program_in_place_of_the_link(tmp_path: Path, run_host_module: Run) -> None:
    (tmp_path / "k3s").write_text("program", encoding="utf-8")
    link = {"path": str(tmp_path / "k3s"), "target": "lib/k3s"}
    refused = run_host_module("host_files", links=[link])
    assert "exists and is no link: move it away" in refused["msg"]
    assert run_host_module("host_files", links=[{**link, "unless_command": True}])["changed"] is False
    assert what(run_host_module("host_files", links=[{**link, "replace_file": True}])) == [("k3s", "target")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"files": [{"path": "relative", "content": ""}]}, "'relative' is not an absolute path"),
        ({"files": [{"path": "/x/a", "content": "", "mode": "644x"}]}, "mode of /x/a is '644x'"),
        ({"files": [{"path": "/x/a", "content": ""}], "absent": ["/x/a"]}, "/x/a is named more than once"),
        ({"directories": [{"path": "/etc/hostname"}]}, "/etc/hostname exists and is not a directory"),
        ({"files": [{"path": "/etc", "content": ""}]}, "/etc is a directory where a file was expected"),
        ({"absent": ["/etc"]}, "/etc is a directory where a file was expected"),
        ({"links": [{"path": "/etc", "target": "x", "replace_file": True}]}, "/etc exists and is no link"),
    ],
)
def test_bad_input_before_the_first_change(tmp_path: Path, run_host_module: Run, options: dict[str, t.Any], message: str) -> None:
    first = {"path": str(tmp_path / "first")}
    result = run_host_module("host_files", **{**options, "directories": [first, *options.get("directories", [])]})
    assert result["failed"] is True
    assert message in result["msg"]
    assert not (tmp_path / "first").exists()


def test_an_error_half_way_tells_what_was_done(tmp_path: Path, run_host_module: Run) -> None:
    result = run_host_module("host_files", directories=[{"path": str(tmp_path / "made")}], files=[{"path": str(tmp_path / "none" / "file"), "content": "x"}])
    assert result["failed"] is True
    assert result["msg"].startswith("No such file or directory: ")
    assert f"Changed before: {tmp_path / 'made'}." in result["msg"]


def test_masking() -> None:
    before = "# comment\nnode-name: a\ntoken: old\ntls-san:\n- x\nNAME=value\n"
    after = "# comment\nnode-name: b\ntoken: new\ntls-san:\n- x\n- y\nNAME=value\n"
    assert masked(after, before, ["node-name", "tls-san"]).splitlines() == [
        "node-name: b",
        "token: (not shown) differs",
        "tls-san:",
        "- x",
        "- y",
        "NAME= (not shown)",
    ]
    assert masked(before, after, []).splitlines() == [
        "node-name: (not shown) differs",
        "token: (not shown) differs",
        "tls-san: (not shown)",
        "(not shown)",
        "NAME= (not shown)",
    ]
