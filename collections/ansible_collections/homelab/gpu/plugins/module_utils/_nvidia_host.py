# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# What a host's files below a root directory (another one in tests) tell of NVIDIA's driver, besides what gpu_info tells. Reads only.

from __future__ import annotations

import contextlib
import os
import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._host_facts import read

__all__ = [
    "dkms_builds",
    "free_driver",
    "held_packages",
    "holders",
    "kernels",
    "libraries",
    "loaded_module",
    "module_file",
    "packages",
    "parsed_modinfo",
    "secure_boot",
    "signer_known",
    "system",
    "unattended",
]

Object = dict[str, t.Any]

_PACKAGE = re.compile(
    r"(?:nvidia-(?!container|cuda|cudnn|nccl|docker|smi-exporter)[\w.+-]+|libnvidia-(?!container|ml-dev)[\w.+-]+|libcuda1|cuda-drivers[\w.+-]*|"
    r"linux-(?:modules|objects|signatures)-nvidia-[\w.+-]+|(?:k|ak|dk)mod-nvidia[\w.+-]*|xserver-xorg-video-nvidia[\w.+-]*)"
)
_MODULE_FILE = re.compile(r"(?:^|/)nvidia(?:-current)?\.ko(?:\.(?:gz|xz|zst))?:", re.MULTILINE)
_LIBRARY = re.compile(r"lib(?:nvidia-ml|cuda)\.so\.(\d+\.\d+(?:\.\d+)?)")
_LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib", "usr/lib/x86_64-linux-gnu/nvidia/current")
_DEVICE = re.compile(r"/dev/(nvidia(?:\d+|ctl|-uvm|-uvm-tools|-modeset))")
_COUNTED = re.compile(r"nvidia(?:\d+|ctl)")
_FREE_DRIVERS = ("nouveau", "nova_core")
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_SHIM_STATE = "sys/firmware/efi/efivars/MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23"
_COMMENT = re.compile(r"//[^\n]*|^\s*#[^\n]*|/\*.*?\*/", re.MULTILINE | re.DOTALL)


def _names(root: str, path: str) -> list[str]:
    try:
        return sorted(os.listdir(os.path.join(root, path)))
    except OSError:
        return []


def system(root: str) -> Object:
    """What is running: distribution and kernel."""
    release = dict(re.findall(r'^(ID|VERSION_ID|ID_LIKE)="?([^"\n]*)"?$', read(root, "etc/os-release"), re.MULTILINE))
    return {
        "distribution": release.get("ID", ""),
        "distribution_like": release.get("ID_LIKE", "").split(),
        "distribution_version": release.get("VERSION_ID", ""),
        "kernel": read(root, "proc/sys/kernel/osrelease").strip(),
    }


def loaded_module(root: str) -> Object:
    references = read(root, "sys/module/nvidia/refcnt").strip()
    return {"references": int(references) if references.isdigit() else 0, "used_by": _names(root, "sys/module/nvidia/holders")}


def holders(root: str) -> list[Object]:
    """Processes with an open device of NVIDIA; those of other users only for root."""
    found = []
    for pid in sorted((name for name in _names(root, "proc") if name.isdigit()), key=int):
        targets = []
        for descriptor in _names(root, f"proc/{pid}/fd"):
            # It may have ended or closed it meanwhile
            with contextlib.suppress(OSError):
                device = _DEVICE.fullmatch(os.readlink(os.path.join(root, "proc", pid, "fd", descriptor)))
                if device:
                    targets.append(device[1])
        if targets:
            found.append(
                {
                    "pid": int(pid),
                    "command": read(root, f"proc/{pid}/comm").strip(),
                    "devices": sorted(set(targets)),
                    "references": sum(bool(_COUNTED.fullmatch(target)) for target in targets),
                }
            )
    return found


def module_file(root: str, release: str) -> bool:
    return bool(_MODULE_FILE.search(read(root, f"lib/modules/{release}/modules.dep")))


def kernels(root: str, running: str) -> list[Object]:
    """Kernels that can be started, and whether NVIDIA's module was built for them."""
    found = []
    for release in _names(root, "lib/modules"):
        image = any(os.path.exists(os.path.join(root, path)) for path in (f"boot/vmlinuz-{release}", f"lib/modules/{release}/vmlinuz"))
        if release == running or image:
            found.append({"release": release, "running": release == running, "module": module_file(root, release)})
    return found


def dkms_builds(root: str) -> list[Object]:
    """Versions of the module that DKMS has, and for which kernels it built them."""
    found = []
    for name in _names(root, "var/lib/dkms"):
        if not name.startswith("nvidia"):
            continue
        for version in _names(root, f"var/lib/dkms/{name}"):
            if not re.match(r"\d", version):
                continue
            folder = f"var/lib/dkms/{name}/{version}"
            built = [
                release
                for release in _names(root, folder)
                if any("module" in _names(root, f"{folder}/{release}/{arch}") for arch in _names(root, f"{folder}/{release}"))
            ]
            found.append({"name": name, "version": version, "kernels": built})
    return found


def parsed_modinfo(output: str) -> Object:
    fields: dict[str, str] = {}
    for line in output.splitlines():
        key, _colon, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    licence = fields.get("license", "")
    return {
        "path": fields.get("filename", ""),
        "version": fields.get("version", ""),
        "flavour": "" if not licence else "open" if "GPL" in licence else "proprietary",
        "signer": fields.get("signer", ""),
    }


def libraries(root: str) -> list[str]:
    """Versions of the libraries that programs on this host would load."""
    found = {match[1] for folder in _LIBRARY_FOLDERS for name in _names(root, folder) if (match := _LIBRARY.fullmatch(name))}
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")])


def packages(root: str, rpm_lines: t.Iterable[str] = ()) -> dict[str, Object]:
    """The driver's packages, from dpkg's own list, or from lines of rpm as NAME VERSION-RELEASE."""
    found: dict[str, Object] = {}
    for paragraph in read(root, "var/lib/dpkg/status").split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", paragraph, re.MULTILINE))
        status = fields.get("Status", "").split()
        if status[2:] == ["installed"] and _PACKAGE.fullmatch(fields.get("Package", "")):
            found[fields["Package"]] = {"version": fields.get("Version", ""), "held": status[0] == "hold"}
    locked = held_packages(root)
    for line in rpm_lines:
        name, _space, version = line.strip().partition(" ")
        if _PACKAGE.fullmatch(name):
            found[name] = {"version": version, "held": any(entry == name or entry.startswith(f"{name}-") for entry in locked)}
    return dict(sorted(found.items()))


def held_packages(root: str) -> list[str]:
    """What dnf's plugin versionlock leaves alone; both of its formats."""
    lines = read(root, "etc/dnf/plugins/versionlock.list").splitlines()
    old = [re.sub(r"^\d+:", "", line.strip()) for line in lines if line.strip() and not line.startswith(("#", "!"))]
    return [*old, *re.findall(r'^\s*name\s*=\s*"([^"]+)"', read(root, "etc/dnf/versionlock.toml"), re.MULTILINE)]


def unattended(root: str) -> Object:
    """Whether packages are upgraded without anybody asking, and which are left out of that."""
    files = ["etc/apt/apt.conf", *(f"etc/apt/apt.conf.d/{name}" for name in _names(root, "etc/apt/apt.conf.d") if re.fullmatch(r"[\w.-]+", name))]
    text = "\n".join(_without_comments(read(root, path)) for path in files if not path.endswith((".bak", ".dpkg-old", ".dpkg-dist", ".ucf-dist")))
    blacklist = []
    for block, single in re.findall(r'Unattended-Upgrade::Package-Blacklist(?:\s*\{([^}]*)\}|::\s*"([^"]*)")', text):
        blacklist += re.findall(r'"([^"]+)"', block) if block else [single] if single else []
    switches = re.findall(r'APT::Periodic::Unattended-Upgrade\s+"([^"]*)"', text)
    dnf = read(root, "etc/dnf/automatic.conf")
    apt = bool(switches) and switches[-1] not in ("", "0")
    return {"enabled": apt or bool(re.search(r"^\s*apply_updates\s*=\s*(?:yes|true|1)\b", dnf, re.MULTILINE | re.IGNORECASE)), "blacklist": blacklist}


def _without_comments(text: str) -> str:
    return _COMMENT.sub("", text)


def free_driver(root: str) -> Object:
    """The kernel's own driver for NVIDIA's GPUs, which keeps NVIDIA's from taking them."""
    loaded = next((name for name in _FREE_DRIVERS if os.path.isdir(os.path.join(root, "sys/module", name))), "")
    name = loaded or "nouveau"
    texts = [read(root, f"{folder}/{file}") for folder in ("etc/modprobe.d", "usr/lib/modprobe.d", "lib/modprobe.d") for file in _names(root, folder)]
    banned = re.compile(rf"^\s*(?:blacklist\s+{name}|install\s+{name}\s+\S*/(?:false|true))\s*$", re.MULTILINE)
    told = re.search(rf"\bmodprobe\.blacklist=(?:\S*,)?{name}\b", read(root, "proc/cmdline"))
    return {"loaded": loaded, "blacklisted": bool(told) or any(banned.search(text) for text in texts)}


def secure_boot(root: str) -> str:
    """enabled, disabled, or none, if the firmware has none."""
    value = _efi_value(root, _SECURE_BOOT)
    if value is None:
        return "none"
    # Shim's own switch has the kernel not look at signatures
    return "enabled" if value == 1 and _efi_value(root, _SHIM_STATE) != 1 else "disabled"


def _efi_value(root: str, path: str) -> int | None:
    """The byte after the four of attributes."""
    try:
        with open(os.path.join(root, path), "rb") as stream:
            content = stream.read(5)
    except OSError:
        return None
    return content[4] if len(content) == 5 else None


def signer_known(root: str, signer: str) -> bool | None:
    """Whether the kernel has a key of that name; None if that cannot be told."""
    keys = [line for line in read(root, "proc/keys").splitlines() if " asymmetri" in line]
    return any(signer in line for line in keys) if keys and signer else None
