# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and write the flat YAML of artifact lock files with the standard library alone, for hosts that have no PyYAML yet."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCHEMA = 1
FIELDS = ("name", "version", "arch", "kind", "filename", "url", "size", "sha256")
_LINE = re.compile(r"""^(?:\s*-)?\s+(?P<key>[a-z0-9_]+):\s*(?P<quote>["']?)(?P<value>.*?)(?P=quote)\s*(?:\s#.*)?$""")


class LockFileError(Exception):
    """A lock file that cannot be used; the text names the file and what is wrong."""


@dataclass(frozen=True)
class Artifact:
    """One downloadable file."""

    name: str
    version: str
    arch: str
    kind: str
    filename: str
    url: str
    size: int
    sha256: str


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1024 * 1024):
            digest.update(block)
    return digest.hexdigest()


def describe(path: Path, *, name: str, version: str, arch: str, kind: str, final: Path) -> Artifact:
    """The entry of a local file that will lie at ``final``."""
    return Artifact(name, version, arch, kind, final.name, final.as_uri(), path.stat().st_size, sha256_file(path))


def render(artifacts: Sequence[Artifact]) -> str:
    lines = ["---", f"schema: {SCHEMA}", "artifacts:"]
    for artifact in artifacts:
        for position, key in enumerate(FIELDS):
            value = getattr(artifact, key)
            lines.append(f"{'  - ' if position == 0 else '    '}{key}: {value if isinstance(value, int) else _quoted(value)}")
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[A-Za-z/][A-Za-z0-9/._+%-]*(:/[A-Za-z0-9/._+%-]*)?", value) else f"'{value}'"


def read(path: Path) -> list[Artifact]:
    """The artifacts of a lock file. Only the plain form that lock files have is understood: a list of one-line keys."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise LockFileError(f"lock file {path} cannot be read: {error.strerror}") from error
    entries: list[dict[str, str]] = []
    inside = False
    for line in lines:
        if re.match(r"artifacts:\s*(#.*)?$", line):
            inside = True
        elif inside and line[:1] not in ("", " ", "-", "#"):
            inside = False
        if not inside:
            continue
        found = _LINE.match(line if line.startswith(" ") else " " + line)
        if re.match(r"\s*-\s", line):
            entries.append({})
        if found and entries:
            entries[-1][found["key"]] = found["value"]
    return [_artifact(path, entry) for entry in entries]


def _artifact(path: Path, entry: dict[str, str]) -> Artifact:
    missing = [key for key in FIELDS if not entry.get(key)]
    if missing:
        raise LockFileError(f"lock file {path}: artifact {entry.get('name', '(without name)')!r} lacks {', '.join(missing)}")
    if not entry["size"].isdigit():
        raise LockFileError(f"lock file {path}: size {entry['size']!r} of artifact {entry['name']!r} is not a number of bytes")
    return Artifact(**{**{key: entry[key] for key in FIELDS}, "size": int(entry["size"])})  # type: ignore[arg-type]
