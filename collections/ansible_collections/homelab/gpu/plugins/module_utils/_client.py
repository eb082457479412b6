# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Plain JSON over one connection: how to get one is the matter of _connection.py.

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import json
import ssl
import time
import typing as t
from urllib.parse import urlencode

from ansible_collections.homelab.gpu.plugins.module_utils._errors import (
    ApiError,
    ClientConfigError,
    DeadlinePassed,
    InputError,
    KubeError,
    Unreachable,
    WrongCluster,
)
from ansible_collections.homelab.gpu.plugins.module_utils._resources import Resource, builtin

if t.TYPE_CHECKING:
    from ansible_collections.homelab.gpu.plugins.module_utils._websocket import Dialer, WebSocket

__all__ = ["Client", "KindNotServed", "Lines", "Page", "Stream", "pause_before_retry"]

_Answer = t.TypeVar("_Answer")

_CONNECT_SECONDS = 5.0
_REQUEST_SECONDS = 30.0
_ATTEMPTS = 5
_LONGEST_PAUSE = 10.0
_PAGE_SIZE = 500
_USER_AGENT = "homelab.gpu"
_CHUNK_BYTES = 65536
_AGGREGATED = "application/json;v=v2;g=apidiscovery.k8s.io;as=APIGroupDiscoveryList,application/json"


class KindNotServed(KubeError):
    """The API server has no such kind, at least not now."""

    def __init__(self, kind: str, api_version: str | None) -> None:
        wanted = f"kind {kind} of {api_version}" if api_version else f"kind {kind}"
        super().__init__(f"the API server does not serve {wanted}; check kind and api_version, or whether its CustomResourceDefinition is installed")
        self.kind = kind
        self.api_version = api_version


@dataclasses.dataclass
class Page:
    """A complete list and the resource version from which a watch may go on."""

    items: list[dict[str, t.Any]]
    resource_version: str


class Lines:
    """The lines of one answer as they come; reading blocks, C(close) from another thread ends it."""

    _what: t.ClassVar[str] = "log"

    def __init__(self, response: t.Any, where: str) -> None:
        self._response = response
        self._where = where
        self._closed = False

    def __iter__(self) -> t.Iterator[t.Any]:
        rest = b""
        try:
            with _transport_errors(self._where):
                for chunk in self._response.stream(_CHUNK_BYTES, decode_content=True):
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield from self._decode(line)
                if rest:
                    yield from self._decode(rest)
        except (AttributeError, ValueError) as error:
            # What http.client and urllib3 raise when another thread closed the response
            raise Unreachable(f"the {self._what} at {self._where} broke: {error}") from error
        finally:
            self.close()

    def _decode(self, line: bytes) -> t.Iterator[t.Any]:
        yield line

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(Exception):
            if hasattr(self._response, "shutdown"):
                self._response.shutdown()
        with contextlib.suppress(Exception):
            self._response.close()


class Stream(Lines):
    """The events of one watch."""

    _what = "watch"

    def _decode(self, line: bytes) -> t.Iterator[dict[str, t.Any]]:
        if line.strip():
            yield json.loads(line)


@contextlib.contextmanager
def _transport_errors(where: str) -> t.Iterator[None]:
    import urllib3.exceptions as failures

    try:
        yield
    except failures.HTTPError as error:
        root: BaseException | None = error
        while root is not None and not isinstance(root, ssl.SSLCertVerificationError):
            root = root.__cause__ or root.__context__
        if root is not None:
            raise ClientConfigError.untrusted_certificate(where, root) from error
        raise Unreachable(f"cannot reach the API server at {where}: {_plain_cause(error)}") from error
    except FileNotFoundError as error:
        raise ClientConfigError(f"a certificate or key file named by kubeconfig does not exist: {error}") from error
    except OSError as error:
        raise Unreachable(f"the connection to the API server at {where} broke: {error or type(error).__name__}") from error


def _plain_cause(error: BaseException) -> str:
    """urllib3 wraps what the operating system said in names of its own classes."""
    for cause in (error, error.__cause__, *error.args):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    for cause in error.args:
        if isinstance(cause, BaseException):
            return _plain_cause(cause)
    text = str(error)
    for marker in ("Failed to establish a new connection: ", "Read timed out", "Connection to ", "Failed to resolve "):
        if marker in text:
            text = text[text.index(marker) :].removeprefix("Failed to establish a new connection: ")
    return text.removeprefix("[Errno 111] ")


class Client:
    """Raw JSON over one pooled connection to one API server."""

    def __init__(
        self,
        transport: t.Any,
        server: str,
        headers: t.Callable[[], dict[str, str]] = dict,
        *,
        dialer: Dialer | None = None,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport = transport
        self._dialer = dialer
        self.server = server.rstrip("/")
        self._headers = headers
        self._sleep = sleep
        self._discovered: dict[str, list[Resource]] = {}
        self._cluster_uid: str | None = None
        self._server_ahead_seconds = 0.0

    def server_time(self) -> float:
        """Seconds since the epoch by the API server's clock, as exact as the Date header of its last answer."""
        return time.time() + self._server_ahead_seconds

    # Requests

    def request(
        self,
        method: str,
        path: str,
        *,
        query: t.Mapping[str, t.Any] | None = None,
        body: t.Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float = _REQUEST_SECONDS,
        retry: bool = True,
        deadline: float | None = None,
    ) -> t.Any:
        """The decoded answer. Transient failures are retried a few times, unless C(retry=False).

        C(deadline), by the monotonic clock, bounds all attempts together; DeadlinePassed tells that it is over.
        """

        def ask() -> t.Any:
            left = timeout if deadline is None else min(timeout, deadline - time.monotonic())
            if left <= 0:
                raise DeadlinePassed(f"no time is left to ask the API server at {self.server}")
            return self._request_once(method, path, query, body, content_type, accept, left)

        return self.retried(ask, deadline) if retry else ask()

    def retried(self, ask: t.Callable[[], _Answer], deadline: float | None = None) -> _Answer:
        """What C(ask) returns; it is called again a few times if it fails in a way that may pass."""
        attempt = 0
        while True:
            try:
                return ask()
            except KubeError as error:
                attempt += 1
                pause = pause_before_retry(error, attempt)
                if error.transient and deadline is not None and time.monotonic() + pause >= deadline:
                    raise DeadlinePassed(str(error), **error.data) from error
                if not error.transient or attempt >= _ATTEMPTS:
                    raise
                self._sleep(pause)

    def _request_once(self, method: str, path: str, query: t.Mapping[str, t.Any] | None, body: t.Any, content_type: str, accept: str, timeout: float) -> t.Any:
        response = self._send(method, path, query, body, content_type, accept, timeout)
        with _transport_errors(self.server):
            raw = response.data
        return self._decode(method, path, response, raw)

    def stream(self, path: str, query: t.Mapping[str, t.Any], *, timeout: float) -> Stream:
        """An open watch. C(timeout) is the longest silence, not the longest watch."""
        return Stream(self._opened(path, {**query, "watch": "true"}, "application/json", timeout), self.server)

    def lines(self, path: str, query: t.Mapping[str, t.Any], *, timeout: float = _REQUEST_SECONDS) -> Lines:
        """An open answer of plain text, asked for once. C(timeout) is the longest silence."""
        return Lines(self._opened(path, query, "text/plain, application/json", timeout), self.server)

    def _opened(self, path: str, query: t.Mapping[str, t.Any], accept: str, timeout: float) -> t.Any:
        response = self._send("GET", path, query, None, "application/json", accept, timeout)
        if response.status != 200:
            with _transport_errors(self.server):
                raw = response.data
            self._decode("GET", path, response, raw)
        return response

    def websocket(self, path: str, query: t.Sequence[tuple[str, str]], *, subprotocols: t.Sequence[str], timeout: float) -> WebSocket:
        """An open WebSocket, asked for once: where no answer comes, what it is for may have begun all the same."""
        if self._dialer is None:
            raise ClientConfigError("this client was made without a way to open WebSockets")
        return self._dialer.open(f"{path}?{urlencode(query)}", {"User-Agent": _USER_AGENT, **self._headers()}, subprotocols, timeout)

    def _send(self, method: str, path: str, query: t.Mapping[str, t.Any] | None, body: t.Any, content_type: str, accept: str, timeout: float) -> t.Any:
        import urllib3

        headers = {"Accept": accept, "User-Agent": _USER_AGENT, **self._headers()}
        if body is not None:
            headers["Content-Type"] = content_type
        wanted = {key: value for key, value in (query or {}).items() if value not in (None, "")}
        with _transport_errors(self.server):
            response = self._transport.request(
                method,
                f"{self.server}{path}" + (f"?{urlencode(wanted)}" if wanted else ""),
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(connect=min(timeout, _CONNECT_SECONDS), read=timeout),
                retries=False,
                redirect=False,
                preload_content=False,
            )
        date = email.utils.parsedate_tz(response.headers.get("Date", ""))
        if date is not None:
            self._server_ahead_seconds = email.utils.mktime_tz(date) - time.time()
        return response

    def _decode(self, method: str, path: str, response: t.Any, raw: bytes) -> t.Any:
        is_json = "json" in response.headers.get("Content-Type", "")
        try:
            decoded = json.loads(raw) if is_json and raw else raw.decode(errors="replace")
        except ValueError as error:
            raise Unreachable(f"the API server at {self.server} sent a cut or broken answer to {method} {path}") from error
        if 200 <= response.status < 300:
            return decoded
        retry_after = response.headers.get("Retry-After", "")
        raise ApiError.from_response(response.status, method, path, decoded, float(retry_after) if retry_after.isdigit() else None)

    def list_all(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        timeout: float = _REQUEST_SECONDS,
        retry: bool = True,
        deadline: float | None = None,
    ) -> Page:
        items: list[dict[str, t.Any]] = []
        query: dict[str, t.Any] = {"labelSelector": label_selector, "fieldSelector": field_selector, "limit": _PAGE_SIZE}
        while True:
            try:
                answer = self.request("GET", resource.path(namespace), query=query, timeout=timeout, retry=retry, deadline=deadline)
            except ApiError as error:
                if error.status != 410 or "continue" not in query:
                    raise
                # The server has forgotten the state that the first page belongs to: all of the present one, in one page
                items = []
                del query["continue"], query["limit"]
                continue
            for item in answer.get("items") or []:
                items.append({"apiVersion": resource.api_version, "kind": resource.kind, **item})
            metadata = answer.get("metadata") or {}
            if not metadata.get("continue"):
                return Page(items, metadata.get("resourceVersion", ""))
            query["continue"] = metadata["continue"]

    def get(self, resource: Resource, name: str, namespace: str | None = None, **options: t.Any) -> dict[str, t.Any] | None:
        """The object, or None where there is none."""
        try:
            return t.cast("dict[str, t.Any]", self.request("GET", resource.path(namespace, name), **options))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    # What the server serves

    def resource(self, kind: str, api_version: str | None = None, *, retry: bool = True) -> Resource:
        """Where a kind lives; asks the server only for kinds that not every server has."""
        known = builtin(kind, api_version)
        if known is not None:
            return known
        candidates = [found for found in self._discover(api_version, retry) if found.kind == kind]
        if not candidates:
            raise KindNotServed(kind, api_version)
        if len(candidates) > 1:
            served = ", ".join(sorted(found.api_version for found in candidates))
            raise InputError(f"kind {kind} is served by several API groups ({served}); set api_version to the one that is meant")
        return candidates[0]

    def forget_discovery(self) -> None:
        """After a CustomResourceDefinition came or went, or before asking again."""
        self._discovered.clear()

    def _discover(self, api_version: str | None, retry: bool) -> list[Resource]:
        key = api_version or ""
        if key not in self._discovered:
            self._discovered[key] = self._discover_version(api_version, retry) if api_version else self._discover_groups(retry)
        return self._discovered[key]

    def _discover_version(self, api_version: str, retry: bool) -> list[Resource]:
        path = Resource(api_version, "", "", False).prefix
        try:
            answer = self.request("GET", path, retry=retry)
        except ApiError as error:
            if error.status == 404:
                return []
            raise
        return [
            Resource(api_version, entry["kind"], entry["name"], bool(entry.get("namespaced")))
            for entry in answer.get("resources") or []
            if "/" not in entry["name"]
        ]

    def _discover_groups(self, retry: bool) -> list[Resource]:
        answer = self.request("GET", "/apis", accept=_AGGREGATED, retry=retry)
        found = self._discover_version("v1", retry)
        for group in answer.get("items") or []:
            seen: set[str] = set()
            for version in group.get("versions") or []:
                api_version = f"{group['metadata']['name']}/{version['version']}"
                for entry in version.get("resources") or []:
                    kind = (entry.get("responseKind") or {}).get("kind", "")
                    # Versions come in order of preference
                    if kind and kind not in seen:
                        seen.add(kind)
                        found.append(Resource(api_version, kind, entry["resource"], entry.get("scope") == "Namespaced"))
        for group in answer.get("groups") or []:
            found += self._discover_version(group["preferredVersion"]["groupVersion"], retry)
        return found

    # Which cluster this is

    def cluster_uid(self, **options: t.Any) -> str:
        """The uid of the namespace kube-system: made with the cluster, never changed."""
        if self._cluster_uid is None:
            path = "/api/v1/namespaces/kube-system"
            self._cluster_uid = str(self.request("GET", path, **options)["metadata"]["uid"])
        return self._cluster_uid

    def require_cluster(self, expected: str | None, **options: t.Any) -> None:
        if not expected:
            return
        found = self.cluster_uid(**options)
        if found != expected:
            raise WrongCluster(
                f"wrong cluster: the API server at {self.server} belongs to the cluster with uid {found}, but cluster_uid asks for {expected}. "
                "Nothing was changed. Check kubeconfig and context, or cluster_uid if the cluster was built anew.",
                cluster_uid=found,
            )


def pause_before_retry(error: KubeError, attempt: int) -> float:
    """Seconds: what the server asked for, else a growing pause."""
    asked = getattr(error, "retry_after", None)
    return min(asked if asked is not None else 0.05 * 2**attempt, _LONGEST_PAUSE)
