# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
"""What a K3s release publishes: names of its files, and its lists of checksums."""

from __future__ import annotations

import re
from urllib.parse import quote

__all__ = ["Published", "ReleaseError", "asset_url", "checksum", "checksum_list_name", "published"]

_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](\S+)")


class ReleaseError(ValueError):
    """The release does not hold what it should."""


class Published:
    """One file of a release that a host receives."""

    def __init__(self, name: str, kind: str, arch: str, asset: str, filename: str) -> None:
        self.name = name
        self.kind = kind
        self.arch = arch
        self.asset = asset
        self.filename = filename


def published(arch: str) -> list[Published]:
    """The binary is called by its architecture in a release and C(k3s) on a host."""
    suffix = "" if arch == "amd64" else f"-{arch}"
    images = f"k3s-airgap-images-{arch}.tar.zst"
    return [Published("k3s", "binary", arch, f"k3s{suffix}", "k3s"), Published("k3s-airgap-images", "images", arch, images, images)]


def checksum_list_name(arch: str) -> str:
    return f"sha256sum-{arch}.txt"


def asset_url(base_url: str, version: str, asset: str) -> str:
    """A raw plus sign in the path would mean a blank to some servers."""
    return f"{base_url.rstrip('/')}/{quote(version, safe='')}/{asset}"


def checksum(text: str, asset: str, where: str) -> str:
    """The checksum of one file out of the list; the list must name it exactly once."""
    found = {match.group(1).lower() for match in map(_LINE.fullmatch, (line.strip() for line in text.splitlines())) if match and match.group(2) == asset}
    if len(found) != 1:
        raise ReleaseError(f"{where} has {'no' if not found else 'more than one'} sha256 of {asset}; it is not the list of checksums of a K3s release")
    return found.pop()
