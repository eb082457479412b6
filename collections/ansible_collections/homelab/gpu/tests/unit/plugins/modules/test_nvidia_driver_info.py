# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.modules import nvidia_driver_info

Object = dict[str, t.Any]
Run = t.Callable[..., Object]

KERNEL, NEXT = "6.8.0-50-generic", "6.8.0-51-generic"
MODULE = f"/lib/modules/{KERNEL}/updates/dkms/nvidia.ko.zst"
EFI = "sys/firmware/efi/efivars"
SECURE_BOOT, SHIM = f"{EFI}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", f"{EFI}/MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23"
DPKG = """Package: libnvidia-compute-580-server
Status: hold ok installed
Version: 580.95.05-0ubuntu1

Package: nvidia-utils-580-server
Status: install ok installed
Version: 580.95.05-0ubuntu1

Package: nvidia-dkms-570-server
Status: deinstall ok config-files
Version: 570.1-0ubuntu1

Package: nvidia-container-toolkit
Status: hold ok installed
Version: 1.20.1-1

Package: libnvidia-container1
Status: hold ok installed
Version: 1.20.1-1
"""


class Tree:
    def __init__(self, root: pathlib.Path) -> None:
        self.root, self.bin = root / "root", root / "bin"
        self.root.mkdir()
        self.bin.mkdir()
        self.write("proc/sys/kernel/osrelease", f"{KERNEL}\n")
        self.write("etc/os-release", 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04"\n')

    def write(self, path: str, content: str | bytes = "") -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())

    def link(self, path: str, target: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).symlink_to(target)

    def program(self, name: str, *lines: str, code: int = 0) -> None:
        """One that prints these lines, and notes what it was asked."""
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "$*" >>{self.bin}/{name}.asked\n' + "".join(f"echo '{line}'\n" for line in lines) + f"exit {code}\n")
        path.chmod(0o755)

    def asked(self, name: str) -> list[str]:
        path = self.bin / f"{name}.asked"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def tree(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    made = Tree(tmp_path)
    monkeypatch.setattr(nvidia_driver_info, "_ROOT", str(made.root))
    monkeypatch.setattr(nvidia_driver_info, "_SBIN", [])
    monkeypatch.setenv("PATH", str(made.bin))
    # get_bin_path looks into the folders of this machine's programs as well
    monkeypatch.setattr("ansible.module_utils.basic.get_bin_path", lambda arg, **_more: _found(made.bin / arg))
    return made


def _found(path: pathlib.Path) -> str:
    if not path.exists():
        raise ValueError(path)
    return str(path)


def test_host_without_anything(tree: Tree, run_host_module: Run) -> None:
    result = run_host_module("nvidia_driver_info")
    assert {key: value for key, value in result.items() if key != "invocation"} == {
        "changed": False,
        "system": {"distribution": "ubuntu", "distribution_like": ["debian"], "distribution_version": "24.04", "kernel": KERNEL},
        "manager": "",
        "module": {"path": "", "version": "", "flavour": "", "signer": "", "signer_known": None},
        "loaded": {"references": 0, "used_by": []},
        "holders": [],
        "kernels": [],
        "dkms": [],
        "libraries": [],
        "packages": {},
        "available": {},
        "unattended": {"enabled": False, "blacklist": []},
        "free_driver": {"loaded": "", "blacklisted": False},
        "secure_boot": "none",
        "runfile": False,
    }


@pytest.mark.parametrize(
    ("lines", "code", "path", "version", "flavour", "signer"),
    [
        pytest.param([f"filename:       {MODULE}", "version:        580.95.05", "license:        Dual MIT/GPL"], 0, MODULE, "580.95.05", "open", "", id="open"),
        pytest.param(
            [f"filename:       {MODULE}", "version:        580.95.05", "license:        NVIDIA", "signer:         Canonical Ltd."],
            0,
            MODULE,
            "580.95.05",
            "proprietary",
            "Canonical Ltd.",
            id="proprietary, signed",
        ),
        pytest.param([], 1, "", "", "", "", id="none"),
        pytest.param(["filename:       (builtin)", "license:        GPL"], 0, "", "", "", "", id="builtin"),
    ],
)
def test_module_on_disk(tree: Tree, run_host_module: Run, lines: list[str], code: int, path: str, version: str, flavour: str, signer: str) -> None:
    tree.program("modinfo", *lines, code=code)
    module = run_host_module("nvidia_driver_info")["module"]
    assert module == {"path": path, "version": version, "flavour": flavour, "signer": signer, "signer_known": None}
    assert tree.asked("modinfo") == [f"-k {KERNEL} nvidia"]


@pytest.mark.parametrize(
    ("keys", "known"),
    [
        ("", None),
        ("0079084a I--Q---     1 perm 0b0b0000     0     0 user      invocation_id: 16\n", None),
        ("0a1 I------     1 perm 1f010000     0     0 asymmetri Canonical Ltd. Secure Boot Signing: 61482aa2: X509.rsa 61482aa2 []\n", False),
        ("0a1 I------     1 perm 1f030000     0     0 asymmetri forge Secure Boot Module Signature key: ab12: X509.rsa ab12 []\n", True),
    ],
)
def test_key_of_the_signer(tree: Tree, run_host_module: Run, keys: str, known: bool | None) -> None:
    tree.program("modinfo", f"filename: {MODULE}", "signer: forge Secure Boot Module Signature key")
    tree.write("proc/keys", keys)
    assert run_host_module("nvidia_driver_info")["module"]["signer_known"] is known


@pytest.mark.parametrize(
    ("variables", "state"),
    [
        ({}, "none"),
        ({SECURE_BOOT: b"\6\0\0\0\1"}, "enabled"),
        ({SECURE_BOOT: b"\6\0\0\0\0"}, "disabled"),
        ({SECURE_BOOT: b"\6\0\0\0\1", SHIM: b"\6\0\0\0\1"}, "disabled"),
        ({SECURE_BOOT: b"\6\0\0\0\1", SHIM: b"\6\0\0\0\0"}, "enabled"),
        ({SECURE_BOOT: b"\6"}, "none"),
    ],
)
def test_secure_boot(tree: Tree, run_host_module: Run, variables: dict[str, bytes], state: str) -> None:
    for path, content in variables.items():
        tree.write(path, content)
    assert run_host_module("nvidia_driver_info")["secure_boot"] == state


def test_who_holds_the_driver(tree: Tree, run_host_module: Run) -> None:
    tree.write("sys/module/nvidia/refcnt", "7\n")
    tree.write("sys/module/nvidia/holders/nvidia_uvm")
    tree.write("proc/self/comm", "python\n")
    for pid, command, targets in (
        (900, "vllm", ["/dev/nvidia0", "/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/null"]),
        (77, "nvidia-persiste", ["/dev/nvidiactl"]),
        (1, "systemd", ["/dev/null", "/dev/nvidia-caps/x"]),
    ):
        tree.write(f"proc/{pid}/comm", f"{command}\n")
        for number, target in enumerate(targets):
            tree.link(f"proc/{pid}/fd/{number}", target)
    result = run_host_module("nvidia_driver_info")
    assert result["loaded"] == {"references": 7, "used_by": ["nvidia_uvm"]}
    assert result["holders"] == [
        {"pid": 77, "command": "nvidia-persiste", "devices": ["nvidiactl"], "references": 1},
        {"pid": 900, "command": "vllm", "devices": ["nvidia-uvm", "nvidia0", "nvidiactl"], "references": 3},
    ]


def test_kernels_and_dkms(tree: Tree, run_host_module: Run) -> None:
    tree.write(f"lib/modules/{KERNEL}/modules.dep", "updates/dkms/nvidia-uvm.ko.zst: updates/dkms/nvidia.ko.zst\nupdates/dkms/nvidia.ko.zst:\n")
    tree.write(f"lib/modules/{NEXT}/modules.dep", "kernel/nvidia-uvm.ko: kernel/drivers/x/nvidia.ko.gone\nkernel/drivers/platform/nvidia-wmi.ko:\n")
    tree.write(f"boot/vmlinuz-{NEXT}")
    tree.write("lib/modules/6.5.0-removed/modules.dep", "updates/dkms/nvidia.ko:\n")
    tree.write(f"var/lib/dkms/nvidia/580.95.05/{KERNEL}/x86_64/module/nvidia.ko.zst")
    tree.write(f"var/lib/dkms/nvidia/580.95.05/{NEXT}/x86_64/log/make.log")
    tree.link(f"var/lib/dkms/nvidia/kernel-{KERNEL}-x86_64", f"580.95.05/{KERNEL}/x86_64")
    tree.write(f"var/lib/dkms/zfs/2.2/{KERNEL}/x86_64/module/zfs.ko")
    result = run_host_module("nvidia_driver_info")
    assert result["kernels"] == [{"release": KERNEL, "running": True, "module": True}, {"release": NEXT, "running": False, "module": False}]
    assert result["dkms"] == [{"name": "nvidia", "version": "580.95.05", "kernels": [KERNEL]}]


def test_libraries(tree: Tree, run_host_module: Run) -> None:
    for name in ("libnvidia-ml.so.580.95.05", "libcuda.so.580.95.05", "libcuda.so.1", "libnvidia-ml.so.580.105.08", "libother.so.1.2"):
        tree.write(f"usr/lib/x86_64-linux-gnu/{name}")
    assert run_host_module("nvidia_driver_info")["libraries"] == ["580.95.05", "580.105.08"]


def test_packages_of_dpkg(tree: Tree, run_host_module: Run) -> None:
    tree.write("var/lib/dpkg/status", DPKG)
    tree.program("apt-get")
    tree.program(
        "apt-cache",
        "nvidia-utils-580-server | 580.105.08-0ubuntu1 | http://x noble/restricted amd64 Packages",
        "nvidia-utils-580-server | 580.95.05-0ubuntu1 | x",
    )
    result = run_host_module("nvidia_driver_info", packages=["nvidia-utils-580-server", "nothing"])
    assert result["packages"] == {
        "libnvidia-compute-580-server": {"version": "580.95.05-0ubuntu1", "held": True},
        "nvidia-utils-580-server": {"version": "580.95.05-0ubuntu1", "held": False},
    }
    assert result["manager"] == "apt"
    assert result["available"] == {"nvidia-utils-580-server": ["580.105.08-0ubuntu1", "580.95.05-0ubuntu1"], "nothing": []}
    assert tree.asked("apt-cache") == ["madison nvidia-utils-580-server nothing"]
    assert tree.asked("apt-get") == []


def test_packages_of_rpm(tree: Tree, run_host_module: Run) -> None:
    tree.program("dnf", "nvidia-driver-cuda 580.95.05-1.el9")
    tree.program("rpm", "bash 5.1-1", "nvidia-driver-cuda 580.95.05-1.el9", "kmod-nvidia-open-dkms 580.95.05-1.el9", "nvidia-container-toolkit 1.20.1-1")
    tree.write("etc/dnf/plugins/versionlock.list", "# comment\nnvidia-driver-cuda-3:580.95.05-1.el9.*\n!kmod-nvidia-open-dkms-0:1.*\n")
    result = run_host_module("nvidia_driver_info", packages=["nvidia-driver-cuda"])
    assert result["packages"] == {
        "kmod-nvidia-open-dkms": {"version": "580.95.05-1.el9", "held": False},
        "nvidia-driver-cuda": {"version": "580.95.05-1.el9", "held": True},
    }
    assert (result["manager"], result["available"]) == ("dnf", {"nvidia-driver-cuda": ["580.95.05-1.el9"]})
    assert "--cacheonly" in tree.asked("dnf")[0]


def test_lock_of_newer_dnf(tree: Tree, run_host_module: Run) -> None:
    tree.program("dnf")
    tree.program("rpm", "nvidia-driver-cuda 580.95.05-1")
    tree.write("etc/dnf/versionlock.toml", 'version = "1.0"\n[[packages]]\nname = "nvidia-driver-cuda"\n')
    assert run_host_module("nvidia_driver_info")["packages"]["nvidia-driver-cuda"]["held"] is True


@pytest.mark.parametrize(
    ("files", "enabled", "blacklist"),
    [
        pytest.param({"20auto-upgrades": 'APT::Periodic::Unattended-Upgrade "1";\n'}, True, [], id="on"),
        pytest.param({"20auto-upgrades": 'APT::Periodic::Unattended-Upgrade "0";\n'}, False, [], id="off"),
        pytest.param(
            {"20auto-upgrades": 'APT::Periodic::Unattended-Upgrade "1";', "99local": 'APT::Periodic::Unattended-Upgrade "0";'}, False, [], id="the last wins"
        ),
        pytest.param({"20auto-upgrades": '// APT::Periodic::Unattended-Upgrade "1";\n'}, False, [], id="a comment"),
        pytest.param(
            {"50unattended-upgrades": 'Unattended-Upgrade::Package-Blacklist {\n//  "linux-";\n  "nvidia-";\n  "libnvidia-";\n};\n'},
            False,
            ["nvidia-", "libnvidia-"],
            id="blacklist",
        ),
        pytest.param({"51local": 'Unattended-Upgrade::Package-Blacklist:: "libcuda";\n'}, False, ["libcuda"], id="one more"),
        pytest.param({"50unattended-upgrades": "Unattended-Upgrade::Package-Blacklist {\n};\n"}, False, [], id="empty"),
        pytest.param({"50x.dpkg-old": 'APT::Periodic::Unattended-Upgrade "1";'}, False, [], id="left behind"),
    ],
)
def test_unattended_upgrades(tree: Tree, run_host_module: Run, files: dict[str, str], enabled: bool, blacklist: list[str]) -> None:
    for name, text in files.items():
        tree.write(f"etc/apt/apt.conf.d/{name}", text)
    assert run_host_module("nvidia_driver_info")["unattended"] == {"enabled": enabled, "blacklist": blacklist}


@pytest.mark.parametrize(("value", "enabled"), [("yes", True), ("no", False)])
def test_unattended_upgrades_of_dnf(tree: Tree, run_host_module: Run, value: str, enabled: bool) -> None:
    tree.write("etc/dnf/automatic.conf", f"[commands]\napply_updates = {value}\n")
    assert run_host_module("nvidia_driver_info")["unattended"]["enabled"] is enabled


@pytest.mark.parametrize(
    ("loaded", "path", "text", "expected"),
    [
        ("nouveau", "etc/modprobe.d/x.conf", "blacklist nouveau_other\n# blacklist nouveau\n", ("nouveau", False)),
        ("nouveau", "etc/modprobe.d/x.conf", "options x\nblacklist nouveau\n", ("nouveau", True)),
        ("nouveau", "usr/lib/modprobe.d/x.conf", "install nouveau /bin/false\n", ("nouveau", True)),
        ("nouveau", "proc/cmdline", "quiet modprobe.blacklist=radeon,nouveau\n", ("nouveau", True)),
        ("nova_core", "etc/modprobe.d/x.conf", "blacklist nouveau\n", ("nova_core", False)),
        ("", "etc/modprobe.d/x.conf", "blacklist nouveau\n", ("", True)),
    ],
)
def test_free_driver(tree: Tree, run_host_module: Run, loaded: str, path: str, text: str, expected: tuple[str, bool]) -> None:
    tree.write(path, text)
    if loaded:
        tree.write(f"sys/module/{loaded}/refcnt", "0\n")
    found = run_host_module("nvidia_driver_info")["free_driver"]
    assert (found["loaded"], found["blacklisted"]) == expected


def test_run_file(tree: Tree, run_host_module: Run) -> None:
    tree.write("usr/bin/nvidia-uninstall")
    assert run_host_module("nvidia_driver_info")["runfile"] is True


def test_programs_that_hang_tell_nothing(tree: Tree, run_host_module: Run) -> None:
    (tree.bin / "modinfo").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (tree.bin / "modinfo").chmod(0o755)
    assert run_host_module("nvidia_driver_info", timeout_seconds=0.2)["module"]["version"] == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds is 0; it has to be from 0.1 to 600"),
        ({"timeout_seconds": 601}, "timeout_seconds is 601"),
        ({"packages": 3, "path": "/"}, "Unsupported parameters"),
    ],
)
def test_bad_input(tree: Tree, run_host_module: Run, options: Object, words: str) -> None:
    result = run_host_module("nvidia_driver_info", **options)
    assert result["failed"] is True
    assert words in result["msg"]
