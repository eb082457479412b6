# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of a lab host, made by mmdebstrap from the machine's own package sources and kept by its recipe's hash.

It is kept as a podman image store, which each lab uses read-only beside its own storage: a new lab copies nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.hosts.identity import LabError

RECIPE = Path(__file__).resolve().parent / "image"
OPTIONS = (
    "--mode=root",
    "--variant=minbase",
    "--format=tar",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    '--aptopt=Apt::Install-Recommends "false"',
)
# What of the machine's way to its package sources the build needs too
APT_SETTINGS = ("Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::Check-Valid-Until", "Acquire::Check-Date")
# The lines of mmdebstrap which say where it is
STAGES = ("I: running apt-get", "I: downloading", "I: extracting", "I: installing", "I: creating", "I: success")


@dataclass(frozen=True)
class PackageSource:
    """One suite of the machine's package sources."""

    uri: str
    suite: str
    component: str
    signed_by: str

    def line(self, components: Sequence[str]) -> str:
        options = f"[signed-by={self.signed_by}] " if self.signed_by else ""
        return f"deb {options}{self.uri} {self.suite} {' '.join(components)}"


def distribution_of(os_release: str) -> tuple[str, str]:
    """ID and code name from the text of /etc/os-release."""
    fields = dict(re.findall(r'^(\w+)="?(.*?)"?$', os_release, re.MULTILINE))
    identity, codename = fields.get("ID", ""), fields.get("VERSION_CODENAME", "")
    if identity not in ("debian", "ubuntu") or not codename:
        raise LabError(
            f"The lab's host image is made from the machine's own Debian or Ubuntu package sources; this is {fields.get('PRETTY_NAME', 'another system')}."
        )
    return identity, codename


def parse_index_targets(text: str) -> list[PackageSource]:
    """From ``apt-get indextargets``: one paragraph an index file; the package lists among them."""
    found = []
    for paragraph in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
        if fields.get("Created-By") == "Packages":
            signed_by = fields.get("Signed-By", "")
            # A key in the paragraph itself stands there over several lines and cannot be passed on; a file name can
            found.append(
                PackageSource(
                    fields.get("Repo-URI", ""), fields.get("Release", ""), fields.get("Component", ""), signed_by if signed_by.startswith("/") else ""
                )
            )
    return found


def sources_for(codename: str, sources: Sequence[PackageSource]) -> list[str]:
    """The sources of the distribution itself, as lines of a sources.list; third parties' are left out."""
    suites = (codename, f"{codename}-updates", f"{codename}-security")
    components: dict[tuple[str, str], tuple[PackageSource, list[str]]] = {}
    for source in sources:
        if source.suite in suites and source.component in ("main", "universe"):
            wanted = components.setdefault((source.uri, source.suite), (source, []))[1]
            if source.component not in wanted:
                wanted.append(source.component)
    if not any(suite == codename for _uri, suite in components):
        raise LabError(
            f"The package sources of this machine have no suite {codename!r} with the component main: add it to /etc/apt/sources.list.d and run apt-get update."
        )
    return [source.line(wanted) for source, wanted in components.values()]


def read_packages(path: Path) -> list[str]:
    lines = (line.split("#", 1)[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def overlay_files(root: Path) -> Iterator[tuple[str, bytes, bool]]:
    """The recipe's own files: path in the image, content, executable."""
    for path in sorted(root.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(root)), path.read_bytes(), bool(path.stat().st_mode & 0o100)


def overlay_archive(root: Path) -> bytes:
    """The recipe's own files as a tar, owned by root whoever owns the checkout."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content, executable in overlay_files(root):
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            member.mode = 0o755 if executable else 0o644
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def recipe_hash(recipe: Path, identity: str, codename: str, architecture: str) -> str:
    digest = hashlib.sha256()
    for part in (identity, codename, architecture, *OPTIONS, *read_packages(recipe / "packages.txt"), (recipe / "finish.sh").read_text(encoding="utf-8")):
        digest.update(part.encode() + b"\0")
    for name, content, executable in overlay_files(recipe / "files"):
        digest.update(f"{name}\0{executable}\0".encode() + content + b"\0")
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Image:
    """The image which the recipe asks for on this machine, built or not."""

    reference: str
    store: Path
    codename: str

    @property
    def built(self) -> bool:
        return self.store.is_dir()


def wanted_image(cache: Path, recipe: Path = RECIPE) -> Image:
    identity, codename = distribution_of(Path("/etc/os-release").read_text(encoding="utf-8"))
    key = recipe_hash(recipe, identity, codename, platform.machine())
    return Image(f"localhost/homelab-gpu-lab-host:{codename}-{key}", cache / "images" / f"lab-host-{codename}-{key}", codename)


def default_cache() -> Path:
    base = os.environ.get("HOMELAB_GPU_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "homelab-gpu"


@contextmanager
def _only_one_builder(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _apt_options() -> list[str]:
    dump = subprocess.run(["apt-config", "dump", *APT_SETTINGS], capture_output=True, text=True, check=True).stdout
    return [f"--aptopt={line.rstrip(';')}" for line in dump.splitlines() if not line.endswith('"";')]


def _make_root(image: Image, recipe: Path, folder: Path, archive: Path, say: Callable[[str], None]) -> None:
    listing = subprocess.run(["apt-get", "indextargets"], capture_output=True, text=True, check=True).stdout
    mirrors = sources_for(image.codename, parse_index_targets(listing))
    overlay = folder / "files.tar"
    overlay.write_bytes(overlay_archive(recipe / "files"))
    finish = folder / "finish.sh"
    finish.write_bytes((recipe / "finish.sh").read_bytes())
    command = [
        "mmdebstrap",
        *OPTIONS,
        *_apt_options(),
        f"--include={','.join(read_packages(recipe / 'packages.txt'))}",
        f"--customize-hook=tar-in {overlay} /",
        f'--customize-hook=chroot "$1" sh -s <{finish}',
        image.codename,
        str(archive),
        *mirrors,
    ]
    last: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            last = [*last[-30:], line]
            if line.startswith(STAGES):
                say(line[3:].strip())
    if process.returncode != 0:
        raise LabError(f"mmdebstrap failed ({process.returncode}); its last words:\n{''.join(last)}")


def _import(image: Image, archive: Path, store: Path) -> None:
    """In a mount namespace of its own, so that podman leaves no mount behind."""
    # podman refuses a run directory of more than 50 characters
    with tempfile.TemporaryDirectory(prefix="hl-", dir="/run") as name:
        settings = Path(name) / "containers.conf"
        settings.write_text(
            f'[engine]\nevents_logger = "none"\nlock_type = "file"\ntmp_dir = "{name}/tmp"\n[network]\nnetwork_config_dir = "{name}/networks"\n',
            encoding="utf-8",
        )
        command = ["unshare", "--mount", "podman", "--root", str(store), "--runroot", f"{name}/run", "--storage-driver", "overlay", "import", "--quiet"]
        command += ["--change", 'CMD ["/sbin/init"]', "--change", "STOPSIGNAL SIGRTMIN+3", str(archive), image.reference]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CONTAINERS_CONF": str(settings)})
    if done.returncode != 0:
        raise LabError(f"podman could not import the image ({done.returncode}): {done.stderr.strip()[-2000:]}")


def build(image: Image, say: Callable[[str], None], recipe: Path = RECIPE) -> bool:
    """Make the image if it is missing; True if it was made."""
    image.store.parent.mkdir(parents=True, exist_ok=True)
    with _only_one_builder(image.store.parent):
        if image.built:
            return False
        partial = image.store.with_name(f".{image.store.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=image.store.parent) as name:
            folder = Path(name)
            archive = folder / "root.tar"
            _make_root(image, recipe, folder, archive, say)
            say("importing into podman")
            _import(image, archive, partial)
        partial.rename(image.store)
    return True
