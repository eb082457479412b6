# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import http.server
import os
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._artifacts import LockError, cache_path
from ansible_collections.homelab.gpu.plugins.plugin_utils._artifact_cache import fetch_all, read_lock

CONTENT = b"artifact " * 1000


def entry(url: str, /, **fields: t.Any) -> dict[str, t.Any]:
    return {
        "name": "k3s",
        "version": "v1.37.1+k3s1",
        "arch": "amd64",
        "kind": "binary",
        "filename": "k3s",
        "url": url,
        "size": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        **fields,
    }


def fetch(cache: Path, *entries: dict[str, t.Any], check_mode: bool = False, timeout_seconds: int = 60) -> tuple[int, list[str]]:
    wanted, problems = fetch_all(str(cache), list(entries), check_mode=check_mode, parallel=2, stall_seconds=5, timeout_seconds=timeout_seconds)
    return len(wanted), problems


def files(cache: Path) -> list[str]:
    return sorted(name for _directory, _directories, names in os.walk(cache) for name in names if name != "verified.json")


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "source with space"
    path.write_bytes(CONTENT)
    return path.as_uri()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            asked.append(self.path)
            self.send_response(200 if "k3s" in self.path else 404)
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *_arguments: t.Any) -> None:
            pass

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_file_into_the_cache_once(tmp_path: Path, source: str) -> None:
    cache, wanted = tmp_path / "cache", entry(source)
    assert fetch(cache, wanted) == (1, [])
    assert Path(cache_path(str(cache), wanted)).read_bytes() == CONTENT
    assert fetch(cache, wanted) == (0, [])


def test_http_and_an_escaped_plus(tmp_path: Path, web: tuple[str, list[str]]) -> None:
    base, asked = web
    assert fetch(tmp_path / "cache", entry(f"{base}/v1.37.1%2Bk3s1/k3s")) == (1, [])
    assert asked == ["/v1.37.1%2Bk3s1/k3s"]


def test_the_same_file_for_two_hosts_is_fetched_once(tmp_path: Path, web: tuple[str, list[str]]) -> None:
    base, asked = web
    assert fetch(tmp_path / "cache", entry(f"{base}/k3s"), entry(f"{base}/k3s")) == (1, [])
    assert len(asked) == 1


def test_check_mode_fetches_nothing_but_reads_local_sources(tmp_path: Path, source: str, web: tuple[str, list[str]]) -> None:
    base, asked = web
    cache = tmp_path / "cache"
    assert fetch(cache, entry(source), entry(f"{base}/k3s", sha256="0" * 64), check_mode=True) == (2, [])
    assert asked == []
    count, problems = fetch(cache, entry(source, sha256="1" * 64), check_mode=True)
    assert (count, "has sha256" in problems[0]) == (1, True)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sha256": "0" * 64}, f"has sha256 {hashlib.sha256(CONTENT).hexdigest()}, and the lock file says {'0' * 64}"),
        ({"size": 10, "sha256": "0" * 64}, "has a size of at least 9000 bytes, and the lock file says 10 bytes"),
        ({"size": 9001, "sha256": "0" * 64}, "has a size of 9000 bytes, and the lock file says 9001 bytes"),
        ({"url": "file:///nowhere/k3s"}, "k3s from file:///nowhere/k3s: No such file or directory"),
    ],
)
def test_wrong_source_leaves_nothing_behind(tmp_path: Path, source: str, fields: dict[str, t.Any], message: str) -> None:
    cache = tmp_path / "cache"
    count, problems = fetch(cache, entry(source, **fields))
    assert count == 1
    assert message in problems[0]
    assert "ix the" in problems[0]
    assert files(cache) == []


def test_http_errors(tmp_path: Path, web: tuple[str, list[str]]) -> None:
    base, _asked = web
    assert "HTTP 404" in fetch(tmp_path / "cache", entry(f"{base}/none"))[1][0]
    assert "refused" in fetch(tmp_path / "cache", entry("http://127.0.0.1:9/k3s"))[1][0]


def test_one_bad_file_does_not_hide_another_and_the_good_one_is_kept(tmp_path: Path, source: str) -> None:
    cache = tmp_path / "cache"
    count, problems = fetch(cache, entry(source), entry("file:///a", sha256="1" * 64), entry("file:///b", sha256="2" * 64))
    assert (count, len(problems)) == (3, 2)
    assert fetch(cache, entry(source)) == (0, [])


def test_a_file_spoilt_in_the_cache_is_fetched_again(tmp_path: Path, source: str) -> None:
    cache, wanted = tmp_path / "cache", entry(source)
    fetch(cache, wanted)
    Path(cache_path(str(cache), wanted)).write_bytes(b"x" * len(CONTENT))
    assert fetch(cache, wanted) == (1, [])
    assert Path(cache_path(str(cache), wanted)).read_bytes() == CONTENT


def test_a_file_takes_too_long(tmp_path: Path, source: str) -> None:
    assert "took longer than -1 s" in fetch(tmp_path / "cache", entry(source), timeout_seconds=-1)[1][0]


def test_a_cache_that_cannot_be_written(tmp_path: Path, source: str) -> None:
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    assert "Make the cache directory" in fetch(tmp_path / "cache", entry(source))[1][0]


@pytest.mark.parametrize(("text", "what"), [(None, "it cannot be read"), ("a: [", "it is not YAML"), ("- a", "it has no schema number")])
def test_unreadable_lock(tmp_path: Path, text: str | None, what: str) -> None:
    path = tmp_path / "lock.yml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(LockError, match=what):
        read_lock(str(path))
