# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build what GPU nodes of the lab receive, and the lock file that describes it: NVIDIA's container toolkit and the
device plugin's stand-in.

The line printed is the lock file's path; `--print` only tells where it is or will be.
"""

from __future__ import annotations

import argparse
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
from lab.gpu.device_plugin import image
from lab.gpu.toolkit import packages


def lock_path() -> Path:
    return toolchain.cache_directory() / "gpu" / f"artifacts-{packages.key()}-{image.key()}.lock.yml"


def build() -> Path:
    arch = container_image.machine_architecture()
    entries = [
        artifacts_lock.describe(path, name=name, version=packages.version(), arch=arch, kind="package", final=path) for name, path in packages.build().items()
    ]
    archive = image.build()
    version = image.NAME.rpartition(":")[2]
    entries.append(artifacts_lock.describe(archive, name="k8s-device-plugin", version=version, arch=arch, kind="images", final=archive))
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
    except (packages.PackageError, image.BuildError, container_image.ImageError, toolchain.ToolError, subprocess.CalledProcessError) as error:
        print(f"artifacts: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
