# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
import json
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi

Run = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[FakeApi]:
    """A fake API server, and an environment that points to no other."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "KUBECONFIG", "K8S_AUTH_KUBECONFIG", "K8S_AUTH_HOST", "K8S_AUTH_API_KEY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with FakeApi() as fake:
        yield fake


@pytest.fixture
def run_module(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs one of our modules against the fake API server, in this process, and returns its result."""

    def run(module_name: str, /, *, check_mode: bool = False, diff: bool = False, **options: t.Any) -> dict[str, t.Any]:
        module = importlib.import_module(f"ansible_collections.homelab.gpu.plugins.modules.{module_name}")
        arguments = {"_ansible_check_mode": check_mode, "_ansible_diff": diff, **options}
        if not {"kubeconfig", "host"} & set(options):
            arguments["kubeconfig"] = api.kubeconfig()
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        return t.cast("dict[str, t.Any]", json.loads(capsys.readouterr().out))

    return run
