# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# WebSockets to the API server, by the package that the "kubernetes" package brings along. Errors come out as those of plain requests do.

from __future__ import annotations

import contextlib
import dataclasses
import json
import selectors
import ssl
import typing as t
from urllib.parse import unquote, urlsplit

from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, ClientConfigError, Unreachable

__all__ = ["Dialer", "TimedOut", "WebSocket"]

_CLOSE_SECONDS = 0.5


class TimedOut(Unreachable):
    """Nothing came, or nothing could be sent, for as long as the caller was ready to wait."""


@dataclasses.dataclass(frozen=True)
class Dialer:
    """How WebSockets to one API server are opened: as its plain connections are."""

    server: str
    tls: t.Callable[[], ssl.SSLContext]
    tls_server_name: str | None = None
    proxy: str | None = None
    socket_options: t.Sequence[tuple[int, int, int]] = ()

    def open(self, target: str, headers: t.Mapping[str, str], subprotocols: t.Sequence[str], timeout: float) -> WebSocket:
        """C(target): path and query. ApiError if the server refuses, Unreachable if it does not answer."""
        try:
            import websocket
        except ImportError as error:
            raise ClientConfigError.package_missing("websocket-client", error) from error

        options = self._proxy_options()
        if self.server.startswith("https:"):
            options["sslopt"] = self._tls_options()
        with _errors(self.server, target):
            connection = websocket.create_connection(
                "ws" + self.server.removeprefix("http") + target,
                timeout=timeout,
                header=[f"{name}: {value}" for name, value in headers.items()],
                subprotocols=list(subprotocols),
                suppress_origin=True,
                redirect_limit=0,
                sockopt=list(self.socket_options),
                enable_multithread=False,
                **options,
            )
        return WebSocket(connection, self.server)

    def _tls_options(self) -> dict[str, t.Any]:
        context = self.tls()
        # What is not said here again, the package sets in the context as it likes
        options: dict[str, t.Any] = {"context": context, "cert_reqs": context.verify_mode, "check_hostname": context.check_hostname}
        if self.tls_server_name:
            options["server_hostname"] = self.tls_server_name
        return options

    def _proxy_options(self) -> dict[str, t.Any]:
        """What was decided for all requests, and never what the package would find in the environment by rules of its own."""
        if not self.proxy:
            return {"http_no_proxy": ["*"]}
        url = urlsplit(self.proxy)
        if url.scheme != "http" or not url.hostname:
            raise ClientConfigError(
                f"proxy is {url.scheme}://{url.hostname}, which cannot carry the connection of a command; use one that is reached by http://"
            )
        return {
            "proxy_type": "http",
            "http_proxy_host": url.hostname,
            "http_proxy_port": url.port or 80,
            "http_proxy_auth": (unquote(url.username), unquote(url.password or "")) if url.username else None,
            # Without any name here, names would be taken from the environment
            "http_no_proxy": ["proxied.invalid"],
        }


class WebSocket:
    """An open connection of messages; for one thread."""

    def __init__(self, connection: t.Any, where: str) -> None:
        self._connection = connection
        self._where = where

    @property
    def subprotocol(self) -> str:
        return str(self._connection.subprotocol or "")

    def ready(self, timeout: float, *, to_send: bool) -> tuple[bool, bool]:
        """Whether something came in, and whether something small can be sent at once; both false once C(timeout) is over."""
        sock = self._connection.sock
        if getattr(sock, "pending", int)():
            return True, False
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if to_send else 0))
            events = 0
            for _key, found in selector.select(max(timeout, 0.0)):
                events |= found
        return bool(events & selectors.EVENT_READ), bool(events & selectors.EVENT_WRITE)

    def send(self, message: bytes, timeout: float) -> None:
        self._connection.settimeout(max(timeout, 0.001))
        with _errors(self._where):
            self._connection.send_binary(message)

    def receive(self, timeout: float) -> bytes | None:
        """The next message; None when the server has closed the connection properly. Pings are answered, and come out as an empty message."""
        import websocket

        self._connection.settimeout(max(timeout, 0.001))
        with _errors(self._where):
            code, data = self._connection.recv_data(control_frame=True)
        if code == websocket.ABNF.OPCODE_CLOSE:
            return None
        if code in (websocket.ABNF.OPCODE_PING, websocket.ABNF.OPCODE_PONG):
            return b""
        return data.encode() if isinstance(data, str) else bytes(data)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._connection.close(timeout=_CLOSE_SECONDS)
        with contextlib.suppress(Exception):
            self._connection.shutdown()


@contextlib.contextmanager
def _errors(where: str, target: str = "") -> t.Iterator[None]:
    import websocket

    try:
        yield
    except websocket.WebSocketBadStatusException as error:
        raise _refusal(error, target.partition("?")[0]) from error
    except websocket.WebSocketTimeoutException as error:
        raise TimedOut(f"the API server at {where} did not answer in time") from error
    except websocket.WebSocketConnectionClosedException as error:
        raise Unreachable(f"the connection to the API server at {where} was cut") from error
    except websocket.WebSocketException as error:
        raise Unreachable(f"the WebSocket to the API server at {where} failed: {error}") from error
    except ssl.SSLCertVerificationError as error:
        raise ClientConfigError.untrusted_certificate(where, error) from error
    except OSError as error:
        raise Unreachable(f"the connection to the API server at {where} broke: {error.strerror or error or type(error).__name__}") from error


def _refusal(error: t.Any, path: str) -> ApiError:
    raw = error.resp_body or b""
    try:
        body = json.loads(raw)
    except ValueError:
        body = raw.decode(errors="replace") or error.status_message
    retry_after = str((error.resp_headers or {}).get("retry-after", ""))
    return ApiError.from_response(error.status_code, "GET", path, body, float(retry_after) if retry_after.isdigit() else None)
