# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# From options and environment to a client. Libraries are imported inside functions: importing the "kubernetes" package costs more
# than the requests of most calls, so it is used where it does what we do not, and its typed client, which costs a second, never.

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import ssl
import tempfile
import typing as t
from urllib.parse import urlsplit

from ansible_collections.homelab.gpu.plugins.module_utils._client import Client
from ansible_collections.homelab.gpu.plugins.module_utils._errors import ClientConfigError
from ansible_collections.homelab.gpu.plugins.module_utils._kubeconfig import Access, KubeconfigError, access_from
from ansible_collections.homelab.gpu.plugins.module_utils._websocket import Dialer

__all__ = ["connection_settings", "open_client", "secrets_in"]

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
# Several requests may be under way at once, evictions for example; one after the other they still share one connection
_MOST_CONNECTIONS = 16


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
    proxy = settings["proxy"]
    if proxy and (urlsplit(proxy).scheme not in ("http", "https") or not urlsplit(proxy).hostname):
        raise ClientConfigError(f"proxy is {_without_password(proxy)!r}; write it as http://NAME:PORT")
    return settings


def _without_password(url: str) -> str:
    return "(hidden)@" + url.rpartition("@")[2] if "@" in url else url


def open_client(settings: t.Mapping[str, t.Any]) -> Client:
    """A client for checked settings; nothing is sent yet."""
    try:
        import urllib3
    except ImportError as error:
        raise ClientConfigError.package_missing("urllib3", error) from error

    headers: t.Callable[[], dict[str, str]] | None = None
    if settings["in_cluster"]:
        access, headers = _by_package(settings)
    elif settings["kubeconfig"]:
        found = _static_access(settings["kubeconfig"], settings["context"])
        if found is not None:
            access = found
        else:
            access, headers = _by_package(settings)
    else:
        access = Access(server=settings["host"])
    if settings["host"]:
        access.server = settings["host"]
    if settings["api_key"]:
        access.token, access.token_file, headers = settings["api_key"], None, None
    if settings["validate_certs"] is not None:
        access.verify = settings["validate_certs"]
    if settings["ca_cert"]:
        access.ca_file, access.ca_data = os.path.expanduser(settings["ca_cert"]), None
    if settings["client_cert"]:
        access.cert_file, access.cert_data = os.path.expanduser(settings["client_cert"]), None
        access.key_file, access.key_data = os.path.expanduser(settings["client_key"]), None
    if settings["proxy"]:
        access.proxy = settings["proxy"]
    if urlsplit(access.server).scheme not in ("http", "https"):
        raise ClientConfigError(f"the kubeconfig's server is {access.server!r}; it has to be https://NAME:PORT")
    options: dict[str, t.Any] = {"maxsize": _MOST_CONNECTIONS, "socket_options": _keepalive()}
    try:
        if access.server.startswith("https:"):
            options.update(
                ssl_context=_tls(access),
                # Old releases of urllib3 take nothing said here for "do not verify", whatever the context says
                cert_reqs=ssl.CERT_REQUIRED if access.verify else ssl.CERT_NONE,
                server_hostname=access.tls_server_name,
                assert_hostname=access.tls_server_name,
            )
        proxy = access.proxy or _proxy_of_environment(access.server)
        transport: t.Any = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
    except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
        raise ClientConfigError(f"the TLS or proxy settings cannot be used: {error}") from error
    if not access.verify:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    # With a TLS context of its own: urllib3 and websocket-client each set checks in the one that they are given
    dialer = Dialer(access.server.rstrip("/"), functools.partial(_tls, access), access.tls_server_name, proxy, _keepalive())
    return Client(transport, access.server, headers or access.headers, dialer=dialer)


def _tls(access: Access) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not access.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif access.ca_data:
        with _naming("the kubeconfig's certificate-authority-data"):
            context.load_verify_locations(cadata=access.ca_data.decode())
    elif access.ca_file:
        with _naming(f"the CA certificate {access.ca_file} (ca_cert, or certificate-authority of the kubeconfig)"):
            context.load_verify_locations(cafile=access.ca_file)
    else:
        context.load_default_certs()
    if access.cert_file or access.cert_data:
        where = f"{access.cert_file} (client_cert with client_key, or those of the kubeconfig)" if access.cert_file else "of the kubeconfig with its key"
        with _naming(f"the client certificate {where}"):
            _load_client_certificate(context, access)
    return context


@contextlib.contextmanager
def _naming(what: str) -> t.Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise ClientConfigError(f"{what} cannot be used, check that it is complete and PEM: {error}") from error


def _load_client_certificate(context: ssl.SSLContext, access: Access) -> None:
    """Python reads certificates and keys from files only."""
    written: list[str] = []

    def file(name: str | None, data: bytes | None) -> str | None:
        if data is None:
            return name
        descriptor, path = tempfile.mkstemp(prefix="homelab-gpu-")
        written.append(path)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        return path

    try:
        context.load_cert_chain(t.cast("str", file(access.cert_file, access.cert_data)), file(access.key_file, access.key_data))
    finally:
        for path in written:
            os.unlink(path)


def _proxy_of_environment(server: str) -> str | None:
    from urllib.request import getproxies, proxy_bypass

    url = urlsplit(server)
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if proxy and not proxy_bypass(url.netloc) else None


def _static_access(kubeconfig: t.Any, context: str | None) -> Access | None:
    """None where a program has to tell the credentials, or several files have to be merged."""
    source = _source(kubeconfig)
    try:
        if isinstance(kubeconfig, t.Mapping):
            return access_from(kubeconfig, context, os.getcwd())
        path = os.path.expanduser(str(kubeconfig))
        if not os.path.isfile(path):
            if any(os.path.isfile(part) for part in path.split(os.pathsep)):
                return None
            raise ClientConfigError(f"kubeconfig: there is no file {path}")
        try:
            import yaml
        except ImportError as error:
            raise ClientConfigError.package_missing("PyYAML", error) from error
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        with open(path, encoding="utf-8") as stream:
            try:
                config = yaml.load(stream, Loader=loader)  # noqa: S506
            except yaml.YAMLError as error:
                raise KubeconfigError("it is not YAML" + _position(error)) from error
        return access_from(config, context, os.path.dirname(os.path.abspath(path)))
    except (KubeconfigError, OSError, UnicodeDecodeError) as error:
        raise _unusable(source, context, error) from error


def _position(error: t.Any) -> str:
    """Where it stands, without the text that stands there: it may be a secret."""
    mark = getattr(error, "problem_mark", None)
    return f" (line {mark.line + 1})" if mark else ""


def _source(kubeconfig: t.Any) -> str:
    return "kubeconfig (inline)" if isinstance(kubeconfig, t.Mapping) else f"kubeconfig {os.path.expanduser(str(kubeconfig))}"


def _unusable(source: str, context: str | None, error: Exception) -> ClientConfigError:
    used = f"{source} with context {context}" if context else source
    return ClientConfigError(f"{used} cannot be used, check that it is a complete kubeconfig: {error}")


class _LastError(logging.Handler):
    """The kubernetes package only logs why an exec credential plugin failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


def _by_package(options: t.Mapping[str, t.Any]) -> tuple[Access, t.Callable[[], dict[str, str]]]:
    """What the "kubernetes" package makes of credentials that a program or a mounted service account gives, and keeps fresh."""
    try:
        from kubernetes import config
        from kubernetes.client.configuration import Configuration
    except ImportError as error:
        raise ClientConfigError.package_missing("kubernetes", error) from error

    if options["in_cluster"]:
        configuration = Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException as error:
            raise ClientConfigError(f"in_cluster=true, but this is not a pod with a service account: {error}") from error
    else:
        configuration = _load_kubeconfig(options["kubeconfig"], options["context"]).configuration

    def headers() -> dict[str, str]:
        settings: t.Iterable[t.Any] = configuration.auth_settings().values()
        return {auth["key"]: auth["value"] for auth in settings if auth["in"] == "header" and auth["value"]}

    access = Access(
        server=configuration.host,
        verify=configuration.verify_ssl,
        ca_file=configuration.ssl_ca_cert,
        cert_file=configuration.cert_file,
        key_file=configuration.key_file,
        tls_server_name=getattr(configuration, "tls_server_name", None),
        proxy=configuration.proxy,
    )
    return access, headers


def _load_kubeconfig(kubeconfig: t.Any, context: str | None) -> t.Any:
    from kubernetes import config

    source = _source(kubeconfig)
    heard = _LastError()
    logging.getLogger().addHandler(heard)
    try:
        if isinstance(kubeconfig, t.Mapping):
            client = config.new_client_from_config_dict(dict(kubeconfig), context=context, persist_config=False)
        else:
            client = config.new_client_from_config(config_file=os.path.expanduser(str(kubeconfig)), context=context, persist_config=False)
    except Exception as error:  # the loader lets through whatever its YAML, base64 and file handling raise
        raise _unusable(source, context, error) from error
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


def secrets_in(node: t.Any) -> t.Iterator[str]:
    """The secret values of an inline kubeconfig."""
    if isinstance(node, t.Mapping):
        for key, value in node.items():
            if key in _SECRET_KEYS and isinstance(value, str) and value:
                yield value
            else:
                yield from secrets_in(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from secrets_in(value)
