# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# K3s versions: v<major>.<minor>.<patch>[-<pre-release>]+<distribution><number>. Private to this collection.

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

__all__ = ["EXAMPLE", "K3sVersion", "VersionError", "change", "from_version_output", "parse"]

EXAMPLE = "v1.37.1+k3s1"

_PATTERN = re.compile(r"v(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z][0-9A-Za-z.-]*))?\+([A-Za-z][0-9A-Za-z.-]*?)(\d+)")
_OUTPUT = re.compile(r"\bversion (v\S+)")
_NUMBER = re.compile(r"(\d+)")


class VersionError(ValueError):
    """The text is not a K3s version."""


@total_ordering
@dataclass(frozen=True)
class K3sVersion:
    major: int
    minor: int
    patch: int
    pre: str
    build: str
    build_number: int

    def _key(self) -> tuple[int, int, int, int, tuple[tuple[int, int, str], ...], str, int]:
        # A pre-release comes before its release; rc10 comes after rc9.
        pre = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in _NUMBER.split(self.pre) if part)
        return (self.major, self.minor, self.patch, 0 if self.pre else 1, pre, self.build, self.build_number)

    def __lt__(self, other: K3sVersion) -> bool:
        return self._key() < other._key()

    def __str__(self) -> str:
        pre = f"-{self.pre}" if self.pre else ""
        return f"v{self.major}.{self.minor}.{self.patch}{pre}+{self.build}{self.build_number}"


def parse(text: object) -> K3sVersion:
    """Read a version; the leading v and the distribution's suffix are required, because release names carry both."""
    match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise VersionError(f"{text!r} is not a K3s version of the form {EXAMPLE}")
    major, minor, patch, pre, build, number = match.groups()
    return K3sVersion(int(major), int(minor), int(patch), pre or "", build, int(number))


def from_version_output(text: str) -> str | None:
    """The version in the output of ``k3s --version``, whatever the program calls itself."""
    match = _OUTPUT.search(text)
    return match.group(1) if match else None


def change(current: K3sVersion, wanted: K3sVersion) -> str:
    """What going from one version to the other is: same, upgrade, downgrade or skip (of a minor or major version)."""
    if wanted == current:
        return "same"
    if wanted < current:
        return "downgrade"
    if wanted.major != current.major or wanted.minor > current.minor + 1:
        return "skip"
    return "upgrade"
