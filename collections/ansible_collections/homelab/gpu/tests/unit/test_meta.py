# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's metadata agrees with what the collection holds."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

COLLECTION = Path(__file__).parents[2]
MODULES = sorted(path for path in (COLLECTION / "plugins" / "modules").glob("*.py") if path.name != "__init__.py")


def load(path: str) -> dict:
    return yaml.safe_load((COLLECTION / path).read_text(encoding="utf-8"))


def documentation(module: Path) -> dict:
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "DOCUMENTATION":
            return yaml.safe_load(ast.literal_eval(node.value))
    raise AssertionError(f"{module} has no DOCUMENTATION")


def modules_with(fragment: str) -> list[str]:
    return [path.stem for path in MODULES if fragment in documentation(path).get("extends_documentation_fragment", [])]


def test_action_group_holds_the_modules_with_the_options_of_a_clusters_client() -> None:
    members = sorted(load("meta/runtime.yml")["action_groups"]["gpu"])
    assert members == modules_with("homelab.gpu._kubeconfig")
    assert members == modules_with("homelab.gpu._attributes.actiongroup_gpu")


def test_modules_of_the_action_group_can_run_within_ansibles_process() -> None:
    members = load("meta/runtime.yml")["action_groups"]["gpu"]
    assert [name for name in members if not (COLLECTION / "plugins" / "action" / f"{name}.py").is_file()] == []


def test_the_readme_names_the_modules_of_the_action_group() -> None:
    readme = (COLLECTION / "README.md").read_text(encoding="utf-8")
    assert [name for name in load("meta/runtime.yml")["action_groups"]["gpu"] if f"`{name}`" not in readme] == []


@pytest.mark.parametrize("name", ["ee-requirements.txt", "ee-bindep.txt"])
def test_execution_environment_refers_to_files_that_exist(name: str) -> None:
    assert f"meta/{name}" in load("meta/execution-environment.yml")["dependencies"].values()
    assert (COLLECTION / "meta" / name).read_text(encoding="utf-8").strip()


def test_third_party_imports_are_requirements_of_the_execution_environment() -> None:
    """Modules may import these lazily; whoever builds an execution environment learns of them from this list only."""
    required = {
        re.split(r"[<>=!~ ]", line)[0].lower() for line in (COLLECTION / "meta" / "ee-requirements.txt").read_text(encoding="utf-8").splitlines() if line
    }
    imported = set()
    for path in (COLLECTION / "plugins").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    assert {name for name in ("kubernetes", "jmespath", "requests") if name in imported} == required & {"kubernetes", "jmespath", "requests"}


def test_sanity_ignores_nothing() -> None:
    for path in (COLLECTION / "tests" / "sanity").glob("ignore-*.txt"):
        assert path.read_text(encoding="utf-8") == "", path


def test_licence_files_are_those_which_the_headers_name() -> None:
    assert load("galaxy.yml")["license"] == ["GPL-3.0-or-later"]
    for name in ("COPYING", "LICENSES/GPL-3.0-or-later.txt"):
        assert "GNU GENERAL PUBLIC LICENSE" in (COLLECTION / name).read_text(encoding="utf-8")
