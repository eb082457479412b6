# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Kubeconfigs whose credentials stand in them. Those that run a program for their credentials are left to the "kubernetes" package,
# whose import alone takes longer than all the rest of most calls.

from __future__ import annotations

import base64
import binascii
import dataclasses
import os
import typing as t

__all__ = ["Access", "KubeconfigError", "access_from"]


class KubeconfigError(Exception):
    """The kubeconfig is not complete, or not a kubeconfig."""


@dataclasses.dataclass
class Access:
    """How to reach one API server, and as whom."""

    server: str
    verify: bool = True
    ca_file: str | None = None
    ca_data: bytes | None = None
    cert_file: str | None = None
    cert_data: bytes | None = None
    key_file: str | None = None
    key_data: bytes | None = None
    token: str | None = dataclasses.field(default=None, repr=False)
    token_file: str | None = None
    basic: tuple[str, str] | None = dataclasses.field(default=None, repr=False)
    tls_server_name: str | None = None
    proxy: str | None = None

    def headers(self) -> dict[str, str]:
        """What to send with each request; a token file may have been renewed in between."""
        token = self.token
        if self.token_file:
            with open(self.token_file, encoding="utf-8") as stream:
                token = stream.read().strip()
        if token:
            return {"authorization": f"Bearer {token}"}
        if self.basic:
            return {"authorization": "Basic " + base64.b64encode(":".join(self.basic).encode()).decode()}
        return {}


def access_from(config: t.Any, context: str | None, folder: str) -> Access | None:
    """What a context of a parsed kubeconfig says, relative paths taken from C(folder); None if only a program can tell the credentials."""
    if not isinstance(config, t.Mapping):
        raise KubeconfigError("it is not a mapping")
    wanted = context or config.get("current-context")
    if not wanted:
        raise KubeconfigError("it has no current-context")
    chosen = _named(config, "contexts", "context", wanted)
    cluster = _named(config, "clusters", "cluster", chosen.get("cluster"))
    user = _named(config, "users", "user", chosen["user"]) if chosen.get("user") else {}
    if user.get("exec") or user.get("auth-provider"):
        return None
    server = cluster.get("server")
    if not isinstance(server, str) or not server:
        raise KubeconfigError(f"cluster {chosen.get('cluster')} has no server")

    def path(section: t.Mapping[str, t.Any], key: str) -> str | None:
        value = section.get(key)
        return os.path.join(folder, os.path.expanduser(str(value))) if value and not section.get(f"{key}-data") else None

    access = Access(
        server=server,
        verify=not cluster.get("insecure-skip-tls-verify"),
        ca_file=path(cluster, "certificate-authority"),
        ca_data=_data(cluster, "certificate-authority-data"),
        cert_file=path(user, "client-certificate"),
        cert_data=_data(user, "client-certificate-data"),
        key_file=path(user, "client-key"),
        key_data=_data(user, "client-key-data"),
        token=str(user["token"]) if user.get("token") else None,
        token_file=os.path.join(folder, str(user["tokenFile"])) if user.get("tokenFile") else None,
        basic=(str(user["username"]), str(user.get("password") or "")) if user.get("username") else None,
        tls_server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
    )
    for what, name in (("certificate-authority", access.ca_file), ("client-certificate", access.cert_file), ("client-key", access.key_file)):
        if name and not os.path.isfile(name):
            raise KubeconfigError(f"its {what} names a file that does not exist: {name}")
    return access


def _named(config: t.Mapping[str, t.Any], collection: str, key: str, name: t.Any) -> t.Mapping[str, t.Any]:
    entries = config.get(collection)
    for entry in entries if isinstance(entries, (list, tuple)) else ():
        if isinstance(entry, t.Mapping) and entry.get("name") == name and isinstance(entry.get(key), t.Mapping):
            return t.cast("t.Mapping[str, t.Any]", entry[key])
    raise KubeconfigError(f"it has no {key} named {name}")


def _data(section: t.Mapping[str, t.Any], key: str) -> bytes | None:
    value = section.get(key)
    if not value:
        return None
    try:
        return base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError) as error:
        raise KubeconfigError(f"its {key} is not base64") from error
