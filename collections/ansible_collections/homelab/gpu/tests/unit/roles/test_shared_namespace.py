# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles that serve models share a namespace. If one of them said more of it than the others, each run would undo what the last one did."""

from __future__ import annotations

import pathlib
import re

import pytest

from ansible_collections.homelab.gpu.plugins.plugin_utils._inference_service import objects

ROLES = pathlib.Path(__file__).parents[3] / "roles"


@pytest.mark.parametrize("template", ["llm_gateway/templates/config.yml.j2", "ollama/templates/ollama.yml.j2", "vllm/templates/vllm.yml.j2"])
def test_templates_say_nothing_of_the_namespace_but_its_name(template: str) -> None:
    text = (ROLES / template).read_text(encoding="utf-8")
    (rest,) = re.findall(r"^kind: Namespace\n(.*?)^---$", text, re.MULTILINE | re.DOTALL)
    assert re.fullmatch(r"metadata:\n  name: \{\{ \w[\w.]* \}\}\n", rest)


def test_the_table_of_services_neither() -> None:
    assert objects([{"name": "a", "image": "example/a:1"}], "ml")[0] == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ml"}}
