# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role would apply: its defaults, variables and templates, rendered by Ansible itself, without a play."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).parents[2] / "roles"
LOOKUP = re.compile(r"{{ lookup\('ansible\.builtin\.file', '([\w.]+)'\) }}")
Object = dict[str, t.Any]


class RenderedRole:
    """Its plan is made by the given function, from the role's settings: Ansible does not find a collection's filters here."""

    def __init__(self, role: str, plan: t.Callable[[Object], Object], **given: t.Any) -> None:
        self.role = ROLES / role
        self.loader = DataLoader()
        self.variables: Object = {"groups": {"all": []}, "hostvars": {}}
        for file in ("defaults/main.yml", "vars/main.yml"):
            self.variables |= self.with_files(self.loader.load_from_file(str(self.role / file), trusted_as_template=True))
        self.variables |= given
        self.settings: Object = Templar(loader=self.loader, variables=self.variables).template(self.variables[f"__{role}_settings"])
        self.plan = plan(self.settings)
        self.variables[f"__{role}_plan"] = self.plan

    def with_files(self, value: t.Any) -> t.Any:
        """Content of files instead of lookups of them, which are not found here either."""
        if isinstance(value, dict):
            return {key: self.with_files(item) for key, item in value.items()}
        found = LOOKUP.fullmatch(value) if isinstance(value, str) else None
        return (self.role / "files" / found[1]).read_text(encoding="utf-8").rstrip("\n") if found else value

    def objects(self) -> dict[str, Object]:
        """By kind and name."""
        made: dict[str, Object] = {}
        for path in sorted((self.role / "templates").iterdir()):
            text = trust_as_template(path.read_text(encoding="utf-8"))
            rendered = Templar(loader=self.loader, variables=self.variables).template(text, overrides={"trim_blocks": True})
            for document in yaml.safe_load_all(rendered):
                key = f"{document['kind']} {document['metadata']['name']}"
                assert key not in made
                made[key] = document
        return made
