# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Names of container images, as people write them and as containerd keeps them.

from __future__ import annotations

import re

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError

__all__ = ["full_reference"]

_DEFAULT_REGISTRY = "docker.io"
_REGISTRY = re.compile(r"localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+|[A-Za-z0-9.-]+:\d+|\[[0-9a-f:]+\](:\d+)?")
_PATH = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def full_reference(reference: str) -> str:
    """With registry, and with tag or digest, as containerd lists it. Raises InputError for what is no name of an image."""
    name, _at, digest = reference.partition("@")
    head, slash, rest = name.partition("/")
    registry, path = (head, rest) if slash and _REGISTRY.fullmatch(head) else (_DEFAULT_REGISTRY, name)
    path, colon, tag = path.partition(":")
    if registry == _DEFAULT_REGISTRY and "/" not in path:
        path = f"library/{path}"
    if not _PATH.fullmatch(path) or (colon and not _TAG.fullmatch(tag)) or ("@" in reference and not _DIGEST.fullmatch(digest)):
        raise InputError(f"{reference!r} is no name of an image; write it as registry/name:tag, or with @sha256: and 64 hexadecimal digits")
    if digest:
        return f"{registry}/{path}{colon}{tag}@{digest}"
    return f"{registry}/{path}:{tag or 'latest'}"
