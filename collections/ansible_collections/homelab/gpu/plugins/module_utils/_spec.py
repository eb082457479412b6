# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
# The twin of each spec is the documentation fragment of the same name.

from __future__ import annotations

import typing as t

__all__ = ["KUBECONFIG"]

# doc_fragments/_kubeconfig.py. Environment variables are read in _connection.py, which knows when they must not count.
KUBECONFIG: dict[str, dict[str, t.Any]] = {
    "kubeconfig": {"type": "raw"},
    "context": {"type": "str"},
    "host": {"type": "str"},
    "api_key": {"type": "str", "no_log": True},
    "validate_certs": {"type": "bool", "aliases": ["verify_ssl"]},
    "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"]},
    "client_cert": {"type": "path", "aliases": ["cert_file"]},
    "client_key": {"type": "path", "no_log": False, "aliases": ["key_file"]},
    "proxy": {"type": "str"},
    "in_cluster": {"type": "bool", "default": False},
    "cluster_uid": {"type": "str"},
}
