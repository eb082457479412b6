# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Authentication and transport are those of the "kubernetes" package, everything above is plain JSON. The package is imported
# inside functions: importing it costs more than the requests of most calls, and its typed client more than a second.

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import json
import logging
import os
import socket
import ssl
import sys
import time
import typing as t
from urllib.parse import urlencode, urlsplit

from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, ClientConfigError, InputError, KubeError, Unreachable, WrongCluster
from ansible_collections.homelab.gpu.plugins.module_utils._resources import Resource, builtin

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

__all__ = ["Client", "KindNotServed", "Page", "Stream", "connect", "connection_settings", "open_client", "protect"]

_ENVIRONMENT = {
    "kubeconfig": "K8S_AUTH_KUBECONFIG",
    "context": "K8S_AUTH_CONTEXT",
    "host": "K8S_AUTH_HOST",
    "api_key": "K8S_AUTH_API_KEY",
    "validate_certs": "K8S_AUTH_VERIFY_SSL",
    "ca_cert": "K8S_AUTH_SSL_CA_CERT",
    "client_cert": "K8S_AUTH_CERT_FILE",
    "client_key": "K8S_AUTH_KEY_FILE",
    "proxy": "K8S_AUTH_PROXY",
}
# Any of these says which cluster is meant
_TARGETS = ("kubeconfig", "host", "in_cluster")
_SECRET_KEYS = frozenset({"token", "password", "client-key-data", "client-certificate-data", "id-token", "refresh-token", "access-token", "client-secret"})

_CONNECT_SECONDS = 5.0
_REQUEST_SECONDS = 30.0
_ATTEMPTS = 5
_LONGEST_PAUSE = 10.0
_PAGE_SIZE = 500
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


class Stream:
    """The lines of one watch; reading blocks, C(close) from another thread ends it."""

    def __init__(self, response: t.Any, where: str) -> None:
        self._response = response
        self._where = where
        self._closed = False

    def __iter__(self) -> t.Iterator[dict[str, t.Any]]:
        rest = b""
        try:
            with _transport_errors(self._where):
                for chunk in self._response.stream(None, decode_content=True):
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if line.strip():
                            yield json.loads(line)
        except (AttributeError, ValueError) as error:
            # What http.client and urllib3 raise when another thread closed the response
            raise Unreachable(f"the watch at {self._where} broke: {error}") from error
        finally:
            self.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(Exception):
            if hasattr(self._response, "shutdown"):
                self._response.shutdown()
        with contextlib.suppress(Exception):
            self._response.close()


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
            raise ClientConfigError(
                f"the certificate of {where} is not trusted: {getattr(root, 'verify_message', '') or root}. "
                "Use the kubeconfig of this very cluster, or set ca_cert to the CA that signed it."
            ) from error
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
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport = transport
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
    ) -> t.Any:
        """The decoded answer. Transient failures are retried a few times; callers with a deadline of their own pass C(retry=False)."""
        attempt = 0
        while True:
            try:
                return self._request_once(method, path, query, body, content_type, accept, timeout)
            except KubeError as error:
                attempt += 1
                if not retry or not error.transient or attempt >= _ATTEMPTS:
                    raise
                self._sleep(pause_before_retry(error, attempt))

    def _request_once(self, method: str, path: str, query: t.Mapping[str, t.Any] | None, body: t.Any, content_type: str, accept: str, timeout: float) -> t.Any:
        response = self._send(method, path, query, body, content_type, accept, timeout)
        with _transport_errors(self.server):
            raw = response.data
        return self._decode(method, path, response, raw)

    def stream(self, path: str, query: t.Mapping[str, t.Any], *, timeout: float) -> Stream:
        """An open watch. C(timeout) is the longest silence, not the longest watch."""
        response = self._send("GET", path, {**query, "watch": "true"}, None, "application/json", "application/json", timeout)
        if response.status != 200:
            with _transport_errors(self.server):
                raw = response.data
            self._decode("GET", path, response, raw)
        return Stream(response, self.server)

    def _send(self, method: str, path: str, query: t.Mapping[str, t.Any] | None, body: t.Any, content_type: str, accept: str, timeout: float) -> t.Any:
        import urllib3

        headers = {"Accept": accept, "User-Agent": "homelab.gpu", **self._headers()}
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
    ) -> Page:
        items: list[dict[str, t.Any]] = []
        query: dict[str, t.Any] = {"labelSelector": label_selector, "fieldSelector": field_selector, "limit": _PAGE_SIZE}
        while True:
            answer = self.request("GET", resource.path(namespace), query=query, timeout=timeout, retry=retry)
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


def connection_settings(params: t.Mapping[str, t.Any], environ: t.Mapping[str, str]) -> dict[str, t.Any]:
    """The options that decide the connection. A task that names its cluster is not touched by the environment."""
    settings: dict[str, t.Any] = {name: params.get(name) for name in (*_ENVIRONMENT, "in_cluster")}
    if not any(settings[name] for name in _TARGETS):
        for name, variable in _ENVIRONMENT.items():
            if settings[name] is None and environ.get(variable):
                settings[name] = environ[variable]
    if isinstance(settings["validate_certs"], str):
        from ansible.module_utils.parsing.convert_bool import boolean

        try:
            settings["validate_certs"] = boolean(settings["validate_certs"])
        except TypeError as error:
            raise ClientConfigError(f"K8S_AUTH_VERIFY_SSL is {settings['validate_certs']!r}; set it to true or false") from error
    if not any(settings[name] for name in _TARGETS):
        default: str = environ.get("KUBECONFIG") or os.path.join(environ.get("HOME", "~"), ".kube", "config")
        if not any(os.path.exists(os.path.expanduser(part)) for part in default.split(os.pathsep)):
            raise ClientConfigError(
                "which cluster is meant? Set kubeconfig (or host and api_key, or in_cluster=true); "
                f"there is no {default} and none of K8S_AUTH_KUBECONFIG and K8S_AUTH_HOST is set"
            )
        settings["kubeconfig"] = default
    if settings["in_cluster"] and (settings["kubeconfig"] or settings["host"]):
        raise ClientConfigError("in_cluster=true excludes kubeconfig and host; give one of them")
    if bool(settings["client_cert"]) != bool(settings["client_key"]):
        missing = "client_key" if settings["client_cert"] else "client_cert"
        raise ClientConfigError(f"client_cert and client_key belong together: {missing} is missing")
    for name in ("ca_cert", "client_cert", "client_key"):
        file = settings[name]
        if file and not os.path.isfile(os.path.expanduser(file)):
            raise ClientConfigError(f"{name}: there is no file {file}")
    host = settings["host"]
    if host and (urlsplit(host).scheme not in ("http", "https") or not urlsplit(host).hostname):
        raise ClientConfigError(f"host is {host!r}; write it as https://NAME:PORT")
    return settings


class _LastError(logging.Handler):
    """The kubernetes package only logs why an exec credential plugin failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


def _load_kubeconfig(kubeconfig: t.Any, context: str | None) -> t.Any:
    from kubernetes import config

    inline = isinstance(kubeconfig, t.Mapping)
    path = "" if inline else os.path.expanduser(str(kubeconfig))
    source = "kubeconfig (inline)" if inline else f"kubeconfig {path}"
    if not inline and not any(os.path.isfile(part) for part in path.split(os.pathsep)):
        raise ClientConfigError(f"kubeconfig: there is no file {path}")
    heard = _LastError()
    logging.getLogger().addHandler(heard)
    try:
        if inline:
            client = config.new_client_from_config_dict(dict(kubeconfig), context=context, persist_config=False)
        else:
            client = config.new_client_from_config(config_file=path, context=context, persist_config=False)
    except Exception as error:  # the loader lets through whatever its YAML, base64 and file handling raise
        used = f"{source} with context {context}" if context else source
        raise ClientConfigError(f"{used} cannot be used, check that it is a complete kubeconfig: {error}") from error
    finally:
        logging.getLogger().removeHandler(heard)
    configuration = client.configuration
    if heard.text and not configuration.api_key and not configuration.cert_file:
        raise ClientConfigError(f"{source}: its exec credential plugin gave no credentials: {heard.text}")
    return client


def _keepalive() -> list[tuple[int, int, int]]:
    """A server that vanished without a word, with its host for example, is noticed within seconds, even by a silent watch."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 3), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


def open_client(settings: t.Mapping[str, t.Any]) -> Client:
    """A client for checked settings; nothing is sent yet."""
    try:
        from kubernetes.client.api_client import ApiClient
        from kubernetes.client.configuration import Configuration
    except ImportError as error:
        raise ClientConfigError(
            f"the Python package kubernetes cannot be imported ({error}); install it for the Python that runs this module, {sys.executable}, "
            "with `pip install kubernetes`, or set ansible_python_interpreter to a Python that has it"
        ) from error

    if settings["kubeconfig"]:
        configuration = _load_kubeconfig(settings["kubeconfig"], settings["context"]).configuration
    else:
        configuration = Configuration()
        if settings["in_cluster"]:
            from kubernetes import config

            try:
                config.load_incluster_config(client_configuration=configuration)
            except config.ConfigException as error:
                raise ClientConfigError(f"in_cluster=true, but this is not a pod with a service account: {error}") from error
    if settings["host"]:
        configuration.host = settings["host"]
    if settings["api_key"]:
        configuration.refresh_api_key_hook = None
        # Releases of the package differ in the key they look up
        for key in ("BearerToken", "authorization"):
            configuration.api_key[key] = f"Bearer {settings['api_key']}"
    if settings["validate_certs"] is not None:
        configuration.verify_ssl = settings["validate_certs"]
    for option, attribute in (("ca_cert", "ssl_ca_cert"), ("client_cert", "cert_file"), ("client_key", "key_file")):
        if settings[option]:
            setattr(configuration, attribute, os.path.expanduser(settings[option]))
    if settings["proxy"]:
        configuration.proxy = settings["proxy"]
    if not configuration.verify_ssl:
        import urllib3

        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def headers() -> dict[str, str]:
        return {auth["key"]: auth["value"] for auth in configuration.auth_settings().values() if auth["in"] == "header" and auth["value"]}

    try:
        transport = ApiClient(configuration=configuration).rest_client.pool_manager
    except (OSError, ValueError) as error:
        raise ClientConfigError(f"the TLS or proxy settings cannot be used: {error}") from error
    # Not every supported release of the package hands on its socket_options
    transport.connection_pool_kw["socket_options"] = _keepalive()
    return Client(transport, configuration.host, headers)


def connect(module: AnsibleModule) -> Client:
    """The client that a module's options ask for."""
    settings = connection_settings(module.params, os.environ)
    if settings["api_key"]:
        module.no_log_values.add(settings["api_key"])
    return open_client(settings)


def protect(module: AnsibleModule) -> None:
    """Keeps the secrets of an inline kubeconfig out of every output; the first thing a module does."""
    module.no_log_values.update(_secrets_in(module.params["kubeconfig"]))


def _secrets_in(node: t.Any) -> t.Iterator[str]:
    if isinstance(node, t.Mapping):
        for key, value in node.items():
            if key in _SECRET_KEYS and isinstance(value, str) and value:
                yield value
            else:
                yield from _secrets_in(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _secrets_in(value)
