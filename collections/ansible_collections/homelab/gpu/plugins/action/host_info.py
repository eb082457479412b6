# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Runs the module and compares the host's clock with the controller's."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        before = time.time()
        result.update(self._execute_module(module_name="homelab.gpu.host_info", task_vars=task_vars))
        after = time.time()
        if "host" in result:
            result["clock"] = {
                "offset_seconds": round(result["host"]["epoch"] - (before + after) / 2, 3),
                "uncertainty_seconds": round((after - before) / 2, 3),
            }
        return result
