# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Kubeconfigs of K3s servers for use on the controller. Private to this collection.

from __future__ import annotations

import os
from typing import Any

import yaml

__all__ = ["EXTENSION", "destination_problem", "read_own", "rewrite"]

# Marks a file as ours and remembers which cluster it leads to.
EXTENSION = "homelab.gpu/cluster"


def rewrite(text: str, *, server: str, name: str, cluster_uid: str) -> str:
    """The kubeconfig with the server's reachable address and one name for cluster, context and user instead of 'default'."""
    config = yaml.safe_load(text)
    cluster = {**config["clusters"][0]["cluster"], "server": server, "extensions": [{"name": EXTENSION, "extension": {"uid": cluster_uid}}]}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{name}-admin"}}],
        "current-context": name,
        "preferences": {},
        "users": [{"name": f"{name}-admin", "user": config["users"][0]["user"]}],
    }
    return yaml.safe_dump(content, sort_keys=True, default_flow_style=False, width=1_000_000)


def read_own(path: str) -> str | None:
    """The uid of the cluster that a kubeconfig of ours leads to; None if it is not ours."""
    try:
        with open(path, encoding="utf-8") as stream:
            config: Any = yaml.safe_load(stream)
        for extension in config["clusters"][0]["cluster"]["extensions"]:
            if extension["name"] == EXTENSION:
                return str(extension["extension"]["uid"])
    except (OSError, yaml.YAMLError, KeyError, IndexError, TypeError, UnicodeDecodeError):
        return None
    return None


def destination_problem(path: str) -> tuple[str, str] | None:
    """Why a kubeconfig cannot or must not be written there, and what to do."""
    if os.path.isdir(path):
        return f"k3s_kubeconfig {path} is a directory", "name a file in it"
    if os.path.lexists(path) and read_own(path) is None:
        return f"k3s_kubeconfig {path} exists and was not written by this collection", "choose another path, or move that file away"
    parent = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        return f"k3s_kubeconfig {path} cannot be written: {parent} is not a directory", "choose another path"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"k3s_kubeconfig {path} cannot be written: {parent} is not writable for this user", "choose a writable directory"
    return None
