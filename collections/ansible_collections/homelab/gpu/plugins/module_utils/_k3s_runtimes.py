# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Container runtimes as K3s registers them. At each start it looks for known programs, first in two folders of its own, then in its PATH,
# and writes containerd's configuration anew with what it found.

from __future__ import annotations

import dataclasses
import os
import re
import typing as t

__all__ = ["NVIDIA", "SEARCHED_FIRST", "Verdict", "look_up", "registered", "templates", "verdict"]

NVIDIA = {"nvidia": "nvidia-container-runtime", "nvidia-cdi": "nvidia-container-runtime.cdi"}
SEARCHED_FIRST = ("/usr/local/nvidia/toolkit", "/opt/kwasm/bin")
_TEMPLATES = ("config-v3.toml.tmpl", "config.toml.tmpl")
_SECTION = re.compile(r"""^\s*\[.*containerd\.runtimes\.(?:'(?P<single>[^']+)'|"(?P<double>[^"]+)"|(?P<bare>[\w-]+))(?P<options>\.options)?\]\s*$""")
_OTHER_SECTION = re.compile(r"^\s*\[")
_BINARY = re.compile(r"""^\s*BinaryName\s*=\s*(?:'([^']*)'|"([^"]*)")""")


def registered(config: str) -> dict[str, str]:
    """Programs by the runtime's name, from containerd's configuration; an empty one for a runtime that names none."""
    found: dict[str, str] = {}
    current = ""
    for line in config.splitlines():
        section = _SECTION.match(line)
        if section:
            current = section["single"] or section["double"] or section["bare"]
            found.setdefault(current, "")
        elif _OTHER_SECTION.match(line):
            current = ""
        elif current:
            binary = _BINARY.match(line)
            if binary:
                found[current] = binary[1] or binary[2] or ""
    return found


def look_up(program: str, path: str, executable: t.Callable[[str], bool]) -> str:
    """Which file K3s would take if it started now, or none."""
    folders = [*SEARCHED_FIRST, *path.split(":")]
    return next((file for file in (os.path.join(folder, program) for folder in folders if os.path.isabs(folder)) if executable(file)), "")


def templates(folder: str, exists: t.Callable[[str], bool]) -> list[str]:
    """Templates of a user that take the place of K3s' own."""
    return [path for path in (os.path.join(folder, name) for name in _TEMPLATES) if exists(path)]


@dataclasses.dataclass(frozen=True)
class Verdict:
    state: str
    """registered, not_installed (the runtime), foreign, stopped (K3s), not_registered, or outdated."""
    reason: str
    restart_needed: bool = False


def verdict(*, expected: str, installed: bool, found: str, running: bool, runtimes: t.Mapping[str, str], template: t.Sequence[str] = ()) -> Verdict:
    """Whether the containerd that runs uses the program it should.

    C(expected) is the program that should be used, C(found) the one that K3s would take if it started now.
    """
    if not installed:
        return Verdict("not_installed", f"{expected} is not on this host")
    if found != expected:
        where = f"K3s takes {found}, which comes before {expected} in where it looks" if found else f"K3s does not look in the folder of {expected}"
        # containerd stops a container with the program that started it
        fix = "end the pods that it started, then remove it" if found else "set PATH of the service"
        return Verdict("foreign", f"{where}; {fix}, or let the option name the one that you want")
    if not running:
        return Verdict("stopped", "K3s does not run; it registers the runtime when it starts")
    now = runtimes.get("nvidia")
    if now == expected:
        return Verdict("registered", f"containerd has the runtime nvidia as {expected}")
    because = f"; the template {template[0]} takes the place of K3s' own configuration, and may leave it out" if template else ""
    if now is None:
        return Verdict("not_registered", f"containerd has no runtime nvidia: {expected} came after K3s was started{because}", True)
    return Verdict("outdated", f"containerd has the runtime nvidia as {now or 'an unnamed program'}, not {expected}{because}", True)
