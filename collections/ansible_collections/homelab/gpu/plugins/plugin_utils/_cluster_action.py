# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Packing a module, starting a Python for it and importing everything anew takes ten times as long as most requests to a cluster. Where
# that Python would be the one that runs Ansible, the work is done in Ansible's process for the task instead, with the same result.

from __future__ import annotations

import json
import os
import sys
import typing as t

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase

from ansible_collections.homelab.gpu.plugins.module_utils._cluster_module import Call

if t.TYPE_CHECKING:
    from ansible_collections.homelab.gpu.plugins.module_utils._cluster_module import ClusterModule

__all__ = ["ClusterAction"]


class ClusterAction(ActionBase):
    """The action of a ClusterModule: here if it can be, as a module on its host if not."""

    module: t.ClassVar[ClusterModule]

    _supports_async = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        here = not self._task.async_val and self._would_run_here(task_vars)
        # As a module would get them: plain
        arguments = self.prepared(json.loads(json.dumps(self._task.args)), task_vars, here=here)
        if not here:
            return {**result, **self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=self._task.async_val)}
        environment: dict[str, str] = {}
        self._compute_environment_string(environment)
        # Programs that tell credentials have to see it too; this process ends with the task
        os.environ.update({name: str(value) for name, value in environment.items()})
        validation = ArgumentSpecValidator(self.module.argument_spec, **self.module.constraints).validate(arguments)
        call = Call(validation.validated_parameters, check_mode=self._task.check_mode, environ=os.environ)
        problems = "; ".join(validation.error_messages)
        outcome = {"failed": True, "msg": problems} if problems else self.module.run(call)
        return {**result, **remove_values(outcome, {*validation._no_log_values, *call.secrets})}

    def prepared(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any], *, here: bool) -> dict[str, t.Any]:
        """The task's arguments with what only the controller can do to them; C(here): the work will be done in this process."""
        return arguments

    def _would_run_here(self, task_vars: dict[str, t.Any]) -> bool:
        if self._connection.transport != "local" or self._connection.become:
            return False
        if self._task.delegate_to:
            task_vars = (task_vars.get("ansible_delegated_vars") or {}).get(self._task.delegate_to) or task_vars
        interpreter = str(task_vars.get("ansible_python_interpreter") or "auto")
        if interpreter.startswith("auto"):
            return True
        return os.path.realpath(self._templar.template(interpreter)) == os.path.realpath(sys.executable)
