# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide which cluster software the lab takes: the genuine release if it can be reached, else the lab distribution.

Prints ``{"distribution": "release|upstream", "reason": "..."}``. ``--want auto`` asks for the release's address once and
waits 3 seconds in all, name resolution and redirects included; the other values are taken as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[3]
if str(CHECKOUT) not in sys.path:
    sys.path.insert(0, str(CHECKOUT))

from lab.container_image import ImageError, machine_architecture
from lab.distribution.build import artifacts_lock

RELEASES = CHECKOUT / "collections/ansible_collections/homelab/gpu/roles/k3s_artifacts/files/artifacts.lock.yml"
LIMIT_SECONDS = 3.0


class StayWithHead(urllib.request.HTTPRedirectHandler):
    """Ask the address that an answer leads to with HEAD, too: the default is to start the download."""

    def redirect_request(self, *arguments: Any, **options: Any) -> urllib.request.Request | None:
        request = super().redirect_request(*arguments, **options)
        if request:
            request.method = "HEAD"
        return request


def probe(url: str, limit: float = LIMIT_SECONDS) -> str | None:
    """None if a HEAD request is answered with success, else why not."""
    outcome = [f"no answer within {limit:g} s"]

    def ask() -> None:
        try:
            with urllib.request.build_opener(StayWithHead).open(urllib.request.Request(url, method="HEAD"), timeout=limit):
                outcome[0] = ""
        except urllib.error.HTTPError as error:
            outcome[0] = f"the server answered {error.code} {error.reason}".rstrip()
        except urllib.error.URLError as error:
            outcome[0] = str(getattr(error.reason, "strerror", None) or error.reason)
        except (OSError, ValueError) as error:
            outcome[0] = str(error)

    # A thread that is left behind, since resolving a name cannot be given a time limit
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(limit)
    return outcome[0] or None


def choose(want: str, lock_file: Path, arch: str, limit: float = LIMIT_SECONDS) -> dict[str, str]:
    if want != "auto":
        return {"distribution": want, "reason": f"lab_distribution is {want}"}
    if not lock_file.exists():
        return {"distribution": "upstream", "reason": f"there is no lock file of releases at {lock_file}"}
    binaries = [artifact for artifact in artifacts_lock.read(lock_file) if artifact.kind == "binary" and artifact.arch == arch]
    if not binaries:
        return {"distribution": "upstream", "reason": f"{lock_file} names no binary for {arch}"}
    binary = binaries[0]
    if not binary.url.startswith(("http://", "https://")):
        return {"distribution": "upstream", "reason": f"{binary.url} is not the address of a release"}
    problem = probe(binary.url, limit)
    if problem:
        return {"distribution": "upstream", "reason": f"{binary.name} {binary.version} cannot be reached at {binary.url}: {problem}"}
    return {"distribution": "release", "reason": f"{binary.name} {binary.version} can be reached at {binary.url}"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Decide between the genuine release and the lab distribution.")
    parser.add_argument("--want", choices=("auto", "release", "upstream"), default="auto")
    parser.add_argument("--lock-file", type=Path, default=RELEASES, help="lock file of the genuine release")
    parser.add_argument("--arch", default=None, choices=("amd64", "arm64"), help="architecture of the hosts (default: this machine's)")
    options = parser.parse_args(arguments)
    try:
        print(json.dumps(choose(options.want, options.lock_file, options.arch or machine_architecture())))
    except (artifacts_lock.LockFileError, ImageError) as error:
        print(f"choose: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
