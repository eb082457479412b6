# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import http.server
import json
import threading

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.homelab.gpu.plugins.module_utils._artifacts import check_lock, select
from ansible_collections.homelab.gpu.plugins.modules import k3s_release_info

VERSION = "v1.36.4+k3s1"
PREFIX = "/download/v1.36.4%2Bk3s1/"
FILES = {
    "k3s": b"binary for amd64",
    "k3s-arm64": b"binary for arm64!",
    "k3s-airgap-images-amd64.tar.zst": b"images for amd64",
    "k3s-airgap-images-arm64.tar.zst": b"images for arm64!",
}


class Release:
    """A server of releases that, like the real one, redirects to where the files are."""

    def __init__(self) -> None:
        self.files = {f"/objects/{name}": content for name, content in FILES.items()}
        for arch in ("amd64", "arm64"):
            names = [name for name in FILES if name == ("k3s" if arch == "amd64" else "k3s-arm64") or arch in name]
            listing = "".join(f"{hashlib.sha256(FILES[name]).hexdigest()}  {name}\n" for name in names)
            self.files[f"/objects/sha256sum-{arch}.txt"] = listing.encode()
        self.requests: list[tuple[str, str]] = []
        self.lengths = True

    def serve(self) -> http.server.ThreadingHTTPServer:
        release = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                release.requests.append((self.command, self.path))
                if self.path.startswith(PREFIX):
                    self.send_response(302)
                    self.send_header("Location", f"/objects/{self.path.removeprefix(PREFIX)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                content = release.files.get(self.path)
                self.send_response(200 if content is not None else 404)
                if release.lengths:
                    self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                if self.command == "GET" and content:
                    self.wfile.write(content)

            do_HEAD = do_GET

            def log_message(self, *_arguments: object) -> None:
                """Quiet."""

        return http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def release(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    release = Release()
    server = release.serve()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True).start()
    release.url = f"http://127.0.0.1:{server.server_address[1]}/download"
    yield release
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(release, capsys):
    def run(**options):
        with patch_module_args({"version": VERSION, "base_url": release.url, **options}), pytest.raises(SystemExit):
            k3s_release_info.main()
        return json.loads(capsys.readouterr().out)

    return run


def test_the_result_is_a_valid_lock(run, release):
    result = run()
    assert result["changed"] is False
    entries = check_lock({"schema": 1, "artifacts": result["artifacts"]})
    for arch, asset in (("amd64", "k3s"), ("arm64", "k3s-arm64")):
        (binary, images), missing = select(entries, version=VERSION, arch=arch, images=["k3s-airgap-images"])
        assert missing == []
        assert binary == {
            "name": "k3s",
            "version": VERSION,
            "arch": arch,
            "kind": "binary",
            "filename": "k3s",
            "url": f"{release.url}/v1.36.4%2Bk3s1/{asset}",
            "size": len(FILES[asset]),
            "sha256": hashlib.sha256(FILES[asset]).hexdigest(),
        }
        assert images["size"] == len(FILES[images["filename"]])
        assert images["sha256"] == hashlib.sha256(FILES[images["filename"]]).hexdigest()


def test_no_file_but_the_lists_is_fetched(run, release):
    run(architectures=["amd64"])
    assert [path for method, path in release.requests if method == "GET"] == [f"{PREFIX}sha256sum-amd64.txt", "/objects/sha256sum-amd64.txt"]
    assert not [path for _method, path in release.requests if "arm64" in path]


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        ({"version": "1.36.4"}, None, "version: '1.36.4' is not a K3s version"),
        ({"version": "v1.99.0+k3s1"}, None, "404"),
        ({}, ("/objects/sha256sum-arm64.txt", None), "check version and base_url"),
        ({}, ("/objects/k3s-arm64", None), "/k3s-arm64: the server answers 404"),
        ({}, ("/objects/sha256sum-amd64.txt", b"<html>"), "has no sha256 of k3s"),
        ({}, ("/objects/k3s", b""), "the server does not tell the size"),
    ],
    ids=["no version", "no such release", "no list", "no binary", "wrong list", "empty file"],
)
def test_what_is_missing_is_named(run, release, options, change, message):
    if change:
        path, content = change
        if content is None:
            del release.files[path]
        else:
            release.files[path] = content
    result = run(**options)
    assert result["failed"]
    assert message in result["msg"]


def test_a_server_that_tells_no_size_is_refused(run, release):
    release.lengths = False
    result = run()
    assert "the server does not tell the size" in result["msg"]


def test_a_server_that_cannot_be_reached(run):
    result = run(base_url="http://127.0.0.1:1/download")
    assert result["failed"]
    assert "check that this machine reaches base_url" in result["msg"]
