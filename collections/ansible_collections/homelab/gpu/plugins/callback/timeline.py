# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: timeline
type: aggregate
short_description: Show where the time of a playbook run went
version_added: 0.1.0
author:
  - homelab.gpu contributors (@homelab-gpu)
description:
  - Works beside any stdout callback. At the end of a run it prints one row for each phase, that is for each play, and the slowest tasks.
  - With O(timeline_dir) set it also writes the run as JSON and as one HTML page that needs no other file and no network.
  - Only names, times and states are kept. Task arguments and results are never read into the timeline, so nothing that C(no_log) hides can appear in it.
    Task and play names appear as Ansible prints them; do not put secrets into names.
  - A run that fails, is interrupted or ends with an error is reported as far as it came. While a run lasts, the JSON file is renewed at each phase and
    about every ten seconds with C(outcome) V(running), so that even a killed run leaves its times behind.
  - All durations come from a monotonic clock.
requirements:
  - Enable it with C(callbacks_enabled = homelab.gpu.timeline) in C(ansible.cfg).
notes:
  - "The JSON document has these keys: C(schema) (V(1)), C(generator), C(playbook) (file name), C(started_at) (UTC, ISO 8601), C(seconds), C(check),
    C(outcome) (V(ok), V(failed), V(interrupted) or V(running)), C(hosts), C(counts) and C(phases)."
  - "Each phase has C(name), C(start), C(end), C(seconds), C(batches) (more than 1 for serial plays), C(hosts), C(counts) and C(tasks)."
  - "Each task has C(name), C(action), C(kind) (V(task) or V(handler)), C(role), C(block), C(start), C(seconds) (time in which it ran on at least one host)
    and C(results)."
  - "Each result has C(host), C(status), C(start), C(end), C(seconds), C(attempts), C(items) (null without a loop) and C(delegated_to)."
  - "C(counts) maps each status to a number of results. The statuses are V(ok), V(changed), V(skipped), V(ignored), V(failed), V(unreachable) and V(unfinished).
    A failure that a rescue section handled counts as failed, but does not make the outcome V(failed)."
  - C(start) and C(end) are seconds since the start of the run.
options:
  timeline_dir:
    description:
      - Directory to write the JSON and HTML files to. It is created if it does not exist.
      - Nothing is written if this is not set.
    type: path
    env:
      - name: HOMELAB_GPU_TIMELINE_DIR
    ini:
      - section: homelab_gpu_timeline
        key: timeline_dir
  timeline_name:
    description:
      - File name, without extension, of the written files. C({playbook}) stands for the playbook's name without extension and C({started}) for the
        start time in UTC, as in V(20261122T104500Z). Without C({started}) each run replaces the files of the run before.
      - It must not contain a slash.
    type: str
    default: "{playbook}-{started}"
    env:
      - name: HOMELAB_GPU_TIMELINE_NAME
    ini:
      - section: homelab_gpu_timeline
        key: timeline_name
  timeline_slowest:
    description:
      - How many of the slowest tasks to print. V(0) prints none.
    type: int
    default: 10
    env:
      - name: HOMELAB_GPU_TIMELINE_SLOWEST
    ini:
      - section: homelab_gpu_timeline
        key: timeline_slowest
  timeline_table:
    description:
      - Whether to print the table at the end of the run.
    type: bool
    default: true
    env:
      - name: HOMELAB_GPU_TIMELINE_TABLE
    ini:
      - section: homelab_gpu_timeline
        key: timeline_table
"""

EXAMPLES = r"""
ansible.cfg: |
  [defaults]
  callbacks_enabled = homelab.gpu.timeline

  [homelab_gpu_timeline]
  timeline_dir = .timeline
  timeline_slowest = 5
"""

import atexit
import json
import os
import time
import typing as t
from datetime import datetime, timezone

from ansible import constants as C
from ansible import context
from ansible.plugins.callback import CallbackBase

from ansible_collections.homelab.gpu.plugins.plugin_utils._timeline import Recorder, TaskInfo, render_table
from ansible_collections.homelab.gpu.plugins.plugin_utils._timeline_html import render_html

if t.TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.executor.task_result import CallbackTaskResult
    from ansible.inventory.host import Host
    from ansible.playbook import Playbook
    from ansible.playbook.handler import Handler
    from ansible.playbook.play import Play
    from ansible.playbook.task import Task

_CHECKPOINT_SECONDS = 10.0


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "homelab.gpu.timeline"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, display: t.Any = None, options: t.Any = None, *, clock: t.Callable[[], float] = time.monotonic) -> None:
        super().__init__(display=display, options=options)
        self._clock = clock
        self._recorder: Recorder | None = None
        self._base: str | None = None
        self._written_at = 0.0
        # Worker processes are forks and must not report a run of which they saw a part.
        self._pid = os.getpid()
        atexit.register(self._at_exit)

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        started = datetime.now(timezone.utc).replace(microsecond=0)
        name = os.path.basename(playbook._file_name)
        self._recorder = Recorder(name, started.isoformat().replace("+00:00", "Z"), self._clock(), check=bool(context.CLIARGS.get("check")))
        self._written_at = self._clock()
        self._base = self._file_base(name, started)

    def v2_playbook_on_play_start(self, play: Play) -> None:
        if self._recorder:
            self._recorder.start_phase(play._uuid, play.get_name().strip(), self._clock())
            self._checkpoint(force=True)

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        self._start_task(task, "task")

    def v2_playbook_on_handler_task_start(self, task: Handler) -> None:
        self._start_task(task, "handler")

    def v2_runner_on_start(self, host: Host, task: Task) -> None:
        if self._recorder:
            self._recorder.start_result(task._uuid, host.get_name(), self._clock())

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        self._finish(result, "changed" if result.is_changed() else "ok")

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        self._finish(result, "skipped")

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        self._finish(result, "ignored" if ignore_errors else "failed")

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        self._finish(result, "ignored" if result.task_fields.get("ignore_unreachable") else "unreachable")

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        self._report("failed" if stats.failures or stats.dark else "ok")

    def _start_task(self, task: Task, kind: str) -> None:
        if not self._recorder:
            return
        role = task._role.get_name() if task._role else None
        info = TaskInfo(name=(task.name or task.action).strip(), action=task.action, kind=kind, role=role, block=_block_name(task))
        self._recorder.start_task(task._uuid, info, self._clock())
        self._checkpoint()

    def _finish(self, result: CallbackTaskResult, status: str) -> None:
        if not self._recorder:
            return
        # Of the result itself only the number of attempts and of loop items is looked at.
        data = result.result
        items = data.get("results")
        delegated_to = result.task_fields.get("delegate_to")
        self._recorder.finish_result(
            result.task._uuid,
            result.host.get_name(),
            status,
            self._clock(),
            attempts=int(data.get("attempts") or 1),
            items=len(items) if result.task.loop is not None and isinstance(items, list) else None,
            delegated_to=str(delegated_to) if delegated_to else None,
        )

    def _at_exit(self) -> None:
        if os.getpid() == self._pid:
            self._report("interrupted")

    def _report(self, outcome: str) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is None or not recorder.has_phases:
            return
        now = self._clock()
        recorder.finish(outcome, now)
        document = recorder.document(now)
        if self.get_option("timeline_table"):
            colors = {"failed": C.COLOR_ERROR, "changed": C.COLOR_CHANGED, "ok": None}
            self._display.display("")
            for line, mood in render_table(document, slowest=self.get_option("timeline_slowest")):
                self._display.display(line, color=colors[mood])
        if self._base and self._write(".json", _to_json(document)) and self._write(".html", render_html(document)):
            self._display.display(f"Timeline written to {self._base}.html and {self._base}.json")

    def _file_base(self, playbook: str, started: datetime) -> str | None:
        directory = self.get_option("timeline_dir")
        if not directory:
            return None
        pattern = self.get_option("timeline_name")
        name = pattern.replace("{playbook}", os.path.splitext(playbook)[0]).replace("{started}", started.strftime("%Y%m%dT%H%M%SZ"))
        if not name or "/" in name:
            self._display.warning(f"homelab.gpu.timeline: no file is written, because timeline_name {pattern!r} is not a plain file name.")
            return None
        return os.path.join(directory, name)

    def _checkpoint(self, *, force: bool = False) -> None:
        if self._recorder is None or self._base is None:
            return
        now = self._clock()
        if force or now - self._written_at >= _CHECKPOINT_SECONDS:
            self._written_at = now
            self._write(".json", _to_json(self._recorder.document(now)))

    def _write(self, suffix: str, text: str) -> bool:
        path = f"{self._base}{suffix}"
        partial = f"{path}.{self._pid}.partial"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(partial, "w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
            os.replace(partial, path)
        except OSError as error:
            self._display.warning(f"homelab.gpu.timeline: cannot write {path}: {error.strerror}. Set timeline_dir to a directory that can be written to.")
            self._base = None
            return False
        return True


def _to_json(document: dict[str, t.Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _block_name(task: Task) -> str | None:
    names = []
    parent = task._parent
    while parent is not None:
        if type(parent).__name__ == "Block" and parent.name:
            names.append(parent.name)
        parent = parent._parent
    return " / ".join(reversed(names)) or None
