# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._image_references import full_reference

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("haproxy", "docker.io/library/haproxy:latest"),
        ("haproxy:3.2", "docker.io/library/haproxy:3.2"),
        ("ollama/ollama:0.34.1", "docker.io/ollama/ollama:0.34.1"),
        ("docker.io/haproxy:3.2", "docker.io/library/haproxy:3.2"),
        ("nvcr.io/nvidia/k8s-device-plugin:v0.20.0", "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"),
        ("localhost/homelab-lab/haproxy:2.6", "localhost/homelab-lab/haproxy:2.6"),
        ("registry:5000/a/b", "registry:5000/a/b:latest"),
        (f"quay.io/a@{DIGEST}", f"quay.io/a@{DIGEST}"),
        (f"quay.io/a:1@{DIGEST}", f"quay.io/a:1@{DIGEST}"),
    ],
)
def test_full(given: str, full: str) -> None:
    assert full_reference(given) == full


@pytest.mark.parametrize("given", ["", "Haproxy", "a b", "haproxy:", "haproxy:3.2:1", "quay.io/", "a@sha256:12", "a@", "https://quay.io/a", "-a"])
def test_what_is_none(given: str) -> None:
    with pytest.raises(InputError, match="is no name of an image"):
        full_reference(given)
