# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lab.models import build


def test_content_key_follows_every_input(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    second.write_text("2")
    inputs = (first, second)
    keys = [build.content_key("amd64", "bookworm", inputs), build.content_key("arm64", "bookworm", inputs), build.content_key("amd64", "noble", inputs)]
    second.write_text("3")
    keys.append(build.content_key("amd64", "bookworm", inputs))
    first.write_text("13")
    second.write_text("")
    keys.append(build.content_key("amd64", "bookworm", inputs))
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch("[0-9a-f]{16}", key) for key in keys)


def test_every_source_of_the_image_is_an_input() -> None:
    sources = {path for path in build.HERE.iterdir() if path.suffix in (".py", ".txt") and not path.name.startswith("test_")}
    assert sources <= set(build.INPUTS)
    assert all(path.is_file() for path in build.INPUTS)


def test_requirements_are_pinned_by_hash() -> None:
    lines = re.sub(r"\\\n", " ", (build.HERE / "requirements.txt").read_text()).splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert wanted
    for line in wanted:
        assert re.match(r"[a-z0-9-]+==[0-9.]+ .*--hash=sha256:[0-9a-f]{64}", line), line


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["sh", "-c", "echo broken >&2; exit 3"], r"trying failed \(sh, exit status 3\):\nbroken"),
        (["sleep", "9"], "trying: no end after 0 s"),
    ],
)
def test_failed_commands_say_what_and_why(command: list[str], message: str) -> None:
    with pytest.raises(build.BuildError, match=message):
        build.run(command, "trying", seconds=0.3)


def test_third_party_package_sources_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = "Other|deb https://other.invalid stable main\nDebian|deb http://d.invalid/debian bookworm main\nDebian|deb http://d.invalid/debian bookworm main\n"
    monkeypatch.setattr(build, "run", lambda *_args, **_options: listed)
    assert build.package_sources("debian") == "deb http://d.invalid/debian bookworm main\n"
    with pytest.raises(build.BuildError, match="no package source of ubuntu"):
        build.package_sources("ubuntu")


def test_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda tool: None if tool == "strip" else f"/usr/bin/{tool}")
    with pytest.raises(build.BuildError, match="strip is missing: apt-get install binutils"):
        build.build(tmp_path / "out", build.image_names("0"), "bookworm", "debian", print)


def test_print_names_the_archive_without_building(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HOMELAB_GPU_CACHE", str(tmp_path))
    assert build.main(["--print"]) == 0
    told = json.loads(capsys.readouterr().out)
    key = told["image"].removeprefix(f"{build.REPOSITORY}:")
    assert told["size"] is told["sha256"] is None
    assert Path(told["archive"]).relative_to(tmp_path / "images") == Path(f"model-server-{key}/model-server.tar")
    assert not list(tmp_path.iterdir())
