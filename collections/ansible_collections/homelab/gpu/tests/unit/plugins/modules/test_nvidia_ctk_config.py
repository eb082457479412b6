# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

Run = t.Callable[..., dict[str, t.Any]]

# Keeps the settings that it is given, one a line, and knows two of them
NVIDIA_CTK = """#!/bin/sh
for word in "$@"; do
  case "$word" in
    --config-file=*) file=${word#*=} ;;
    --in-place) in_place=1 ;;
    mode=*|log-level=*) set_to="$set_to$word
" ;;
    unknown=*) echo "invalid --set option $word: undefined field" >&2; exit 1 ;;
  esac
done
all=$(printf '%s' "$set_to"; cat "$file" 2>/dev/null)
all=$(printf '%s\\n' "$all" | awk -F= '!seen[$1]++' | sort)
if [ -n "$in_place" ]; then printf '%s\\n' "$all" >"$file"; else printf '%s\\n' "$all"; fi
"""


@pytest.fixture
def nvidia_ctk(tmp_path: Path) -> str:
    program = tmp_path / "nvidia-ctk"
    program.write_text(NVIDIA_CTK)
    program.chmod(0o755)
    return str(program)


def test_settings_are_held(tmp_path: Path, nvidia_ctk: str, run_host_module: Run) -> None:
    path = tmp_path / "config.toml"
    path.write_text("log-level=info\n")
    options = {"path": str(path), "nvidia_ctk": nvidia_ctk, "settings": {"mode": "cdi"}}
    checked = run_host_module("nvidia_ctk_config", check_mode=True, **options)
    assert checked["changed"]
    assert path.read_text() == "log-level=info\n"
    assert run_host_module("nvidia_ctk_config", **options)["changed"]
    assert path.read_text() == "log-level=info\nmode=cdi\n"
    assert not run_host_module("nvidia_ctk_config", **options)["changed"]


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"unknown": 1}, "undefined field"),
        ({"mode": None}, "settings.mode is None"),
        ({"mode": {"a": 1}}, "settings.mode is {'a': 1}"),
    ],
)
def test_wrong_settings(tmp_path: Path, nvidia_ctk: str, run_host_module: Run, settings: dict[str, t.Any], what: str) -> None:
    result = run_host_module("nvidia_ctk_config", path=str(tmp_path / "config.toml"), nvidia_ctk=nvidia_ctk, settings=settings)
    assert what in result["msg"]
    assert not (tmp_path / "config.toml").exists()


def test_values_as_nvidia_ctk_takes_them(tmp_path: Path, nvidia_ctk: str, run_host_module: Run) -> None:
    path = tmp_path / "config.toml"
    run_host_module("nvidia_ctk_config", path=str(path), nvidia_ctk=nvidia_ctk, settings={"mode": ["runc", "crun"], "log-level": True})
    assert path.read_text() == "log-level=true\nmode=runc:crun\n"


def test_missing_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_host_module: Run) -> None:
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.get_bin_path", lambda *_arguments, **_options: None)
    options = {"path": str(tmp_path / "config.toml"), "settings": {"mode": "cdi"}}
    assert "install the package nvidia-container-toolkit-base" in run_host_module("nvidia_ctk_config", **options)["msg"]
    # In check mode the package may be about to come
    assert run_host_module("nvidia_ctk_config", check_mode=True, **options)["changed"]
