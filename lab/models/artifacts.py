# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build what serves models in the lab, and the lock file that describes it: Ollama, the stand-in for vLLM, HAProxy in front of them, and
the tiny model as a bundle.

The line printed is the lock file's path; `--print` only tells where it is or will be.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
if str(CHECKOUT) not in sys.path:
    sys.path.insert(0, str(CHECKOUT))

from lab import container_image
from lab.distribution.build import artifacts_lock, toolchain
from lab.gateway import image as haproxy
from lab.models import python_base, tiny_model
from lab.models.ollama import image as ollama
from lab.models.vllm_standin import image as vllm


def lock_path() -> Path:
    keys = hashlib.sha256("".join(f"{part.key()}\n" for part in (ollama, vllm, haproxy)).encode()).hexdigest()[:16]
    return toolchain.cache_directory() / "images" / f"serving-{keys}.lock.yml"


def build() -> Path:
    arch = container_image.machine_architecture()
    ollama_archive, store = ollama.build()
    files = [
        ("ollama", ollama.name().rpartition(":")[2], "images", ollama_archive),
        ("vllm", vllm.NAME.rpartition(":")[2], "images", vllm.build()),
        ("haproxy", haproxy.name().rpartition(":")[2], "images", haproxy.build()),
        (tiny_model.NAME, "1", "bundle", store),
    ]
    entries = [artifacts_lock.describe(path, name=name, version=version, arch=arch, kind=kind, final=path) for name, version, kind, path in files]
    path = lock_path()
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(artifacts_lock.render(entries), encoding="utf-8")
    partial.replace(path)
    return path


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="only print where the lock file is, or would be")
    options = parser.parse_args(words)
    try:
        print(lock_path() if options.print else build())
    except (python_base.BuildError, container_image.ImageError, toolchain.ToolError, subprocess.CalledProcessError) as error:
        print(f"artifacts: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
