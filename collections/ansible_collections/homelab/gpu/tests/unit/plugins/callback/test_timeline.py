# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.homelab.gpu.plugins.callback import timeline
from ansible_collections.homelab.gpu.plugins.callback.timeline import CallbackModule


class FakeDisplay:
    verbosity = 0

    def __init__(self):
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def display(self, message, color=None):
        self.lines.append(message)

    def warning(self, message):
        self.warnings.append(message)


class Block:
    def __init__(self, name, parent=None):
        self.name = name
        self._parent = parent


class TaskInclude(Block):
    pass


class FakeTask:
    def __init__(self, name, *, role=None, parent=None, loop=None):
        self._uuid = f"uuid of {name}"
        self.name = name
        self.action = "ansible.builtin.command"
        self._role = SimpleNamespace(get_name=lambda: role) if role else None
        self._parent = parent
        self.loop = loop


def result(task, host, data, **fields):
    return SimpleNamespace(
        task=task, host=SimpleNamespace(get_name=lambda: host), result=data, task_fields=fields, is_changed=lambda: data.get("changed", False)
    )


@pytest.fixture
def callback(monkeypatch, tmp_path):
    """The plugin with a clock that goes on one second with each look at it, and with its options in C(options)."""
    monkeypatch.setattr(atexit, "register", lambda function: None)
    monkeypatch.setattr(timeline.context, "CLIARGS", {"check": False})
    ticks = iter(range(100000))
    plugin = CallbackModule(display=FakeDisplay(), clock=lambda: float(next(ticks)))
    plugin.options_under_test = {"timeline_dir": str(tmp_path / "new" / "out"), "timeline_name": "{playbook}", "timeline_slowest": 3, "timeline_table": True}
    monkeypatch.setattr(plugin, "get_option", plugin.options_under_test.__getitem__)
    return plugin


def play_through(plugin, *finishes, stats=None):
    """A playbook with one play and one task, which ends on each host by C(finishes): (method, data, fields, keywords)."""
    plugin.v2_playbook_on_start(SimpleNamespace(_file_name="/somewhere/site.yml"))
    plugin.v2_playbook_on_play_start(SimpleNamespace(_uuid="play", get_name=lambda: "Install "))
    task = FakeTask("Do it", role="homelab.gpu.k3s_server", loop=["x"], parent=Block("Inner", TaskInclude("file.yml", Block("Outer", Block("")))))
    plugin.v2_playbook_on_task_start(task, False)
    for number, (method, data, fields, keywords) in enumerate(finishes):
        plugin.v2_runner_on_start(SimpleNamespace(get_name=lambda number=number: f"host{number}"), task)
        getattr(plugin, method)(result(task, f"host{number}", data, **fields), **keywords)
    if stats is not None:
        plugin.v2_playbook_on_stats(SimpleNamespace(**stats))


def written(plugin, name="site.json"):
    return json.loads((Path(plugin.options_under_test["timeline_dir"]) / name).read_text(encoding="utf-8"))


GOOD = {"failures": {}, "dark": {}}


@pytest.mark.parametrize(
    ("method", "data", "fields", "keywords", "expected"),
    [
        ("v2_runner_on_ok", {}, {}, {}, "ok"),
        ("v2_runner_on_ok", {"changed": True}, {}, {}, "changed"),
        ("v2_runner_on_skipped", {}, {}, {}, "skipped"),
        ("v2_runner_on_failed", {}, {}, {}, "failed"),
        ("v2_runner_on_failed", {}, {}, {"ignore_errors": True}, "ignored"),
        ("v2_runner_on_unreachable", {}, {}, {}, "unreachable"),
        ("v2_runner_on_unreachable", {}, {"ignore_unreachable": True}, {}, "ignored"),
    ],
)
def test_events_become_statuses(callback, method, data, fields, keywords, expected):
    play_through(callback, (method, data, fields, keywords), stats=GOOD)
    document = written(callback)
    assert [entry["status"] for entry in document["phases"][0]["tasks"][0]["results"]] == [expected]


def test_what_is_kept_of_a_task(callback):
    data = {"attempts": 4, "results": [{}, {}], "stdout": "hunter2", "invocation": {"module_args": {"token": "hunter2"}}}
    play_through(callback, ("v2_runner_on_ok", data, {"delegate_to": "localhost", "args": {"cmd": "hunter2"}}, {}), stats=GOOD)
    document = written(callback)
    (task,) = document["phases"][0]["tasks"]
    assert document["phases"][0]["name"] == "Install"
    assert (task["name"], task["role"], task["block"], task["kind"]) == ("Do it", "homelab.gpu.k3s_server", "Outer / Inner", "task")
    (entry,) = task["results"]
    assert (entry["attempts"], entry["items"], entry["delegated_to"]) == (4, 2, "localhost")
    directory = Path(callback.options_under_test["timeline_dir"])
    assert sorted(path.name for path in directory.iterdir()) == ["site.html", "site.json"]
    for path in directory.iterdir():
        assert "hunter2" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("stats", "expected"), [(GOOD, "ok"), ({"failures": {"a": 1}, "dark": {}}, "failed"), ({"failures": {}, "dark": {"a": 1}}, "failed")])
def test_outcome_comes_from_the_statistics(callback, stats, expected):
    play_through(callback, ("v2_runner_on_failed", {}, {}, {}), stats=stats)
    assert written(callback)["outcome"] == expected


def test_a_run_without_its_end_is_reported_at_exit_once(callback):
    play_through(callback, ("v2_runner_on_ok", {}, {}, {}))
    assert written(callback)["outcome"] == "running"
    callback._at_exit()
    assert written(callback)["outcome"] == "interrupted"
    said = len(callback._display.lines)
    callback._at_exit()
    assert len(callback._display.lines) == said


def test_a_worker_process_reports_nothing(callback):
    play_through(callback, ("v2_runner_on_ok", {}, {}, {}))
    callback._pid += 1
    callback._at_exit()
    assert callback._display.lines == []


def test_nothing_is_written_without_a_directory(callback, tmp_path):
    callback.options_under_test["timeline_dir"] = None
    play_through(callback, ("v2_runner_on_ok", {}, {}, {}), stats=GOOD)
    assert "Timeline of site.yml" in callback._display.lines
    assert list(tmp_path.iterdir()) == []


def test_the_table_can_be_left_out(callback):
    callback.options_under_test["timeline_table"] = False
    play_through(callback, ("v2_runner_on_ok", {}, {}, {}), stats=GOOD)
    (line,) = callback._display.lines
    assert line.startswith("Timeline written to ")


def test_a_directory_that_cannot_be_written_is_a_warning(callback, tmp_path):
    (tmp_path / "file").write_text("")
    callback.options_under_test["timeline_dir"] = str(tmp_path / "file" / "below")
    play_through(callback, ("v2_runner_on_ok", {}, {}, {}), stats=GOOD)
    (warning,) = callback._display.warnings
    assert "cannot write" in warning
    assert "timeline_dir" in warning
    assert "Timeline of site.yml" in callback._display.lines


@pytest.mark.parametrize("name", ["../{playbook}", ""])
def test_a_name_that_is_no_file_name_is_a_warning(callback, name, tmp_path):
    callback.options_under_test["timeline_name"] = name
    play_through(callback, ("v2_runner_on_ok", {}, {}, {}), stats=GOOD)
    assert "timeline_name" in callback._display.warnings[0]
    assert list(tmp_path.iterdir()) == []


def test_the_start_time_makes_names_differ(callback):
    callback.options_under_test["timeline_name"] = "{playbook}-{started}"
    play_through(callback, ("v2_runner_on_ok", {}, {}, {}), stats=GOOD)
    (name,) = [path.name for path in Path(callback.options_under_test["timeline_dir"]).glob("*.json")]
    assert name.startswith("site-2")
    assert name.endswith("Z.json")


PLAYBOOK = """
- name: First
  hosts: all
  gather_facts: false
  tasks:
    - name: Hide it
      ansible.builtin.set_fact:
        password: hunter2
      no_log: true
    - name: Fail and be rescued
      block:
        - name: Fail
          ansible.builtin.fail:
            msg: hunter2
          no_log: true
      rescue:
        - name: Rescue
          ansible.builtin.set_fact:
            rescued: true
- name: Second
  hosts: all
  gather_facts: false
  tasks:
    - name: Loop
      ansible.builtin.set_fact:
        it: "{{ item }}"
      loop: [1, 2, 3]
    - name: End
      ansible.builtin.fail:
        msg: the end
      when: end is defined
"""


@pytest.mark.parametrize(("arguments", "rc", "outcome", "check"), [([], 0, "ok", False), (["--check"], 0, "ok", True), (["-e", "end=1"], 2, "failed", False)])
def test_a_real_run(tmp_path, arguments, rc, outcome, check):
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    (tmp_path / "ansible.cfg").write_text("")
    collections = next(parent.parent for parent in Path(timeline.__file__).parents if parent.name == "ansible_collections")
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
        "ANSIBLE_HOME": str(tmp_path / "home"),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "temporary"),
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_CALLBACKS_ENABLED": "homelab.gpu.timeline",
        "HOMELAB_GPU_TIMELINE_DIR": str(tmp_path / "out"),
        "HOMELAB_GPU_TIMELINE_NAME": "run",
        "LC_ALL": "C.UTF-8",
    }
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "one,two,", "-c", "local", "play.yml", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == rc, done.stdout + done.stderr
    assert "Timeline of play.yml" in done.stdout
    assert "homelab.gpu.timeline" not in done.stderr
    document = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert (document["outcome"], document["check"], document["hosts"]) == (outcome, check, ["one", "two"])
    assert [phase["name"] for phase in document["phases"]] == ["First", "Second"]
    tasks = {task["name"]: task for phase in document["phases"] for task in phase["tasks"]}
    assert [entry["status"] for entry in tasks["Fail"]["results"]] == ["failed", "failed"]
    assert tasks["Fail"]["block"] == "Fail and be rescued"
    assert [entry["items"] for entry in tasks["Loop"]["results"]] == [3, 3]
    assert document["counts"]["unfinished"] == 0
    for path in (tmp_path / "out").iterdir():
        assert "hunter2" not in path.read_text(encoding="utf-8")
