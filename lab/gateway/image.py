# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a container image with Debian's HAProxy, for use where HAProxy's own image cannot be pulled."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lab import container_image
from lab.distribution.build import toolchain
from lab.models import python_base
from lab.models.python_base import BuildError, package_sources, run, suite_of_this_host

REPOSITORY: Final = "localhost/homelab-lab/haproxy"
HERE: Final = Path(__file__).resolve().parent
ARCHIVE: Final = "haproxy.tar"
INPUTS: Final = (HERE / "image.py", Path(str(container_image.__file__)).resolve(), Path(str(python_base.__file__)).resolve())
TOOLS: Final = {"mmdebstrap": "mmdebstrap", "unshare": "util-linux", "chroot": "coreutils", "apt-cache": "apt"}
# As in HAProxy's own image
USER: Final = "99:99"
CONFIG: Final = "/usr/local/etc/haproxy/haproxy.cfg"
COMMAND: Final = ("haproxy", "-W", "-db", "-f", CONFIG)
# Soft stop: what is in flight ends, nothing new is taken
STOP_SIGNAL: Final = "SIGUSR1"
# HAProxy needs its libraries and nothing else; a shell is for people who look into the container.
KEPT: Final = ("bin", "lib", "lib64", "usr/bin", "usr/lib", "usr/sbin/haproxy", "usr/share/doc", "etc/ld.so.conf", "etc/ld.so.conf.d", "etc/ssl/openssl.cnf")
PROGRAMS: Final = frozenset(
    ("awk", "cat", "chmod", "cp", "cut", "dash", "date", "echo", "env", "false", "grep", "head", "id", "kill", "ls", "mawk", "mkdir", "mv")
    + ("printf", "ps", "rm", "sed", "sh", "sleep", "sort", "stat", "tail", "test", "touch", "tr", "true", "uname", "wc")
)
CHECKED: Final = """
global
  log stdout format raw local0
  maxconn 64
defaults
  mode http
  timeout connect 1s
  timeout client 1s
  timeout server 1s
frontend metrics
  bind 127.0.0.1:8404
  http-request use-service prometheus-exporter if { path /metrics }
"""


def package_version() -> str:
    """What apt would install, for example 2.6.12-1+deb12u4."""
    told = run(["apt-cache", "policy", "haproxy"], "asking for the version of haproxy")
    found = re.search(r"Candidate: (\S+)", told)
    if not found or found[1] == "(none)":
        raise BuildError("apt knows no package haproxy: run apt-get update, then again")
    return found[1]


def content_key(architecture: str, suite: str, version: str, inputs: Sequence[Path] = INPUTS) -> str:
    digest = hashlib.sha256(f"{architecture} {suite} {version}\n".encode())
    for path in inputs:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def tag(version: str) -> str:
    """HAProxy's version, and that it is not its own image."""
    upstream = re.match(r"(?:\d+:)?(\d[\d.]*)", version)
    if not upstream:
        raise BuildError(f"haproxy's version {version!r} does not begin with a number")
    return f"{upstream[1]}-lab1"


def name() -> str:
    return f"{REPOSITORY}:{tag(package_version())}"


def key() -> str:
    suite, _vendor = suite_of_this_host()
    return content_key(container_image.machine_architecture(), suite, package_version())


def unpack(root: Path, suite: str, vendor: str, version: str) -> None:
    keyring = Path(f"/usr/share/keyrings/{vendor}-archive-keyring.gpg")
    options = [f"--keyring={keyring}"] if keyring.exists() else []
    run(
        ["mmdebstrap", "--quiet", "--variant=extract", f"--include=haproxy={version},dash,coreutils,grep,sed,mawk,procps,libc-bin", *options, suite, root, "-"],
        "unpacking Debian packages",
        given=package_sources(vendor),
    )


def trim(root: Path) -> None:
    """Keep what HAProxy needs to run, a few tools, and all copyright files."""
    for path in sorted(root.rglob("*"), reverse=True):
        name = str(path.relative_to(root))
        folder = path.is_dir() and not path.is_symlink()
        if not _is_kept(name, folder):
            if folder:
                shutil.rmtree(path)
            else:
                path.unlink()


def _is_kept(name: str, folder: bool) -> bool:
    if folder and any(kept.startswith(f"{name}/") for kept in KEPT):
        return True
    if not any(name == kept or name.startswith(f"{kept}/") for kept in KEPT):
        return False
    parts = name.split("/")
    if parts[-2:-1] == ["bin"]:
        return parts[-1] in PROGRAMS
    if name.startswith("usr/share/doc/"):
        return folder or parts[-1] == "copyright"
    if name.startswith("usr/lib/"):
        return not re.match(r"usr/lib/(?!([^/]+-linux-gnu|ssl)(/|$))", name) and not re.search(r"/(gconv|perl|perl-base|perl5)(/|$)", name)
    return True


def system_files() -> list[container_image.Entry]:
    return [
        container_image.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nhaproxy:x:99:99:haproxy:/var/lib/haproxy:/bin/false\n"),
        container_image.text("etc/group", "root:x:0:\nhaproxy:x:99:\n"),
        container_image.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
        # Where HAProxy's own image has it
        container_image.link("usr/local/sbin/haproxy", "/usr/sbin/haproxy"),
        container_image.directory("usr/local/etc/haproxy"),
        container_image.directory("var/lib/haproxy", 0o755),
        container_image.directory("tmp", 0o1777),
    ]


def check(root: Path, version: str) -> None:
    """Let the HAProxy of the image tell its version, what it was built with, and judge a config, inside the image's own root."""
    config = root / "check.cfg"
    config.write_text(CHECKED)
    confined = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    inside = [*confined, "chroot", str(root), "/usr/sbin/haproxy"]
    told = run([*inside, "-vv"], "starting haproxy", seconds=60)
    for wanted in (f"HAProxy version {version}", "Built with Lua", "Prometheus exporter", "Built with OpenSSL"):
        if wanted not in told:
            raise BuildError(f"the image's haproxy does not say {wanted!r}:\n{told[:1000]}")
    run([*inside, "-c", "-f", "/check.cfg"], "having haproxy check a config", seconds=60)
    config.unlink()


def build() -> Path:
    """The image as a docker-archive."""
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise BuildError(f"{tool} is missing: apt-get install {package}")
    suite, vendor = suite_of_this_host()
    version = package_version()
    home = toolchain.cache_directory() / "images" / f"haproxy-{key()}"
    with python_base.made_once(home) as done:
        if done:
            with tempfile.TemporaryDirectory(prefix="haproxy-", dir=home.parent) as scratch:
                root = Path(scratch, "root")
                unpack(root, suite, vendor, version)
                trim(root)
                check(root, version)
                layer = container_image.write_layer(Path(scratch, "layer.tar"), [*container_image.tree_entries(root), *system_files()])
                image = container_image.Image(name(), [layer], command=COMMAND, user=USER, working_directory="/var/lib/haproxy", stop_signal=STOP_SIGNAL)
                container_image.write_archive(done / ARCHIVE, [image])
    return home / ARCHIVE
