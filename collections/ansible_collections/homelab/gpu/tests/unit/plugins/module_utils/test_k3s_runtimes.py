# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._k3s_runtimes import look_up, registered, templates, verdict

# As K3s with containerd 2 writes it, shortened
VERSION_3 = """
version = 3
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  snapshotter = "overlayfs"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'nvidia']
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'nvidia'.options]
  BinaryName = "/usr/bin/nvidia-container-runtime"
  SystemdCgroup = true
[plugins.'io.containerd.cri.v1.images']
  BinaryName = "/not/a/runtime"
"""
VERSION_2 = """
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes."nvidia"]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes."nvidia".options]
  BinaryName = '/usr/local/nvidia/toolkit/nvidia-container-runtime'
"""


@pytest.mark.parametrize(
    ("config", "runtimes"),
    [
        (VERSION_3, {"runc": "", "nvidia": "/usr/bin/nvidia-container-runtime"}),
        (VERSION_2, {"nvidia": "/usr/local/nvidia/toolkit/nvidia-container-runtime"}),
        ("", {}),
    ],
)
def test_registered(config: str, runtimes: dict[str, str]) -> None:
    assert registered(config) == runtimes


@pytest.mark.parametrize(
    ("there", "path", "found"),
    [
        ({"/usr/bin/r"}, "/usr/local/bin:/usr/bin", "/usr/bin/r"),
        ({"/usr/bin/r", "/usr/local/bin/r"}, "/usr/local/bin:/usr/bin", "/usr/local/bin/r"),
        # K3s looks there whatever its PATH is
        ({"/usr/bin/r", "/usr/local/nvidia/toolkit/r"}, "/usr/bin", "/usr/local/nvidia/toolkit/r"),
        ({"/opt/r"}, "/usr/bin", ""),
        ({"./r", "r"}, ".::/usr/bin", ""),
    ],
)
def test_look_up(there: set[str], path: str, found: str) -> None:
    assert look_up("r", path, there.__contains__) == found


EXPECTED = "/usr/bin/nvidia-container-runtime"


@pytest.mark.parametrize(
    ("installed", "found", "running", "runtimes", "state", "restart", "reason"),
    [
        (True, EXPECTED, True, {"nvidia": EXPECTED}, "registered", False, EXPECTED),
        (False, "", True, {}, "not_installed", False, "is not on this host"),
        (True, EXPECTED, False, {}, "stopped", False, "K3s does not run"),
        (True, EXPECTED, True, {"runc": ""}, "not_registered", True, "came after K3s was started"),
        (True, EXPECTED, True, {"nvidia": "/opt/old"}, "outdated", True, "as /opt/old, not"),
        (True, EXPECTED, True, {"nvidia": ""}, "outdated", True, "an unnamed program"),
        # A restart would take the wrong one again
        (True, "/usr/local/bin/nvidia-container-runtime", True, {"nvidia": EXPECTED}, "foreign", False, "K3s takes /usr/local/bin/nvidia-container-runtime"),
        (True, "", True, {}, "foreign", False, "does not look in the folder"),
    ],
)
def test_verdict(installed: bool, found: str, running: bool, runtimes: dict[str, str], state: str, restart: bool, reason: str) -> None:
    judged = verdict(expected=EXPECTED, installed=installed, found=found, running=running, runtimes=runtimes)
    assert (judged.state, judged.restart_needed) == (state, restart)
    assert reason in judged.reason


def test_template_of_a_user_is_named() -> None:
    (path,) = templates("/etc/containerd", {"/etc/containerd/config.toml.tmpl"}.__contains__)
    judged = verdict(expected=EXPECTED, installed=True, found=EXPECTED, running=True, runtimes={}, template=[path])
    assert "the template /etc/containerd/config.toml.tmpl takes the place" in judged.reason
