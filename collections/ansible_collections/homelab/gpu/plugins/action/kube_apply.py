# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.template import trust_as_template

from ansible_collections.homelab.gpu.plugins.modules import kube_apply
from ansible_collections.homelab.gpu.plugins.plugin_utils._cluster_action import ClusterAction


class ActionModule(ClusterAction):
    """Renders templates, and finds files as other actions find them: in the role's or the playbook's folder first."""

    module = kube_apply.MODULE

    def prepared(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any], *, here: bool) -> dict[str, t.Any]:
        paths = arguments.get("template")
        if isinstance(paths, (str, list)):
            arguments["template"] = [self._rendered(path, task_vars) for path in ([paths] if isinstance(paths, str) else paths)]
        paths = arguments.get("src")
        if here and isinstance(paths, (str, list)):
            arguments["src"] = [self._found(path) for path in ([paths] if isinstance(paths, str) else paths)]
        return arguments

    def _found(self, path: t.Any) -> t.Any:
        if not isinstance(path, str) or os.path.isabs(os.path.expanduser(path)):
            return path
        try:
            return self._find_needle("files", path)
        except AnsibleError:
            # The module names it as it was given
            return path

    def _rendered(self, path: t.Any, task_vars: dict[str, t.Any]) -> dict[str, str]:
        if not isinstance(path, str):
            raise AnsibleActionFail(f"template: {path!r} is not a path; give paths of templates")
        try:
            source = self._find_needle("templates", path)
        except AnsibleError as error:
            raise AnsibleActionFail(f"template: {error}") from error
        folders = [*task_vars.get("ansible_search_path", []), self._loader.get_basedir(), os.path.dirname(source)]
        search = [place for folder in folders for place in (os.path.join(folder, "templates"), folder)]
        templar = self._templar.copy_with_new_env(searchpath=search, available_variables=task_vars)
        text = trust_as_template(self._loader.get_text_file_contents(source))
        content = templar.template(text, overrides={"trim_blocks": True}, escape_backslashes=False)
        return {"path": path, "content": str(content or "")}
