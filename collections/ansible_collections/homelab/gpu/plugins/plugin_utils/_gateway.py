# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# What the role llm_gateway is told, judged before anything is changed, and completed for its templates.

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._quantity import QuantityError, quantity

__all__ = ["plan"]

Object = dict[str, t.Any]

_OLLAMA_PORT = 11434
# HAProxy keeps room for headers that it adds
_RESERVE_BYTES = 16384
# What a process takes beside its buffers
_BASE_BYTES = 64 * 1024**2
_KEY_LENGTH = 16
_NODE_PORTS = range(30000, 32768)
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?")
# These go into HAProxy's config, where other characters would need quoting
_PATH = re.compile(r"/[A-Za-z0-9/._-]*")
# Those of which HAProxy can be told
_STATUSES = (401, 403, 404, 408, 425, 500, 501, 502, 503, 504)

_BACKEND: dict[str, tuple[type | tuple[type, ...], t.Any]] = {
    "name": (str, ""),
    "service": (str, ""),
    "namespace": (str, ""),
    "host": (str, ""),
    "port": (int, 0),
    "backup": (bool, False),
    "slots": (int, 1),
    "max_requests": (int, 0),
    "ollama_api": (bool, None),
    "check_path": (str, None),
    "probe": (bool, None),
    "probe_path": (str, "/v1/completions"),
    "probe_model": (str, ""),
    "metrics_path": (str, None),
}
_TYPE_NAMES = {str: "text", int: "a whole number", bool: "true or false"}
# The least that makes sense, and the most
_SECONDS = {
    "connect_timeout": (0.01, 60),
    "check_interval": (0.05, 60),
    "check_fast_interval": (0.02, 60),
    "check_down_interval": (0.05, 60),
    "check_timeout": (0.02, 60),
    "answer_timeout": (1, 86400),
    "request_timeout": (1, 3600),
    "keep_alive_timeout": (1, 3600),
    "queue_timeout": (0.1, 3600),
    "probe_interval": (0.2, 3600),
    "probe_silence": (0.1, 3600),
    "probe_stall": (0.2, 3600),
}


def plan(backends: t.Any, options: t.Mapping[str, t.Any]) -> Object:
    """The backends with all that was left out, and what follows from the options, which are the role's variables without their prefix. Raises InputError."""
    chosen = [_backend(number, item, options) for number, item in enumerate(_items(backends))]
    _check_together(chosen)
    for backend in chosen:
        backend["last"] = backend["backup"] or len(chosen) == 1
        if backend["probe"] is None:
            backend["probe"] = not backend["last"]
    _check_options(options)
    keys = _keys(options)
    tls = _tls(options)
    buffer_bytes = options["retry_body_bytes"] + _RESERVE_BYTES
    _check_memory(options, buffer_bytes)
    milliseconds = {name: round(options[f"{name}_seconds"] * 1000) for name in _SECONDS}
    return {
        "backends": chosen,
        "native": [backend for backend in chosen if backend["ollama_api"]],
        "sharp_checks": (
            f"inter {milliseconds['check_interval']}ms fastinter {milliseconds['check_fast_interval']}ms"
            f" downinter {milliseconds['check_down_interval']}ms fall {options['check_fall']} rise {options['check_rise']}"
        ),
        # Nothing stands behind these, so there is no hurry to give them up, and each hurry to have them back
        "patient_checks": (
            f"inter {milliseconds['check_down_interval']}ms fastinter {milliseconds['check_down_interval']}ms"
            f" downinter {milliseconds['check_interval']}ms fall {options['check_last_fall']} rise 1"
        ),
        "ms": milliseconds,
        "buffer_bytes": buffer_bytes,
        "needs_key": keys,
        "tls": tls,
    }


def _items(backends: t.Any) -> list[t.Any]:
    if not isinstance(backends, list) or not backends:
        raise InputError(f"llm_gateway_backends is {backends!r}; it has to be a list of backends, for example [{{name: gpu, service: vllm, port: 8000}}]")
    return backends


def _backend(number: int, given: t.Any, options: t.Mapping[str, t.Any]) -> Object:
    where = f"llm_gateway_backends[{number}]"
    if not isinstance(given, t.Mapping):
        raise InputError(f"{where} is {given!r}; it has to be a mapping, for example {{name: gpu, service: vllm, port: 8000}}")
    unknown = sorted(set(given) - set(_BACKEND))
    if unknown:
        raise InputError(f"{where}.{unknown[0]} is not known; a backend has {', '.join(_BACKEND)}")
    backend = {name: _typed(f"{where}.{name}", given[name], kind) if given.get(name) is not None else default for name, (kind, default) in _BACKEND.items()}
    name = backend["name"]
    if not _LABEL.fullmatch(name) or len(name) > 40:
        raise InputError(f"{where}.name is {name!r}; it has to be 1 to 40 small letters, digits and dashes, for it stands in the header X-LLM-Backend")
    _address(where, backend, options)
    _in_range(f"{where}.port", backend["port"], 1, 65535)
    _in_range(f"{where}.slots", backend["slots"], 1, 64)
    _in_range(f"{where}.max_requests", backend["max_requests"], 0, 100000)
    if backend["ollama_api"] is None:
        backend["ollama_api"] = backend["port"] == _OLLAMA_PORT
    if backend["check_path"] is None:
        backend["check_path"] = "/api/version" if backend["ollama_api"] else "/health"
    if backend["metrics_path"] is None:
        backend["metrics_path"] = "" if backend["ollama_api"] else "/metrics"
    for option in ("check_path", "probe_path"):
        _path(f"{where}.{option}", backend[option])
    if backend["metrics_path"]:
        _path(f"{where}.metrics_path", backend["metrics_path"])
    return backend


def _typed(where: str, value: t.Any, kind: t.Any) -> t.Any:
    if kind is int and isinstance(value, str) and value.isdecimal():
        # From a command line, or with quotes
        return int(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"{where} is {value!r}; it has to be {_TYPE_NAMES[kind]}")
    return str(value) if kind is str else value


def _address(where: str, backend: Object, options: t.Mapping[str, t.Any]) -> None:
    service, host = backend["service"], backend["host"]
    if bool(service) == bool(host):
        raise InputError(f"{where} has {'both' if service else 'neither'} service and host; give the name of a Service, or a host outside the cluster")
    backend["resolved"] = True
    if service:
        namespace = backend["namespace"] or options["namespace"]
        for option, value in (("service", service), ("namespace", namespace)):
            if not _LABEL.fullmatch(value):
                raise InputError(f"{where}.{option} is {value!r}; it has to be a name of small letters, digits and dashes")
        backend["address"] = f"{service}.{namespace}.svc.{options['cluster_domain']}"
        return
    if backend["namespace"]:
        raise InputError(f"{where}.namespace is {backend['namespace']!r}, but {where}.host is outside the cluster; leave one of them out")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host):
            raise InputError(f"{where}.host is {host!r}; it has to be an address or a host name without scheme, port and path") from None
        backend["address"] = host
        return
    backend["address"] = f"[{address}]" if address.version == 6 else str(address)
    backend["resolved"] = False


def _in_range(where: str, value: t.Any, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InputError(f"{where} is {value!r}; it has to be {least} to {most}")


def _path(where: str, value: str) -> None:
    if not isinstance(value, str) or not _PATH.fullmatch(value):
        raise InputError(f"{where} is {value!r}; it has to begin with / and have letters, digits and ._-/ only")


def _check_together(chosen: t.Sequence[Object]) -> None:
    for field, what in (("name", "is given twice; each backend needs its own"), (None, "is given twice; a backend that stands in for itself is none")):
        seen: set[str] = set()
        for number, backend in enumerate(chosen):
            value = backend[field] if field else f"{backend['address']}:{backend['port']}"
            if value in seen:
                raise InputError(f"llm_gateway_backends[{number}]{f'.{field}' if field else ''}: {value} {what}")
            seen.add(value)
    if all(backend["backup"] for backend in chosen):
        names = ", ".join(backend["name"] for backend in chosen)
        raise InputError(f"llm_gateway_backends: {names}: all are backups; leave backup out of the one that shall answer first")


def _check_options(options: t.Mapping[str, t.Any]) -> None:
    for name, (least, most) in _SECONDS.items():
        value = options[f"{name}_seconds"]
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
            raise InputError(f"llm_gateway_{name}_seconds is {value!r}; it has to be {least} to {most}")
    for name, least, most in (
        ("replicas", 1, 100),
        ("port", 1024, 65535),
        ("metrics_port", 1024, 65535),
        ("threads", 1, 64),
        ("retries", 0, 10),
        ("check_fall", 1, 20),
        ("check_rise", 1, 20),
        ("check_last_fall", 1, 1000),
        ("error_limit", 1, 1000),
        ("max_connections", 10, 100000),
        ("retry_body_bytes", 1024, 16 * 1024**2),
        ("drain_seconds", 1, 86400),
        ("pre_stop_seconds", 0, 300),
        ("service_port", 1, 65535),
    ):
        _in_range(f"llm_gateway_{name}", options[name], least, most)
    if options["port"] == options["metrics_port"]:
        raise InputError(f"llm_gateway_metrics_port is {options['metrics_port']}, as is llm_gateway_port; give metrics another port")
    if options["node_port"] and options["node_port"] not in _NODE_PORTS:
        raise InputError(f"llm_gateway_node_port is {options['node_port']}; it has to be {_NODE_PORTS[0]} to {_NODE_PORTS[-1]}, or 0 for none")
    if not options["paths"]:
        raise InputError("llm_gateway_paths is empty; name the beginnings of paths that are passed on, for example [/v1/]")
    for number, path in enumerate(options["paths"]):
        _path(f"llm_gateway_paths[{number}]", path)
    for number, status in enumerate(options["retry_statuses"]):
        if status not in _STATUSES:
            raise InputError(f"llm_gateway_retry_statuses[{number}] is {status!r}; it has to be one of {', '.join(map(str, _STATUSES))}")


def _check_memory(options: t.Mapping[str, t.Any], buffer_bytes: int) -> None:
    """All connections at once, each with a full buffer for either direction."""
    limit = ((options["resources"] or {}).get("limits") or {}).get("memory")
    if limit is None:
        return
    try:
        available = int(quantity(limit))
    except QuantityError as error:
        raise InputError(f"llm_gateway_resources.limits.memory is {limit!r}; it has to be a quantity such as 512Mi") from error
    needed = _BASE_BYTES + options["max_connections"] * 2 * buffer_bytes
    if needed > available:
        raise InputError(
            f"llm_gateway_resources.limits.memory is {limit}, but {options['max_connections']} connections (llm_gateway_max_connections) with two buffers of"
            f" {buffer_bytes} bytes (llm_gateway_retry_body_bytes + {_RESERVE_BYTES}) can take {-(-needed // 1024**2)}Mi; raise the limit or lower one of them"
        )


def _keys(options: t.Mapping[str, t.Any]) -> bool:
    """Whether clients need a key. No message has a key in it."""
    given, secret = options["api_keys"], options["api_keys_secret"]
    if given and secret:
        raise InputError("llm_gateway_api_keys and llm_gateway_api_keys_secret are both given; leave one of them out")
    for number, key in enumerate(given):
        if not isinstance(key, str) or len(key) < _KEY_LENGTH:
            raise InputError(f"llm_gateway_api_keys[{number}] is too short; it has to be text of {_KEY_LENGTH} characters or more, as of: openssl rand -hex 24")
        if not re.fullmatch(r"[!-~]+", key) or key.startswith("#"):
            raise InputError(f"llm_gateway_api_keys[{number}] has a blank, begins with #, or is not plain ASCII; no header could carry it, or no file")
    if len(set(given)) < len(given):
        raise InputError("llm_gateway_api_keys has the same key twice; leave one out")
    if secret and not _LABEL.fullmatch(secret):
        raise InputError(f"llm_gateway_api_keys_secret is {secret!r}; it has to be the name of a Secret")
    return bool(given or secret)


def _tls(options: t.Mapping[str, t.Any]) -> bool:
    secret, certificate, key = options["tls_secret"], options["tls_certificate"], options["tls_key"]
    if bool(certificate) != bool(key):
        missing, present = ("tls_key", "tls_certificate") if certificate else ("tls_certificate", "tls_key")
        raise InputError(f"llm_gateway_{missing} is empty, but llm_gateway_{present} is given; give both, or llm_gateway_tls_secret")
    if secret and certificate:
        raise InputError("llm_gateway_tls_secret and llm_gateway_tls_certificate are both given; leave one of them out")
    if secret and not _LABEL.fullmatch(secret):
        raise InputError(f"llm_gateway_tls_secret is {secret!r}; it has to be the name of a Secret")
    if certificate and "-----BEGIN CERTIFICATE-----" not in certificate:
        raise InputError("llm_gateway_tls_certificate is not a certificate in PEM; it has to begin with -----BEGIN CERTIFICATE-----")
    if key and not re.search(r"-----BEGIN (?!ENCRYPTED)([A-Z]+ )?PRIVATE KEY-----", key):
        raise InputError("llm_gateway_tls_key is not a private key without a passphrase in PEM; it has to begin with -----BEGIN PRIVATE KEY-----")
    if options["tls"] and not (secret or certificate):
        raise InputError("llm_gateway_tls is true without a certificate; give llm_gateway_tls_secret, or llm_gateway_tls_certificate and llm_gateway_tls_key")
    return bool(secret or certificate)
