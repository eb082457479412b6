# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write container images as a docker-archive, without a container engine and without root.

The archive can be imported by containerd (``ctr -n k8s.io images import``) and podman (``podman load``). The same input gives the same
bytes: entries are sorted, owners are 0:0, times are the epoch. Python trees should therefore hold hash-based ``.pyc`` files
(``python3 -m compileall --invalidation-mode unchecked-hash``): those checked by time would be compiled anew at every start.

As a module::

    layer = write_layer(work / "layer.tar", [*tree_entries(root), directory("tmp", mode=0o1777)])
    write_archive(out, [Image("localhost/example:1", [layer], entrypoint=["/app"], user="65534")])

As a command: ``python3 container_image.py --name localhost/example:1 --root DIR --entrypoint /app --output example.tar``.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

NAME = re.compile(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
EPOCH = "1970-01-01T00:00:00Z"
BLOCK = 1024 * 1024


class ImageError(Exception):
    """Input that cannot become an image; the text names the value and the fix."""


@dataclass(frozen=True)
class Entry:
    """One path of a layer: a file (``source`` or ``data``), a link (``target``), or a directory (none of them)."""

    path: str
    mode: int
    source: Path | None = None
    data: bytes | None = None
    target: str | None = None


@dataclass(frozen=True)
class Layer:
    """An uncompressed tar on disk and its digest."""

    path: Path
    digest: str
    size: int


@dataclass(frozen=True)
class Image:
    """What one image of an archive is made of; ``name`` is complete: registry, repository, tag."""

    name: str
    layers: Sequence[Layer]
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    env: Sequence[str] = ()
    user: str = ""
    working_directory: str = "/"
    labels: dict[str, str] = field(default_factory=dict)
    architecture: str = ""
    stop_signal: str = ""


def machine_architecture() -> str:
    """This machine's architecture in the spelling of container images."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise ImageError(f"machine architecture {machine!r} is not supported; use one of {', '.join(sorted(set(ARCHITECTURES.values())))}")
    return ARCHITECTURES[machine]


def _relative(path: str) -> str:
    parts = PurePosixPath("/", path).parts[1:]
    if not parts or ".." in parts:
        raise ImageError(f"path {path!r} in a layer must name something below the root directory, without '..'")
    return "/".join(parts)


def file(path: str, source: Path, mode: int = 0o755) -> Entry:
    return Entry(_relative(path), mode, source=source)


def text(path: str, content: str, mode: int = 0o644) -> Entry:
    return Entry(_relative(path), mode, data=content.encode())


def link(path: str, target: str) -> Entry:
    return Entry(_relative(path), 0o777, target=target)


def directory(path: str, mode: int = 0o755) -> Entry:
    return Entry(_relative(path), mode)


def tree_entries(root: Path, prefix: str = "/") -> Iterator[Entry]:
    """All of a directory. Modes become 0755 or 0644, so that the umask of whoever made the tree does not show."""
    if not root.is_dir():
        raise ImageError(f"root {str(root)!r} is not a directory; give the directory whose content becomes the layer")
    for folder, folders, files in os.walk(root):
        below = PurePosixPath(prefix, os.path.relpath(folder, root))
        for name in sorted([*folders, *files]):
            source, path = Path(folder, name), str(below / name)
            mode = source.lstat().st_mode
            if stat.S_ISLNK(mode):
                yield link(path, os.readlink(source))
            elif stat.S_ISDIR(mode):
                yield directory(path)
            elif stat.S_ISREG(mode):
                yield file(path, source, 0o755 if mode & 0o111 else 0o644)
            else:
                raise ImageError(f"{source} is neither file, directory nor symbolic link; remove it from the image's root")


def busybox_entries(program: Path) -> Iterator[Entry]:
    """A static busybox in /usr/bin, and a link for each of its applets."""
    yield file("usr/bin/busybox", program)
    for applet in subprocess.run([str(program), "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            yield link(f"usr/bin/{applet}", "busybox")


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write beside the target and rename: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _header(name: str, mode: int, size: int = 0, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.size, info.type, info.linkname = mode, size, kind, target
    return info


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    if entry.target is not None:
        tar.addfile(_header(entry.path, entry.mode, kind=tarfile.SYMTYPE, target=entry.target))
    elif entry.data is not None:
        tar.addfile(_header(entry.path, entry.mode, len(entry.data)), io.BytesIO(entry.data))
    elif entry.source is not None:
        with entry.source.open("rb") as content:
            tar.addfile(_header(entry.path, entry.mode, os.fstat(content.fileno()).st_size), content)
    else:
        tar.addfile(_header(entry.path, entry.mode, kind=tarfile.DIRTYPE))


def _sha256(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := stream.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()


def write_layer(path: Path, entries: Iterable[Entry]) -> Layer:
    """Write entries as a layer; parent directories are added, and of two entries for one path the later one counts."""
    wanted = {entry.path: entry for entry in entries}
    for entry in list(wanted.values()):
        for parent in PurePosixPath(entry.path).parents:
            if str(parent) != ".":
                wanted.setdefault(str(parent), directory(str(parent)))
    with _replacing(path) as out, tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(wanted):
            _add(tar, wanted[name])
    return existing_layer(path)


def existing_layer(path: Path) -> Layer:
    """A layer somebody else made, as an uncompressed tar."""
    try:
        with path.open("rb") as stream:
            if stream.read(2) == b"\x1f\x8b":
                raise ImageError(f"layer {path} is compressed; give the plain tar (gzip -d)")
            stream.seek(0)
            return Layer(path, _sha256(stream), path.stat().st_size)
    except FileNotFoundError as error:
        raise ImageError(f"layer {path} does not exist") from error


def _config(image: Image) -> bytes:
    running: dict[str, object] = {"WorkingDir": image.working_directory}
    running["Env"] = list(image.env) or ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    given = {
        "Entrypoint": list(image.entrypoint),
        "Cmd": list(image.command),
        "User": image.user,
        "Labels": image.labels,
        "StopSignal": image.stop_signal,
    }
    for key, value in given.items():
        if value:
            running[key] = value
    return json.dumps(
        {
            "architecture": image.architecture or machine_architecture(),
            "config": running,
            "created": EPOCH,
            "history": [{"created": EPOCH, "created_by": "container_image.py"} for _layer in image.layers],
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in image.layers]},
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode()


def _check(images: Sequence[Image]) -> None:
    names = [image.name for image in images]
    for image in images:
        if not NAME.fullmatch(image.name):
            raise ImageError(f"image name {image.name!r} is not complete; write it as registry/repository:tag, such as localhost/example:1")
        if names.count(image.name) > 1:
            raise ImageError(f"image name {image.name!r} is given twice; each image of an archive needs its own")
        if not image.layers:
            raise ImageError(f"image {image.name!r} has no layer; give at least one root directory or layer")
        for variable in image.env:
            if not re.match(r"[A-Za-z_][A-Za-z0-9_]*=", variable):
                raise ImageError(f"environment {variable!r} of image {image.name!r} must be NAME=value")


def write_archive(path: Path, images: Sequence[Image]) -> None:
    """Write images as one docker-archive; a layer used by several images is stored once. A name ending in .gz is compressed."""
    _check(images)
    with _replacing(path) as out:
        if path.name.endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0, compresslevel=6) as packed:
                _write_archive(packed, images)
        else:
            _write_archive(out, images)


def _write_archive(out: IO[bytes] | gzip.GzipFile, images: Sequence[Image]) -> None:
    manifest = []
    written: set[str] = set()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for image in images:
            config = _config(image)
            config_name = hashlib.sha256(config).hexdigest() + ".json"
            manifest.append({"Config": config_name, "RepoTags": [image.name], "Layers": [f"{layer.digest}.tar" for layer in image.layers]})
            if config_name not in written:
                tar.addfile(_header(config_name, 0o644, len(config)), io.BytesIO(config))
                written.add(config_name)
            for layer in image.layers:
                if layer.digest not in written:
                    _add(tar, file(f"{layer.digest}.tar", layer.path, 0o644))
                    written.add(layer.digest)
        listing = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
        tar.addfile(_header("manifest.json", 0o644, len(listing)), io.BytesIO(listing))


def _words(value: str) -> list[str]:
    if not value.startswith("["):
        return [value]
    try:
        words = json.loads(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{value!r} is not a JSON list: {error}") from error
    if not all(isinstance(word, str) for word in words):
        raise argparse.ArgumentTypeError(f"{value!r} must be a JSON list of strings")
    return words


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write one container image as a docker-archive.")
    parser.add_argument("--name", required=True, help="registry/repository:tag")
    parser.add_argument("--output", required=True, type=Path, help="archive to write: .tar or .tar.gz")
    parser.add_argument("--layer", action="append", default=[], type=Path, metavar="TAR", help="uncompressed tar, lowest layer first (repeatable)")
    parser.add_argument("--root", action="append", default=[], type=Path, metavar="DIR", help="directory that becomes a layer above --layer (repeatable)")
    parser.add_argument("--entrypoint", type=_words, default=[], metavar="PATH|JSON", help="program, or a JSON list of words")
    parser.add_argument("--command", type=_words, default=[], metavar="WORD|JSON", help="default arguments: one word, or a JSON list")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--user", default="", help="user[:group], by number in images without /etc/passwd")
    parser.add_argument("--workdir", default="/")
    options = parser.parse_args(arguments)
    scratch = Path(tempfile.mkdtemp(prefix="container-image-"))
    try:
        layers = [existing_layer(path) for path in options.layer]
        layers += [write_layer(scratch / f"{number}.tar", tree_entries(root)) for number, root in enumerate(options.root)]
        image = Image(options.name, layers, options.entrypoint, options.command, options.env, options.user, options.workdir)
        write_archive(options.output, [image])
    except ImageError as error:
        print(f"container_image: {error}", file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(scratch)
    print(f"{options.output}: {options.name}, {options.output.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
