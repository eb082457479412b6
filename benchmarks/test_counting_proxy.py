# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import http.client
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from benchmarks.counting_proxy import CountingProxy


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = f"{self.command} {self.path} ".encode() + sent
        status = 200
        if self.command == "POST":
            status, body = 201, b'{"sent": %s}' % sent
        elif self.path == "/missing":
            status, body = 404, b"no such path"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = answer

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Not a line for each request."""


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[CountingProxy]:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 1 -subj /CN=api -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*make.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    # Only with the client certificate of the kubeconfig
    tls.load_verify_locations(certificate)
    tls.verify_mode = ssl.CERT_REQUIRED
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    encoded = {path: base64.b64encode(path.read_bytes()).decode() for path in (key, certificate)}
    cluster = {"server": f"https://127.0.0.1:{server.server_port}", "certificate-authority-data": encoded[certificate]}
    user = {"client-certificate-data": encoded[certificate], "client-key-data": encoded[key]}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump({"clusters": [{"cluster": cluster}], "users": [{"user": user}]}))
    with CountingProxy(kubeconfig, tmp_path) as started:
        yield started
    server.shutdown()
    server.server_close()


def test_one_connection_carries_and_counts_many_requests(proxy: CountingProxy, tmp_path: Path) -> None:
    written = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    address = urlsplit(written["clusters"][0]["cluster"]["server"])
    connection = http.client.HTTPConnection(str(address.hostname), address.port)
    answers = []
    for verb, path, body in (("GET", "/api", None), ("PATCH", "/a", "x"), ("GET", "/b?watch=1", None), ("GET", "/c", None)):
        connection.request(verb, path, body)
        response = connection.getresponse()
        answers.append((response.status, response.read()))
    assert answers == [(200, b"GET /api "), (200, b"PATCH /a x"), (200, b"GET /b?watch=1 "), (200, b"GET /c ")]
    assert proxy.counts() == {"GET": 2, "PATCH": 1, "WATCH": 1}
    assert proxy.connections() == 1
    assert proxy.request("POST", "/uncounted", {"a": 1}) == {"sent": {"a": 1}}
    assert sum(proxy.counts().values()) == 4
    proxy.reset()
    assert (proxy.counts(), proxy.connections()) == ({}, 0)
    connection.close()


def test_each_connection_counts(proxy: CountingProxy) -> None:
    address = urlsplit(yaml.safe_load(proxy.kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    for _ in range(2):
        connection = http.client.HTTPConnection(str(address.hostname), address.port)
        connection.request("GET", "/api")
        connection.getresponse().read()
        connection.close()
    assert (proxy.counts(), proxy.connections()) == ({"GET": 2}, 2)


def test_a_refused_request_is_told(proxy: CountingProxy) -> None:
    with pytest.raises(RuntimeError, match=r"PATCH /missing: 404 .*no such path"):
        proxy.request("PATCH", "/missing", {})


def test_its_kubeconfig_holds_no_credentials(proxy: CountingProxy, tmp_path: Path) -> None:
    assert yaml.safe_load(proxy.kubeconfig.read_text())["users"] == [{"name": "nobody", "user": {}}]
    assert proxy.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "client.pem").exists()
