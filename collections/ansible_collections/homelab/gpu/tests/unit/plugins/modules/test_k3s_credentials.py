# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.homelab.gpu.plugins.modules import k3s_credentials
from ansible_collections.homelab.gpu.plugins.modules.k3s_credentials import NotYet, field, token

Run = t.Callable[..., dict[str, t.Any]]

SECURE = "K10" + "a" * 64 + "::server:secret"
KUBECONFIG = """\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Q0E=
    server: https://127.0.0.1:6443
  name: default
users:
- name: default
  user:
    client-certificate-data: Q0VSVA==
    client-key-data: "S0VZ"
"""


@pytest.mark.parametrize(
    ("key", "value"),
    [("server", "https://127.0.0.1:6443"), ("certificate-authority-data", "Q0E="), ("client-certificate-data", "Q0VSVA=="), ("client-key-data", "S0VZ")],
)
def test_field(key: str, value: str) -> None:
    assert field(KUBECONFIG, key) == value


def test_missing_field() -> None:
    with pytest.raises(NotYet, match="no client-key-data"):
        field("clusters: []", "client-key-data")


def test_the_first_token_file_that_exists_counts(tmp_path: Path) -> None:
    agent, server = tmp_path / "agent-token", tmp_path / "token"
    server.write_text(f"{SECURE}\n", encoding="utf-8")
    assert token(str(agent), str(server)) == SECURE
    agent.write_text(SECURE.replace("secret", "other"), encoding="utf-8")
    assert token(str(agent), str(server)).endswith("other")


@pytest.mark.parametrize("text", ["", "short", "K10abc::server:secret", SECURE.replace("::", ":")])
def test_only_the_secure_form_is_handed_on(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(NotYet, match="no token in secure form"):
        token(str(path))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "token").write_text(SECURE, encoding="utf-8")
    (tmp_path / "k3s.yaml").write_text(KUBECONFIG, encoding="utf-8")
    monkeypatch.setattr(k3s_credentials, "cluster_uid", lambda *_arguments, **_options: "uid-1")
    return {"data_dir": str(tmp_path), "kubeconfig": str(tmp_path / "k3s.yaml")}


def test_everything_at_once(server: dict[str, str], run_host_module: Run) -> None:
    result = run_host_module("k3s_credentials", **server)
    assert (result["available"], result["changed"]) == (True, False)
    assert (result["server_token"], result["agent_token"], result["cluster_uid"], result["kubeconfig"]) == (SECURE, SECURE, "uid-1", KUBECONFIG)


def test_check_mode_on_a_bare_host(tmp_path: Path, run_host_module: Run) -> None:
    result = run_host_module("k3s_credentials", check_mode=True, data_dir=str(tmp_path), kubeconfig=str(tmp_path / "none"))
    assert (result["available"], result["transitions"][0]["what"]) == (False, f"{tmp_path}/none is missing")


def test_the_deadline_names_what_is_missing(server: dict[str, str], run_host_module: Run) -> None:
    Path(server["data_dir"], "server", "token").unlink()
    result = run_host_module("k3s_credentials", timeout_seconds=0, **server)
    assert result["failed"] is True
    assert "gave no credentials within 0 s" in result["msg"]
    assert "server/token is missing" in result["msg"]


def test_it_waits_until_the_api_answers(server: dict[str, str], run_host_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([NotYet("the API answers 503"), NotYet("the API answers 503"), "uid-2"])

    def answer(*_arguments: t.Any, **_options: t.Any) -> str:
        value = next(answers)
        if isinstance(value, NotYet):
            raise value
        return value

    monkeypatch.setattr(k3s_credentials, "cluster_uid", answer)
    monkeypatch.setattr(k3s_credentials, "_POLL_SECONDS", 0)
    result = run_host_module("k3s_credentials", **server)
    assert result["cluster_uid"] == "uid-2"
    assert [transition["what"] for transition in result["transitions"]] == ["the API answers 503"]
