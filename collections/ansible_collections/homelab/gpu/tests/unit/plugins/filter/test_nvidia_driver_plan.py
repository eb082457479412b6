# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.homelab.gpu.plugins.filter.nvidia_driver_plan import nvidia_driver_plan
from ansible_collections.homelab.gpu.tests.unit.driver_hosts import gpu, info

Object = dict[str, t.Any]

HEADLESS, OPEN, UTILS, KMOD = (
    "nvidia-headless-580-server",
    "nvidia-headless-580-server-open",
    "nvidia-utils-580-server",
    "linux-modules-nvidia-580-server-generic",
)
OLD, NEW = "580.95.05-0ubuntu1", "580.105.08-0ubuntu1"
LISTS = {
    HEADLESS: [NEW, OLD],
    OPEN: [NEW, OLD],
    UTILS: [NEW, OLD],
    KMOD: ["6.8.0-50.51"],
    "cuda-drivers": ["590.48.01-1", "580.95.05-1"],
    "nvidia-open": ["580.95.05-1"],
    "nvidia-driver": ["580.95.05-1"],
    "nvidia-settings": ["590.1-1"],
    "nvidia-headless-590-server": ["590.48.01-0ubuntu1"],
    "nvidia-modprobe": ["1.0-2"],
}
BARE = info("", available=LISTS)
NO_DRIVER = gpu("3060", loaded="")
USED = {"pid": 42, "command": "vllm", "devices": ["nvidia0", "nvidiactl"], "references": 3}
WATCHED = {"pid": 7, "command": "nvidia-persiste", "devices": ["nvidia0", "nvidiactl"], "references": 2}


def installed(version: str = OLD, *names: str, **changes: t.Any) -> Object:
    return info(packages={name: {"version": version, "held": True} for name in names or (OPEN, UTILS)}, available=LISTS, **changes)


@pytest.mark.parametrize(
    ("host", "names", "version", "expected"),
    [
        pytest.param(BARE, [OPEN, UTILS], "580", {OPEN: NEW, UTILS: NEW}, id="newest of a branch"),
        pytest.param(BARE, [OPEN, UTILS], "R580", {OPEN: NEW, UTILS: NEW}, id="as NVIDIA writes it"),
        pytest.param(BARE, [OPEN, UTILS], "", {OPEN: NEW, UTILS: NEW}, id="branch of the names"),
        pytest.param(BARE, [OPEN, UTILS], OLD, {OPEN: OLD, UTILS: OLD}, id="exact"),
        pytest.param(BARE, [OPEN, KMOD], "580", {OPEN: NEW, KMOD: None}, id="packages of a kernel are not pinned"),
        pytest.param(BARE, [OPEN, KMOD], OLD, {OPEN: OLD, KMOD: None}, id="exact, beside those of a kernel"),
        pytest.param(BARE, [OPEN, "nvidia-modprobe"], OLD, {OPEN: OLD, "nvidia-modprobe": None}, id="versions of its own"),
        pytest.param(BARE, [OPEN, "nvidia-modprobe"], "580", {OPEN: NEW, "nvidia-modprobe": None}, id="versions of its own, by branch"),
        pytest.param(BARE, ["cuda-drivers"], "580", {"cuda-drivers": "580.95.05-1"}, id="not the newest of all"),
        pytest.param(info(""), [OPEN], OLD, {OPEN: OLD}, id="exact, with old lists"),
        pytest.param(info("", available={**LISTS, UTILS: [OLD]}), [OPEN, UTILS], "580", {OPEN: OLD, UTILS: OLD}, id="the newest that all of them have"),
        pytest.param(installed(), [OPEN, UTILS], "580", {OPEN: OLD, UTILS: OLD}, id="an installed one stays"),
        pytest.param(installed(OLD, OPEN), [OPEN, UTILS], "580", {OPEN: OLD, UTILS: OLD}, id="the others follow an installed one"),
    ],
)
def test_versions(host: Object, names: list[str], version: str, expected: dict[str, str | None]) -> None:
    gpus = gpu("3060", loaded="580.95.05" if host["module"]["version"] else "")
    found = nvidia_driver_plan(host, gpus, names, version)
    assert found["findings"] == []
    assert {one["name"]: one.get("version") for one in found["packages"]} == expected
    assert found["branch"] == 580


def test_nothing_is_pending_where_all_is_installed() -> None:
    found = nvidia_driver_plan(installed(holders=[USED]), gpu("3060"), [OPEN, UTILS], "580")
    assert (found["pending"], found["findings"], found["users"]) == ([], [], ["vllm (pid 42)"])


@pytest.mark.parametrize(
    ("names", "flavour"),
    [
        ([HEADLESS, UTILS], "proprietary"),
        ([OPEN, UTILS], "open"),
        (["nvidia-open-580"], "open"),
        (["nvidia-driver", "nvidia-kernel-open-dkms"], "open"),
        (["nvidia-driver", "nvidia-kernel-dkms"], "proprietary"),
        (["nvidia-driver-580-open"], "open"),
        (["nvidia-driver-580"], "proprietary"),
        (["cuda-drivers-580"], "proprietary"),
        (["kmod-nvidia-open-dkms", "nvidia-driver-cuda"], "open"),
        (["kmod-nvidia-latest-dkms", "nvidia-driver-cuda"], "proprietary"),
        ([KMOD.replace("server", "server-open"), UTILS], "open"),
        ([UTILS], ""),
        (["nvidia-driver"], ""),
    ],
)
def test_flavour_of_names(names: list[str], flavour: str) -> None:
    assert nvidia_driver_plan(BARE, NO_DRIVER, names, "580")["kernel_modules"] == flavour


@pytest.mark.parametrize(
    ("host", "gpus", "names", "options", "check", "fact", "fix"),
    [
        pytest.param(BARE, NO_DRIVER, [], {}, "packages", "nvidia_driver_packages is empty", "name the packages", id="no packages"),
        pytest.param(BARE, NO_DRIVER, [UTILS], {"version": "newest"}, "packages", "nvidia_driver_version is 'newest'", "such as 580", id="version"),
        pytest.param(BARE, NO_DRIVER, ["cuda-drivers"], {}, "packages", "tells the branch", "set nvidia_driver_version", id="no branch"),
        pytest.param(BARE, NO_DRIVER, [OPEN], {"version": "590"}, "packages", "is of R580, and the branch is R590", "one branch", id="two branches"),
        pytest.param(BARE, NO_DRIVER, [OPEN], {"kernel_modules": "proprietary"}, "packages", "has the open ones", "at auto", id="two flavours"),
        pytest.param(
            BARE, NO_DRIVER, [OPEN], {"version": "580.1-1"}, "packages", f"has no version 580.1-1 in the repositories of this host; there are {NEW}", "", id="x"
        ),
        pytest.param(info(""), NO_DRIVER, [OPEN], {}, "packages", f"{OPEN} has no version of R580", "add the repository", id="not listed"),
        pytest.param(BARE, NO_DRIVER, ["nvidia-settings"], {"version": "580"}, "packages", "; there are 590.1-1", "", id="other branch in the lists"),
        pytest.param(
            BARE, gpu("p40", loaded=""), ["nvidia-headless-590-server"], {}, "branch", "R590 shall be installed", "nothing was installed", id="P40, R590"
        ),
        pytest.param(BARE, gpu("p40", loaded=""), [OPEN], {}, "modules", "needs the proprietary ones", "with the proprietary", id="P40, open"),
        pytest.param(BARE, gpu("blackwell", loaded=""), [HEADLESS], {}, "modules", "needs the open ones", "with the open", id="Blackwell, proprietary"),
        pytest.param(
            BARE,
            gpu("blackwell", loaded=""),
            ["nvidia-driver"],
            {"version": "580"},
            "modules",
            "do not tell which",
            "nvidia_driver_kernel_modules",
            id="untold",
        ),
        pytest.param(BARE, gpu("p40", "blackwell", loaded=""), [OPEN], {}, "mix", "a host has one driver", "another host", id="mix"),
        pytest.param(BARE, gpu("thor", tegra=True), [OPEN], {}, "tegra", "part of JetPack", "to false", id="Tegra"),
        pytest.param(info("", runfile=True, available=LISTS), NO_DRIVER, [OPEN], {}, "packages", "own installer", "nvidia-uninstall", id="run file"),
        pytest.param(info("", manager=""), NO_DRIVER, [OPEN], {}, "packages", "neither apt-get nor dnf", "to false", id="no manager"),
        pytest.param(BARE, gpu("3060", state="hung", message="no answer"), [OPEN], {}, "answer", "hangs: no answer", "reboot", id="hung"),
        pytest.param(
            installed(OLD, "nvidia-headless-570-server", "libnvidia-compute-570-server"),
            gpu("3060"),
            [OPEN],
            {},
            "packages",
            "nvidia-headless-570-server is installed, which",
            "apt-get remove '*nvidia*-570*'",
            id="another branch in the way",
        ),
        pytest.param(installed(holders=[USED, WATCHED]), gpu("3060"), [OPEN, UTILS], {"version": NEW}, "use", "in use by vllm (pid 42)", "drain", id="in use"),
        pytest.param(
            installed(loaded={"references": 5, "used_by": ["nvidia_uvm"]}, holders=[WATCHED]),
            gpu("3060"),
            [OPEN, UTILS],
            {"version": NEW},
            "use",
            "something that cannot be seen from here, with 2 references",
            "nvidia_driver_replace_running",
            id="in use by something",
        ),
    ],
)
def test_refusals(host: Object, gpus: Object, names: list[str], options: Object, check: str, fact: str, fix: str) -> None:
    (found,) = nvidia_driver_plan(host, gpus, names, **options)["findings"]
    assert (found["check"], found["severity"]) == (check, "error")
    assert fact in found["fact"]
    assert fix in found["fix"]


@pytest.mark.parametrize(
    ("host", "options"),
    [
        pytest.param(installed(holders=[USED]), {"replace_running": True}, id="told to"),
        pytest.param(installed(loaded={"references": 3, "used_by": ["nvidia_uvm"]}, holders=[WATCHED]), {}, id="only watched"),
        pytest.param(installed(holders=[{**USED, "command": "nvidia-device-plugin"[:15]}]), {}, id="device plugin"),
    ],
)
def test_what_may_be_replaced(host: Object, options: Object) -> None:
    found = nvidia_driver_plan(host, gpu("3060"), [OPEN, UTILS], NEW, **options)
    assert (found["findings"], found["pending"]) == ([], [OPEN, UTILS])


def test_ignored_refusal_is_a_warning() -> None:
    (found,) = nvidia_driver_plan(BARE, gpu("p40", loaded=""), [OPEN], ignore=["modules"])["findings"]
    assert found["severity"] == "warning"


def test_names_that_lists_lack() -> None:
    assert nvidia_driver_plan(info(""), NO_DRIVER, [OPEN, UTILS])["unlisted"] == [OPEN, UTILS]
    assert nvidia_driver_plan(info("", available={OPEN: [NEW]}), NO_DRIVER, [OPEN, UTILS])["unlisted"] == [UTILS]


@pytest.mark.parametrize(
    ("host", "gpus", "reboot"),
    [
        pytest.param(info(), gpu("3060"), False, id="all well"),
        pytest.param(info("580.105.08"), gpu("3060", state="mismatch"), True, id="upgraded"),
        pytest.param(info("580.105.08", libraries=["580.95.05"]), gpu("3060"), False, id="libraries did not follow"),
        pytest.param(info(flavour="proprietary"), gpu("p40", gpu_state="no_driver"), True, id="other flavour"),
        pytest.param(info(), gpu("p40", flavour="proprietary"), False, id="the wrong flavour waits"),
        pytest.param(info("590.48.01"), gpu("p40"), False, id="the wrong branch waits"),
        pytest.param(info(), gpu("3060", loaded="", gpu_state="nouveau"), True, id="nouveau"),
        pytest.param(info(""), gpu("3060", loaded="", gpu_state="nouveau"), False, id="nouveau and nothing else"),
        pytest.param(info(), gpu("thor", loaded="540.1", tegra=True), False, id="Tegra"),
    ],
)
def test_reboot(host: Object, gpus: Object, reboot: bool) -> None:
    assert nvidia_driver_plan(host, gpus, [])["reboot"] is reboot


@pytest.mark.parametrize(("options", "words"), [({"ignore": ["x"]}, "ignore names 'x'"), ({"gpus": {}}, "lacks 'gpus'"), ({"skus": [1]}, "skus.0. is 1")])
def test_bad_input(options: Object, words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words):
        nvidia_driver_plan(BARE, **{"gpus": NO_DRIVER, "packages": [OPEN], **options})
