# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program of the lab on the controller and show its progress while it runs, which a module cannot.

``program`` is a path below ``lab/``, ``arguments`` its command line. Lines on standard error are shown as they come.

- With ``creates`` the program makes that path, or only looks it over if it is there; its standard output becomes ``stdout``.
- Without it the program has to know ``--check`` and to print a JSON object, which becomes the task's result.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()
LAB = Path(__file__).resolve().parents[1]


def run(command: list[str]) -> tuple[int, str, list[str]]:
    """Exit status, standard output and the lines of standard error, which were shown."""
    shown: list[str] = []
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        stdout, stderr = process.stdout, process.stderr
        assert stdout is not None
        assert stderr is not None
        output: list[str] = []
        reader = threading.Thread(target=lambda: output.append(stdout.read()), daemon=True)
        reader.start()
        for line in stderr:
            shown.append(line.rstrip())
            display.display(f"  {line.rstrip()}")
        reader.join()
    return process.returncode, "".join(output), shown


class ActionModule(ActionBase):
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec(
            argument_spec={
                "program": {"type": "str", "required": True},
                "arguments": {"type": "list", "elements": "str", "default": []},
                "creates": {"type": "path"},
            }
        )
        program = LAB / options["program"]
        if not program.is_file():
            raise AnsibleActionFail(f"program: there is no file {program}. Name one below {LAB}.")
        command = [sys.executable, str(program), *options["arguments"]]
        if options["creates"] is not None:
            missing = not Path(options["creates"]).exists()
            if self._task.check_mode:
                return {**result, "changed": missing}
            returncode, output, shown = run(command)
            if returncode != 0:
                raise AnsibleActionFail(f"{options['program']} ended with {returncode}: {' '.join(shown[-5:])}")
            return {**result, "changed": missing, "stdout": output.strip()}
        returncode, output, shown = run([*command, "--check"] if self._task.check_mode else command)
        try:
            answer = json.loads(output)
        except ValueError as error:
            raise AnsibleActionFail(f"{options['program']} ended with {returncode} and no answer: {' '.join(shown[-20:])}") from error
        for warning in answer.pop("warnings", []):
            display.warning(warning)
        return {**result, **answer}
