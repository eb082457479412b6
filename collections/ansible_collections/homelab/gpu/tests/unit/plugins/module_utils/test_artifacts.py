# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils import _artifacts
from ansible_collections.homelab.gpu.plugins.module_utils._artifacts import LockError, check_lock, file_state, recall, remember, select

SHA = "0" * 64


def entry(**fields: Any) -> dict[str, Any]:
    return {
        "name": "k3s",
        "version": "v1.37.1+k3s1",
        "arch": "amd64",
        "kind": "binary",
        "filename": "k3s",
        "url": "https://example.com/v1.37.1%2Bk3s1/k3s",
        "size": 10,
        "sha256": SHA,
        **fields,
    }


def images(**fields: Any) -> dict[str, Any]:
    return entry(name="k3s-airgap-images", kind="images", filename="images.tar.zst", **fields)


def lock(*entries: Any) -> dict[str, Any]:
    return {"schema": 1, "artifacts": list(entries)}


def test_right_lock() -> None:
    entries = [entry(), images(), entry(arch="arm64", filename="k3s-arm64", url="file:///srv/k3s-arm64")]
    assert check_lock(lock(*entries)) == entries


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "no schema number"),
        ([], "no schema number"),
        ({"artifacts": [entry()]}, "no schema number"),
        ({"schema": 2, "artifacts": [entry()]}, "schema is 2"),
        ({"schema": "1", "artifacts": [entry()]}, "schema is '1'"),
        ({"schema": 1}, "no list of artifacts"),
        (lock(), "no list of artifacts"),
        (lock("k3s"), "artifact 1 is not a mapping"),
        (lock({key: value for key, value in entry().items() if key != "sha256"}), "artifact 1 (k3s) has no sha256"),
        (lock(entry(size="10")), "size is '10'"),
        (lock(entry(size=True)), "size is True"),
        (lock(entry(size=0)), "size is 0"),
        (lock(entry(version=1.37)), "version is 1.37"),
        (lock(entry(sha256=SHA.replace("0", "A"))), "sha256 is"),
        (lock(entry(sha256="0123")), "sha256 is '0123'"),
        (lock(entry(arch="x86_64")), "arch is 'x86_64'"),
        (lock(entry(kind="rpm")), "kind is 'rpm'"),
        (lock(entry(url="ftp://example.com/k3s")), "url is"),
        (lock(entry(url="https://example.com/v1.37.1+k3s1/k3s")), "raw '+'"),
        (lock(entry(filename="../k3s")), "filename is '../k3s'"),
        (lock({**images(), "filename": "images.zip"}), "no image archive"),
        (lock(entry(kind="package", filename="toolkit.tgz")), "toolkit.tgz is no package"),
        (lock(*(entry(kind="package", filename="toolkit.deb") for _twice in range(2))), "artifact 2 (k3s) is listed twice"),
        (lock(entry(mirror="x")), "unknown field mirror"),
        (lock(entry(), entry()), "artifact 2 (k3s) is listed twice"),
    ],
)
def test_wrong_lock(content: Any, what: str) -> None:
    with pytest.raises(LockError) as caught:
        check_lock(content)
    assert what in str(caught.value)
    assert all(fix for _what, fix in caught.value.problems)


def test_all_problems_of_a_lock_at_once() -> None:
    with pytest.raises(LockError) as caught:
        check_lock(lock(entry(size=0), entry(kind="rpm", arch="x")))
    assert len(caught.value.problems) == 3


LISTED = [
    entry(),
    entry(version="v1.36.4+k3s1"),
    images(),
    entry(name="models", version="3", kind="images", filename="models.tar"),
    entry(name="twice", version="1", kind="images", filename="a.tar"),
    entry(name="twice", version="2", kind="images", filename="b.tar"),
]


@pytest.mark.parametrize(
    ("version", "arch", "names", "chosen", "missing"),
    [
        ("v1.37.1+k3s1", "amd64", ["k3s-airgap-images"], ["k3s", "k3s-airgap-images"], []),
        ("v1.37.1+k3s1", "amd64", [], ["k3s"], []),
        ("v1.37.1+k3s1", "amd64", ["models"], ["k3s", "models"], []),
        # An archive of K3s is never taken from another version
        ("v1.36.4+k3s1", "amd64", ["k3s-airgap-images"], ["k3s"], ["k3s-airgap-images (images) v1.36.4+k3s1 amd64; listed are v1.37.1+k3s1 amd64"]),
        ("v1.37.1+k3s1", "arm64", [], [], ["k3s (binary) v1.37.1+k3s1 arm64; listed are v1.36.4+k3s1 amd64, v1.37.1+k3s1 amd64"]),
        ("v1.37.1+k3s1", "amd64", ["other"], ["k3s"], ["other (images) v1.37.1+k3s1 amd64; no version of it is listed"]),
        ("v1.37.1+k3s1", "amd64", ["twice"], ["k3s"], ["twice (images) v1.37.1+k3s1 amd64; listed are 1 amd64, 2 amd64"]),
    ],
)
def test_choice(version: str, arch: str, names: list[str], chosen: list[str], missing: list[str]) -> None:
    found, lacking = select(LISTED, version=version, arch=arch, images=names)
    assert [item["name"] for item in found] == chosen
    assert lacking == missing


PACKAGES = [
    *LISTED,
    *(entry(name=name, version="1.20.1-1", kind="package", filename=f"{name}.{form}") for name in ("toolkit", "base") for form in ("deb", "rpm")),
]


@pytest.mark.parametrize(
    ("version", "form", "names", "chosen", "missing"),
    [
        ("1.20.1-1", "deb", ["toolkit", "base"], ["toolkit.deb", "base.deb"], []),
        ("1.20.1-1", "rpm", ["base"], ["base.rpm"], []),
        # Packages are never taken from another version
        ("1.20.2-1", "deb", ["base"], [], ["base (deb) 1.20.2-1 amd64; listed are 1.20.1-1 amd64"]),
        ("1.20.1-1", "deb", ["models"], [], ["models (deb) 1.20.1-1 amd64; no version of it is listed"]),
    ],
)
def test_choice_of_packages(version: str, form: str, names: list[str], chosen: list[str], missing: list[str]) -> None:
    found, lacking = select(PACKAGES, version=version, arch="amd64", images=[], binary="", packages=names, package_format=form)
    assert [item["filename"] for item in found] == chosen
    assert lacking == missing


def test_deb_and_rpm_of_one_package_are_not_twice_the_same() -> None:
    assert len(check_lock(lock(*PACKAGES))) == len(PACKAGES)


@pytest.fixture
def verified(tmp_path: Path) -> tuple[Path, str, str]:
    path = tmp_path / "file"
    path.write_bytes(b"right bytes")
    memo = str(tmp_path / "memo.json")
    sha256 = hashlib.sha256(b"right bytes").hexdigest()
    remember(memo, {str(path): sha256})
    return path, sha256, memo


def state(path: Path, sha256: str, memo: str) -> str:
    return file_state(str(path), size=11, sha256=sha256, known=recall(memo))


def test_a_verified_file_is_not_read_again(verified: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_artifacts, "sha256_of", lambda path: pytest.fail(f"{path} was read"))
    assert state(*verified) == "ok"


def test_another_hash_wanted_of_a_verified_file(verified: tuple[Path, str, str]) -> None:
    path, _sha256, memo = verified
    assert state(path, SHA, memo) == "sha256"


def test_a_byte_changed_with_the_old_time_stamp_is_found(verified: tuple[Path, str, str]) -> None:
    path, _sha256, _memo = verified
    before = path.stat()
    path.write_bytes(b"wrong bytes")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert state(*verified) == "sha256"


def test_another_size_and_no_file(verified: tuple[Path, str, str]) -> None:
    path, _sha256, _memo = verified
    path.write_bytes(b"right")
    assert state(*verified) == "size"
    path.unlink()
    assert state(*verified) == "missing"


@pytest.mark.parametrize("text", ["", "[]", "no json"])
def test_a_broken_memo_costs_only_time(verified: tuple[Path, str, str], text: str) -> None:
    path, sha256, memo = verified
    Path(memo).write_text(text, encoding="utf-8")
    assert state(path, sha256, memo) == "ok"


def test_an_unchanged_memo_is_not_written_again(verified: tuple[Path, str, str]) -> None:
    path, sha256, memo = verified
    before = os.stat(memo).st_ino
    remember(memo, {str(path): sha256})
    assert os.stat(memo).st_ino == before
