# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
import json
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args


@pytest.fixture
def run_host_module(capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory) -> t.Callable[..., dict[str, t.Any]]:
    """Runs a module for hosts in this process, without an API server, and returns its result."""

    def run(module_name: str, /, *, check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
        module = importlib.import_module(f"ansible_collections.homelab.gpu.plugins.modules.{module_name}")
        arguments = {"_ansible_check_mode": check_mode, "_ansible_diff": True, "_ansible_remote_tmp": str(tmp_path_factory.mktemp("remote")), **options}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        return t.cast("dict[str, t.Any]", json.loads(capsys.readouterr().out))

    return run
