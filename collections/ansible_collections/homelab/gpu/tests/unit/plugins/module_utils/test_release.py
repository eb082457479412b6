# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._release import ReleaseError, asset_url, checksum, published

A, B = "a" * 64, "b" * 64
LISTING = f"{A}  k3s-airgap-images-arm64.tar.zst\n{B} *k3s-arm64\n{A}  k3s-airgap-images-arm64.tar\n"


@pytest.mark.parametrize(
    ("text", "asset", "expected"),
    [
        (LISTING, "k3s-airgap-images-arm64.tar.zst", A),
        (LISTING, "k3s-arm64", B),
        (LISTING.upper().replace("K3S-ARM64", "k3s-arm64"), "k3s-arm64", B),
        (LISTING.replace("\n", "\r\n"), "k3s-arm64", B),
        (f"{A}  k3s\n{A}  k3s\n", "k3s", A),
    ],
    ids=["text mode", "binary mode", "upper case", "line ends", "named twice alike"],
)
def test_checksum(text, asset, expected):
    assert checksum(text, asset, "list") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list has no sha256 of k3s;"),
        (LISTING, "list has no sha256 of k3s;"),
        (f"{A}  k3s-arm64\n{A}  not-k3s\n", "no sha256 of k3s;"),
        (f"{A}  k3s\n{B}  k3s\n", "more than one sha256 of k3s;"),
        (f"{A[:-1]}  k3s\n", "no sha256 of k3s;"),
        ("<html>not found</html>", "no sha256 of k3s;"),
    ],
)
def test_a_list_that_does_not_name_the_file_once_is_refused(text, message):
    with pytest.raises(ReleaseError, match=message):
        checksum(text, "k3s", "list")


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("amd64", [("k3s", "k3s"), ("k3s-airgap-images-amd64.tar.zst", "k3s-airgap-images-amd64.tar.zst")]),
        ("arm64", [("k3s-arm64", "k3s"), ("k3s-airgap-images-arm64.tar.zst", "k3s-airgap-images-arm64.tar.zst")]),
    ],
)
def test_names_in_the_release_and_on_the_host(arch, expected):
    assert [(entry.asset, entry.filename) for entry in published(arch)] == expected


def test_the_plus_of_the_version_is_escaped():
    assert asset_url("https://mirror/k3s/", "v1.36.4+k3s1", "k3s") == "https://mirror/k3s/v1.36.4%2Bk3s1/k3s"
