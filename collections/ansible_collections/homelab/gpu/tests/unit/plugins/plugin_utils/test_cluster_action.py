# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cluster modules within Ansible's process and as modules: real playbook runs, which have to give the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.homelab.gpu.tests.unit import fake_api
from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi

Object = dict[str, t.Any]
Play = t.Callable[..., "Done"]

COLLECTIONS = next(parent.parent for parent in Path(fake_api.__file__).parents if parent.name == "ansible_collections")
# In the name of every module that is packed and sent to its host
PACKED = "AnsiballZ_kube_"
WEB = {"kind": "Deployment", "name": "web"}
MAP: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}}


class Done(t.NamedTuple):
    rc: int
    output: str
    results: list[Object]
    """Of the tasks, in their order, as far as the play came."""

    @property
    def as_modules(self) -> bool:
        return PACKED in self.output


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Runs tasks on a local host with -vvv, and returns what they registered."""

    def run(tasks: list[Object], *arguments: str, keywords: Object | None = None, variables: Object | None = None, environ: Object | None = None) -> Done:
        names = [f"result_{index}" for index in range(len(tasks))]
        kept = {
            "copy": {"dest": str(tmp_path / "results.json"), "content": "{{ [" + ", ".join(names) + "] | to_json }}"},
            "check_mode": False,
            "become": False,
            "vars": {"ansible_python_interpreter": sys.executable, "ansible_connection": "local"},
        }
        book = [
            {
                "hosts": "all",
                "gather_facts": False,
                "tasks": [{"ignore_errors": True, **task, "register": name} for task, name in zip(tasks, names)] + [kept],
                **(keywords or {}),
            }
        ]
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        (tmp_path / "book.yml").write_text(yaml.safe_dump(book))
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"here": {**local, **(variables or {})}}}}))
        (tmp_path / "ansible.cfg").write_text("[defaults]\n")
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "K8S_AUTH_"))},
            "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
            "ANSIBLE_HOME": str(tmp_path / "home"),
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
            "KUBECONFIG": str(tmp_path / "none"),
            **(environ or {}),
        }
        command = [sys.executable, "-m", "ansible", "playbook", "-vvv", "-i", "hosts.yml", "book.yml", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False)
        file = tmp_path / "results.json"
        results = json.loads(file.read_text()) if file.exists() else []
        file.unlink(missing_ok=True)
        return Done(done.returncode, done.stdout + done.stderr, results)

    return run


@pytest.fixture
def kubeconfig(api: FakeApi, tmp_path: Path) -> str:
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(api.kubeconfig()))
    return str(path)


@pytest.fixture
def other_python(tmp_path: Path) -> str:
    """Another Python than the one that runs Ansible: with it, a module has to be a module."""
    path = tmp_path / "other-python"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)


def fill(api: FakeApi) -> None:
    for name in ("a", "b"):
        status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": "2"}}
        api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status})
    metadata = {"name": "web"}
    api.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": {"accessModes": ["ReadWriteOnce"]}})
    template = {"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "web"}}]}}
    selector = {"matchLabels": {"app": "web"}}
    api.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": 1, "selector": selector, "template": template}})
    api.settle()

    running = [{"name": "app", "state": {"running": {}}}]
    pod = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "app"}]}, "status": {"containerStatuses": running}}
    api.put({"apiVersion": "v1", "kind": "Pod", **pod})
    status = {"containerStatuses": [{"name": "c", "containerID": "run", "state": {"running": {}}}]}
    api.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}, "status": status})
    api.logs.clear()
    api.log("run", "one", "two")
    about = {"kind": "Pod", "namespace": "default", "name": "p"}
    api.put({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": about, "reason": "Scheduled", "type": "Normal"})


def plain(node: t.Any) -> t.Any:
    """Without what is another in every run."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items() if key not in ("waited_seconds", "at_seconds", "answered_seconds", "resourceVersion")}
    return [plain(value) for value in node] if isinstance(node, list) else node


ALL: list[Object] = [
    {"homelab.gpu.kube_ping": {}},
    {"homelab.gpu.kube_info": {"kind": "Node", "query": "[].metadata.name"}},
    {"homelab.gpu.kube_info": {"queries": [{"kind": "Node"}, {"kind": "Widget"}]}},
    {"homelab.gpu.kube_wait": {"kind": "Node", "names": ["a", "b"], "allocatable": {"cpu": "2000m"}}},
    {"homelab.gpu.kube_wait": {"kind": "Node", "name": "none", "timeout_seconds": 0}},
    {"homelab.gpu.kube_apply": {"definitions": [MAP]}},
    {"homelab.gpu.kube_apply": {"definitions": [{**MAP, "kind": "Widget"}]}},
    {"homelab.gpu.kube_node": {"nodes": [{"name": "a", "labels": {"x": "y", "n": 1, "b": True}, "taints": [{"key": "k", "effect": "NoSchedule"}]}]}},
    {"homelab.gpu.kube_node": {"nodes": [{"name": "none", "unschedulable": "yes"}]}},
    {"homelab.gpu.kube_node": {"nodes": [{"name": "a", "labels": {"a b": "c"}}]}},
    {"homelab.gpu.kube_node": {"nodez": []}},
    {"homelab.gpu.kube_wait": {"kind": "Node", "until": "reddy", "timeout_seconds": "soon"}},
    {"homelab.gpu.kube_info": {"kind": "Node", "verify_ssl": False, "validate_certs": False}},
    {"homelab.gpu.kube_exec": {"pod": "web", "command": ["sh", "-c", "echo a; cat >&2"], "stdin": "b"}},
    {"homelab.gpu.kube_exec": {"pod": "web", "command": ["sh", "-c", "exit 3"]}},
    {"homelab.gpu.kube_exec": {"pod": "web", "command": "sh -c true"}},
    {"homelab.gpu.kube_exec": {"pod": "web", "command": ["true"]}, "check_mode": True},
    {"homelab.gpu.kube_logs": {"name": "p", "timestamps": True}},
    {"homelab.gpu.kube_logs": {"name": "p", "until_pattern": "two", "follow_seconds": 60}},
    {"homelab.gpu.kube_logs": {"name": "none"}},
    {"homelab.gpu.kube_events": {"types": ["Normal"]}},
    {"homelab.gpu.kube_events": {"name": "p"}},
    {"homelab.gpu.kube_rollout": {"workloads": [WEB]}},
    {"homelab.gpu.kube_rollout": {"workloads": [WEB], "state": "undone"}},
    {"homelab.gpu.kube_rollout": {"workloads": [WEB], "state": "paused"}},
    {"homelab.gpu.kube_scale": {"workloads": [{**WEB, "replicas": "2"}], "wait": False}},
    {"homelab.gpu.kube_scale": {"workloads": [{**WEB, "name": "none", "replicas": 2}]}},
]
CHANGES = (5, 7, 24, 25)
RUNS = (13, 14)
FAILURES = (4, 6, 8, 9, 10, 11, 14, 15, 19, 21, 23, 26)


def test_both_ways_give_the_same(api: FakeApi, play: Play, kubeconfig: str, other_python: str) -> None:
    dry = [{**ALL[index], "check_mode": True} for index in CHANGES]
    tasks = [{name: {"kubeconfig": kubeconfig, **options} if "." in name else options for name, options in task.items()} for task in [*dry, *ALL]]
    fill(api)
    objects = dict(api.objects)
    here = play(tasks)
    api.objects.clear()
    api.objects.update(objects)
    there = play(tasks, variables={"ansible_python_interpreter": other_python})
    assert (here.rc, here.as_modules, there.rc, there.as_modules) == (0, False, 0, True), here.output + there.output
    assert len(here.results) == len(tasks)
    for task, one, other in zip(tasks, here.results, there.results):
        assert plain(one) == plain(other), task
    # What was changed in check mode was not changed, for it could be changed again
    changed = sorted(len(dry) + index for index in (*CHANGES, *RUNS))
    assert [index for index, result in enumerate(here.results) if result["changed"]] == [*range(len(dry)), *changed]
    assert [bool(result.get("failed")) for result in here.results[len(dry) :]] == [index in FAILURES for index in range(len(ALL))]
    # With -vvv, how each was called
    assert here.output.count('"validate_certs": false') == there.output.count('"validate_certs": false') > 0


def test_environment_of_the_task(api: FakeApi, play: Play, kubeconfig: str) -> None:
    api.token = "from-environment"
    fill(api)
    read = {"homelab.gpu.kube_info": {"kind": "Node", "query": "length(@)"}}
    done = play(
        [
            {**read, "environment": {"K8S_AUTH_HOST": api.url, "K8S_AUTH_API_KEY": "from-environment"}},
            {**read, "environment": {"K8S_AUTH_HOST": "{{ url }}", "K8S_AUTH_API_KEY": "{{ 'from-' ~ 'environment' }}"}},
            # A task is not touched by the environment of another one
            read,
            {"homelab.gpu.kube_info": {"kubeconfig": kubeconfig}, "environment": {"K8S_AUTH_HOST": api.url, "K8S_AUTH_API_KEY": "from-environment"}},
        ],
        variables={"url": api.url},
    )
    assert not done.as_modules
    assert [result.get("value") for result in done.results[:2]] == [2, 2], done.output
    assert "which cluster is meant?" in done.results[2]["msg"]
    assert done.results[3]["status"] == 401


def test_environment_of_ansible(api: FakeApi, play: Play, kubeconfig: str) -> None:
    done = play([{"homelab.gpu.kube_info": {}}], environ={"K8S_AUTH_KUBECONFIG": kubeconfig})
    assert (done.results[0]["cluster_uid"], done.as_modules) == (api.cluster_uid, False)


def test_defaults_of_the_action_group(api: FakeApi, play: Play, kubeconfig: str) -> None:
    fill(api)
    done = play(
        [
            {"homelab.gpu.kube_info": {"kind": "Node", "query": "length(@)"}},
            {"homelab.gpu.kube_node": {"nodes": [{"name": "a", "unschedulable": True}]}},
            {"homelab.gpu.kube_info": {"kubeconfig": "/nonexistent"}},
        ],
        keywords={"module_defaults": {"group/homelab.gpu.gpu": {"kubeconfig": kubeconfig, "cluster_uid": api.cluster_uid}}},
    )
    assert (done.results[0].get("value"), done.results[1].get("changed"), done.as_modules) == (2, True, False), done.output
    assert "there is no file /nonexistent" in done.results[2]["msg"]


@pytest.mark.parametrize("as_module", [False, True])
def test_secrets_are_not_shown(api: FakeApi, play: Play, other_python: str, as_module: bool) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": "correct-horse"}}
    inline = "{{ access }}"
    fill(api)
    done = play(
        [
            {"homelab.gpu.kube_info": {"kubeconfig": inline}},
            {"homelab.gpu.kube_info": {"host": api.url, "api_key": "{{ key }}"}},
            {"homelab.gpu.kube_info": {"host": api.url, "api_key": "{{ key }}", "kind": "pods"}},
            {"homelab.gpu.kube_info": {"kubeconfig": inline, "kind": "pods"}},
            {"homelab.gpu.kube_info": {"kubeconfig": inline, "kinds": "pods"}},
            {"homelab.gpu.kube_apply": {"kubeconfig": inline, "definitions": [secret]}},
            {"homelab.gpu.kube_apply": {"kubeconfig": inline, "definitions": [secret], "force": True}},
            {"homelab.gpu.kube_exec": {"kubeconfig": inline, "pod": "web", "command": ["wc", "-c"], "stdin": "secret-of-stdin"}},
            {"homelab.gpu.kube_exec": {"kubeconfig": inline, "pod": "web", "command": ["wc -c"], "stdin": "secret-of-stdin"}},
            {"homelab.gpu.kube_exec": {"kubeconfig": inline, "pod": "web", "command": ["true"], "stdin": "secret-of-stdin", "stdinn": 1}},
        ],
        "--diff",
        variables={
            "access": api.kubeconfig("secret-of-kubeconfig"),
            "key": "secret-of-key",
            **({"ansible_python_interpreter": other_python} if as_module else {}),
        },
    )
    assert done.as_modules is as_module
    assert [bool(result.get("failed")) for result in done.results] == [False, False, True, True, True, False, True, False, True, True], done.output
    everything = done.output + json.dumps(done.results)
    assert [word for word in ("secret-of-kubeconfig", "secret-of-key", "secret-of-stdin", "correct-horse") if word in everything] == []
    assert api.find("Secret", "s")["stringData"] == {"password": "correct-horse"}


def test_in_the_background(api: FakeApi, play: Play, kubeconfig: str) -> None:
    """What runs on while the play goes on needs a process of its own."""
    fill(api)
    done = play([{"homelab.gpu.kube_info": {"kubeconfig": kubeconfig, "kind": "Node", "query": "length(@)"}, "async": 60, "poll": 1}])
    assert (done.results[0].get("value"), done.results[0].get("finished"), done.as_modules) == (2, True, True), done.output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes root here")
def test_as_another_user(api: FakeApi, play: Play, kubeconfig: str) -> None:
    done = play([{"homelab.gpu.kube_info": {"kubeconfig": kubeconfig}, "become": True}])
    assert (done.results[0].get("cluster_uid"), done.as_modules) == (api.cluster_uid, True), done.output


def test_another_environment_of_the_same_python(api: FakeApi, play: Play, kubeconfig: str, tmp_path: Path) -> None:
    """A Python and a virtual environment made from it are one file, but have not the same packages."""
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    done = play([{"homelab.gpu.kube_ping": {"kubeconfig": kubeconfig}}], variables={"ansible_python_interpreter": str(link)})
    assert done.as_modules


@pytest.mark.parametrize("interpreter", ["auto", "{{ ansible_playbook_python }}", "{{ python }}"])
def test_pythons_that_are_the_one_that_runs_ansible(api: FakeApi, play: Play, kubeconfig: str, interpreter: str) -> None:
    variables = {"ansible_python_interpreter": interpreter, "python": sys.executable}
    done = play([{"homelab.gpu.kube_info": {"kubeconfig": kubeconfig}}], variables=variables)
    assert (done.results[0].get("cluster_uid"), done.as_modules) == (api.cluster_uid, False), done.output


def test_delegated_from_a_host_that_is_far_away(api: FakeApi, play: Play, kubeconfig: str) -> None:
    """Neither its connection nor its Python is of interest."""
    done = play(
        [{"homelab.gpu.kube_info": {"kubeconfig": kubeconfig}, "delegate_to": "localhost"}],
        variables={"ansible_connection": "ssh", "ansible_host": "192.0.2.1", "ansible_python_interpreter": "/nonexistent/python"},
    )
    assert (done.results[0].get("cluster_uid"), done.as_modules) == (api.cluster_uid, False), done.output


def test_times_and_texts_that_look_like_something_else(api: FakeApi, play: Play, kubeconfig: str, tmp_path: Path, other_python: str) -> None:
    """YAML makes a time of what looks like one; both ways make a text of it again."""
    body = yaml.safe_load("{apiVersion: v1, kind: ConfigMap, metadata: {name: c, annotations: {at: 2026-01-01T00:00:00Z, day: 2026-01-02}}}")
    body["data"] = {"template": "no {{ braces }}", "x": "yes"}
    tasks = [{"homelab.gpu.kube_apply": {"kubeconfig": kubeconfig, "definitions": "{{ [body] }}"}}]
    stored = []
    for variables in ({}, {"ansible_python_interpreter": other_python}):
        done = play(tasks, variables={"body": body, "braces": "filled", **variables})
        assert done.results[0]["changed"] is True, done.output
        stored.append(api.find("ConfigMap", "c"))
        api.drop("ConfigMap", "c")
    assert plain(stored[0]["data"]) == plain(stored[1]["data"]) == {"template": "no filled", "x": "yes"}
    assert stored[0]["metadata"]["annotations"] == stored[1]["metadata"]["annotations"]


def test_templates_in_the_cluster_stay_text(api: FakeApi, play: Play, kubeconfig: str) -> None:
    api.put({**MAP, "data": {"a": "{{ lookup('pipe', 'echo run') }}"}})
    done = play(
        [
            {"homelab.gpu.kube_info": {"kubeconfig": kubeconfig, "kind": "ConfigMap", "name": "c"}},
            {"ansible.builtin.debug": {"msg": "{{ result_0.resources[0].data.a }}"}},
        ]
    )
    assert done.results[1]["msg"] == "{{ lookup('pipe', 'echo run') }}"


def test_the_time_limit_of_a_task_ends_a_wait(api: FakeApi, play: Play, kubeconfig: str) -> None:
    done = play([{"homelab.gpu.kube_wait": {"kubeconfig": kubeconfig, "kind": "Node", "name": "none", "timeout_seconds": 600}, "timeout": 1}])
    assert done.results[0]["failed"] is True
    assert not done.as_modules
