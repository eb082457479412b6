# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from typing import Any

import yaml
from ansible.plugins.action import ActionBase

from ansible_collections.homelab.gpu.plugins.plugin_utils._kubeconfig import destination_problem, rewrite, summary, write


class ActionModule(ActionBase):
    """Writes a kubeconfig on the controller; see the module of this name for the promise."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _checked, options = self.validate_argument_spec(
            {
                "content": {"type": "str", "required": True, "no_log": True},
                "path": {"type": "path", "required": True},
                "server": {"type": "str", "required": True},
                "name": {"type": "str", "required": True},
                "cluster_uid": {"type": "str", "required": True},
            }
        )
        path = os.path.normpath(os.path.expanduser(options["path"]))
        problem = destination_problem(path)
        if problem:
            return {**result, "failed": True, "msg": f"{problem[0]}. Fix: {problem[1]}."}
        try:
            # Values from templates carry tags that YAML cannot represent.
            content = rewrite(str(options["content"]), **{key: str(options[key]) for key in ("server", "name", "cluster_uid")})
        except (yaml.YAMLError, KeyError, IndexError, TypeError) as error:
            # The content is secret: say that it is wrong, not what it is.
            return {
                **result,
                "failed": True,
                "msg": f"The server's kubeconfig cannot be read ({type(error).__name__}). Look at /etc/rancher/k3s/k3s.yaml there.",
            }
        try:
            before = write(path, content, check_mode=self._task.check_mode)
        except OSError as error:
            return {**result, "failed": True, "msg": f"{error.strerror}: {error.filename}. Fix: set k3s_kubeconfig to a place that can be written."}
        result.update(changed=before is not None, path=path)
        if before is not None:
            result["diff"] = [{"before_header": path, "after_header": path, "before": before, "after": summary(content)}]
        return result
