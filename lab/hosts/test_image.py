# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from lab.hosts import image
from lab.hosts.identity import LabError

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n'
TARGETS = """\
MetaKey: main/binary-amd64/Packages
Created-By: Packages
Component: main
Release: bookworm
Repo-URI: http://mirror.example/debian/

Created-By: Contents-deb
Component: main
Release: bookworm
Repo-URI: http://mirror.example/debian/

Created-By: Packages
Component: main
Release: bookworm-security
Repo-URI: http://mirror.example/security/
Signed-By: /usr/share/keyrings/k.gpg

Created-By: Packages
Component: contrib
Release: bookworm
Repo-URI: http://mirror.example/debian/

Created-By: Packages
Component: main
Release: nodistro
Repo-URI: http://third.example/

Created-By: Packages
Component: stable
Release: bookworm
Repo-URI: http://third.example/linux/
"""


def copy_recipe(folder: Path) -> Path:
    (folder / "files/etc").mkdir(parents=True)
    (folder / "files/etc/a.conf").write_text("a\n", encoding="utf-8")
    (folder / "packages.txt").write_text("# some\nsystemd\n\nudev # why\n", encoding="utf-8")
    (folder / "finish.sh").write_text("true\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("text", "expected"), [(DEBIAN, ("debian", "bookworm")), ("ID=ubuntu\nVERSION_CODENAME=noble\n", ("ubuntu", "noble"))], ids=["debian", "ubuntu"]
)
def test_distribution(text: str, expected: tuple[str, str]) -> None:
    assert image.distribution_of(text) == expected


@pytest.mark.parametrize("text", ['ID="fedora"\nPRETTY_NAME="Fedora 43"\n', "", "ID=debian\n"])
def test_other_distributions_are_refused(text: str) -> None:
    with pytest.raises(LabError, match="Debian or Ubuntu"):
        image.distribution_of(text)


def test_sources_are_the_distributions_own() -> None:
    assert image.sources_for("bookworm", image.parse_index_targets(TARGETS)) == [
        "deb http://mirror.example/debian/ bookworm main",
        "deb [signed-by=/usr/share/keyrings/k.gpg] http://mirror.example/security/ bookworm-security main",
    ]


def test_components_of_one_suite_share_a_line() -> None:
    sources = [image.PackageSource("http://u/", "noble", component, "") for component in ("main", "restricted", "universe", "main")]
    assert image.sources_for("noble", sources) == ["deb http://u/ noble main universe"]


def test_missing_suite_is_an_error() -> None:
    with pytest.raises(LabError, match="no suite 'trixie'"):
        image.sources_for("trixie", image.parse_index_targets(TARGETS))


def test_packages_without_comments(tmp_path: Path) -> None:
    assert image.read_packages(copy_recipe(tmp_path) / "packages.txt") == ["systemd", "udev"]


def test_hash_follows_each_part_of_the_recipe(tmp_path: Path) -> None:
    recipe = copy_recipe(tmp_path)
    arguments = ("debian", "bookworm", "x86_64")
    seen = {image.recipe_hash(recipe, *arguments)}
    assert image.recipe_hash(recipe, *arguments) in seen

    def is_new(*changed: str) -> bool:
        key = image.recipe_hash(recipe, *(changed or arguments))
        new = key not in seen
        seen.add(key)
        return new

    assert is_new("debian", "trixie", "x86_64")
    assert is_new("debian", "bookworm", "aarch64")
    (recipe / "finish.sh").write_text("false\n", encoding="utf-8")
    assert is_new()
    (recipe / "files/etc/a.conf").write_text("b\n", encoding="utf-8")
    assert is_new()
    (recipe / "files/etc/a.conf").chmod(0o755)
    assert is_new()
    (recipe / "files/etc/a.conf").rename(recipe / "files/etc/b.conf")
    assert is_new()
    (recipe / "packages.txt").write_text("systemd\n", encoding="utf-8")
    assert is_new()
    (recipe / "packages.txt").write_text("# a comment only\nsystemd\n", encoding="utf-8")
    assert not is_new()


def test_overlay_belongs_to_root(tmp_path: Path) -> None:
    recipe = copy_recipe(tmp_path)
    (recipe / "files/etc/run").write_text("#!/bin/sh\n", encoding="utf-8")
    (recipe / "files/etc/run").chmod(0o700)
    with tarfile.open(fileobj=io.BytesIO(image.overlay_archive(recipe / "files"))) as archive:
        members = {member.name: (member.mode, member.uid, member.gid) for member in archive.getmembers()}
    assert members == {"./etc/a.conf": (0o644, 0, 0), "./etc/run": (0o755, 0, 0)}


def test_recipe_installs_no_cluster_software() -> None:
    packages = set(image.read_packages(image.RECIPE / "packages.txt"))
    assert {"systemd-sysv", "openssh-server", "python3"} <= packages
    assert not packages & {"runc", "crun", "containerd", "containernetworking-plugins", "podman", "kubelet", "kubeadm"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HOMELAB_GPU_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/homelab-gpu"),
        ({"HOME": "/c"}, "/c/.cache/homelab-gpu"),
    ],
)
def test_cache(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOMELAB_GPU_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert image.default_cache() == Path(expected)
