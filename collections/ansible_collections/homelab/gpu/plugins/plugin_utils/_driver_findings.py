# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Whether NVIDIA's driver of a host drives its GPUs, and whether it will tomorrow: from facts to findings. Pure.

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._gpu_architectures import of_gpu
from ansible_collections.homelab.gpu.plugins.module_utils._gpu_skus import merged

__all__ = [
    "CHECKS",
    "Finding",
    "Need",
    "Sight",
    "branch_of",
    "conflicts",
    "findings",
    "needs_of",
    "reboot_helps",
    "settled",
    "sight_of",
    "unfit",
    "users",
]

Object = Mapping[str, Any]

CHECKS = (
    "answer",
    "branch",
    "cuda",
    "driver",
    "gpu",
    "hold",
    "kernel",
    "lifetime",
    "mix",
    "modules",
    "nouveau",
    "packages",
    "secure_boot",
    "tegra",
    "versions",
)

# The least driver branch for programs made with that release of CUDA
CUDA_BRANCHES = {11: 450, 12: 525, 13: 580}

# End of life by NVIDIA's table of data center drivers; the others live for months only
BRANCH_ENDS = {
    535: datetime.date(2026, 6, 30),
    580: datetime.date(2028, 6, 30),
    595: datetime.date(2027, 3, 31),
    610: datetime.date(2026, 8, 31),
    620: datetime.date(2029, 9, 30),
}
# To be told to people, the first that fits
_ADVISED = (580, 620, 595, 535)
_NEAR = datetime.timedelta(days=180)

# They only watch: what they see after a new driver is wrong until they start anew, but nothing is lost
_WATCHERS = ("nvidia-persiste", "nvidia-device-p", "gpu-feature-dis", "nv-hostengine", "dcgm-exporter", "nvidia-smi")
# By the versions of these, others are bound
_LEADING = re.compile(r"nvidia-(?:driver|headless|open)\b.*|cuda-drivers.*|nvidia-(?:kernel-)?(?:open-)?dkms.*|libcuda1")
# What has to change together, or programs no longer find their driver
_BOUND = re.compile(
    r"(?:nvidia-(?:driver|headless|dkms|kernel|open|utils|compute)|libnvidia-(?:compute|cfg)|cuda-drivers|(?:k|ak|dk)mod-nvidia|"
    r"linux-modules-nvidia).*|libcuda1"
)


@dataclass(frozen=True)
class Finding:
    check: str
    fact: str
    fix: str
    severity: str = "error"


@dataclass(frozen=True)
class Need:
    """What of the driver one GPU takes."""

    name: str
    oldest: int | None
    newest: int | None
    modules: str
    state: str

    @property
    def text(self) -> str:
        branch = f"R{self.newest} or older" if self.newest else f"R{self.oldest} or newer" if self.oldest else "any branch"
        return branch if self.modules == "any" else f"{branch} with the {self.modules} kernel modules"


@dataclass(frozen=True)
class Sight:
    """All that is judged."""

    info: Object
    gpu: Object
    needs: tuple[Need, ...]
    cuda: int
    today: datetime.date

    @property
    def driver(self) -> Object:
        return self.gpu["driver"]

    @property
    def tegra(self) -> bool:
        return bool(self.gpu.get("tegra"))

    @property
    def kernel(self) -> str:
        return str(self.info["system"]["kernel"])

    @property
    def loaded(self) -> str:
        return str(self.driver["kernel_version"])

    @property
    def installed(self) -> str:
        """The version that the next boot loads."""
        return str(self.info["module"]["version"])

    @property
    def on_disk(self) -> bool:
        """Whether there is a module for the running kernel, even if nothing told its version."""
        return bool(self.info["module"]["path"]) or any(entry["running"] and entry["module"] for entry in self.info["kernels"])

    @property
    def version(self) -> str:
        return self.loaded or self.installed or str(self.driver["version"]) or next(iter(self.info["libraries"][-1:]), "")

    @property
    def flavour(self) -> str:
        return str(self.driver["flavour"] or (self.info["module"]["flavour"] if self.loaded in ("", self.installed) else ""))


def branch_of(version: str) -> int | None:
    """580 of 580.95.05, or of a package's version 3:580.95.05-1."""
    found = re.match(r"(?:\d+:)?(\d{3})\.\d", version)
    return int(found[1]) if found else None


def needs_of(gpu: Object, skus: Sequence[Object] | None) -> tuple[Need, ...]:
    table = {sku.name: sku for sku in merged(skus)}
    found = []
    for one in gpu["gpus"]:
        if one["state"] == "other_driver":
            continue
        sku, architecture = table.get(one["sku"]), of_gpu(one["pci_id"], one["compute_capability"])
        known = [entry for entry in (sku, architecture) if entry]
        modules = next((entry.kernel_modules for entry in known if entry.kernel_modules != "any"), "any")
        newest = [entry.driver_branches[1] for entry in known if entry.driver_branches[1] is not None]
        what = one["product"] or (f"the {architecture.name} GPU {one['pci_id']}" if architecture else f"the GPU {one['pci_id']}")
        found.append(
            Need(
                name=f"{what} ({one['pci_address']})" if one["pci_address"] else what,
                oldest=max((entry.driver_branches[0] for entry in known), default=None),
                newest=min(newest, default=None),
                modules=modules,
                state=one["state"],
            )
        )
    return tuple(found)


def conflicts(needs: Iterable[Need]) -> Iterator[tuple[Need, Need]]:
    for one, other in itertools.combinations(needs, 2):
        flavours = {one.modules, other.modules} - {"any"}
        if len(flavours) > 1 or any(low.newest and high.oldest and low.newest < high.oldest for low, high in ((one, other), (other, one))):
            yield one, other


def unfit(needs: Iterable[Need], branch: int | None, flavour: str) -> tuple[list[Need], list[Need]]:
    """Those that a branch, and those that a flavour of the modules does not drive."""
    found = list(needs)
    of_branch = [need for need in found if branch is not None and (branch < (need.oldest or 0) or branch > (need.newest or branch))]
    return of_branch, [need for need in found if flavour and need.modules not in ("any", flavour)]


def users(info: Object) -> list[str]:
    """Who uses the GPUs now, in words; not those who only watch."""
    found = [f"{one['command']} (pid {one['pid']})" for one in info["holders"] if one["command"][:15] not in _WATCHERS]
    counted = len(info["loaded"]["used_by"]) + sum(one["references"] for one in info["holders"])
    unseen = info["loaded"]["references"] - counted
    return [*found, f"something that cannot be seen from here, with {unseen} references to the module"] if unseen > 0 and not found else found


def advised(needs: Sequence[Need]) -> tuple[int, str]:
    """The branch and the flavour that drive all of them."""
    oldest = max((need.oldest or 0 for need in needs), default=0)
    newest = min((need.newest for need in needs if need.newest), default=None)
    fitting = [branch for branch in _ADVISED if branch >= oldest and (newest is None or branch <= newest)]
    flavour = next((need.modules for need in needs if need.modules != "any"), "open")
    return (fitting[0] if fitting else newest or oldest), flavour


def _packages_in_words(info: Object, branch: int, flavour: str) -> str:
    system = info["system"]
    family = {system["distribution"], *system["distribution_like"]}
    is_open = flavour == "open"
    if system["distribution"] == "ubuntu" or "ubuntu" in family:
        return f"nvidia-headless-{branch}-server{'-open' if is_open else ''} and nvidia-utils-{branch}-server"
    if "debian" in family:
        return f"{'nvidia-open' if is_open else 'cuda-drivers'}-{branch} of NVIDIA's repository"
    if family & {"rhel", "fedora", "centos", "rocky", "almalinux"}:
        return f"nvidia-driver-cuda and {'kmod-nvidia-open-dkms' if is_open else 'kmod-nvidia-latest-dkms'} {branch} of NVIDIA's repository"
    return "the packages of your distribution"


def _how_to_install(sight: Sight) -> str:
    branch, flavour = advised(sight.needs)
    names = _packages_in_words(sight.info, branch, flavour)
    return (
        f"install R{branch} with the {flavour} kernel modules ({names}), or set nvidia_driver_install to true, nvidia_driver_version to '{branch}' "
        "and nvidia_driver_packages to their names"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def check_gpus(sight: Sight) -> Iterator[Finding]:
    if not sight.gpu["gpus"]:
        yield Finding(
            "gpu",
            "the host has no NVIDIA GPU now, so nothing tells which driver it needs",
            "plug one in and run again, or remove the host from its group",
            "warning",
        )
    for one in sight.gpu["gpus"]:
        where = one["pci_address"] or "of the Tegra module"
        if one["state"] == "lost":
            yield Finding(
                "gpu", f"GPU {where} is lost: {one['state_reason']}", "plug it in again; if it stays lost, end what uses it and reboot the host", "warning"
            )
        elif one["state"] == "other_driver":
            yield Finding("gpu", f"GPU {where} is not NVIDIA's driver's: {one['state_reason']}", "unbind it there if this host shall use it", "warning")
        elif one["state"] == "not_answering" and sight.driver["state"] == "ready":
            yield Finding("gpu", f"GPU {where} does not answer: {one['state_reason']}", f"read why: dmesg | grep -e NVRM -e {where}")


def check_unknown(sight: Sight) -> Iterator[Finding]:
    for need in sight.needs:
        if need.oldest is None:
            yield Finding(
                "gpu",
                f"{need.name} is not known, neither by its name nor by its PCI ID, so what it needs of the driver was not checked",
                "add it to gpu_skus, with driver_branch_min and kernel_modules",
                "warning",
            )


def check_mix(sight: Sight) -> Iterator[Finding]:
    for one, other in conflicts(sight.needs):
        yield Finding(
            "mix",
            f"{one.name} needs {one.text}, {other.name} needs {other.text}, and a host has one driver",
            "put one of them into another host, or give one to a virtual machine by the driver vfio-pci",
        )


def check_answer(sight: Sight) -> Iterator[Finding]:
    state, message = sight.driver["state"], sight.driver["message"]
    if state == "hung":
        yield Finding("answer", f"the driver hangs: {message}", "end what uses the GPUs, then reboot the host; reloading a hung driver is not possible")
    elif state == "failing" or (state == "not_loaded" and sight.loaded):
        yield Finding("answer", f"the driver does not answer: {message}", "read why: dmesg | grep NVRM; a reboot of the host starts it anew")
    elif state == "no_nvidia_smi" and sight.loaded and not sight.tegra:
        branch = branch_of(sight.loaded)
        tools = f"nvidia-utils-{branch}-server" if sight.info["system"]["distribution"] == "ubuntu" else "the package with nvidia-smi"
        yield Finding("answer", f"the module {sight.loaded} is loaded, but nvidia-smi is not installed", f"install {tools} of the same version")


def check_driver(sight: Sight) -> Iterator[Finding]:
    """None is loaded; other checks tell if nouveau, Secure Boot or a missing module are the reason."""
    if sight.tegra or sight.loaded or sight.driver["state"] == "ready" or not sight.needs or any(conflicts(sight.needs)):
        return
    if not sight.info["packages"] and not sight.on_disk and not sight.info["runfile"]:
        names = _listed(need.name for need in sight.needs)
        yield Finding("driver", f"no NVIDIA driver is installed for {names}", _how_to_install(sight))
    elif sight.on_disk and not any(True for check in (check_nouveau, check_secure_boot) for _finding in check(sight)):
        yield Finding(
            "driver",
            f"the module {sight.installed} is installed, but not loaded".replace("  ", " "),
            "load it: modprobe nvidia; if that fails, dmesg tells why",
        )


def check_tegra(sight: Sight) -> Iterator[Finding]:
    if not sight.tegra:
        return
    state = sight.driver["state"]
    if not sight.loaded and state != "ready":
        yield Finding(
            "tegra",
            f"no NVIDIA driver is loaded ({sight.driver['message']}), and on {sight.gpu['tegra']['model'] or 'a Tegra module'} it is part of JetPack",
            "install or repair JetPack (apt-get install nvidia-jetpack); packages of the driver for PCI cards do not fit",
        )


def _repair(sight: Sight) -> str:
    """What brings another driver than the loaded one; a reboot, if the right one is on disk already."""
    module = sight.info["module"]
    if sight.tegra:
        return "upgrade JetPack"
    if sight.loaded and module["version"]:
        of_branch, of_flavour = unfit(sight.needs, branch_of(module["version"]), module["flavour"])
        if not of_branch and not of_flavour:
            return f"reboot the host: {module['version']} ({module['flavour']}) on its disk is the right one"
    return _how_to_install(sight)


def check_branch(sight: Sight) -> Iterator[Finding]:
    if any(conflicts(sight.needs)):
        return
    versions = {sight.version: "is loaded" if sight.loaded else "is installed"}
    if sight.loaded and sight.installed and branch_of(sight.installed) != branch_of(sight.loaded):
        versions.setdefault(sight.installed, "is what the next boot loads")
    for version, how in versions.items():
        wrong, _flavour = unfit(sight.needs, branch_of(version), "")
        if wrong:
            yield Finding(
                "branch",
                f"driver {version} {how}, and {'; '.join(f'{need.name} needs {need.text}' for need in wrong)}",
                _repair(sight),
            )


def check_modules(sight: Sight) -> Iterator[Finding]:
    if any(conflicts(sight.needs)):
        return
    _branch, wrong = unfit(sight.needs, None, sight.flavour)
    if wrong and not sight.tegra:
        how = "loaded" if sight.loaded else "installed"
        names = _listed(need.name for need in wrong)
        yield Finding("modules", f"the {sight.flavour} kernel modules are {how}, and {names} needs the {wrong[0].modules} ones", _repair(sight))
    reasons = [gpu["pci_address"] for gpu in sight.gpu["gpus"] if gpu["state"] == "no_driver"]
    of_branch, _flavour = unfit(sight.needs, branch_of(sight.version), "")
    if sight.loaded and reasons and not wrong and not of_branch:
        yield Finding("modules", f"driver {sight.loaded} is loaded, but did not take GPU {_listed(reasons)}", "read why: dmesg | grep NVRM")


def check_versions(sight: Sight) -> Iterator[Finding]:
    if sight.tegra:
        return
    loaded, installed, libraries = sight.loaded, sight.installed, sight.info["libraries"]
    told = sight.driver["version"] if sight.driver["state"] == "ready" else ""
    if sight.driver["state"] == "mismatch" or (loaded and libraries and loaded not in libraries):
        others = _listed(version for version in libraries if version != loaded) or "another version"
        if installed and libraries and installed not in libraries:
            yield Finding(
                "versions",
                f"the loaded module is {loaded}, the one on disk {installed}, and the libraries are {others}: a reboot alone does not mend that",
                "install all packages of the driver in one version, then reboot the host",
            )
        else:
            yield Finding(
                "versions",
                f"the loaded module is {loaded or 'unknown'} and the libraries are {others}: the driver was upgraded under it, and no program can use the GPUs",
                "reboot the host, and hold the driver's packages so that it does not happen again",
            )
    elif installed and libraries and installed not in libraries:
        yield Finding(
            "versions",
            f"the module on disk is {installed} and the libraries are {_listed(libraries)}: after the next boot no program can use the GPUs",
            "install all packages of the driver in one version",
        )
    elif loaded and installed and loaded != installed:
        yield Finding("versions", f"the loaded module is {loaded}, the one on disk {installed}", "reboot the host when no one uses its GPUs", "warning")
    elif told and len(libraries) > 1:
        yield Finding(
            "versions",
            f"there are libraries of several drivers: {_listed(libraries)}; the loaded module is {loaded}",
            "remove those of the other drivers",
            "warning",
        )


def check_nouveau(sight: Sight) -> Iterator[Finding]:
    name, blacklisted = sight.info["free_driver"]["loaded"], sight.info["free_driver"]["blacklisted"]
    bound = [gpu["pci_address"] for gpu in sight.gpu["gpus"] if gpu["state"] == "nouveau"]
    if sight.tegra or not (name or bound):
        return
    name = name or "nouveau"
    rebuild = "update-initramfs -u" if sight.info["manager"] == "apt" else "dracut --force"
    again = f"{name} is in a blacklist already; rebuild the initial RAM disk ({rebuild}) and reboot the host"
    fix = f"write 'blacklist {name}' into /etc/modprobe.d/blacklist-{name}.conf, rebuild the initial RAM disk ({rebuild}), and reboot the host"
    if bound:
        yield Finding("nouveau", f"{name} holds GPU {_listed(bound)}, so NVIDIA's driver cannot take it", again if blacklisted else fix)
    else:
        yield Finding(
            "nouveau", f"{name} is loaded, and may take a GPU that is plugged in before NVIDIA's driver does", again if blacklisted else fix, "warning"
        )


def check_secure_boot(sight: Sight) -> Iterator[Finding]:
    module = sight.info["module"]
    if sight.tegra or sight.info["secure_boot"] != "enabled" or not module["path"]:
        return
    severity = "warning" if sight.loaded and sight.loaded == module["version"] else "error"
    so = "this kernel loaded it nevertheless, another may not" if severity == "warning" else "the kernel refuses it"
    if not module["signer"]:
        yield Finding(
            "secure_boot",
            f"Secure Boot is enabled and the module {module['path']} is not signed: {so}",
            "use modules that the distribution signed (such as linux-modules-nvidia-… of Ubuntu), sign it with a key enrolled by mokutil --import, "
            "or disable Secure Boot in the firmware",
            severity,
        )
    elif module["signer_known"] is False and severity == "error":
        yield Finding(
            "secure_boot",
            f"Secure Boot is enabled and the module is signed by {module['signer']!r}, whose key the kernel does not have",
            "enrol that key: mokutil --import with DKMS' certificate (/var/lib/shim-signed/mok/MOK.der or /var/lib/dkms/mok.pub), reboot, "
            "and confirm it at the console",
        )


def check_kernel(sight: Sight) -> Iterator[Finding]:
    """Modules are built for one kernel each."""
    if sight.tegra or not (sight.info["packages"] or sight.info["dkms"] or sight.info["runfile"] or sight.loaded):
        return
    headers = f"linux-headers-{sight.kernel}" if sight.info["manager"] == "apt" else f"kernel-devel-{sight.kernel}"
    build = f"install {headers} and run dkms autoinstall" if sight.info["dkms"] else f"install the modules of the driver for {sight.kernel}"
    if not sight.on_disk:
        built = sorted({release for entry in sight.info["dkms"] for release in entry["kernels"]})
        known = f"; DKMS built it for {_listed(built)}" if built else "; DKMS has it and built it for no kernel" if sight.info["dkms"] else ""
        if sight.loaded:
            yield Finding("kernel", f"the module {sight.loaded} is loaded, but not on disk for the running kernel {sight.kernel}{known}", build, "warning")
        else:
            yield Finding("kernel", f"the driver is installed, but has no module for the running kernel {sight.kernel}{known}", build)
    newer = [entry["release"] for entry in sight.info["kernels"] if not entry["running"] and _key(entry["release"]) > _key(sight.kernel)]
    lacking = {entry["release"] for entry in sight.info["kernels"] if not entry["module"]}
    newest = max(newer, key=_key, default="")
    if newest in lacking:
        yield Finding(
            "kernel",
            f"the kernel {newest}, which the next boot may start, has no module of the driver",
            f"install its headers and run dkms autoinstall -k {newest}"
            if sight.info["dkms"]
            else f"install the modules of the driver for {newest}, or remove that kernel",
            "warning",
        )


def _key(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def check_hold(sight: Sight) -> Iterator[Finding]:
    packages = sight.info["packages"]
    patterns = sight.info["unattended"]["blacklist"]
    kept = {name for name, package in packages.items() if package["held"] or any(_begins(pattern, name) for pattern in patterns)}
    # Those that depend on exactly a held version cannot move either
    pinned = {packages[name]["version"] for name in kept if _LEADING.fullmatch(name)}
    loose = [name for name, package in packages.items() if _BOUND.fullmatch(name) and name not in kept and package["version"] not in pinned]
    if loose and not sight.tegra:
        shown = _listed(loose[:3]) + (f" and {len(loose) - 3} more" if len(loose) > 3 else "")
        upgrades = "unattended upgrades are on, and" if sight.info["unattended"]["enabled"] else "an upgrade of the system"
        command = "apt-mark hold" if sight.info["manager"] == "apt" else "dnf versionlock add"
        yield Finding(
            "hold",
            f"{shown} {'is' if len(loose) == 1 else 'are'} not held: {upgrades} may replace the libraries under the loaded module",
            f"{command} {' '.join(loose)}",
            "warning",
        )


def _begins(pattern: str, name: str) -> bool:
    """As unattended-upgrades compares them."""
    try:
        return bool(re.match(pattern, name))
    except re.error:
        return False


def check_cuda(sight: Sight) -> Iterator[Finding]:
    branch, least = branch_of(sight.version), CUDA_BRANCHES[sight.cuda]
    if branch and branch < least:
        fitting = [one for one, low in CUDA_BRANCHES.items() if low <= branch]
        other = f", or run images that were made with CUDA {max(fitting)}, and set nvidia_driver_cuda to that" if fitting else ""
        yield Finding(
            "cuda",
            f"driver {sight.version} is older than R{least}, which programs made with CUDA {sight.cuda} need",
            f"install R{advised(sight.needs)[0]}{other}",
            "warning",
        )


def check_lifetime(sight: Sight) -> Iterator[Finding]:
    branch = branch_of(sight.version)
    if branch is None or sight.tegra:
        return
    ends = BRANCH_ENDS.get(branch, datetime.date(2026, 6, 30) if branch < min(one for one, end in BRANCH_ENDS.items() if end > sight.today) else None)
    if ends is None or sight.today < ends - _NEAR:
        return
    last = [need for need in sight.needs if need.newest and need.newest <= branch]
    next_branch = advised(sight.needs)[0]
    when = f"ends {ends:%B %Y}" if branch in BRANCH_ENDS and ends >= sight.today else f"ended {ends:%B %Y}" if branch in BRANCH_ENDS else "has ended"
    yield Finding(
        "lifetime",
        f"NVIDIA's support of R{branch} {when}" + (f", and {_listed(need.name for need in last)} has no newer branch" if last else ""),
        "plan to replace that GPU" if last else f"install R{next_branch}" if next_branch > branch else "install a newer branch",
        "warning",
    )


def reboot_helps(sight: Sight) -> bool:
    """Whether what is on disk drives the GPUs, and only what is loaded does not."""
    module, libraries = sight.info["module"], sight.info["libraries"]
    if sight.tegra or not module["version"] or (libraries and module["version"] not in libraries):
        return False
    if any(any(wrong) for wrong in (unfit(sight.needs, branch_of(module["version"]), module["flavour"]), conflicts(sight.needs))):
        return False
    other = bool(sight.loaded) and (sight.loaded != module["version"] or bool(sight.driver["flavour"]) and sight.driver["flavour"] != module["flavour"])
    return other or any(gpu["state"] == "nouveau" for gpu in sight.gpu["gpus"])


_ORDER: tuple[Callable[[Sight], Iterator[Finding]], ...] = (
    check_gpus,
    check_unknown,
    check_mix,
    check_answer,
    check_tegra,
    check_driver,
    check_branch,
    check_modules,
    check_versions,
    check_nouveau,
    check_secure_boot,
    check_kernel,
    check_hold,
    check_cuda,
    check_lifetime,
)


def settled(found: Iterable[Finding], ignore: Sequence[str]) -> list[dict[str, str]]:
    """Errors first; those of ignored checks are warnings."""
    unknown = sorted(set(ignore) - set(CHECKS))
    if unknown:
        raise InputError(f"ignore names {unknown[0]!r}, which is no check; they are {_listed(CHECKS)}")
    rows = [
        {"check": one.check, "severity": "warning" if one.check in ignore else one.severity, "fact": one.fact, "fix": one.fix} for one in dict.fromkeys(found)
    ]
    return sorted(rows, key=lambda row: row["severity"] != "error")


def sight_of(info: Object, gpu: Object, skus: Sequence[Object] | None, cuda: int, today: datetime.date) -> Sight:
    if cuda not in CUDA_BRANCHES:
        raise InputError(f"cuda is {cuda}; releases that are known are {_listed(map(str, CUDA_BRANCHES))}")
    return Sight(info, gpu, needs_of(gpu, skus), cuda, today)


def findings(sight: Sight) -> list[Finding]:
    return [finding for check in _ORDER for finding in check(sight)]
