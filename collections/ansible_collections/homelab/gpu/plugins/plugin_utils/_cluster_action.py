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
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase

from ansible_collections.homelab.gpu.plugins.module_utils._cluster_module import Call, problems

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
        arguments = self.prepared(self._plain_arguments(), task_vars, here=here)
        if not here:
            return {**result, **self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=self._task.async_val)}
        environment: dict[str, str] = {}
        self._compute_environment_string(environment)
        # Programs that tell credentials have to see it too; this process ends with the task
        os.environ.update({name: str(value) for name, value in environment.items()})
        validation = ArgumentSpecValidator(self.module.argument_spec, **self.module.constraints).validate(arguments)
        wrong = problems(validation, self._task.action)
        if wrong:
            return {**result, "failed": True, "msg": remove_values(wrong, validation._no_log_values)}
        call = Call(validation.validated_parameters, check_mode=self._task.check_mode, environ=os.environ)
        outcome = self.module.run(call)
        outcome["invocation"] = {"module_args": call.shown_params}
        aliases = [f"Both option {both['option']} and its alias {both['alias']} are set." for both in validation._warnings]
        if aliases or call.warnings:
            outcome["warnings"] = [*aliases, *call.warnings]
        return {**result, **remove_values(outcome, {*validation._no_log_values, *call.secrets})}

    def prepared(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any], *, here: bool) -> dict[str, t.Any]:
        """The task's arguments with what only the controller can do to them; C(here): the work will be done in this process."""
        return arguments

    def _plain_arguments(self) -> dict[str, t.Any]:
        """As a module gets them: YAML's dates, for example, are texts by then."""
        arguments = json.dumps(self._task.args, cls=get_module_encoder("legacy", Direction.CONTROLLER_TO_MODULE))
        return t.cast("dict[str, t.Any]", json.loads(arguments))

    def _would_run_here(self, task_vars: dict[str, t.Any]) -> bool:
        if self._connection.transport != "local" or self._connection.become:
            return False
        if self._task.delegate_to:
            task_vars = (task_vars.get("ansible_delegated_vars") or {}).get(self._task.delegate_to) or task_vars
        # As it is in the variables: a text made of it would not be a template any more
        interpreter = str(self._templar.template(task_vars.get("ansible_python_interpreter") or "auto"))
        return interpreter.startswith("auto") or _one_environment(interpreter, sys.executable)


def _one_environment(interpreter: str, other: str) -> bool:
    """Whether both are one Python with the same packages: a virtual environment's links to the Python that it was made from."""
    folders = {os.path.realpath(os.path.dirname(path)) for path in (interpreter, other)}
    return len(folders) == 1 and os.path.realpath(interpreter) == os.path.realpath(other)
