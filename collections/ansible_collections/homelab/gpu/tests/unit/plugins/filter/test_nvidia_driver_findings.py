# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.nvidia_driver_findings import nvidia_driver_findings
from ansible_collections.homelab.gpu.plugins.plugin_utils._driver_findings import CHECKS
from ansible_collections.homelab.gpu.tests.unit.driver_hosts import KERNEL, gpu, info

Object = dict[str, t.Any]

ROLE = Path(__file__).parents[4] / "roles" / "nvidia_driver"
DAY = "2026-11-28"
NOTHING = info("")
UNSIGNED = {**info()["module"], "signer": ""}
UNKNOWN_KEY = {**info()["module"], "signer": "DKMS module signing key", "signer_known": False}
NEXT = "6.8.0-51-generic"


def told(found: list[Object], severity: str) -> list[str]:
    return [one["check"] for one in found if one["severity"] == severity]


@pytest.mark.parametrize(
    ("gpus", "host"),
    [
        pytest.param(gpu("3060"), info(), id="open modules on Ampere"),
        pytest.param(gpu("3060", flavour="proprietary"), info(flavour="proprietary"), id="proprietary modules on Ampere"),
        pytest.param(gpu("p40", flavour="proprietary"), info(flavour="proprietary"), id="P40 on R580"),
        pytest.param(gpu("p40", "3060", flavour="proprietary"), info(flavour="proprietary"), id="P40 beside Ampere"),
        pytest.param(gpu("blackwell", "ada"), info(), id="Blackwell beside Ada"),
        pytest.param(gpu("ada", loaded="620.10"), info("620.10"), id="a new branch"),
        pytest.param(gpu("thor", loaded="595.78", flavour="", tegra=True), info("", flavour=""), id="Tegra"),
        pytest.param(gpu("3060"), info(secure_boot="enabled"), id="signed module under Secure Boot"),
        pytest.param(gpu("3060"), info(libraries=[]), id="libraries elsewhere"),
        pytest.param(gpu("3060"), info(module=NOTHING["module"]), id="without modinfo"),
        pytest.param({**gpu("3060"), "driver": {**gpu()["driver"], "kernel_version": "", "flavour": ""}}, NOTHING, id="in a container"),
        pytest.param(gpu("3060"), info(unattended={"enabled": True, "blacklist": []}), id="held under unattended upgrades"),
    ],
)
def test_well(gpus: Object, host: Object) -> None:
    assert nvidia_driver_findings(host, gpus, today=DAY) == []


@pytest.mark.parametrize(
    ("gpus", "host", "errors", "warnings", "fact", "fix"),
    [
        pytest.param(gpu("3060", loaded=""), NOTHING, ["driver"], [], "the Ampere GPU 10de:2504 (0000:01:00.0)", "nvidia-headless-580-server-open", id="none"),
        pytest.param(
            gpu("p40", loaded=""), NOTHING, ["driver"], [], "the Pascal GPU 10de:1b38", "proprietary kernel modules (nvidia-headless-580-server and", id="P40"
        ),
        pytest.param(
            gpu("blackwell", loaded=""),
            info("", system={"distribution": "debian", "distribution_like": [], "distribution_version": "13", "kernel": KERNEL}),
            ["driver"],
            [],
            "the Blackwell GPU",
            "nvidia-open-580 of NVIDIA's repository",
            id="Debian",
        ),
        pytest.param(
            gpu("p40", loaded=""),
            info("", system={"distribution": "rocky", "distribution_like": ["rhel"], "distribution_version": "9", "kernel": KERNEL}, manager="dnf"),
            ["driver"],
            [],
            "the Pascal GPU",
            "kmod-nvidia-latest-dkms 580",
            id="Rocky",
        ),
        pytest.param(gpu("3060", loaded=""), info(), ["driver"], [], "580.95.05 is installed, but not loaded", "modprobe nvidia", id="not loaded"),
        pytest.param(gpu("3060", loaded=""), info(module=NOTHING["module"]), ["driver"], [], "the module is installed, but not", "modprobe", id="no modinfo"),
        pytest.param(gpu(loaded=""), NOTHING, [], ["gpu"], "has no NVIDIA GPU now", "plug one in", id="no GPU"),
        pytest.param(gpu("3060", gpu_state="lost"), info(), [], ["gpu"], "0000:01:00.0 is lost: so it is", "plug it in again", id="lost"),
        pytest.param(gpu("3060", gpu_state="other_driver"), info(), [], ["gpu"], "is not NVIDIA's driver's", "unbind it", id="passed through"),
        pytest.param(gpu("3060", gpu_state="not_answering"), info(), ["gpu"], [], "does not answer", "grep -e NVRM", id="one does not answer"),
        pytest.param(gpu("new"), info(), [], ["gpu"], "the GPU 10de:ffff (0000:01:00.0) is not known", "gpu_skus", id="unknown"),
        pytest.param(gpu("3060", state="hung", message="no answer within 2.5 s"), info(), ["answer"], [], "hangs: no answer within", "reboot", id="hung"),
        pytest.param(gpu("3060", state="failing", message="Unknown Error"), info(), ["answer"], [], "does not answer: Unknown Error", "NVRM", id="failing"),
        pytest.param(gpu("3060", state="no_nvidia_smi"), info(), ["answer"], [], "nvidia-smi is not installed", "nvidia-utils-580-server", id="no tools"),
        pytest.param(
            gpu("p40", loaded="590.48.01", flavour="proprietary", gpu_state="no_driver"),
            info("590.48.01", "proprietary"),
            ["branch"],
            [],
            "driver 590.48.01 is loaded, and the Pascal GPU 10de:1b38 (0000:01:00.0) needs R580 or older with the proprietary kernel modules",
            "install R580 with the proprietary kernel modules",
            id="P40 after an upgrade to R590",
        ),
        pytest.param(
            gpu("p40", loaded="590.48.01", gpu_state="no_driver"), info("590.48.01"), ["branch", "modules"], [], "590.48.01", "R580", id="P40 with R590, open"
        ),
        pytest.param(
            gpu("p40", loaded="590.48.01", flavour="proprietary", gpu_state="no_driver"),
            info(flavour="proprietary"),
            ["branch", "versions"],
            [],
            "driver 590.48.01 is loaded",
            "reboot the host: 580.95.05 (proprietary) on its disk is the right one",
            id="right driver on disk",
        ),
        pytest.param(
            gpu("p40", flavour="proprietary"),
            info("590.48.01", "proprietary", libraries=["580.95.05"]),
            ["branch", "versions"],
            [],
            "driver 590.48.01 is what the next boot loads",
            "install R580",
            id="wrong driver from the next boot on",
        ),
        pytest.param(
            gpu("p40", gpu_state="no_driver"),
            info(),
            ["modules"],
            [],
            "the open kernel modules are loaded, and the Pascal GPU",
            "nvidia-headless-580-server and",
            id="P40, open",
        ),
        pytest.param(
            gpu("blackwell", flavour="proprietary", gpu_state="no_driver"),
            info(flavour="proprietary"),
            ["modules"],
            [],
            "needs the open ones",
            "nvidia-headless-580-server-open",
            id="Blackwell, proprietary",
        ),
        pytest.param(
            gpu("blackwell", flavour="proprietary", gpu_state="no_driver"),
            info(),
            ["modules"],
            [],
            "proprietary",
            "reboot the host",
            id="other flavour on disk",
        ),
        pytest.param(
            gpu("blackwell", loaded="550.54.14", gpu_state="no_driver"),
            info("550.54.14"),
            ["branch"],
            ["cuda", "lifetime"],
            "needs R570 or newer with the open kernel modules",
            "R580",
            id="Blackwell with R550",
        ),
        pytest.param(gpu("3060", gpu_state="no_driver"), info(), ["modules"], [], "but did not take GPU 0000:01:00.0", "dmesg", id="not taken"),
        pytest.param(
            gpu("p40", "blackwell", flavour="proprietary"),
            info(flavour="proprietary"),
            ["mix"],
            [],
            "Tesla P40 (0000:01:00.0) needs R580 or older with the proprietary kernel modules, "
            "NVIDIA RTX PRO 4000 Blackwell (0000:02:00.0) needs R570 or newer with the open kernel modules",
            "another host",
            id="impossible mix",
        ),
        pytest.param(
            gpu("p40", "blackwell", loaded=""), NOTHING, ["mix"], [], "the Blackwell GPU 10de:2c34 (0000:02:00.0)", "vfio-pci", id="mix without a driver"
        ),
        pytest.param(
            gpu("3060", state="mismatch", gpu_state="version_mismatch"),
            info("580.105.08"),
            ["versions"],
            [],
            "the loaded module is 580.95.05 and the libraries are 580.105.08",
            "reboot the host, and hold",
            id="upgraded under it",
        ),
        pytest.param(
            gpu("3060", state="mismatch", gpu_state="version_mismatch"),
            info(libraries=["580.105.08"]),
            ["versions"],
            [],
            "a reboot alone does not mend that",
            "in one version",
            id="libraries without their module",
        ),
        pytest.param(
            gpu("3060"), info("580.105.08", libraries=["580.95.05"]), ["versions"], [], "after the next boot", "in one version", id="other module on disk"
        ),
        pytest.param(gpu("3060"), info("580.105.08", libraries=[]), [], ["versions"], "the one on disk 580.105.08", "reboot", id="another waits"),
        pytest.param(gpu("3060"), info(libraries=["550.54.14", "580.95.05"]), [], ["versions"], "libraries of several drivers", "remove", id="left behind"),
        pytest.param(
            gpu("3060", loaded="", gpu_state="nouveau"),
            info("", free_driver={"loaded": "nouveau", "blacklisted": False}),
            ["driver", "nouveau"],
            [],
            "nouveau holds GPU 0000:01:00.0",
            "blacklist-nouveau.conf, rebuild the initial RAM disk (update-initramfs -u)",
            id="nouveau",
        ),
        pytest.param(
            gpu("3060", loaded="", gpu_state="nouveau"),
            info(free_driver={"loaded": "nouveau", "blacklisted": True}, manager="dnf"),
            ["nouveau"],
            [],
            "nouveau holds GPU",
            "is in a blacklist already; rebuild the initial RAM disk (dracut --force)",
            id="nouveau until the reboot",
        ),
        pytest.param(
            gpu("3060"), info(free_driver={"loaded": "nouveau", "blacklisted": False}), [], ["nouveau"], "nouveau is loaded", "blacklist", id="nouveau, idle"
        ),
        pytest.param(
            gpu("3060", loaded=""),
            info(secure_boot="enabled", module=UNSIGNED),
            ["secure_boot"],
            [],
            "is not signed: the kernel refuses it",
            "mokutil",
            id="unsigned",
        ),
        pytest.param(
            gpu("3060"), info(secure_boot="enabled", module=UNSIGNED), [], ["secure_boot"], "loaded it nevertheless", "mokutil", id="unsigned, loaded"
        ),
        pytest.param(
            gpu("3060", loaded=""),
            info(secure_boot="enabled", module=UNKNOWN_KEY),
            ["secure_boot"],
            [],
            "signed by 'DKMS module signing key', whose key the kernel does not have",
            "mokutil --import",
            id="key not enrolled",
        ),
        pytest.param(
            gpu("3060", loaded=""),
            info(module=NOTHING["module"], kernels=NOTHING["kernels"], dkms=[{"name": "nvidia", "version": "580.95.05", "kernels": ["6.8.0-49-generic"]}]),
            ["kernel"],
            [],
            f"no module for the running kernel {KERNEL}; DKMS built it for 6.8.0-49-generic",
            f"linux-headers-{KERNEL} and run dkms autoinstall",
            id="not built for this kernel",
        ),
        pytest.param(
            gpu("3060", loaded=""),
            info(module=NOTHING["module"], kernels=NOTHING["kernels"], manager="dnf"),
            ["kernel"],
            [],
            "has no module for the running kernel",
            "install the modules of the driver for",
            id="modules of another kernel",
        ),
        pytest.param(gpu("3060"), info(module=NOTHING["module"], kernels=[]), [], ["kernel"], "is loaded, but not on disk", KERNEL, id="module removed"),
        pytest.param(
            gpu("3060"),
            info(kernels=[{"release": KERNEL, "running": True, "module": True}, {"release": NEXT, "running": False, "module": False}]),
            [],
            ["kernel"],
            f"the kernel {NEXT}, which the next boot may start, has no module",
            "remove that kernel",
            id="next kernel",
        ),
        pytest.param(
            gpu("3060"),
            info(packages={"nvidia-headless-580-server": {"version": "1", "held": False}}, unattended={"enabled": True, "blacklist": ["linux-"]}),
            [],
            ["hold"],
            "nvidia-headless-580-server is not held: unattended upgrades are on",
            "apt-mark hold nvidia-headless-580-server",
            id="not held",
        ),
        pytest.param(
            gpu("3060"),
            info(packages={f"libnvidia-compute-{number}": {"version": str(number), "held": False} for number in range(5)}, manager="dnf"),
            [],
            ["hold"],
            "libnvidia-compute-2 and 2 more are not held",
            "dnf versionlock add",
            id="many not held",
        ),
        pytest.param(
            gpu("3060", loaded="535.288.01"), info("535.288.01"), [], ["cuda", "lifetime"], "older than R580", "images that were made with CUDA 12", id="old"
        ),
        pytest.param(
            gpu("3060", loaded="595.78"), info("595.78"), [], ["lifetime"], "NVIDIA's support of R595 ends March 2027", "newer branch", id="near its end"
        ),
        pytest.param(
            gpu("thor", loaded="", gpu_state="no_driver", tegra=True), NOTHING, ["tegra"], [], "part of JetPack", "nvidia-jetpack", id="Tegra without"
        ),
        pytest.param(gpu("thor", loaded="540.4.0", flavour="", tegra=True), NOTHING, ["branch"], ["cuda"], "540.4.0", "upgrade JetPack", id="old JetPack"),
    ],
)
def test_findings(gpus: Object, host: Object, errors: list[str], warnings: list[str], fact: str, fix: str) -> None:
    found = nvidia_driver_findings(host, gpus, today=DAY)
    assert (told(found, "error"), told(found, "warning")) == (errors, warnings), found
    assert any(fact in one["fact"] and fix in one["fix"] for one in found), found
    assert all(set(one) == {"check", "severity", "fact", "fix"} for one in found)
    assert all(not text.endswith(".") and "None" not in text and "  " not in text for one in found for text in (one["fact"], one["fix"]))


@pytest.mark.parametrize(
    ("day", "gpus", "words"),
    [
        ("2027-12-01", gpu("p40", flavour="proprietary"), None),
        ("2028-01-15", gpu("p40", flavour="proprietary"), "ends June 2028, and Tesla P40 (0000:01:00.0) has no newer branch"),
        ("2028-07-01", gpu("3060"), "ended June 2028"),
    ],
)
def test_lifetime(day: str, gpus: Object, words: str | None) -> None:
    found = [one["fact"] for one in nvidia_driver_findings(info(flavour=gpus["driver"]["flavour"]), gpus, today=day) if one["check"] == "lifetime"]
    assert bool(found) is bool(words)
    assert not words or words in found[0]


@pytest.mark.parametrize(
    ("packages", "blacklist", "loose"),
    [
        ({"nvidia-headless-580-server": ("1", True), "libnvidia-compute-580-server": ("1", False)}, [], False),
        ({"nvidia-headless-580-server": ("1", True), "libnvidia-compute-580-server": ("2", False)}, [], True),
        ({"nvidia-headless-580-server": ("1", False)}, ["nvidia-"], False),
        ({"libnvidia-compute-580-server": ("1", False)}, ["nvidia-"], True),
        ({"libnvidia-compute-580-server": ("1", False)}, ["lib(nvidia|cuda)", "("], False),
        ({"nvidia-settings": ("1", False)}, [], False),
        ({}, [], False),
    ],
)
def test_what_counts_as_held(packages: dict[str, tuple[str, bool]], blacklist: list[str], loose: bool) -> None:
    host = info(
        packages={name: {"version": version, "held": held} for name, (version, held) in packages.items()}, unattended={"enabled": True, "blacklist": blacklist}
    )
    assert ("hold" in told(nvidia_driver_findings(host, gpu("3060"), today=DAY), "warning")) is loose


def test_ignored_checks_are_warnings() -> None:
    found = nvidia_driver_findings(info("590.48.01"), gpu("p40", loaded="590.48.01", gpu_state="no_driver"), ignore=["branch"], today=DAY)
    assert (told(found, "error"), told(found, "warning")) == (["modules"], ["branch"])


def test_inventory_may_know_better() -> None:
    sku = {"name": "tesla-p40-24gb", "driver_branch_max": 570}
    found = nvidia_driver_findings(info(flavour="proprietary"), gpu("p40", flavour="proprietary"), skus=[sku], today=DAY)
    assert told(found, "error") == ["branch"]
    assert "needs R570 or older" in found[0]["fact"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ignore": ["brunch"]}, "ignore names 'brunch', which is no check; they are answer, branch"),
        ({"cuda": 9}, "cuda is 9; releases that are known are 11, 12, 13"),
        ({"today": "soon"}, "soon"),
        ({"skus": [{"name": "own"}]}, "skus.0. .own. is not in the table"),
        ({"gpus": {}}, "lacks 'gpus'; pass the whole of it"),
    ],
)
def test_bad_input(options: Object, words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words):
        nvidia_driver_findings(info(), **{"gpus": gpu("3060"), **options})


def test_role_and_its_description_know_all_checks() -> None:
    spec = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    assert spec["argument_specs"]["main"]["options"]["nvidia_driver_ignore"]["choices"] == list(CHECKS)
    readme = (ROLE / "README.md").read_text(encoding="utf-8")
    assert [check for check in CHECKS if f"| `{check}` |" not in readme] == ["packages"]
