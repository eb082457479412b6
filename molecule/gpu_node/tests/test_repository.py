# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container toolkit from a package repository, whose key is pinned by its fingerprint. The repository lies on the host itself."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

import gpu_host as lab
import yaml

FOLDER = "/srv/homelab-test-repository"
# Quick, and never used again
KEY = "%no-protection\nKey-Type: RSA\nKey-Length: 2048\nName-Real: Test\nName-Email: test@example.com\nExpire-Date: 1d\n%commit\n"


class Signer:
    """A key of its own in a folder of its own."""

    def __init__(self, home: Path) -> None:
        self._home = home
        home.mkdir(mode=0o700)
        self.gpg("--gen-key", given=KEY)

    def gpg(self, *words: str, given: str = "") -> str:
        command = ["gpg", "--homedir", str(self._home), "--batch", "--quiet", *words]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout

    @property
    def fingerprint(self) -> str:
        lines = self.gpg("--list-keys", "--with-colons").splitlines()
        return next(line.split(":")[9] for line in lines if line.startswith("fpr"))

    def end(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self._home), "--kill", "gpg-agent"], check=False)


def packages() -> list[Path]:
    lock = yaml.safe_load(Path(json.loads((lab.PROJECT / ".lab/lab.json").read_text())["gpu_artifacts_lock"]).read_text())
    return [Path(entry["url"].removeprefix("file://")) for entry in lock["artifacts"] if entry["kind"] == "package"]


def listing(files: list[Path]) -> str:
    """A repository's file Packages."""
    stanzas = []
    for file in files:
        control = subprocess.run(["dpkg-deb", "--field", str(file)], capture_output=True, text=True, check=True).stdout.strip()
        stanzas.append(f"{control}\nFilename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {hashlib.sha256(file.read_bytes()).hexdigest()}\n")
    return "\n".join(stanzas)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    made = Signer(tmp_path_factory.mktemp("gpg") / "home")
    yield made
    made.end()


@pytest.fixture(scope="module")
def repository(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """The options of the role for it."""
    folder = tmp_path_factory.mktemp("repository")
    index = listing(packages())
    release = f"Suite: test\nDate: {lab.on_host('date --utc --rfc-email').strip().replace('+0000', 'UTC')}\nSHA256:\n"
    release += f" {hashlib.sha256(index.encode()).hexdigest()} {len(index.encode())} Packages\n"
    (folder / "key.asc").write_text(signer.gpg("--armor", "--export"))
    place = f"{FOLDER}/deb/amd64"
    lab.on_host(f"mkdir --parents {place}")
    for name, content in {"Packages": index, "InRelease": signer.gpg("--clearsign", given=release)}.items():
        (folder / name).write_text(content)
    for file in (*packages(), folder / "Packages", folder / "InRelease"):
        subprocess.run([str(lab.PROJECT / ".lab/podman"), "cp", str(file), f"{lab.HOST}:{place}/{file.name}"], check=True)
    yield {
        "nvidia_container_toolkit_source": "repository",
        "nvidia_container_toolkit_repository_url": f"file:{FOLDER}",
        "nvidia_container_toolkit_repository_key_url": f"file://{folder}/key.asc",
        "nvidia_container_toolkit_repository_key_fingerprint": signer.fingerprint,
    }
    lab.on_host(f"rm --recursive --force {FOLDER} /etc/apt/sources.list.d/nvidia-container-toolkit.sources /etc/apt/keyrings/nvidia-container-toolkit.asc")


def test_another_key_than_the_pinned_one_is_refused(repository: dict) -> None:
    run = lab.site(**{**repository, "nvidia_container_toolkit_repository_key_fingerprint": "C95B 321B 61E8 8C18 09C4 F759 DDCA E044 F796 ECB0"})
    assert run.status != 0
    assert f"the content has the key {repository['nvidia_container_toolkit_repository_key_fingerprint']}" in run.text
    assert run.changed == 0


def test_packages_come_from_the_repository_and_are_held(repository: dict) -> None:
    lab.on_host("DEBIAN_FRONTEND=noninteractive apt-get purge --yes --allow-change-held-packages 'nvidia-container-toolkit*' 'libnvidia-container*'")
    lab.on_host("rm --recursive --force /var/cache/homelab-gpu/packages /var/lib/apt/lists/*")
    lab.succeeds(lab.site(**repository))
    origin = lab.on_host("apt-cache policy nvidia-container-toolkit")
    assert f"file:{FOLDER}/deb/amd64" in origin
    assert "nvidia-container-toolkit" in lab.on_host("apt-mark showhold").split()
    assert lab.allocatable() == 4
    assert lab.succeeds(lab.site(**repository)).changed == 0
