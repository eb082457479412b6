# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lab.models import build, python_base


def test_content_key_follows_every_input(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    second.write_text("2")
    inputs = (first, second)
    keys = [
        python_base.content_key("amd64", "bookworm", inputs),
        python_base.content_key("arm64", "bookworm", inputs),
        python_base.content_key("amd64", "noble", inputs),
    ]
    second.write_text("3")
    keys.append(python_base.content_key("amd64", "bookworm", inputs))
    first.write_text("13")
    second.write_text("")
    keys.append(python_base.content_key("amd64", "bookworm", inputs))
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch("[0-9a-f]{16}", key) for key in keys)


def test_every_source_of_the_image_is_an_input() -> None:
    sources = {path for path in build.HERE.iterdir() if path.suffix in (".py", ".txt") and not path.name.startswith(("test_", "artifacts"))}
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
    with pytest.raises(python_base.BuildError, match=message):
        python_base.run(command, "trying", seconds=0.3)


def test_third_party_package_sources_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = "Other|deb https://other.invalid stable main\nDebian|deb http://d.invalid/debian bookworm main\nDebian|deb http://d.invalid/debian bookworm main\n"
    monkeypatch.setattr(python_base, "run", lambda *_args, **_options: listed)
    assert python_base.package_sources("debian") == "deb http://d.invalid/debian bookworm main\n"
    with pytest.raises(python_base.BuildError, match="no package source of ubuntu"):
        python_base.package_sources("ubuntu")


def test_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOMELAB_GPU_CACHE", str(tmp_path))
    monkeypatch.setattr(python_base.shutil, "which", lambda tool: None if tool == "strip" else f"/usr/bin/{tool}")
    with pytest.raises(python_base.BuildError, match="strip is missing: apt-get install binutils"):
        python_base.layers(print)


def test_unpacked_system_has_its_folders_below_usr(tmp_path: Path) -> None:
    for folder in ("bin", "lib/arch", "usr/bin", "usr/lib/arch", "usr/sbin"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("bin/one", "usr/bin/two", "lib/arch/three", "usr/lib/arch/four"):
        (tmp_path / file).write_text(file)
    (tmp_path / "sbin").symlink_to("usr/sbin")
    python_base._merge_usr(tmp_path)
    assert {name: (tmp_path / name).readlink() for name in ("bin", "lib", "lib64", "sbin")} == {
        name: Path("usr", name) for name in ("bin", "lib", "lib64", "sbin")
    }
    assert sorted(path.name for path in (tmp_path / "bin").iterdir()) == ["one", "two"]
    assert sorted(path.name for path in (tmp_path / "lib/arch").iterdir()) == ["four", "three"]


def test_failed_build_leaves_nothing_and_a_done_one_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "cache/made"

    def fail() -> None:
        with python_base.made_once(output) as done:
            assert done
            (done / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in output.parent.iterdir()] == ["made.lock"]
    with python_base.made_once(output) as done:
        assert done
        (done / "whole").touch()
    with python_base.made_once(output) as done:
        assert done is None
    assert [path.name for path in output.iterdir()] == ["whole"]


def test_print_names_the_archive_without_building(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HOMELAB_GPU_CACHE", str(tmp_path))
    assert build.main(["--print"]) == 0
    told = json.loads(capsys.readouterr().out)
    key = told["image"].removeprefix(f"{build.REPOSITORY}:")
    assert told["size"] is told["sha256"] is None
    assert Path(told["archive"]).relative_to(tmp_path / "images") == Path(f"model-server-{key}/model-server.tar")
    assert not list(tmp_path.iterdir())
