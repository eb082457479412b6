# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock file that ships with the collection holds what its roles install by default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.homelab.gpu.plugins.module_utils._artifacts import ARCHITECTURES, check_lock, select

ROLES = Path(__file__).parents[3] / "roles"
LOCK = yaml.safe_load((ROLES / "k3s_artifacts" / "files" / "artifacts.lock.yml").read_text(encoding="utf-8"))


def default_versions(role: str) -> set[str]:
    text = (ROLES / role / "defaults" / "main.yml").read_text(encoding="utf-8")
    return set(re.findall(r"v\d+\.\d+\.\d+\+k3s\d+", text))


@pytest.mark.parametrize("role", ["k3s_server", "k3s_agent", "k3s_artifacts"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_default_version_is_locked(role, arch):
    (version,) = default_versions(role)
    chosen, missing = select(check_lock(LOCK), version=version, arch=arch, images=["k3s-airgap-images"])
    assert missing == []
    assert [entry["filename"] for entry in chosen] == ["k3s", f"k3s-airgap-images-{arch}.tar.zst"]


def test_every_url_belongs_to_its_version_and_architecture():
    for entry in check_lock(LOCK):
        folder, asset = entry["url"].rsplit("/", 2)[1:]
        assert folder == entry["version"].replace("+", "%2B")
        assert asset in (f"k3s-airgap-images-{entry['arch']}.tar.zst", "k3s" if entry["arch"] == "amd64" else f"k3s-{entry['arch']}")


def test_no_two_artifacts_have_the_same_content():
    assert len({entry["sha256"] for entry in LOCK["artifacts"]}) == len(LOCK["artifacts"])
