# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role would apply: its templates or values as Ansible renders them, judged by Kubernetes' own schemas, without a cluster.

objects = rendered("vllm", "templates/vllm.yml.j2", vllm_model="tiny")      # with the role's defaults and private variables
objects = rendered("inference_policies", "{{ __inference_policies_plan.objects }}", **variables)
expect_valid(objects)
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import typing as t

import kubernetes_validate
import yaml

Object = dict[str, t.Any]

COLLECTION = pathlib.Path(__file__).parents[2]
COLLECTIONS = COLLECTION.parents[2]
# The lab's, and that of the pinned K3s
VERSIONS = ("1.34", "1.36")


def rendered(role: str, *sources: str, **variables: t.Any) -> list[Object]:
    """The objects of templates (paths within the role) and expressions, one after the other.

    C(variables) are those of an inventory or command line. Names of the role's private variables may be among them, for what a role finds out as it runs.
    """
    directory = COLLECTION / "roles" / role
    files = [str(path) for path in (directory / "defaults/main.yml", directory / "vars/main.yml") if path.exists()]
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        tasks: list[Object] = []
        for number, source in enumerate(sources):
            made = str(place / f"{number}.out")
            if "{{" in source:
                tasks.append({"ansible.builtin.copy": {"content": f"{{{{ ({source.strip()[2:-2]}) | to_json }}}}", "dest": made, "mode": "0600"}})
            else:
                tasks.append({"ansible.builtin.template": {"src": str(directory / source), "dest": made, "mode": "0600"}})
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars_files": files, "tasks": tasks}
        (place / "play.yml").write_text(json.dumps([play]), encoding="utf-8")
        (place / "given.json").write_text(json.dumps({"role_path": str(directory), "role_name": role, **variables}), encoding="utf-8")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_HOME": folder,
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
            "ANSIBLE_NOCOLOR": "1",
        }
        command = [sys.executable, "-m", "ansible", "playbook", "play.yml", "--extra-vars", "@given.json"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        texts = [(place / f"{number}.out").read_text(encoding="utf-8") for number in range(len(sources))]
    found = [document for text in texts for document in yaml.safe_load_all(text) if document is not None]
    return [one for document in found for one in (document if isinstance(document, list) else [document])]


def schema_problems(objects: t.Iterable[Object], versions: t.Iterable[str] = VERSIONS) -> list[str]:
    """What Kubernetes' schemas say against the objects; unknown fields count, too. Kinds that are not Kubernetes' own are named."""
    found = []
    for one in objects:
        for version in versions:
            what = f"{one.get('kind')} {(one.get('metadata') or {}).get('name')} by {version}"
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                found.append(f"{what}: {'.'.join(map(str, error.path))}: {error.message}")
            except kubernetes_validate.SchemaNotFoundError as error:
                found.append(f"{what}: {error.message}")
    return found


def expect_valid(objects: t.Iterable[Object], versions: t.Iterable[str] = VERSIONS) -> None:
    judged = list(objects)
    assert judged, "there is nothing to judge"
    assert schema_problems(judged, versions) == []


def find(objects: t.Iterable[Object], kind: str, name: str) -> Object:
    (found,) = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found
