# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages of NVIDIA's container toolkit, made of its Go module: programs, units, maintainer scripts and dependencies are NVIDIA's.

The library libnvidia-container is no Go module. Its two packages are empty here: only the runtime's mode "legacy" needs them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from lab import container_image
from lab.distribution.build import recipe, toolchain

HERE: Final = Path(__file__).resolve().parent
MODULE: Final = "github.com/NVIDIA/nvidia-container-toolkit"
PACKAGES: Final = (
    "libnvidia-container1",
    "libnvidia-container-tools",
    "nvidia-container-toolkit-base",
    "nvidia-container-toolkit",
)
PROGRAMS: Final = (
    "nvidia-ctk",
    "nvidia-container-runtime",
    "nvidia-cdi-hook",
    "nvidia-container-runtime-hook",
)
UNITS: Final = "nvidia-cdi-refresh.path nvidia-cdi-refresh.service"
# What debhelper puts there
ENABLE: Final = f"""for unit in {UNITS}; do deb-systemd-helper enable "$unit" >/dev/null; done
if [ -d /run/systemd/system ]; then
  systemctl --system daemon-reload >/dev/null || true
  deb-systemd-invoke start {UNITS} >/dev/null || true
fi
"""
STOP: Final = f"""#!/bin/sh
set -e
if [ -d /run/systemd/system ] && [ "$1" = remove ]; then
  deb-systemd-invoke stop {UNITS} >/dev/null || true
fi
"""
DISABLE: Final = f"""#!/bin/sh
set -e
if [ "$1" = remove ] || [ "$1" = purge ]; then
  for unit in {UNITS}; do deb-systemd-helper disable "$unit" >/dev/null; deb-systemd-helper purge "$unit" >/dev/null; done
fi
"""
EMPTY: Final = "Placeholder: without libnvidia-container, which is built from no Go module. The runtime's mode legacy does not work."


class PackageError(Exception):
    """A package that could not be made."""


def version() -> str:
    """Of the packages, as NVIDIA numbers them."""
    found = re.search(rf"^\s*(?:require\s+)?{re.escape(MODULE)} v(\S+)", (HERE / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise PackageError(f"{HERE / 'go.mod'} requires no version of {MODULE}")
    return f"{found[1]}-1"


def key() -> str:
    digest = hashlib.sha256(container_image.machine_architecture().encode())
    for path in (HERE / "go.mod", HERE / "go.sum", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build() -> dict[str, Path]:
    """The packages' files by name, from the cache if they are there."""
    cache = toolchain.cache_directory()
    done = cache / "gpu" / f"toolkit-{key()}"
    if not done.is_dir():
        done.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=done.parent, prefix="partial-") as name:
            made = _make(cache, Path(name))
            try:
                made.rename(done)
            except OSError:
                # Another run was quicker
                if not done.is_dir():
                    raise
    return {name: done / file_name(name) for name in PACKAGES}


def file_name(package: str) -> str:
    return f"{package}_{version()}_{container_image.machine_architecture()}.deb"


def _make(cache: Path, scratch: Path) -> Path:
    log = cache / "gpu" / "toolkit.log"
    log.unlink(missing_ok=True)
    go = toolchain.find_go(cache, toolchain.go_needed([HERE / "go.mod"]), log)
    environment = {
        **recipe.go_environment(container_image.machine_architecture()),
        "CGO_ENABLED": "1",
        "CC": toolchain.find_dynamic_c_compiler(cache, log),
    }
    programs = scratch / "programs"
    # NVML's functions are looked up when they are called: no library of it is there when the program starts
    link = f"-s -w -extldflags=-Wl,-z,lazy -X {MODULE}/internal/info.version={version().removesuffix('-1')}"
    command = [str(go), "build", "-ldflags", link, "-o", f"{programs}{os.sep}", *(f"{MODULE}/cmd/{name}" for name in PROGRAMS)]
    if toolchain.run(command, log, environment, HERE) != 0:
        raise PackageError(f"the container toolkit could not be compiled; see {log}")
    listed = subprocess.run([str(go), "list", "-m", "-f", "{{.Dir}}", MODULE], cwd=HERE, env=environment, capture_output=True, text=True, check=False)
    sources = Path(listed.stdout.strip())
    if listed.returncode or not (sources / "packaging/debian/control").is_file():
        raise PackageError(f"the sources of {MODULE} are not where Go says: {listed.stdout.strip() or listed.stderr.strip()}")
    made = scratch / "packages"
    made.mkdir()
    stanzas = control_stanzas((sources / "packaging/debian/control").read_text(encoding="utf-8"))
    for name in PACKAGES:
        _pack(name, stanzas.get(name, {}), sources, programs, scratch / name, made / file_name(name))
    return made


def control_stanzas(text: str) -> dict[str, dict[str, str]]:
    """The binary packages of debian/control, by name."""
    found: dict[str, dict[str, str]] = {}
    for block in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        last = ""
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            if line.startswith((" ", "\t")) and last:
                fields[last] += f"\n{line}"
            elif ":" in line:
                last, _colon, value = line.partition(":")
                fields[last] = value.strip()
        if "Package" in fields:
            found[fields["Package"]] = fields
    return found


def control_file(name: str, stanza: Mapping[str, str], package_version: str, architecture: str) -> str:
    """A binary package's control file; NVIDIA's dependencies are kept, to the dot."""
    relations = {
        field: ", ".join(part for part in map(str.strip, stanza[field].split(",")) if part and not part.startswith("$")).replace("@VERSION@", package_version)
        for field in ("Depends", "Breaks", "Replaces")
        if field in stanza
    }
    if name == "libnvidia-container-tools":
        relations = {"Depends": f"libnvidia-container1 (>= {package_version})"}
    lines = {
        "Package": name,
        "Version": package_version,
        "Architecture": architecture,
        "Maintainer": "homelab.gpu contributors <lab@localhost>",
        "Section": "utils",
        "Priority": "optional",
        **{field: value for field, value in relations.items() if value},
        "Description": stanza.get("Description", EMPTY),
    }
    return "".join(f"{field}: {value}\n" for field, value in lines.items())


def install_list(text: str) -> list[tuple[str, str]]:
    """Lines of debian/*.install: which file goes into which directory."""
    return [(source, target.strip("/")) for source, target in (line.split() for line in text.splitlines() if line.strip())]


def _pack(name: str, stanza: Mapping[str, str], sources: Path, programs: Path, root: Path, target: Path) -> None:
    debian = sources / "packaging/debian"
    (root / "DEBIAN").mkdir(parents=True)
    listing = debian / f"{name}.install"
    configuration: list[str] = []
    for source, directory in install_list(listing.read_text(encoding="utf-8")) if listing.exists() else []:
        placed = root / directory / source
        placed.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_found(source, programs, sources), placed)
        placed.chmod(0o755 if source in PROGRAMS else 0o644)
        if directory.startswith("etc/"):
            configuration.append(f"/{directory}/{source}\n")
    scripts = {
        script: (debian / f"{name}.{script}").read_text(encoding="utf-8")
        for script in ("postinst", "postrm", "prerm")
        if (debian / f"{name}.{script}").exists()
    }
    if name == "nvidia-container-toolkit-base":
        scripts = {"prerm": STOP, "postrm": DISABLE, **{script: text.replace("#DEBHELPER#", ENABLE) for script, text in scripts.items()}}
    files = {"control": control_file(name, stanza, version(), container_image.machine_architecture()), "conffiles": "".join(configuration), **scripts}
    for file, text in files.items():
        if text:
            (root / "DEBIAN" / file).write_text(text, encoding="utf-8")
            (root / "DEBIAN" / file).chmod(0o755 if file in scripts else 0o644)
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        # Whatever the umask is
        folder.chmod(0o755)
    _run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(root), str(target)])


def _found(source: str, programs: Path, sources: Path) -> Path:
    places = [programs / source, sources / "deployments/systemd" / source, sources / "deployments/udev" / source]
    there = next((place for place in places if place.is_file()), None)
    if there is None:
        raise PackageError(f"{source} is to be packed, but neither among the programs nor in the module's deployments")
    return there


def _run(command: Sequence[str]) -> None:
    # The packages' bytes depend on nothing but what is in them
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "SOURCE_DATE_EPOCH": "1767225600"})
    except FileNotFoundError as error:
        raise PackageError(f"{command[0]} is not on this machine; install dpkg") from error
    if made.returncode:
        raise PackageError(f"{' '.join(command)}: {made.stderr.strip()[-2000:]}")
