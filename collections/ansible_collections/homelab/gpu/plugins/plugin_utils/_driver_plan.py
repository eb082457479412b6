# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Which versions of the driver's packages are installed, and why they may not be. Pure.

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.homelab.gpu.plugins.plugin_utils._driver_findings import Finding, Sight, branch_of, conflicts, unfit, users

__all__ = ["Plan", "plan"]

_BRANCH = re.compile(r"[Rr]?(\d{3})")
_NAMED = re.compile(r"-(\d{3})(?:-|$)")
_EXACT = re.compile(r"[\w.:+~-]*\d[\w.:+~-]*")
# Their versions are those of a kernel
_OF_KERNEL = re.compile(r"linux-.*")
_OPEN = re.compile(r"nvidia-.*-open(?:-.*)?|nvidia-open.*|.*-nvidia-.*-open(?:-.*)?|(?:k|dk|ak)mod-nvidia-open.*|nvidia-(?:kernel-)?open-.*")
_PROPRIETARY = re.compile(r"nvidia-(?:driver|headless|dkms|headless-no-dkms)-\d{3}(?:-server)?|cuda-drivers.*|nvidia-kernel-dkms|kmod-nvidia-latest-dkms")


@dataclass(frozen=True)
class Plan:
    packages: list[dict[str, str]]
    """As the module host_packages takes them."""
    pending: list[str]
    unlisted: list[str]
    """Neither installed nor in the lists of packages, which may be old."""
    branch: int | None
    flavour: str
    findings: list[Finding]


def plan(sight: Sight, names: Sequence[str], version: str, flavour: str, *, replace_running: bool) -> Plan:
    """The flavour auto is that which the names tell."""
    version = version.strip()
    told = _flavour(names)
    chosen = told if flavour == "auto" else flavour
    branch = _branch(names, version)
    found = [*_input_problems(names, version, branch, flavour, told), *_host_problems(sight)]
    packages: list[dict[str, str]] = []
    if names and not found:
        packages, problems = _pinned(sight, names, version, branch)
        found += problems
    installed = sight.info["packages"]
    pending = [one["name"] for one in packages if one["name"] not in installed or one.get("version") not in (None, installed[one["name"]]["version"])]
    if not found:
        found += [*_unfit(sight, branch, chosen), *(_in_the_way(sight, branch, pending) if pending else ())]
        if pending and sight.loaded and not replace_running:
            found += _in_use(sight)
    unlisted = [name for name in names if name not in installed and not sight.info["available"].get(name)]
    return Plan(packages, pending, unlisted, branch, chosen, found)


def _flavour(names: Sequence[str]) -> str:
    if any(_OPEN.fullmatch(name) for name in names):
        return "open"
    return "proprietary" if any(_PROPRIETARY.fullmatch(name) for name in names) else ""


def _branch(names: Sequence[str], version: str) -> int | None:
    found = _BRANCH.fullmatch(version)
    return int(found[1]) if found else branch_of(version) or next((int(match[1]) for name in names if (match := _NAMED.search(name))), None)


def _input_problems(names: Sequence[str], version: str, branch: int | None, flavour: str, told: str) -> Iterator[Finding]:
    if not names:
        yield Finding("packages", "nvidia_driver_install is true and nvidia_driver_packages is empty", "name the packages of the driver there")
        return
    if version and not _EXACT.fullmatch(version):
        yield Finding(
            "packages", f"nvidia_driver_version is {version!r}", "write a branch, such as 580, or the version of the packages, such as 580.95.05-0ubuntu1"
        )
    elif branch is None:
        yield Finding(
            "packages", f"neither nvidia_driver_version ({version!r}) nor a name of nvidia_driver_packages tells the branch", "set nvidia_driver_version"
        )
    for name in names:
        match = _NAMED.search(name)
        if match and branch is not None and int(match[1]) != branch:
            yield Finding("packages", f"{name} of nvidia_driver_packages is of R{match[1]}, and the branch is R{branch}", "use one branch for all of them")
    if flavour != "auto" and told and told != flavour:
        yield Finding(
            "packages",
            f"nvidia_driver_kernel_modules is {flavour}, and nvidia_driver_packages has the {told} ones",
            "correct one of them, or leave nvidia_driver_kernel_modules at auto",
        )


def _host_problems(sight: Sight) -> Iterator[Finding]:
    if sight.tegra:
        yield Finding(
            "tegra", "nvidia_driver_install is true, but this host is a Tegra, whose driver is part of JetPack", "set nvidia_driver_install to false for it"
        )
    elif not sight.info["manager"]:
        yield Finding("packages", "this host has neither apt-get nor dnf", "install the driver by other means, and set nvidia_driver_install to false")
    if sight.info["runfile"]:
        yield Finding(
            "packages",
            "NVIDIA's own installer (the .run file) put a driver on this host, and packages would overwrite half of it",
            "end what uses the GPUs and run nvidia-uninstall, or set nvidia_driver_install to false",
        )
    if sight.driver["state"] == "hung":
        yield Finding("answer", f"the driver hangs: {sight.driver['message']}", "reboot the host before its driver is replaced")
    for one, other in conflicts(sight.needs):
        yield Finding(
            "mix",
            f"{one.name} needs {one.text}, {other.name} needs {other.text}, and a host has one driver",
            "put one of them into another host, or give one to a virtual machine by the driver vfio-pci",
        )


def _pinned(sight: Sight, names: Sequence[str], version: str, branch: int | None) -> tuple[list[dict[str, str]], list[Finding]]:
    available = {name: list(sight.info["available"].get(name, [])) for name in names}
    installed = {name: sight.info["packages"][name]["version"] for name in names if name in sight.info["packages"]}
    exact = bool(version) and not _BRANCH.fullmatch(version)
    problems: list[Finding] = []
    result: list[dict[str, str]] = []
    of_branch = {name: {one for one in (*available[name], *([installed[name]] if name in installed else [])) if branch_of(one) == branch} for name in names}
    common = set.intersection(*(versions for versions in of_branch.values() if versions)) if any(of_branch.values()) else set()
    # What is there already stays; the newest that all of them have comes next
    kept = next((installed[name] for name in installed if installed[name] in common), None)
    best = kept or max(common, key=_order, default="")
    for name in names:
        if exact and (version in available[name] or installed.get(name) == version):
            result.append({"name": name, "version": version})
        elif _OF_KERNEL.fullmatch(name) or (exact and available[name] and not any(branch_of(one) for one in available[name])):
            # Of a kernel's or of its own version: any that fits the others
            result.append({"name": name})
        elif exact and not available[name]:
            # The lists may be old; the package manager tells in the end
            result.append({"name": name, "version": version})
        elif exact:
            problems.append(
                Finding(
                    "packages",
                    f"{name} has no version {version} in the repositories of this host; there are {_some(available[name])}",
                    "choose one of them, or add a repository",
                )
            )
        elif of_branch[name]:
            own = installed.get(name, "")
            result.append({"name": name, "version": best if best in of_branch[name] else own if own in of_branch[name] else max(of_branch[name], key=_order)})
        elif any(branch_of(one) for one in available[name]) or not available[name]:
            there = f"; there are {_some(available[name])}" if available[name] else ""
            problems.append(
                Finding(
                    "packages",
                    f"{name} has no version of R{branch} in the repositories of this host{there}",
                    "add the repository that has it, or correct the name",
                )
            )
        else:
            result.append({"name": name})
    return result, problems


def _some(versions: Sequence[str]) -> str:
    return ", ".join(versions[:4]) + (" and others" if len(versions) > 4 else "")


def _order(version: str) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", version)], version


def _unfit(sight: Sight, branch: int | None, flavour: str) -> Iterator[Finding]:
    of_branch, of_flavour = unfit(sight.needs, branch, flavour)
    for need in of_branch:
        yield Finding(
            "branch", f"R{branch} shall be installed, and {need.name} needs {need.text}", "choose packages of a branch that drives it; nothing was installed"
        )
    for need in of_flavour:
        yield Finding(
            "modules",
            f"the {flavour} kernel modules shall be installed, and {need.name} needs the {need.modules} ones",
            f"choose the packages with the {need.modules} kernel modules; nothing was installed",
        )
    particular = [need for need in sight.needs if need.modules != "any"]
    if not flavour and particular:
        yield Finding(
            "modules",
            f"{particular[0].name} needs the {particular[0].modules} kernel modules, and nvidia_driver_packages do not tell which they have",
            "set nvidia_driver_kernel_modules to open or proprietary, whichever they have",
        )


def _in_the_way(sight: Sight, branch: int | None, pending: Sequence[str]) -> Iterator[Finding]:
    others: Mapping[str, Any] = {name: match[1] for name in sight.info["packages"] if (match := _NAMED.search(name)) and int(match[1]) != branch}
    leading = [name for name in others if re.match(r"nvidia-(?:driver|headless|dkms|open)|cuda-drivers|libnvidia-compute", name)]
    if leading:
        yield Finding(
            "packages",
            f"{leading[0]} is installed, which {pending[0]} cannot stand beside, and nothing is removed here",
            f"end what uses the GPUs and remove it: {'apt-get remove' if sight.info['manager'] == 'apt' else 'dnf remove'} '*nvidia*-{others[leading[0]]}*'",
        )


def _in_use(sight: Sight) -> Iterator[Finding]:
    found = users(sight.info)
    if found:
        yield Finding(
            "use",
            f"driver {sight.loaded} is in use by {_some(found)}, and new libraries would not fit the loaded module",
            "drain the node or end these programs, then run again; or set nvidia_driver_replace_running to true",
        )
