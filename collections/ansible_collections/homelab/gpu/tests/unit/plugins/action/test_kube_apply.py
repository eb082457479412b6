# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action does before the module's work: templates and files as a role's author expects them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.homelab.gpu.tests.unit import fake_api
from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi

COLLECTIONS = next(parent.parent for parent in Path(fake_api.__file__).parents if parent.name == "ansible_collections")
MAP = "{apiVersion: v1, kind: ConfigMap, metadata: {name: NAME}, data: {a: 'VALUE'}}\n"


class Project:
    def __init__(self, folder: Path, api: FakeApi) -> None:
        self.folder = folder
        self.write("kubeconfig", json.dumps(api.kubeconfig()))

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def play(self, *arguments: str, **options: object) -> str:
        task = {"homelab.gpu.kube_apply": {"kubeconfig": str(self.folder / "kubeconfig"), **options}}
        self.write("play.yml", json.dumps([{"hosts": "localhost", "gather_facts": False, "vars": {"size": "2"}, "tasks": [task]}]))
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
            "ANSIBLE_HOME": str(self.folder),
            "ANSIBLE_NOCOLOR": "1",
            "COLUMNS": "1000",
        }
        command = [sys.executable, "-m", "ansible", "playbook", "play.yml", *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def project(api: FakeApi, tmp_path: Path) -> Project:
    return Project(tmp_path, api)


def test_templates_are_rendered_with_the_play_s_variables(api: FakeApi, project: Project) -> None:
    project.write("templates/one.yml.j2", MAP.replace("NAME", "one").replace("VALUE", "{{ size }}") + "---\n{% include 'two.yml.j2' %}\n")
    project.write("templates/two.yml.j2", MAP.replace("NAME", "two").replace("VALUE", "{{ inventory_hostname }}"))
    output = project.play(template="one.yml.j2")
    assert "changed=1" in output, output
    assert api.find("ConfigMap", "one")["data"] == {"a": "2"}
    assert api.find("ConfigMap", "two")["data"] == {"a": "localhost"}
    assert "changed=0" in project.play(template=["one.yml.j2"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "template: Could not find or access 'one.yml.j2'"),
        ("{{ unknown_variable }}", "'unknown_variable' is undefined"),
        ("a: [", "one.yml.j2 cannot be read as YAML"),
        ("a: b", "one.yml.j2, document 1: apiVersion is missing"),
    ],
)
def test_templates_that_cannot_be_used(api: FakeApi, project: Project, text: str | None, words: str) -> None:
    if text is not None:
        project.write("templates/one.yml.j2", text)
    output = project.play(template=["one.yml.j2"])
    assert "failed=1" in output, output
    assert words in output
    assert api.requests == []


def test_files_are_found_beside_the_playbook(api: FakeApi, project: Project) -> None:
    project.write("files/manifests/one.yml", MAP.replace("NAME", "one"))
    assert "changed=1" in project.play(src="manifests")
    assert "there is no file or directory elsewhere" in project.play(src=["elsewhere"])


def test_secrets_in_templates_are_shown_nowhere(api: FakeApi, project: Project) -> None:
    project.write("templates/one.yml.j2", "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {password: correct-horse}}")
    output = project.play("-vvv", "--diff", template=["one.yml.j2"])
    assert "changed=1" in output, output
    assert "horse" not in output
