# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The lock file of artifacts: its schema, the choice of entries for a host, and hashing. Private to this collection.

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any

__all__ = [
    "ARCHITECTURES",
    "PACKAGE_FORMATS",
    "LockError",
    "cache_path",
    "check_lock",
    "file_state",
    "recall",
    "remember",
    "select",
    "sha256_of",
]

SCHEMA = 1
ARCHITECTURES = ("amd64", "arm64")
KINDS = ("binary", "images", "package", "bundle")
IMAGE_SUFFIXES = (".tar", ".tar.gz", ".tar.zst")
PACKAGE_FORMATS = ("deb", "rpm")
_FIELDS: dict[str, type] = {"name": str, "version": str, "arch": str, "kind": str, "filename": str, "url": str, "size": int, "sha256": str}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_URL = re.compile(r"(?:file:///|https?://[^/]+/)\S+")
_CHUNK = 4 * 1024 * 1024


class LockError(ValueError):
    """The lock file is wrong; ``problems`` has one (what, fix) pair for each reason."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(what for what, _fix in problems))
        self.problems = problems


def _entry_problems(where: str, entry: Any) -> list[tuple[str, str]]:
    if not isinstance(entry, dict):
        return [(f"{where} is not a mapping", "write name, version, arch, kind, filename, url, size and sha256")]
    problems = []
    for field, kind in _FIELDS.items():
        value = entry.get(field)
        if value is None:
            problems.append((f"{where} has no {field}", f"add {field}"))
        elif not isinstance(value, kind) or isinstance(value, bool):
            problems.append((f"{where}: {field} is {value!r}", f"write {field} as {'a number' if kind is int else 'text'}"))
    problems.extend((f"{where} has the unknown field {field}", f"remove {field}") for field in sorted(set(entry) - set(_FIELDS), key=str))
    if problems:
        return problems
    if entry["arch"] not in ARCHITECTURES:
        problems.append((f"{where}: arch is {entry['arch']!r}", f"use one of {', '.join(ARCHITECTURES)}"))
    if entry["kind"] not in KINDS:
        problems.append((f"{where}: kind is {entry['kind']!r}", f"use one of {', '.join(KINDS)}"))
    if not _SHA256.fullmatch(entry["sha256"]):
        problems.append((f"{where}: sha256 is {entry['sha256']!r}", "write 64 lower-case hexadecimal digits"))
    if entry["size"] <= 0:
        problems.append((f"{where}: size is {entry['size']}", "write the number of bytes"))
    if not _URL.fullmatch(entry["url"]):
        problems.append((f"{where}: url is {entry['url']!r}", "use file:///…, http://… or https://…"))
    elif entry["url"].startswith("http") and "+" in entry["url"]:
        problems.append((f"{where}: url has a raw '+': {entry['url']}", "write it as %2B"))
    if entry["filename"] in (".", "..") or "/" in entry["filename"]:
        problems.append((f"{where}: filename is {entry['filename']!r}", "use a plain file name"))
    if entry["kind"] == "images" and not entry["filename"].endswith(IMAGE_SUFFIXES):
        problems.append((f"{where}: {entry['filename']} is no image archive that K3s imports", f"end it with one of {', '.join(IMAGE_SUFFIXES)}"))
    if entry["kind"] == "package" and _package_format(entry) not in PACKAGE_FORMATS:
        problems.append((f"{where}: {entry['filename']} is no package", f"end it with one of {', '.join('.' + form for form in PACKAGE_FORMATS)}"))
    return problems


def _package_format(entry: dict[str, Any]) -> str:
    return entry["filename"].rpartition(".")[2] if entry["kind"] == "package" else ""


def check_lock(content: Any) -> list[dict[str, Any]]:
    """The entries of a lock file's parsed content; raises LockError with everything that is wrong."""
    if not isinstance(content, dict) or "schema" not in content:
        raise LockError([("it has no schema number", f"start it with 'schema: {SCHEMA}'")])
    if content["schema"] != SCHEMA:
        raise LockError([(f"its schema is {content['schema']!r}", f"this version of the collection reads schema {SCHEMA}")])
    entries = content.get("artifacts")
    if not isinstance(entries, list) or not entries:
        raise LockError([("it has no list of artifacts", "name at least one artifact under 'artifacts'")])
    problems = []
    seen: set[tuple[str, str, str, str]] = set()
    for number, entry in enumerate(entries, start=1):
        name = entry.get("name") if isinstance(entry, dict) else None
        where = f"artifact {number}" + (f" ({name})" if isinstance(name, str) else "")
        found = _entry_problems(where, entry)
        problems.extend(found)
        if not found:
            key = (entry["name"], entry["version"], entry["arch"], _package_format(entry))
            if key in seen:
                problems.append((f"{where} is listed twice for {key[1]} {key[2]}", "remove one of the two"))
            seen.add(key)
    if problems:
        raise LockError(problems)
    return entries


def select(
    entries: list[dict[str, Any]],
    *,
    version: str,
    arch: str,
    images: list[str],
    binary: str = "k3s",
    packages: list[str] | None = None,
    package_format: str = "",
) -> tuple[list[dict[str, Any]], list[str]]:
    """What a host of this architecture receives: the binary, the named image archives and packages. Returns the entries and what is missing.

    The binary, packages and the archives named k3s-* must have the wanted version; other archives may have their own, if it is the only one.
    """
    wanted = [("binary", name) for name in [binary] if name]
    wanted += [("images", name) for name in images]
    wanted += [("package", name) for name in packages or []]
    chosen, missing = [], []
    for kind, name in wanted:
        listed = [entry for entry in entries if entry["name"] == name and entry["kind"] == kind and _package_format(entry) in ("", package_format or "any")]
        candidates = [entry for entry in listed if entry["arch"] == arch]
        exact = [entry for entry in candidates if entry["version"] == version]
        if exact:
            chosen.append(exact[0])
        elif len(candidates) == 1 and kind == "images" and not name.startswith("k3s"):
            chosen.append(candidates[0])
        else:
            known = sorted({f"{entry['version']} {entry['arch']}" for entry in listed})
            what = package_format if kind == "package" else kind
            missing.append(f"{name} ({what}) {version} {arch}" + (f"; listed are {', '.join(known)}" if known else "; no version of it is listed"))
    return chosen, missing


def sha256_of(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def cache_path(cache: str, entry: dict[str, Any]) -> str:
    return os.path.join(cache, entry["sha256"], entry["filename"])


def _identity(path: str) -> list[int]:
    # ctime moves with every write and every change of owner or mode, and nobody can set it back.
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def remember(memo: str, hashes: dict[str, str]) -> None:
    """Keep, next to verified files, which hash belongs to which state of each, so that the next look need not read them."""
    known = {path: {"identity": _identity(path), "sha256": sha256} for path, sha256 in hashes.items() if os.path.isfile(path)}
    text = json.dumps(known, indent=1, sort_keys=True) + "\n"
    try:
        with open(memo, encoding="utf-8") as stream:
            if stream.read() == text:
                return
    except (OSError, ValueError):
        pass
    temporary = f"{memo}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.chmod(temporary, 0o600)
    os.replace(temporary, memo)


def recall(memo: str) -> dict[str, dict[str, Any]]:
    try:
        with open(memo, encoding="utf-8") as stream:
            known = json.load(stream)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def file_state(path: str, *, size: int, sha256: str, known: dict[str, dict[str, Any]]) -> str:
    """missing, size, sha256 (both: differs in it) or ok; a file unchanged since it was verified is not read again."""
    if not os.path.isfile(path):
        return "missing"
    if os.path.getsize(path) != size:
        return "size"
    memory = known.get(path)
    if isinstance(memory, dict) and memory.get("identity") == _identity(path):
        return "ok" if memory.get("sha256") == sha256 else "sha256"
    return "ok" if sha256_of(path) == sha256 else "sha256"
