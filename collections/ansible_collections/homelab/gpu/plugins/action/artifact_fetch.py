# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.homelab.gpu.plugins.module_utils._artifacts import ARCHITECTURES, PACKAGE_FORMATS, LockError, cache_path, select
from ansible_collections.homelab.gpu.plugins.plugin_utils._artifact_cache import default_cache, fetch_all, read_lock


class ActionModule(ActionBase):
    """Fills the controller's cache; see the module of this name for the promise."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _checked, options = self.validate_argument_spec(
            {
                "lock_file": {"type": "path", "required": True},
                "cache_dir": {"type": "path"},
                "wants": {
                    "type": "list",
                    "elements": "dict",
                    "required": True,
                    "options": {
                        "version": {"type": "str", "required": True},
                        "architecture": {"type": "str", "choices": list(ARCHITECTURES), "required": True},
                        "binary": {"type": "str", "default": "k3s"},
                        "images": {"type": "list", "elements": "str", "default": []},
                        "packages": {"type": "list", "elements": "str", "default": []},
                        "package_format": {"type": "str", "choices": list(PACKAGE_FORMATS)},
                    },
                },
                "parallel": {"type": "int", "default": 4},
                "stall_seconds": {"type": "int", "default": 30},
                "timeout_seconds": {"type": "int", "default": 1800},
            }
        )
        cache = os.path.abspath(options["cache_dir"] or default_cache(os.environ))
        try:
            entries = read_lock(options["lock_file"])
        except LockError as error:
            listed = "\n".join(f"  {what}; fix: {fix}" for what, fix in error.problems)
            return {**result, "failed": True, "msg": f"The lock file {options['lock_file']} is wrong:\n{listed}"}

        formless = [number for number, want in enumerate(options["wants"]) if want["packages"] and not want["package_format"]]
        if formless:
            known = ", ".join(PACKAGE_FORMATS)
            return {**result, "failed": True, "msg": f"wants[{formless[0]}] names packages, but no package_format. Set it to one of {known}."}

        artifacts: list[dict[str, Any]] = []
        missing: list[str] = []
        # Told as they were given, so that a host finds its own
        for given, want in zip(self._task.args["wants"], options["wants"]):
            chosen, lacking = select(
                entries,
                version=want["version"],
                arch=want["architecture"],
                binary=want["binary"],
                images=want["images"],
                packages=want["packages"],
                package_format=want["package_format"] or "",
            )
            artifacts.append({"want": given, "files": [{**entry, "path": cache_path(cache, entry)} for entry in chosen]})
            missing.extend(lacking)
        if missing:
            lines = "\n".join(f"  {line}" for line in missing)
            return {
                **result,
                "failed": True,
                "msg": f"The lock file {options['lock_file']} lacks:\n{lines}\nAdd the entries, or choose a version that it lists.",
            }

        wanted, problems = fetch_all(
            cache,
            [entry for chosen in artifacts for entry in chosen["files"]],
            check_mode=self._task.check_mode,
            parallel=options["parallel"],
            stall_seconds=options["stall_seconds"],
            timeout_seconds=options["timeout_seconds"],
        )
        if problems:
            lines = "\n".join(f"  {line}" for line in problems)
            return {**result, "failed": True, "msg": f"{len(problems)} of {len(wanted)} artifacts could not be had; nothing was changed on any host:\n{lines}"}
        fetched = [cache_path(cache, entry) for entry in wanted]
        result.update(
            changed=bool(wanted),
            artifacts=artifacts,
            fetched=fetched,
            fetched_bytes=sum(entry["size"] for entry in wanted),
            diff=[{"before_header": path, "after_header": path, "before": "", "after": "verified\n"} for path in fetched],
        )
        return result
