# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Sets of packages whose versions belong together. What the package manager is asked for, and what its answers mean.

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError

__all__ = ["MANAGERS", "Manager", "Package", "locks", "parsed", "pending"]

# By dnf 4, such as nvidia-container-toolkit-base-0:1.20.1-1.*
_LOCK = re.compile(r"(?P<name>\S+)-\d+:(?P<version>[^\s:-]+-[^\s:-]+)\.[^\s.]+")
# By dnf 5, where the version follows in a line of its own
_LOCK_NAME = re.compile(r"Package name: (?P<name>\S+)")
_LOCK_VERSION = re.compile(r"evr = (?:\d+:)?(?P<version>\S+)")
_VERSION = re.compile(r"[\w.+~^:-]+")


@dataclasses.dataclass(frozen=True)
class Package:
    """What shall be installed; the file is looked for in the repositories if it is empty."""

    name: str
    version: str
    """As the package manager writes it, such as 1.20.1-1. Any, if it is empty."""
    file: str = ""


@dataclasses.dataclass(frozen=True)
class Manager:
    """How one family of distributions is asked. Each command gets what it is for appended."""

    name: str
    query: tuple[str, ...]
    install: tuple[str, ...]
    allow_downgrade: tuple[str, ...]
    pinned: str
    """How a package of one version is named."""
    held: tuple[str, ...]
    hold: tuple[str, ...]
    unhold: tuple[str, ...]
    """What has to be done before held packages can be changed; nothing, if installing them does it."""
    older: str
    """How rpm tells whether a version is older than another; empty, if the installation itself refuses that."""
    refresh: tuple[str, ...]
    """How the lists of packages are fetched anew."""
    environment: t.Mapping[str, str]

    def targets(self, packages: t.Sequence[Package]) -> list[str]:
        return [package.file or (self.pinned.format(package.name, package.version) if package.version else package.name) for package in packages]

    def comparison(self, one: str, other: str) -> tuple[str, ...]:
        """The command that prints -1 if the first is older."""
        for version in (one, other):
            if not _VERSION.fullmatch(version):
                raise InputError(f"the version {version!r} is none; write it as the package manager does, such as 1.20.1-1")
        return ("rpm", "--eval", self.older.format(one, other))


MANAGERS: t.Mapping[str, Manager] = {
    "apt": Manager(
        name="apt",
        query=("dpkg-query", "--show", "--showformat", "${Package} ${Version} ${db:Status-Status}\\n"),
        # Nothing else is removed for it, questions keep the host's files, and another run of apt is waited for
        install=(
            *("apt-get", "--quiet", "--yes", "--no-install-recommends", "--no-remove", "--allow-change-held-packages"),
            *("-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold", "install"),
        ),
        allow_downgrade=("--allow-downgrades",),
        pinned="{}={}",
        held=("apt-mark", "showhold"),
        hold=("apt-mark", "--quiet", "hold"),
        unhold=(),
        older="",
        refresh=("apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=120", "update"),
        # needrestart would restart services, K3s among them
        environment={"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"},
    ),
    "dnf": Manager(
        name="dnf",
        query=("rpm", "--query", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE} installed\\n"),
        install=("dnf", "--quiet", "--assumeyes", "--setopt=install_weak_deps=False", "--setopt=localpkg_gpgcheck=False", "install"),
        allow_downgrade=(),
        pinned="{}-{}",
        held=("dnf", "--quiet", "versionlock", "list"),
        hold=("dnf", "--quiet", "versionlock", "add"),
        unhold=("dnf", "--quiet", "versionlock", "delete"),
        older="%{{lua:print(rpm.vercmp('{}', '{}'))}}",
        refresh=("dnf", "--quiet", "--assumeyes", "makecache"),
        environment={},
    ),
}


def parsed(output: str) -> dict[str, str]:
    """Versions of the installed ones among the packages that were asked for."""
    rows = [line.split() for line in output.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}


def locks(output: str) -> dict[str, str]:
    """The held packages, with the version each is held at, or nothing if it is held at whatever there is."""
    found: dict[str, str] = {}
    name = ""
    for line in output.splitlines():
        if lock := _LOCK.fullmatch(line.strip()):
            found[lock["name"]] = lock["version"]
        elif named := _LOCK_NAME.fullmatch(line.strip()):
            name = named["name"]
            found[name] = ""
        elif name and (version := _LOCK_VERSION.fullmatch(line.strip())):
            found[name] = version["version"]
        elif len(line.split()) == 1:
            found[line.strip()] = ""
    return found


def pending(packages: t.Sequence[Package], installed: t.Mapping[str, str]) -> list[Package]:
    """All of the set, if one of it is missing or has another version: they are installed in one transaction. Else none."""
    wrong = [package for package in packages if package.name not in installed or package.version not in ("", installed[package.name])]
    return list(packages) if wrong else []
