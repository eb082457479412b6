#!/usr/bin/python
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_service
short_description: Start or restart a systemd service and wait, for a bounded time, until it says that it is ready
version_added: 0.1.0
author: homelab.gpu contributors (@homelab-gpu)
description:
  - Starts with C(--no-block) and waits in this one process, because a unit with C(Type=notify) and C(TimeoutStartSec=0) can block C(systemctl start) for ever.
  - A start that cannot succeed ends early, with the last error lines of the unit's journal in the message.
  - C(systemctl daemon-reload) is run only if systemd says that the unit changed on disk.
  - With O(environment) it also tells whether the running process was started with these values, and so with the present settings.
attributes:
  check_mode:
    support: full
    description: Says what would be done without doing it; a unit that does not exist yet counts as one that would be started.
  diff_mode:
    support: none
    description: A service has no content to compare.
options:
  name:
    description: Name of the unit.
    type: str
    required: true
  state:
    description:
      - V(started) starts the unit if it does not run, and waits until it is ready.
      - V(restarted) restarts it, and waits until the new process is ready.
    type: str
    choices: [started, restarted]
    default: started
  enabled:
    description: Whether the unit starts at boot.
    type: bool
    default: true
  environment:
    description: Variables that the running process must have been started with. If they differ, RV(outdated) is true; nothing is restarted for it.
    type: dict
    default: {}
  stale:
    description: Whether files of a running service were changed by the caller, so that RV(outdated) is true as well.
    type: bool
    default: false
  timeout_seconds:
    description: How long to wait for readiness.
    type: int
    default: 180
  max_restarts:
    description: After how many failed starts in a row the wait ends.
    type: int
    default: 3
  fatal_patterns:
    description: Regular expressions; a line of the journal that matches one ends the wait.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Start K3s
  homelab.gpu.host_service:
    name: k3s.service
    timeout_seconds: 120
    fatal_patterns:
      - token CA hash does not match
"""

RETURN = r"""
started:
  description: Whether a process was started or restarted by this call.
  returned: always
  type: bool
outdated:
  description:
    - Whether the process that runs now was started with other settings, or from a program that was replaced since, and so has to be restarted.
    - Counts as a change, so that handlers are notified.
  returned: always
  type: bool
reloaded:
  description: Whether systemd had to read changed units.
  returned: always
  type: bool
status:
  description: State of the unit.
  returned: always
  type: dict
waited_seconds:
  description: How long the unit took to be ready.
  returned: always
  type: float
transitions:
  description: The states that the unit went through.
  returned: always
  type: list
  elements: dict
"""

import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.homelab.gpu.plugins.module_utils._service import PROPERTIES, UnitState, error_lines, parse_environ, parse_show, verdict

_POLL_SECONDS = 0.2
_JOURNAL_EVERY_SECONDS = 1.0


class Service:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.name: str = module.params["name"]
        self.transitions: list[dict[str, Any]] = []
        self.waited = 0.0

    def systemctl(self, *arguments: str) -> None:
        rc, _out, err = self.module.run_command(["systemctl", *arguments])
        if rc != 0:
            self.module.fail_json(msg=f"systemctl {' '.join(arguments)} failed: {err.strip()}")

    def show(self) -> UnitState:
        _rc, out, _err = self.module.run_command(["systemctl", "show", "--property", ",".join(PROPERTIES), "--", self.name], check_rc=True)
        return parse_show(out)

    def journal(self, since: str, lines: int = 200) -> list[str]:
        command = ["journalctl", "--unit", self.name, "--since", since, "--lines", str(lines), "--output", "cat", "--no-pager", "--quiet"]
        rc, out, _err = self.module.run_command(command)
        return out.splitlines() if rc == 0 else []

    def outdated(self, state: UnitState) -> bool:
        if not state.pid:
            return False
        try:
            with open(f"/proc/{state.pid}/environ", "rb") as stream:
                actual = parse_environ(stream.read())
            replaced = os.readlink(f"/proc/{state.pid}/exe").endswith(" (deleted)")
        except FileNotFoundError:
            return False
        return replaced or any(actual.get(key) != str(value) for key, value in self.module.params["environment"].items())

    def wait(self, before: UnitState, *, fresh: bool, since: str = "") -> UnitState:
        params = self.module.params
        # The journal's clock is the wall clock; the deadline's must not be.
        since = since or f"@{time.time() - 1:.3f}"
        begin = time.monotonic()
        looked = begin
        lines: list[str] = []
        seen = ""
        while True:
            now = self.show()
            moment = time.monotonic()
            if now.summary != seen:
                seen = now.summary
                self.transitions.append({"at_seconds": round(moment - begin, 2), "what": seen})
            if params["fatal_patterns"] and moment - looked >= _JOURNAL_EVERY_SECONDS:
                looked = moment
                lines = self.journal(since)
            result, reason = verdict(before, now, fresh=fresh, journal=lines, fatal=params["fatal_patterns"], max_restarts=params["max_restarts"])
            self.waited = round(moment - begin, 2)
            if result == "ready":
                return now
            if result == "waiting" and moment - begin >= params["timeout_seconds"]:
                result, reason = "failed", f"it was not ready after {params['timeout_seconds']} s; last state: {now.summary}"
            if result == "failed":
                causes = error_lines(self.journal(since))
                told = "\n".join(f"  {line}" for line in causes) or "  (the journal has no line of it)"
                self.module.fail_json(
                    msg=f"{self.name} did not start: {reason}. Last errors in its journal:\n{told}\nMore: journalctl -u {self.name}",
                    journal=causes,
                    transitions=self.transitions,
                    waited_seconds=self.waited,
                    status={"active": now.active, "sub": now.sub, "restarts": now.restarts},
                )
            time.sleep(_POLL_SECONDS)

    def run(self) -> dict[str, Any]:
        params = self.module.params
        before = now = self.show()
        reload = before.need_reload
        enable = before.enabled != params["enabled"]
        start = params["state"] == "restarted" or not before.running
        if before.load != "loaded" and not self.module.check_mode:
            # A unit written a moment ago is unknown until systemd reads the directory again.
            self.systemctl("daemon-reload")
            before = now = self.show()
            if before.load != "loaded":
                self.module.fail_json(msg=f"there is no unit {self.name} on this host: its state is {before.load}. Install it first.")
            reload, enable = True, before.enabled != params["enabled"]
        elif reload and not self.module.check_mode:
            self.systemctl("daemon-reload")
        if not self.module.check_mode:
            if enable:
                self.systemctl("--quiet", "enable" if params["enabled"] else "disable", self.name)
            if start:
                starting = before.active == "activating" and before.sub != "auto-restart"
                # An attempt with other settings goes on for ever with them.
                restart = params["state"] == "restarted" or (starting and (params["stale"] or self.outdated(before)))
                if starting and not restart:
                    now = self.wait(before, fresh=False, since=before.attempt_at)
                else:
                    if before.active == "failed" or before.sub == "auto-restart":
                        self.systemctl("reset-failed", self.name)
                    before = self.show()
                    self.systemctl("--no-block", "restart" if restart else "start", self.name)
                    now = self.wait(before, fresh=restart)
        outdated = not start and (params["stale"] or self.outdated(now))
        return {
            "changed": start or enable or reload or outdated,
            "started": start,
            "reloaded": reload,
            "outdated": outdated,
            "waited_seconds": self.waited,
            "transitions": self.transitions,
            "status": {"active": now.active, "sub": now.sub, "pid": now.pid, "restarts": now.restarts, "started_at": now.started_at},
        }


def argument_spec() -> dict[str, Any]:
    return {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["started", "restarted"], "default": "started"},
        "enabled": {"type": "bool", "default": True},
        "environment": {"type": "dict", "default": {}},
        "stale": {"type": "bool", "default": False},
        "timeout_seconds": {"type": "int", "default": 180},
        "max_restarts": {"type": "int", "default": 3},
        "fatal_patterns": {"type": "list", "elements": "str", "default": []},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    module.exit_json(**Service(module).run())


if __name__ == "__main__":
    main()
