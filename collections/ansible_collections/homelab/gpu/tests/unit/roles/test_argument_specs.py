# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

"""Defaults, argument specs and site settings of the roles agree."""

import re
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.homelab.gpu.plugins.module_utils._options import type_problems

COLLECTION = Path(__file__).parents[3]
ROLES = sorted(path for path in (COLLECTION / "roles").iterdir() if path.is_dir())
PUBLIC = [role for role in ROLES if not role.name.startswith("_")]
SETTING = re.compile(r"\bk3s_(?!server_|agent_|artifacts_)\w+")


def load(path: Path) -> t.Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}


def specs(role: Path) -> dict[str, t.Any]:
    return load(role / "meta" / "argument_specs.yml")["argument_specs"]


def options(role: Path) -> dict[str, t.Any]:
    return specs(role)["main"].get("options") or {}


def defaults(role: Path) -> dict[str, t.Any]:
    return load(role / "defaults" / "main.yml") or {}


def is_template(value: t.Any) -> bool:
    return isinstance(value, str) and "{{" in value


def site_settings() -> dict[str, t.Any]:
    return load(COLLECTION / "roles" / "host_preflight" / "files" / "site_settings.yml")


ROLE_OPTIONS = [pytest.param(role, name, id=name) for role in PUBLIC for name in sorted(set(options(role)) | set(defaults(role)))]


@pytest.mark.parametrize(("role", "name"), ROLE_OPTIONS)
def test_default_and_specification(role: Path, name: str) -> None:
    spec = options(role).get(name)
    assert spec is not None, f"{name} has a default and no specification"
    assert name.startswith(f"{role.name}_")
    assert spec.get("description")
    assert spec.get("type"), f"{name} has no type, so nothing of it is validated"
    assert spec["type"] != "list" or spec.get("elements"), f"{name} does not say what its elements are"
    assert ("required" in spec) != (name in defaults(role)), f"{name} has to be required or to have a default"
    if name in defaults(role) and not is_template(defaults(role)[name]):
        assert spec.get("default") == defaults(role)[name]
        assert list(type_problems(name, defaults(role)[name], spec)) == []
    else:
        # Specifications are templated as a whole, with whatever variables there are.
        assert "default" not in spec


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_entry_points_are_task_files_with_a_description(role: Path) -> None:
    for name, entry in specs(role).items():
        assert (role / "tasks" / f"{name}.yml").is_file()
        assert entry["short_description"]
        assert entry["description"]
        assert not any(is_template(spec.get("default")) for spec in (entry.get("options") or {}).values())


@pytest.mark.parametrize("role", PUBLIC, ids=lambda role: role.name)
def test_skeleton(role: Path) -> None:
    assert (role / "README.md").is_file()
    assert load(role / "meta" / "main.yml")["galaxy_info"]["license"] == "GPL-3.0-or-later"


@pytest.mark.parametrize("role", PUBLIC, ids=lambda role: role.name)
def test_defaults_refer_to_known_settings_only(role: Path) -> None:
    known = set(site_settings()) | {"k3s_server", "k3s_agent"}
    for name, value in defaults(role).items():
        assert set(SETTING.findall(str(value))) <= known, name


def test_every_setting_is_described_typed_and_used() -> None:
    text = "".join((role / "defaults" / "main.yml").read_text(encoding="utf-8") for role in PUBLIC)
    for name, spec in site_settings().items():
        assert spec["description"]
        assert spec["type"] != "list" or spec["elements"]
        assert re.search(rf"\b{name}\b", text), f"no default refers to {name}"


@pytest.mark.parametrize("role", [role for role in PUBLIC if role.name in ("k3s_server", "k3s_agent")], ids=lambda role: role.name)
def test_a_setting_has_the_type_of_the_options_that_take_it(role: Path) -> None:
    for name, spec in site_settings().items():
        option = options(role).get(f"{role.name}_{name.removeprefix('k3s_')}")
        if option:
            assert {key: option.get(key) for key in ("type", "elements", "no_log")} == {key: spec.get(key) for key in ("type", "elements", "no_log")}


def test_one_default_version_that_the_lock_file_lists() -> None:
    text = "".join((role / "defaults" / "main.yml").read_text(encoding="utf-8") for role in PUBLIC)
    versions = set(re.findall(r"v\d+\.\d+\.\d+\+k3s\d+", text))
    assert len(versions) == 1
    lock = load(COLLECTION / "roles" / "k3s_artifacts" / "files" / "artifacts.lock.yml")
    assert versions <= {entry["version"] for entry in lock["artifacts"]}
