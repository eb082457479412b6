# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Sends the files that the module says are missing; see the module for the promise."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = {key: value for key, value in self._task.args.items() if key != "staged"}
        answer = self._execute_module(module_name="homelab.gpu.artifact_install", module_args=arguments, task_vars=task_vars)
        result.update(answer)
        if answer.get("failed") or self._task.check_mode or not answer.get("missing"):
            return result

        missing = set(answer["missing"])
        wanted = [entry for entry in arguments["files"] if entry["dest"] in missing]
        for entry in wanted:
            if not os.path.isfile(entry["src"]):
                result.update(failed=True, msg=f"{entry['src']} is not on the controller: run the role homelab.gpu.k3s_artifacts first, it fills the cache.")
                return result

        temporary = self._make_tmp_path()
        try:
            staged = {}
            for number, entry in enumerate(wanted):
                staged[entry["dest"]] = self._connection._shell.join_path(temporary, f"{number}-{os.path.basename(entry['dest'])}")
                self._connection.put_file(entry["src"], staged[entry["dest"]])
            # With an unprivileged login the files belong to that user; root reads them all the same.
            answer = self._execute_module(module_name="homelab.gpu.artifact_install", module_args={**arguments, "staged": staged}, task_vars=task_vars)
        finally:
            self._remove_tmp_path(temporary, force=True)
        result.update(answer)
        if not answer.get("failed"):
            result["sent_bytes"] = sum(entry["size"] for entry in wanted)
        return result
