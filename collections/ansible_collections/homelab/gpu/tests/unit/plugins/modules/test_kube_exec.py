# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import threading
import typing as t

import pytest

from ansible_collections.homelab.gpu.tests.unit import fake_exec
from ansible_collections.homelab.gpu.tests.unit.fake_api import FakeApi, Fault

Object = dict[str, t.Any]
Run = t.Callable[..., Object]

RUNNING: Object = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def put_pod(api: FakeApi, name: str = "web", *, phase: str = "Running", annotations: dict[str, str] | None = None, **states: Object) -> None:
    metadata = {"name": name, **({"annotations": annotations} if annotations else {})}
    statuses = [{"name": container.replace("_", "-"), "state": state} for container, state in states.items()]
    spec = {"containers": [{"name": status["name"]} for status in statuses]}
    api.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": phase, "containerStatuses": statuses}})


@pytest.fixture(autouse=True)
def pod(api: FakeApi) -> None:
    put_pod(api, app=RUNNING)


def test_output_and_exit_code(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_exec", pod="web", command=["sh", "-c", "echo one; echo two; echo three >&2"])
    assert not result.get("failed"), result
    assert (result["changed"], result["rc"], result["container"], result["truncated"]) == (True, 0, "app", False)
    assert (result["stdout"], result["stdout_lines"]) == ("one\ntwo", ["one", "two"])
    assert (result["stderr"], result["stderr_lines"]) == ("three", ["three"])
    assert result["cmd"] == ["sh", "-c", "echo one; echo two; echo three >&2"]
    assert result["waited_seconds"] >= 0
    assert api.count("GET", "/exec") == 1


def test_empty_ends_are_kept_if_wanted(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_exec", pod="web", command=["printf", "a\n\n"], strip_empty_ends=False)
    assert (result["stdout"], result["stdout_lines"]) == ("a\n\n", ["a", ""])


def test_no_shell_comes_between(api: FakeApi, run_module: Run) -> None:
    words = ["$HOME", "a b", "*", "", "&", "ü", "a=b;c", "%41", "+", "line\nbreak"]
    assert run_module("kube_exec", pod="web", command=["printf", "%s|", *words])["stdout"] == "|".join([*words, ""])


@pytest.mark.parametrize(
    ("script", "rc", "words"), [("exit 3", 3, "exit code 3"), ("echo a; echo b >&2; exit 1", 1, "exit code 1: b"), ("kill -9 $$", 137, "137")]
)
def test_another_exit_code_is_a_failure(api: FakeApi, run_module: Run, script: str, rc: int, words: str) -> None:
    result = run_module("kube_exec", pod="web", command=["sh", "-c", script])
    assert (result["failed"], result["changed"], result["rc"]) == (True, True, rc)
    assert result["msg"].startswith("sh in container app of Pod default/web ended with ")
    assert result["msg"].endswith(words)


@pytest.mark.parametrize(("options", "got"), [({"stdin": "a"}, "a\n"), ({"stdin": "a", "stdin_add_newline": False}, "a"), ({"stdin": ""}, "\n"), ({}, "")])
def test_standard_input(api: FakeApi, run_module: Run, options: Object, got: str) -> None:
    result = run_module("kube_exec", pod="web", command=["cat"], strip_empty_ends=False, **options)
    assert (result["rc"], result["stdout"]) == (0, got)


def test_standard_input_is_not_shown(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_exec", pod="web", command=["sh", "-c", "cat >/dev/null; exit 1"], stdin="correct-horse")
    assert result["rc"] == 1
    assert result["invocation"]["module_args"]["stdin"] == "(not shown)"
    assert "correct-horse" not in json.dumps(result)
    refused = run_module("kube_exec", pod="web", command=["cat"], stdin="correct-horse", limit_bytes=0)
    assert "correct-horse" not in json.dumps(refused)
    assert not any("correct-horse" in path for _method, path in api.requests)


def test_input_and_output_may_be_large_at_once(api: FakeApi, run_module: Run) -> None:
    """More than all buffers hold, both ways: who only writes, or only reads, would wait for ever."""
    text = "0123456789" * 400_000
    result = run_module("kube_exec", pod="web", command=["cat"], stdin=text, limit_bytes=10_000_000)
    assert result["stdout"] == text


def test_input_that_nobody_reads_does_no_harm(api: FakeApi, run_module: Run) -> None:
    assert run_module("kube_exec", pod="web", command=["true"], stdin="x" * 4_000_000)["rc"] == 0


def test_a_character_may_come_in_two_messages(api: FakeApi, run_module: Run) -> None:
    def program(session: fake_exec.Session) -> None:
        for byte in "ü€".encode() + b"\xff":
            session.write(fake_exec.STDOUT, bytes([byte]))
        session.end(fake_exec.exit_status(0))

    api.run_command = program
    assert run_module("kube_exec", pod="web", command=["x"])["stdout"] == "ü€\ufffd"


def test_pings_fragments_and_unknown_channels(api: FakeApi, run_module: Run) -> None:
    answers: list[tuple[int, bytes]] = []

    def program(session: fake_exec.Session) -> None:
        session.wire.send(b"are you there", fake_exec.PING)
        answers.append(session.wire.receive())
        session.wire.send(b"\x01one ", final=False)
        session.wire.send(b"two", code=0)
        session.write(4, b"{}")
        session.wire.send(b"")
        session.end(fake_exec.exit_status(0))

    api.run_command = program
    result = run_module("kube_exec", pod="web", command=["x"])
    assert (result["rc"], result["stdout"]) == (0, "one two")
    assert answers == [(10, b"are you there")]


def test_output_beyond_the_limit_is_left_out_and_said(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_exec", pod="web", command=["sh", "-c", "printf 0123456789; printf abc >&2; exit 4"], limit_bytes=5)
    assert (result["stdout"], result["stderr"], result["truncated"], result["rc"]) == ("01234", "abc", True, 4)
    exact = run_module("kube_exec", pod="web", command=["printf", "01234"], limit_bytes=5)
    assert (exact["stdout"], exact["truncated"]) == ("01234", False)


# Containers


def test_the_only_container_is_meant(api: FakeApi, run_module: Run) -> None:
    assert run_module("kube_exec", pod="web", command=["true"])["container"] == "app"


def test_the_pod_may_name_its_default_container(api: FakeApi, run_module: Run) -> None:
    put_pod(api, "two", annotations={"kubectl.kubernetes.io/default-container": "side"}, app=RUNNING, side=RUNNING)
    assert run_module("kube_exec", pod="two", command=["true"])["container"] == "side"
    assert run_module("kube_exec", pod="two", container="app", command=["true"])["container"] == "app"


@pytest.mark.parametrize(
    ("states", "phase", "options", "message"),
    [
        ({"a": RUNNING, "b": RUNNING}, "Running", {}, "container is not set, and Pod default/p has a, b; set container to one of them"),
        ({"a": RUNNING, "b": RUNNING}, "Running", {"container": "c"}, "container is 'c', but Pod default/p has a, b; set container to one of them"),
        (
            {"a": {"waiting": {"reason": "CrashLoopBackOff"}}, "b": RUNNING},
            "Running",
            {"container": "a"},
            "container a of Pod default/p does not run, so no command can run in it; the pod is Running: a is waiting (CrashLoopBackOff); b is running",
        ),
        (
            {"a": {"terminated": {"exitCode": 1, "reason": "Error"}}},
            "Failed",
            {},
            "container a of Pod default/p does not run, so no command can run in it; the pod is Failed: a is terminated (exit code 1, Error)",
        ),
        ({"a": {}}, "Pending", {}, "container a of Pod default/p does not run, so no command can run in it; the pod is Pending: a has not been started"),
    ],
    ids=["ambiguous", "unknown", "waiting", "ended", "not started"],
)
def test_containers_in_which_nothing_can_run(api: FakeApi, run_module: Run, states: Object, phase: str, options: Object, message: str) -> None:
    put_pod(api, "p", phase=phase, **states)
    result = run_module("kube_exec", pod="p", command=["true"], **options)
    assert (result["failed"], result["changed"], result["msg"]) == (True, False, message)
    assert api.count("GET", "/exec") == 0


def test_a_pod_that_does_not_exist(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_exec", pod="none", namespace="default", command=["true"])
    assert (result["changed"], result["msg"]) == (False, "there is no pod 'none' in namespace default; check pod and namespace")


def test_a_container_that_ends_meanwhile(api: FakeApi, run_module: Run) -> None:
    def end(_method: str, path: str) -> None:
        if "/exec" in path:
            put_pod(api, app={"terminated": {"exitCode": 0}})

    api.before = end
    result = run_module("kube_exec", pod="web", command=["true"])
    assert "rc" not in result
    assert result["msg"] == 'true in container app of Pod default/web could not be run: unable to upgrade connection: container not found ("app")'


# What is no exit code


def test_a_program_that_does_not_exist(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_exec", pod="web", command=["no-such-program"])
    assert (result["failed"], "rc" in result, result["reason"]) == (True, False, "InternalError")
    assert result["msg"].startswith("no-such-program in container app of Pod default/web could not be run: exec: ")


def broken(session: fake_exec.Session) -> None:
    session.write(fake_exec.STDOUT, b"so far")


def closed(session: fake_exec.Session) -> None:
    broken(session)
    session.wire.send(b"\x03\xe8", fake_exec.END)


def cut_within_a_message(session: fake_exec.Session) -> None:
    broken(session)
    session.wire._write(b"\x82\x7e\x01\x00\x03")


def told(status: bytes) -> t.Callable[[fake_exec.Session], None]:
    def program(session: fake_exec.Session) -> None:
        broken(session)
        session.write(fake_exec.STATUS, status)

    return program


@pytest.mark.parametrize(
    "program",
    [
        broken,
        closed,
        cut_within_a_message,
        told(b"no JSON"),
        told(b"[]"),
        told(b"{}"),
        told(b'{"status": "Failure", "reason": "NonZeroExitCode"}'),
        told(b'{"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": []}}'),
        told(b'{"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [{"reason": "ExitCode", "message": "many"}]}}'),
    ],
    ids=["broken", "closed", "cut", "no JSON", "list", "empty", "no details", "no causes", "no number"],
)
def test_a_connection_that_ends_too_early_is_a_failure(api: FakeApi, run_module: Run, program: t.Callable[[fake_exec.Session], None]) -> None:
    api.run_command = program
    result = run_module("kube_exec", pod="web", command=["deploy"])
    assert (result["failed"], result["changed"], "rc" in result) == (True, True, False)
    assert result["msg"].startswith("deploy in container app of Pod default/web was begun, and how it ended is unknown: ")
    assert (result["stdout"], result["stdout_lines"]) == ("so far", ["so far"])
    assert api.count("GET", "/exec") == 1, "it may have begun, so it must not be begun again"


def test_a_server_that_is_killed_meanwhile(api: FakeApi, run_module: Run) -> None:
    def program(session: fake_exec.Session) -> None:
        broken(session)
        threading.Thread(target=api.stop).start()
        list(session.stdin())

    api.run_command = program
    result = run_module("kube_exec", pod="web", command=["deploy"])
    assert (result["failed"], result["changed"], "rc" in result) == (True, True, False)


def test_a_lost_answer_is_not_asked_for_again(api: FakeApi, run_module: Run) -> None:
    api.faults.append(Fault(path="/exec", drop=True))
    result = run_module("kube_exec", pod="web", command=["true"])
    assert (result["failed"], result["changed"], "rc" in result) == (True, True, False)
    assert api.count("GET", "/exec") == 1


@pytest.mark.parametrize("status", [429, 503])
def test_who_says_not_now_is_asked_again(api: FakeApi, run_module: Run, status: int) -> None:
    api.faults.append(Fault(path="/exec", status=status, reason="TooManyRequests", retry_after=0, times=3))
    assert run_module("kube_exec", pod="web", command=["true"])["rc"] == 0
    assert api.count("GET", "/exec") == 4


@pytest.mark.parametrize("status", [401, 403, 500, 502])
def test_who_says_no_is_not_asked_again(api: FakeApi, run_module: Run, status: int) -> None:
    api.faults.append(Fault(path="/exec", status=status, reason="Whatever", message="not you", times=9))
    result = run_module("kube_exec", pod="web", command=["true"], stdin="x")
    assert (result["failed"], result["changed"], result["status"], result["reason"]) == (True, False, status, "Whatever")
    assert "GET /api/v1/namespaces/default/pods/web/exec: " in result["msg"]
    assert "not you" in result["msg"]
    assert api.count("GET", "/exec") == 1


# The deadline


@pytest.mark.parametrize("command", [["sh", "-c", "echo so far; exec sleep 5"], ["yes", "so far"]], ids=["silent", "never silent"])
def test_a_command_that_does_not_end(api: FakeApi, run_module: Run, command: list[str]) -> None:
    result = run_module("kube_exec", pod="web", command=command, timeout_seconds=1, limit_bytes=7, strip_empty_ends=False)
    assert (result["failed"], result["changed"], result["timed_out"], "rc" in result) == (True, True, True, False)
    assert result["msg"].startswith(f"timed out after 1 s waiting for {command[0]} in container app of Pod default/web to end; it may still run there")
    assert result["stdout"] == "so far\n"


def test_a_server_that_does_not_say_goodbye(api: FakeApi, run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.homelab.gpu.plugins.module_utils._exec._GOODBYE_SECONDS", 0.01)

    def program(session: fake_exec.Session) -> None:
        told(json.dumps(fake_exec.exit_status(0)).encode())(session)
        list(session.stdin())

    api.run_command = program
    result = run_module("kube_exec", pod="web", command=["true"])
    assert (result["rc"], result["stdout"]) == (0, "so far")


# Older servers


def test_an_older_protocol_will_do_without_standard_input(api: FakeApi, run_module: Run) -> None:
    api.exec_protocols = ("v4.channel.k8s.io",)
    result = run_module("kube_exec", pod="web", command=["sh", "-c", "exit 5"])
    assert result["rc"] == 5


def test_standard_input_that_could_not_be_ended_is_not_begun(api: FakeApi, run_module: Run) -> None:
    api.exec_protocols = ("v4.channel.k8s.io",)
    result = run_module("kube_exec", pod="web", command=["cat"], stdin="a")
    assert (result["failed"], result["changed"]) == (True, False)
    assert "cannot tell a command that its stdin has ended, which takes Kubernetes 1.30 or later" in result["msg"]


# Around it


def test_check_mode_runs_nothing(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_exec", pod="web", command=["true"], check_mode=True)
    assert (result["skipped"], result["changed"], "rc" in result) == (True, False, False)
    assert result["msg"] == "Command would have run if not in check mode"
    assert api.requests == []


def test_check_mode_refuses_bad_input(api: FakeApi, run_module: Run) -> None:
    assert run_module("kube_exec", pod="web", command=[], check_mode=True)["failed"] is True


def test_the_wrong_cluster_is_left_alone(api: FakeApi, run_module: Run) -> None:
    result = run_module("kube_exec", pod="web", command=["true"], cluster_uid="another")
    assert "wrong cluster" in result["msg"]
    assert api.count("GET", "/exec") == 0


def test_the_token_is_sent(api: FakeApi, run_module: Run) -> None:
    api.token = "test-token"
    assert run_module("kube_exec", pod="web", command=["true"])["rc"] == 0
    headers = {name.lower(): value for name, value in api.headers[-1].items()}
    assert (headers["authorization"], headers["user-agent"]) == ("Bearer test-token", "homelab.gpu")
    assert "origin" not in headers


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment_is_used_as_for_other_requests(api: FakeApi, run_module: Run, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert "rc" not in run_module("kube_exec", pod="web", command=["true"])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert run_module("kube_exec", pod="web", command=["true"])["rc"] == 0
