# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the model server's container image: Debian's Python, llama.cpp (xllamacpp), a tiny model.

Run from the repository's root: `python3 -m lab.models.build`. The result is cached by the content of everything it is made of, outside the checkout;
the last line printed names it. `--print` only tells where it is or will be.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from lab import container_image
from lab.models import tiny_model

REPOSITORY: Final = "localhost/homelab-lab/model-server"
HERE: Final = Path(__file__).resolve().parent
INPUTS: Final = (
    *(HERE / name for name in ("gguf_file.py", "tiny_model.py", "server.py", "requirements.txt", "build.py")),
    HERE.parent / "container_image.py",
)
DEBIAN_PACKAGES: Final = ("python3", "libstdc++6", "libgomp1")
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


class BuildError(Exception):
    """A build that cannot go on, in words for whoever started it."""


def cache_root() -> Path:
    if given := os.environ.get("HOMELAB_GPU_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "homelab-gpu"


def content_key(architecture: str, suite: str, inputs: Sequence[Path] = INPUTS) -> str:
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
    """Codename and vendor, e.g. ("bookworm", "debian"): the image is made from the sources this host installs from."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    codename, vendor = (release.get(key, "").strip('"') for key in ("VERSION_CODENAME", "ID"))
    if not codename or not vendor:
        raise BuildError("/etc/os-release has no VERSION_CODENAME and ID: the image can be built on Debian and Ubuntu hosts")
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


def make_root(root: Path, suite: str, vendor: str) -> None:
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


def install_llama(target: Path) -> None:
    run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        + ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-compile", "--target", target, "--requirement", HERE / "requirements.txt"],
        "installing llama.cpp",
    )
    for library in target.rglob("*.so"):
        # Four fifths of the wheel are debug information.
        run(["strip", "--strip-unneeded", library], f"stripping {library.name}")


def make_app(app: Path) -> None:
    (app / "models").mkdir(parents=True)
    with (app / f"models/{tiny_model.NAME}.gguf").open("wb") as stream:
        tiny_model.model().write(stream)
    install_llama(app / "app")
    shutil.copyfile(HERE / "server.py", app / "app/server.py")


def check(root: Path, app: Path) -> None:
    """Ask the model a question inside the image's own root, before anything depends on it."""
    for entry in app.iterdir():
        shutil.copytree(entry, root / entry.name, symlinks=True)
    confined = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    answer = run(
        [*confined, "chroot", root, "/usr/bin/python3", "/app/server.py", "--host", "127.0.0.1", "--question", "ping"], "asking the model", seconds=120
    )
    if answer.strip() != "pong":
        raise BuildError(f"the model answered {answer!r} instead of 'pong'")


def image_names(key: str) -> list[str]:
    """A steady name, and one that is true of this content only."""
    return [f"{REPOSITORY}:1", f"{REPOSITORY}:{key}"]


def build(output: Path, names: Sequence[str], suite: str, vendor: str, say: Callable[[str], None]) -> None:
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise BuildError(f"{tool} is missing: apt-get install {package}")
    with tempfile.TemporaryDirectory(prefix="model-server-", dir=output.parent) as name:
        work = Path(name)
        root, app = work / "root", work / "app"
        say(f"unpacking Python from Debian packages ({suite})")
        make_root(root, suite, vendor)
        base_layer = container_image.write_layer(work / "base.tar", [*container_image.tree_entries(root), container_image.directory("tmp", mode=0o1777)])
        say("installing llama.cpp, making the model")
        make_app(app)
        app_layer = container_image.write_layer(work / "app.tar", container_image.tree_entries(app))
        say("asking the model a question")
        check(root, app)
        say("writing the image")
        done = work / "done"
        done.mkdir()
        images = [
            container_image.Image(
                name,
                [base_layer, app_layer],
                entrypoint=["/usr/bin/python3", "/app/server.py"],
                user="65534:65534",
                env=["PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1", "PATH=/usr/bin:/bin"],
            )
            for name in names
        ]
        archive = done / "model-server.tar"
        container_image.write_archive(archive, images)
        with archive.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        (done / "archive.json").write_text(json.dumps({"size": archive.stat().st_size, "sha256": sha256}) + "\n")
        shutil.copyfile(app / f"models/{tiny_model.NAME}.gguf", done / f"{tiny_model.NAME}.gguf")
        done.chmod(0o755)
        done.rename(output)


def progress(total: int, started: float) -> Callable[[str], None]:
    numbers: Iterator[int] = iter(range(1, total + 1))

    def say(what: str) -> None:
        print(f"model server [{next(numbers)}/{total}] {time.monotonic() - started:5.1f} s  {what}", flush=True)

    return say


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--print", action="store_true", help="tell image, archive, size and sha256 as JSON (the last two null before a build)")
    chosen = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        suite, vendor = suite_of_this_host()
        key = content_key(container_image.machine_architecture(), suite)
        names = image_names(key)
        output = cache_root() / "images" / f"model-server-{key}"
        archive = output / "model-server.tar"
        if chosen.print:
            known = json.loads((output / "archive.json").read_text()) if archive.is_file() else {"size": None, "sha256": None}
            print(json.dumps({"image": names[-1], "archive": str(archive), **known}))
            return 0
        output.parent.mkdir(parents=True, exist_ok=True)
        with Path(f"{output}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not archive.is_file():
                build(output, names, suite, vendor, progress(4, started))
    except (BuildError, container_image.ImageError) as error:
        print(f"model server: {error}", file=sys.stderr)
        return 1
    print(f"model server: {names[-1]} in {archive} ({archive.stat().st_size / 1e6:.0f} MB, {time.monotonic() - started:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
