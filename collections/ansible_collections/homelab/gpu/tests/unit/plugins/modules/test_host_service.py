# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass, field

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.homelab.gpu.plugins.modules import host_service

Run = t.Callable[..., dict[str, t.Any]]


@dataclass
class FakeSystemd:
    """One unit. Each look at it takes a step of the script, which is a list of (ActiveState, SubState) after a start."""

    script: list[tuple[str, str]] = field(default_factory=lambda: [("activating", "start"), ("active", "running")])
    active: str = "inactive"
    sub: str = "dead"
    load: str = "loaded"
    known_after_reload: bool = True
    need_reload: bool = False
    enabled: bool = False
    restarts: int = 0
    invocation: int = 1
    journal: str = ""
    calls: list[str] = field(default_factory=list)
    now: float = 0.0
    since: str = ""
    _steps: list[tuple[str, str]] = field(default_factory=list)

    def run_command(self, _module: AnsibleModule, arguments: list[str], **_options: t.Any) -> tuple[int, str, str]:
        program, *rest = arguments
        if program == "journalctl":
            self.since = rest[rest.index("--since") + 1]
            return 0, self.journal, ""
        if rest[0] == "show":
            return 0, self._show(), ""
        call = " ".join(argument for argument in rest if not argument.startswith("--"))
        self.calls.append(call)
        if call == "daemon-reload":
            self.need_reload = False
            self.load = "loaded" if self.known_after_reload else self.load
        elif call.startswith("enable"):
            self.enabled = True
        elif call.startswith(("start", "restart")):
            assert "--no-block" in rest
            self._steps = list(self.script)
            self.invocation += 1
        elif call.startswith("reset-failed"):
            self.active, self.sub, self.restarts = "inactive", "dead", 0
        return 0, "", ""

    def _show(self) -> str:
        if self._steps:
            self.active, self.sub = self._steps.pop(0)
            if self.sub == "auto-restart":
                self.restarts += 1
                self._steps = self._steps or list(self.script)
        values = {
            "LoadState": self.load,
            "ActiveState": self.active,
            "SubState": self.sub,
            "NRestarts": self.restarts,
            "InvocationID": self.invocation,
            "NeedDaemonReload": "yes" if self.need_reload else "no",
            "UnitFileState": "enabled" if self.enabled else "disabled",
            "MainPID": os.getpid(),
            "InactiveExitTimestamp": "Sun 2026-11-22 10:59:50 UTC",
            "Result": "exit-code",
        }
        return "".join(f"{key}={value}\n" for key, value in values.items())

    def time(self) -> float:
        return 1_000_000.0 + self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> FakeSystemd:
    fake = FakeSystemd()

    def run_command(module: AnsibleModule, arguments: list[str], **options: t.Any) -> tuple[int, str, str]:
        return fake.run_command(module, arguments, **options)

    monkeypatch.setattr(AnsibleModule, "run_command", run_command)
    monkeypatch.setattr(host_service, "time", fake)
    return fake


def running(fake: FakeSystemd) -> None:
    fake.active, fake.sub, fake.enabled = "active", "running", True


def test_start_and_wait_until_ready(systemd: FakeSystemd, run_host_module: Run) -> None:
    result = run_host_module("host_service", name="k3s.service")
    assert (result["changed"], result["started"], result["outdated"]) == (True, True, False)
    assert systemd.calls == ["enable k3s.service", "start k3s.service"]
    assert [transition["what"] for transition in result["transitions"]] == ["activating (start)", "active (running)"]


def test_a_running_service_is_left_alone(systemd: FakeSystemd, run_host_module: Run) -> None:
    running(systemd)
    result = run_host_module("host_service", name="k3s.service")
    assert (result["changed"], systemd.calls) == (False, [])


def test_daemon_reload_only_for_a_changed_unit(systemd: FakeSystemd, run_host_module: Run) -> None:
    running(systemd)
    systemd.need_reload = True
    result = run_host_module("host_service", name="k3s.service")
    assert (result["changed"], result["reloaded"], systemd.calls) == (True, True, ["daemon-reload"])


def test_a_unit_written_a_moment_ago(systemd: FakeSystemd, run_host_module: Run) -> None:
    systemd.load = "not-found"
    assert run_host_module("host_service", name="k3s.service")["changed"] is True
    assert systemd.calls[0] == "daemon-reload"


def test_no_unit(systemd: FakeSystemd, run_host_module: Run) -> None:
    systemd.load, systemd.known_after_reload = "not-found", False
    result = run_host_module("host_service", name="k3s.service")
    assert "there is no unit k3s.service on this host" in result["msg"]


@pytest.mark.parametrize("state", ["started", "restarted"])
def test_check_mode_changes_nothing(systemd: FakeSystemd, run_host_module: Run, state: str) -> None:
    systemd.load = "not-found"
    result = run_host_module("host_service", check_mode=True, name="k3s.service", state=state)
    assert (result["changed"], result["started"], systemd.calls) == (True, True, [])


def test_restart_waits_for_another_process(systemd: FakeSystemd, run_host_module: Run) -> None:
    running(systemd)
    systemd.script = [("deactivating", "stop-sigterm"), ("activating", "start"), ("active", "running")]
    result = run_host_module("host_service", name="k3s.service", state="restarted")
    assert systemd.calls == ["restart k3s.service"]
    assert [transition["what"] for transition in result["transitions"]] == ["deactivating (stop-sigterm)", "activating (start)", "active (running)"]


def test_what_starts_already_is_only_waited_for(systemd: FakeSystemd, run_host_module: Run) -> None:
    running(systemd)
    systemd.active, systemd.sub = "activating", "start"
    systemd._steps = [("activating", "start"), ("active", "running")]
    assert run_host_module("host_service", name="k3s.service")["started"] is True
    assert systemd.calls == []


def test_what_started_before_and_cannot_succeed(systemd: FakeSystemd, run_host_module: Run) -> None:
    running(systemd)
    systemd.active, systemd.sub = "activating", "start"
    systemd.journal = 'level=error msg="token CA hash does not match"\n'
    result = run_host_module("host_service", name="k3s.service", fatal_patterns=["CA hash does not match"])
    assert (result["failed"], systemd.calls) == (True, [])
    # It may have said so long ago.
    assert systemd.since == "Sun 2026-11-22 10:59:50 UTC"


def test_what_starts_with_other_settings_is_started_anew(systemd: FakeSystemd, run_host_module: Run) -> None:
    running(systemd)
    systemd.active, systemd.sub = "activating", "start"
    result = run_host_module("host_service", name="k3s.service", stale=True)
    assert (result["started"], result["outdated"], systemd.calls) == (True, False, ["restart k3s.service"])


def test_what_failed_before_gets_a_new_count(systemd: FakeSystemd, run_host_module: Run) -> None:
    running(systemd)
    systemd.active, systemd.sub, systemd.restarts = "activating", "auto-restart", 9
    assert run_host_module("host_service", name="k3s.service")["started"] is True
    assert systemd.calls == ["reset-failed k3s.service", "start k3s.service"]


def test_a_service_that_keeps_ending(systemd: FakeSystemd, run_host_module: Run) -> None:
    systemd.script = [("activating", "start"), ("activating", "auto-restart")]
    systemd.journal = 'level=info msg=hello\nlevel=fatal msg="no address"\n'
    result = run_host_module("host_service", name="k3s.service", timeout_seconds=600)
    assert result["failed"] is True
    assert "it ended 3 times while starting" in result["msg"]
    assert 'level=fatal msg="no address"' in result["msg"]
    assert "hello" not in result["msg"]
    assert result["waited_seconds"] < 600


def test_a_start_that_cannot_succeed_ends_early(systemd: FakeSystemd, run_host_module: Run) -> None:
    systemd.script = [("activating", "start")]
    systemd.journal = 'level=error msg="token CA hash does not match"\n'
    result = run_host_module("host_service", name="k3s.service", timeout_seconds=600, fatal_patterns=["CA hash does not match"])
    assert "it cannot succeed" in result["msg"]
    assert result["waited_seconds"] < 5


def test_a_start_that_hangs_ends_at_the_deadline(systemd: FakeSystemd, run_host_module: Run) -> None:
    systemd.script = [("activating", "start")]
    result = run_host_module("host_service", name="k3s.service", timeout_seconds=30)
    assert "it was not ready after 30 s; last state: activating (start)" in result["msg"]
    assert "journalctl -u k3s.service" in result["msg"]


@pytest.mark.parametrize(
    ("environment", "stale", "outdated"),
    [({}, False, False), ({"S": "1"}, False, False), ({"S": "2"}, False, True), ({"OTHER": "x"}, False, True), ({"S": "1"}, True, True)],
)
def test_a_process_with_other_settings(
    systemd: FakeSystemd, run_host_module: Run, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], stale: bool, outdated: bool
) -> None:
    running(systemd)
    monkeypatch.setattr(host_service.os, "readlink", lambda _path: "/usr/local/lib/k3s/v1/k3s")
    monkeypatch.setattr(host_service, "parse_environ", lambda _data: {"S": "1"})
    result = run_host_module("host_service", name="k3s.service", environment=environment, stale=stale)
    # It counts as a change, so that the handler is told; the restart is the handler's.
    assert (result["outdated"], result["changed"], result["started"], systemd.calls) == (outdated, outdated, False, [])


@pytest.mark.parametrize(("program", "outdated"), [("/usr/local/lib/k3s/v1/k3s", False), ("/usr/local/lib/k3s/v1/k3s (deleted)", True)])
def test_a_program_that_was_replaced_since(systemd: FakeSystemd, run_host_module: Run, monkeypatch: pytest.MonkeyPatch, program: str, outdated: bool) -> None:
    running(systemd)
    monkeypatch.setattr(host_service.os, "readlink", lambda _path: program)
    assert run_host_module("host_service", name="k3s.service")["outdated"] is outdated
