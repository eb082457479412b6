# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import gzip
import hashlib
import json
import os
import socket
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab import container_image
from lab.container_image import Image, ImageError, Layer

NAME = "localhost/homelab-lab/example:1"


def make_tree(root: Path, stamp: int = 0) -> Path:
    (root / "bin").mkdir(parents=True)
    (root / "bin/app").write_bytes(b"\x7fELF program")
    (root / "bin/app").chmod(0o750)
    (root / "etc").mkdir()
    (root / "etc/settings").write_text("a=1\n")
    (root / "etc/settings").chmod(0o600)
    (root / "bin/alias").symlink_to("app")
    for path in (root / "bin/app", root / "etc/settings", root / "etc"):
        os.utime(path, (stamp, stamp))
    return root


def make_layer(folder: Path, content: str = "x") -> Layer:
    return container_image.write_layer(folder / f"{content}.tar", [container_image.text(f"etc/{content}", content)])


def contents(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name: stream.read() for member in tar if (stream := tar.extractfile(member))}


def manifest(archive: Path) -> list[dict[str, Any]]:
    return json.loads(contents(archive)["manifest.json"])


def test_the_stop_signal_is_told(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    container_image.write_archive(archive, [Image(NAME, [make_layer(tmp_path)], stop_signal="SIGUSR1"), Image("localhost/other:1", [make_layer(tmp_path)])])
    files = contents(archive)
    signals = [json.loads(files[entry["Config"]])["config"].get("StopSignal") for entry in manifest(archive)]
    assert signals == ["SIGUSR1", None]


def test_digests_of_an_archive(tmp_path: Path) -> None:
    layers = [make_layer(tmp_path, "lower"), make_layer(tmp_path, "upper")]
    archive = tmp_path / "image.tar"
    container_image.write_archive(archive, [Image(NAME, layers, entrypoint=["/app"], user="65534", env=["A=b=c"], architecture="arm64")])
    files = contents(archive)
    (entry,) = manifest(archive)
    assert entry["RepoTags"] == [NAME]
    config = files[entry["Config"]]
    assert entry["Config"] == hashlib.sha256(config).hexdigest() + ".json"
    described = json.loads(config)
    assert [hashlib.sha256(files[name]).hexdigest() for name in entry["Layers"]] == [layer.digest for layer in layers]
    assert described["rootfs"] == {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in layers]}
    assert described["config"] == {"Entrypoint": ["/app"], "User": "65534", "Env": ["A=b=c"], "WorkingDir": "/"}
    assert (described["os"], described["architecture"]) == ("linux", "arm64")
    assert len(described["history"]) == len(layers)


def test_bytes_depend_on_content_alone(tmp_path: Path) -> None:
    archives = []
    for number, stamp in enumerate((1_000_000_000, 1_700_000_000)):
        place = tmp_path / f"place{number}"
        layer = container_image.write_layer(place / "layer.tar", container_image.tree_entries(make_tree(place / "root", stamp)))
        for name in ("image.tar", "image.tar.gz"):
            container_image.write_archive(place / name, [Image(NAME, [layer], architecture="amd64")])
        archives.append([(place / name).read_bytes() for name in ("image.tar", "image.tar.gz")])
    assert archives[0] == archives[1]
    assert gzip.decompress(archives[0][1]) == archives[0][0]


def test_other_content_gives_another_digest(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "root")
    before = container_image.write_layer(tmp_path / "1.tar", container_image.tree_entries(root))
    (root / "bin/app").write_bytes(b"\x7fELF PROGRAM")
    after = container_image.write_layer(tmp_path / "2.tar", container_image.tree_entries(root))
    assert before.size == after.size
    assert before.digest != after.digest


def test_entries_of_a_layer(tmp_path: Path) -> None:
    entries = [
        *container_image.tree_entries(make_tree(tmp_path / "root"), prefix="/opt"),
        container_image.directory("/tmp", 0o1777),
        container_image.text("opt/etc/settings", "a=2\n", 0o640),
        container_image.link("usr/bin/app", "/opt/bin/app"),
    ]
    with tarfile.open(container_image.write_layer(tmp_path / "layer.tar", entries).path) as tar:
        members = {member.name: member for member in tar}
        settings = tar.extractfile("opt/etc/settings")
        assert settings is not None
        assert settings.read() == b"a=2\n"
    assert list(members) == sorted(members)
    assert {name: oct(member.mode) for name, member in members.items() if not member.issym()} == {
        "opt": "0o755",
        "opt/bin": "0o755",
        "opt/bin/app": "0o755",
        "opt/etc": "0o755",
        "opt/etc/settings": "0o640",
        "tmp": "0o1777",
        "usr": "0o755",
        "usr/bin": "0o755",
    }
    assert {name: member.linkname for name, member in members.items() if member.issym()} == {"opt/bin/alias": "app", "usr/bin/app": "/opt/bin/app"}
    assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(0, 0, 0)}


def test_long_paths(tmp_path: Path) -> None:
    path = "/".join(["d" * 120] * 3)
    with tarfile.open(container_image.write_layer(tmp_path / "layer.tar", [container_image.text(path, "x")]).path) as tar:
        assert path in tar.getnames()


def test_shared_layers_are_stored_once(tmp_path: Path) -> None:
    shared, own = make_layer(tmp_path, "shared"), make_layer(tmp_path, "own")
    archive = tmp_path / "images.tar"
    container_image.write_archive(archive, [Image(NAME, [shared]), Image("localhost/other:2", [shared, own])])
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert sorted(names) == sorted(set(names))
    assert [entry["Layers"] for entry in manifest(archive)] == [[f"{shared.digest}.tar"], [f"{shared.digest}.tar", f"{own.digest}.tar"]]


@pytest.mark.parametrize(
    "name", ["example", "localhost/example", "example:1", "localhost/Example:1", "localhost/example:", "localhost//example:1", "localhost/a:1:2"]
)
def test_incomplete_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="registry/repository:tag") as caught:
        container_image.write_archive(tmp_path / "image.tar", [Image(name, [make_layer(tmp_path)])])
    assert repr(name) in str(caught.value)
    assert not (tmp_path / "image.tar").exists()


@pytest.mark.parametrize("name", ["localhost:5000/a/b_c/d.e:v1.2-3_x", "registry.example.test/a:1"])
def test_complete_names(tmp_path: Path, name: str) -> None:
    container_image.write_archive(tmp_path / "image.tar", [Image(name, [make_layer(tmp_path)])])
    assert manifest(tmp_path / "image.tar")[0]["RepoTags"] == [name]


def test_unusable_images(tmp_path: Path) -> None:
    good = Image(NAME, [make_layer(tmp_path)])
    for images, problem in (
        ([good, good], "given twice"),
        ([replace(good, layers=[])], "has no layer"),
        ([replace(good, env=["NOVALUE"])], "NAME=value"),
    ):
        with pytest.raises(ImageError, match=problem):
            container_image.write_archive(tmp_path / "image.tar", images)


@pytest.mark.parametrize("path", ["../etc/passwd", "/", "", "a/../../b"])
def test_paths_outside_the_image(path: str) -> None:
    with pytest.raises(ImageError, match="below the root"):
        container_image.text(path, "x")


def test_tree_with_a_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        with pytest.raises(ImageError, match="neither file, directory nor symbolic link"):
            list(container_image.tree_entries(tmp_path))


def test_failed_write_leaves_the_old_archive(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    container_image.write_archive(archive, [Image(NAME, [make_layer(tmp_path)])])
    before = archive.read_bytes()
    gone = make_layer(tmp_path, "gone")
    gone.path.unlink()
    with pytest.raises(FileNotFoundError):
        container_image.write_archive(archive, [Image(NAME, [gone])])
    assert archive.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tar", "x.tar"]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer, root, archive = make_layer(tmp_path), make_tree(tmp_path / "root"), tmp_path / "out/image.tar"
    words = ["--layer", str(layer.path), "--root", str(root), "--entrypoint", '["/bin/app", "-x"]', "--command", "serve", "--env", "A=1", "--user", "1000:1000"]
    assert container_image.main(["--name", NAME, "--output", str(archive), *words]) == 0
    assert NAME in capsys.readouterr().out
    (entry,) = manifest(archive)
    described = json.loads(contents(archive)[entry["Config"]])["config"]
    assert described == {"Entrypoint": ["/bin/app", "-x"], "Cmd": ["serve"], "Env": ["A=1"], "User": "1000:1000", "WorkingDir": "/"}
    assert entry["Layers"][0] == f"{layer.digest}.tar"
    assert len(entry["Layers"]) == 2


@pytest.mark.parametrize(
    ("words", "problem"),
    [(["--root", "{tmp}/none"], "none' is not a directory"), (["--layer", "{tmp}/none.tar"], "does not exist"), (["--layer", "{tmp}/x.gz"], "is compressed")],
)
def test_command_line_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"layer"))
    given = [word.format(tmp=tmp_path) for word in words]
    assert container_image.main(["--name", NAME, "--output", str(tmp_path / "image.tar"), *given]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "image.tar").exists()
