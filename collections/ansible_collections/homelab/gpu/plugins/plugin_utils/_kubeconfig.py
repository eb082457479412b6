# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Kubeconfigs of K3s servers for use on the controller. Private to this collection.

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from typing import Any

import yaml

__all__ = ["EXTENSION", "destination_problem", "read_own", "rewrite", "summary", "write"]

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
    if not os.path.isabs(path):
        return f"k3s_kubeconfig {path} is a relative path", "write it from / or ~ on"
    if os.path.isdir(path):
        return f"k3s_kubeconfig {path} is a directory", "name a file in it"
    if os.path.lexists(path) and read_own(path) is None:
        return f"k3s_kubeconfig {path} exists and was not written by this collection", "choose another path, or move that file away"
    parent = os.path.dirname(path)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        return f"k3s_kubeconfig {path} cannot be written: {parent} is not a directory", "choose another path"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"k3s_kubeconfig {path} cannot be written: {parent} is not writable for this user", "choose a writable directory"
    return None


def summary(content: str) -> str:
    """What may be shown of a kubeconfig of ours: where it leads to, and a mark that moves with the credentials."""
    config = yaml.safe_load(content)
    # An excerpt of a hash of keys and certificates tells nothing about them.
    mark = hashlib.sha256(content.encode("utf-8")).hexdigest()[:8]
    cluster = config["clusters"][0]
    return f"{cluster['name']}: {cluster['cluster']['server']}, cluster {cluster['cluster']['extensions'][0]['extension']['uid']}, mode 0600, mark {mark}\n"


def write(path: str, content: str, *, check_mode: bool) -> str | None:
    """Bring the file to this content and mode 0600. Returns what was there before if that was anything else."""
    before = ""
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as stream:
            present = stream.read()
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if (present, mode) == (content, 0o600):
            return None
        before = summary(present).replace("mode 0600", f"mode {mode:04o}")
    if check_mode:
        return before
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    # mkstemp makes it readable to its owner alone.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(content)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    return before
