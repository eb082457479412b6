# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The controller's cache of artifacts: fetching and verifying. Private to this collection.

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

import yaml
from ansible.module_utils.urls import open_url

from ansible_collections.homelab.gpu.plugins.module_utils._artifacts import LockError, cache_path, check_lock, file_state, recall, remember

__all__ = ["FetchError", "default_cache", "fetch_all", "read_lock"]

_CHUNK = 1024 * 1024


class FetchError(Exception):
    """An artifact cannot be had, or is not what the lock file says."""


def default_cache(environment: Mapping[str, str]) -> str:
    user = environment.get("XDG_CACHE_HOME") or os.path.join(environment.get("HOME") or os.path.expanduser("~"), ".cache")
    return os.path.join(environment.get("HOMELAB_GPU_CACHE") or os.path.join(user, "homelab-gpu"), "artifacts")


def read_lock(path: str) -> list[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8") as stream:
            content = yaml.safe_load(stream)
    except OSError as error:
        raise LockError([(f"it cannot be read: {error.strerror}", "name an existing file")]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LockError([(f"it is not YAML: {' '.join(str(error).split())}", "correct it")]) from error
    return check_lock(content)


def _wrong(entry: dict[str, Any], what: str, expected: object, actual: object) -> FetchError:
    return FetchError(
        f"{entry['name']} {entry['version']} {entry['arch']} from {entry['url']} has {what} {actual}, and the lock file says {expected}. "
        "Nothing of it was kept. Fix the entry in the lock file if the source is right, or the source if the entry is."
    )


def _open(entry: dict[str, Any], stall_seconds: int) -> Any:
    url = urlsplit(entry["url"])
    if url.scheme == "file":
        return open(unquote(url.path), "rb")
    return open_url(entry["url"], timeout=stall_seconds, http_agent="homelab.gpu")


def _copy(entry: dict[str, Any], sink: Any, *, stall_seconds: int, timeout_seconds: int) -> None:
    deadline = time.monotonic() + timeout_seconds
    digest, size = hashlib.sha256(), 0
    try:
        with _open(entry, stall_seconds) as source:
            while chunk := source.read(_CHUNK):
                size += len(chunk)
                if size > entry["size"]:
                    raise _wrong(entry, "a size of", f"{entry['size']} bytes", f"at least {size} bytes")
                digest.update(chunk)
                if sink is not None:
                    sink.write(chunk)
                if time.monotonic() > deadline:
                    raise FetchError(
                        f"{entry['name']} from {entry['url']} took longer than {timeout_seconds} s. Raise k3s_artifacts_timeout_seconds or use a nearer source."
                    )
    except HTTPError as error:
        raise FetchError(f"{entry['name']} from {entry['url']}: HTTP {error.code} {error.reason}. Fix the url in the lock file.") from error
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise FetchError(
            f"{entry['name']} from {entry['url']}: {reason}. Make the source reachable from the controller, or fix the url in the lock file."
        ) from error
    if size != entry["size"]:
        raise _wrong(entry, "a size of", f"{entry['size']} bytes", f"{size} bytes")
    if digest.hexdigest() != entry["sha256"]:
        raise _wrong(entry, "sha256", entry["sha256"], digest.hexdigest())


def _fetch(cache: str, entry: dict[str, Any], *, stall_seconds: int, timeout_seconds: int) -> None:
    target = cache_path(cache, entry)
    directory = os.path.dirname(target)
    os.makedirs(directory, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=".partial.", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as sink:
            _copy(entry, sink, stall_seconds=stall_seconds, timeout_seconds=timeout_seconds)
        os.chmod(partial, 0o644)
        os.replace(partial, target)
    except BaseException:
        os.unlink(partial)
        raise


def fetch_all(
    cache: str, entries: list[dict[str, Any]], *, check_mode: bool, parallel: int, stall_seconds: int, timeout_seconds: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Bring all entries into the cache. Returns what was (or would be) fetched, and the problems, one text for each artifact."""
    memo = os.path.join(cache, "verified.json")
    known = recall(memo)
    unique = {cache_path(cache, entry): entry for entry in entries}
    wanted = [entry for path, entry in unique.items() if file_state(path, size=entry["size"], sha256=entry["sha256"], known=known) != "ok"]

    def attempt(entry: dict[str, Any]) -> str | None:
        try:
            if not check_mode:
                _fetch(cache, entry, stall_seconds=stall_seconds, timeout_seconds=timeout_seconds)
            elif entry["url"].startswith("file:"):
                _copy(entry, None, stall_seconds=stall_seconds, timeout_seconds=timeout_seconds)
        except FetchError as error:
            return str(error)
        except OSError as error:
            return f"{entry['name']}: {error.strerror}: {error.filename}. Make the cache directory {cache} writable and roomy, or set another one."
        return None

    with ThreadPoolExecutor(max_workers=max(1, parallel)) as pool:
        problems = [problem for problem in pool.map(attempt, wanted) if problem]
    if unique and not problems and not check_mode:
        kept = {path: memory["sha256"] for path, memory in known.items() if os.path.isfile(path) and "sha256" in memory}
        remember(memo, {**kept, **{path: entry["sha256"] for path, entry in unique.items()}})
    return wanted, problems
