# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from lab.distribution.build import artifacts_lock
from lab.distribution.build.artifacts_lock import Artifact, LockFileError

BINARY = Artifact("k3s", "v1.37.1+k3s1", "amd64", "binary", "k3s", "https://example.test/v1.37.1%2Bk3s1/k3s", 70, "ab" * 32)
IMAGES = Artifact("k3s-airgap-images", "v1.37.1+k3s1", "amd64", "images", "k3s-airgap-images-amd64.tar", "file:///a%20b/i.tar", 9, "12" * 32)


def test_what_is_written_is_yaml_of_the_schema() -> None:
    text = artifacts_lock.render([BINARY, IMAGES])
    assert text.startswith("---\n")
    assert yaml.safe_load(text) == {"schema": 1, "artifacts": [asdict(BINARY), asdict(IMAGES)]}


@pytest.mark.parametrize("checksum", ["0" * 64, "1" * 64, "12" * 32, "1e" * 32, "ab" * 32])
def test_sums_stay_text(checksum: str) -> None:
    assert yaml.safe_load(artifacts_lock.render([replace(BINARY, sha256=checksum)]))["artifacts"][0]["sha256"] == checksum


@pytest.mark.parametrize("path", ["/srv/a b/k3s", "/srv/a'b/k3s", "/srv/a:#b/k3s", "/srv/ä/k3s", "/srv/{x}/k3s"])
def test_odd_cache_paths(tmp_path: Path, path: str) -> None:
    artifact = replace(BINARY, url=Path(path).as_uri())
    lock_file = tmp_path / "lock.yml"
    lock_file.write_text(artifacts_lock.render([artifact]))
    assert yaml.safe_load(lock_file.read_text())["artifacts"][0]["url"] == Path(path).as_uri()
    assert artifacts_lock.read(lock_file) == [artifact]


def test_read_takes_comments_and_quotes(tmp_path: Path) -> None:
    path = tmp_path / "lock.yml"
    path.write_text(
        "---\n# releases\nschema: 1\nartifacts:  # all of them\n"
        "- name: k3s # the binary\n  version: 'v1.37.1+k3s1'\n  arch: \"amd64\"\n  kind: binary\n\n  # where\n"
        f"  filename: k3s\n  url: https://example.test/v1.37.1%2Bk3s1/k3s\n  size: 70   # bytes\n  sha256: {'ab' * 32}\n"
        "other:\n  - name: not an artifact\n"
    )
    assert artifacts_lock.read(path) == [BINARY]


def test_read_agrees_with_a_yaml_parser_on_the_releases() -> None:
    releases = next(Path(__file__).resolve().parents[3].glob("collections/ansible_collections/*/*/roles/k3s_artifacts/files/artifacts.lock.yml"))
    assert [asdict(artifact) for artifact in artifacts_lock.read(releases)] == yaml.safe_load(releases.read_text())["artifacts"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [("size: 70", "size 'seventy' of artifact 'k3s' is not a number"), ("arch: amd64", "artifact 'k3s' lacks arch")],
)
def test_unusable_entries(tmp_path: Path, change: str, problem: str) -> None:
    path = tmp_path / "lock.yml"
    text = artifacts_lock.render([BINARY])
    path.write_text(text.replace(change, {"size: 70": "size: seventy", "arch: amd64": "arch:"}[change]))
    with pytest.raises(LockFileError, match=problem) as caught:
        artifacts_lock.read(path)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LockFileError, match=r"none\.yml cannot be read: No such file"):
        artifacts_lock.read(tmp_path / "none.yml")


def test_describe(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.write_bytes(b"content")
    artifact = artifacts_lock.describe(made, name="k3s", version="v1", arch="amd64", kind="binary", final=Path("/srv/cache/k3s"))
    assert artifact == Artifact("k3s", "v1", "amd64", "binary", "k3s", "file:///srv/cache/k3s", 7, hashlib.sha256(b"content").hexdigest())
