# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab distribution is made of and how each part is built. This file's content is part of every part's key."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import container_image
from lab.container_image import Image
from lab.distribution.build import toolchain

BUILD = Path(__file__).resolve().parent
DISTRIBUTION = BUILD.parent
LAB = DISTRIBUTION.parent

COREDNS = "1.12.4"
METRICS_SERVER = "0.9.0"
LOCAL_PATH_PROVISIONER = "0.0.30"
LAB_RELEASE = "lab1"
CNI_PLUGINS = ("ipam/host-local", "main/bridge", "main/loopback", "meta/portmap")
STRIPPED = "-s -w"
NOBODY = "65534:65534"


class BuildError(Exception):
    """A part that could not be built."""


@dataclass(frozen=True)
class Tools:
    """What compiles, found once for all parts."""

    go: Path
    arch: str
    cache: Path


@dataclass(frozen=True)
class Work:
    """Where one part is built: ``out`` becomes its result, ``scratch`` is thrown away, ``parts`` are results of earlier parts."""

    tools: Tools
    key: str
    out: Path
    scratch: Path
    log: Path
    parts: dict[str, Path]

    def run(self, command: Sequence[str], directory: Path, **environment: str) -> None:
        if toolchain.run(command, self.log, {**go_environment(self.tools.arch), **environment}, directory) != 0:
            raise BuildError(f"{command[0]} failed in {directory}")

    def go_build(self, module: Path, packages: Sequence[str], *, flags: Sequence[str] = (), link: str = STRIPPED, **environment: str) -> None:
        command = [str(self.tools.go), "build", *flags, "-ldflags", link, "-o", f"{self.out}{os.sep}", *packages]
        self.run(command, module, **environment)


@dataclass(frozen=True)
class Part:
    """A part with its own key and its own place in the cache. ``module`` and ``packages`` say which Go modules it downloads."""

    name: str
    title: str
    estimate: float
    inputs: tuple[Path, ...]
    make: Callable[[Work], None]
    needs: tuple[str, ...] = ()
    module: Path | None = None
    packages: tuple[str, ...] = ()


def go_environment(arch: str) -> dict[str, str]:
    """The environment of every Go command. Whoever sets the same three variables shares the compiled packages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CGO_", "GO")) or name in _GO_KEPT}
    if not kept.get("HOME"):
        kept["HOME"] = str(toolchain.cache_directory())
    return {**kept, "CGO_ENABLED": "0", "GOFLAGS": "-trimpath -buildvcs=false", "GOOS": "linux", "GOARCH": arch, "GOWORK": "off", "GOTOOLCHAIN": "local"}


_GO_KEPT = ("GOCACHE", "GOINSECURE", "GOMODCACHE", "GONOPROXY", "GONOSUMDB", "GOPATH", "GOPRIVATE", "GOPROXY", "GOSUMDB", "GOTMPDIR", "GOMAXPROCS")


def source_files(directory: Path) -> list[Path]:
    """The files that enter a program: no tests, no documents, nothing that another part puts there."""
    found = []
    for folder, folders, files in os.walk(directory):
        if Path(folder) == DISTRIBUTION:
            folders.remove("build")
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in ("testdata", "__pycache__"))
        if Path(folder) == DISTRIBUTION / "embed":
            files = [name for name in files if name.startswith(".")]
        found += [Path(folder, name) for name in sorted(files) if not name.endswith(("_test.go", ".md"))]
    return found


def kubernetes_version() -> str:
    """The version that the binary and the kubelet report."""
    found = re.search(r"^\s*k8s\.io/kubernetes\s+(v\S+)", (DISTRIBUTION / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise BuildError(f"{DISTRIBUTION / 'go.mod'} requires no version of k8s.io/kubernetes")
    return f"{found[1]}+{LAB_RELEASE}"


def stage(target: Path, programs: Sequence[Path] = ()) -> Path:
    """A copy of the main program's sources, with the programs it embeds; the checkout stays as it is."""
    for source in source_files(DISTRIBUTION):
        copy = target / source.relative_to(DISTRIBUTION)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    for program in programs:
        shutil.copyfile(program, target / "embed" / program.name)
    return target


def _runc(work: Work) -> None:
    compiler = toolchain.find_c_compiler(work.tools.cache, work.log)
    tags = "urfave_cli_no_docs netgo osusergo" + (" seccomp" if compiler.seccomp else "")
    link = f"{STRIPPED} -linkmode external -extldflags -static"
    environment = {"CGO_ENABLED": "1", "CC": compiler.command, **compiler.environment}
    work.go_build(BUILD / "runc", ["github.com/opencontainers/runc"], flags=["-tags", tags], link=link, **environment)
    if not compiler.seccomp:
        (work.out / "without-seccomp").touch()


def _shim(work: Work) -> None:
    work.go_build(DISTRIBUTION, [SHIM])


def _cni(work: Work) -> None:
    work.go_build(BUILD / "components", [f"{CNI}/{name}" for name in CNI_PLUGINS])


def _k3s(work: Work) -> None:
    version = kubernetes_version()
    major, minor = version[1:].split(".")[:2]
    link = [STRIPPED, f"-X homelab.gpu/lab/distribution/internal/version.Revision={work.key[:12]}"]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        fields = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean", "gitCommit": work.key[:40]}
        fields["buildDate"] = container_image.EPOCH
        link += [f"-X {package}.{field}={value}" for field, value in fields.items()]
    programs = [path for part in ("runc", "shim", "cni") for path in sorted(work.parts[part].iterdir()) if os.access(path, os.X_OK)]
    work.go_build(stage(work.scratch / "distribution", programs), ["./cmd/k3s"], link=" ".join(link))


def _components(work: Work) -> None:
    link = f"{STRIPPED} -X main.VERSION=v{LOCAL_PATH_PROVISIONER}"
    work.go_build(BUILD / "components", ["./cmd/coredns", "./cmd/fetch", "./cmd/pack", LOCAL_PATH], link=link)


def _metrics_server(work: Work) -> None:
    link = f"{STRIPPED} -X k8s.io/client-go/pkg/version.gitVersion=v{METRICS_SERVER}"
    work.go_build(BUILD / "metrics-server", [METRICS], link=link)


def _pause(work: Work) -> None:
    compiler = toolchain.find_c_compiler(work.tools.cache, work.log)
    work.run([compiler.command, "-static", "-Os", "-s", "-o", str(work.out / "pause"), str(BUILD / "pause/pause.c")], work.scratch)


def image_name(name: str, tag: str) -> str:
    return f"localhost/homelab-lab/{name}:{tag}"


def airgap_name(arch: str) -> str:
    return f"k3s-airgap-images-{arch}.tar.zst"


def _images(work: Work) -> None:
    entries, parts = container_image, work.parts
    busybox = toolchain.find_busybox(work.tools.cache, work.log)
    applets = subprocess.run([str(busybox), "--list"], capture_output=True, text=True, check=True).stdout.split()
    account = entries.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    content = {
        "pause": [entries.file("pause", parts["pause"] / "pause")],
        "coredns": [entries.file("coredns", parts["components"] / "coredns")],
        "metrics-server": [entries.file("metrics-server", parts["metrics-server"] / "metrics-server"), entries.directory("tmp", 0o1777)],
        "local-path-provisioner": [entries.file("usr/bin/local-path-provisioner", parts["components"] / "local-path-provisioner")],
        "tools": [
            entries.file("bin/busybox", busybox),
            *(entries.link(f"bin/{applet}", "busybox") for applet in applets if applet != "busybox"),
            entries.file("bin/fetch", parts["components"] / "fetch"),
            account,
            entries.directory("tmp", 0o1777),
            entries.directory("root", 0o700),
        ],
    }
    layers = {name: container_image.write_layer(work.scratch / f"{name}.tar", files) for name, files in content.items()}
    images = [
        Image(image_name("pause", "1"), [layers["pause"]], entrypoint=["/pause"], user="65535:65535"),
        Image(image_name("coredns", COREDNS), [layers["coredns"]], entrypoint=["/coredns"]),
        Image(image_name("metrics-server", METRICS_SERVER), [layers["metrics-server"]], entrypoint=["/metrics-server"], user=NOBODY),
        Image(image_name("local-path-provisioner", LOCAL_PATH_PROVISIONER), [layers["local-path-provisioner"]], entrypoint=["local-path-provisioner"]),
        Image(image_name("tools", "1"), [layers["tools"]], command=["/bin/sh"]),
    ]
    archive = work.scratch / "images.tar"
    container_image.write_archive(archive, images)
    with archive.open("rb") as plain, (work.out / airgap_name(work.tools.arch)).open("wb") as packed, work.log.open("ab") as log:
        if subprocess.run([str(parts["components"] / "pack")], stdin=plain, stdout=packed, stderr=log, check=False).returncode != 0:
            raise BuildError("the images could not be compressed")


SHIM = "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
CNI = "github.com/containernetworking/plugins/plugins"
LOCAL_PATH = "github.com/rancher/local-path-provisioner"
METRICS = "sigs.k8s.io/metrics-server/cmd/metrics-server"


def parts() -> list[Part]:
    """All parts, each after those it needs."""
    runc, components, metrics_server = BUILD / "runc", BUILD / "components", BUILD / "metrics-server"
    modules = {folder: (folder / "go.mod", folder / "go.sum") for folder in (DISTRIBUTION, runc, components, metrics_server)}
    cni = tuple(f"{CNI}/{name}" for name in CNI_PLUGINS)
    programs = ("./cmd/coredns", "./cmd/fetch", "./cmd/pack", LOCAL_PATH)
    pause = BUILD / "pause/pause.c"
    return [
        Part("runc", "compile runc", 30, modules[runc], _runc, module=runc, packages=("github.com/opencontainers/runc",)),
        Part("shim", "compile containerd's shim", 23, modules[DISTRIBUTION], _shim, module=DISTRIBUTION, packages=(SHIM,)),
        Part("cni", "compile the CNI plugins", 8, modules[components], _cni, module=components, packages=cni),
        Part(
            "k3s",
            "compile Kubernetes, containerd and etcd into one binary",
            300,
            tuple(source_files(DISTRIBUTION)),
            _k3s,
            needs=("runc", "shim", "cni"),
            module=DISTRIBUTION,
            packages=("./cmd/k3s",),
        ),
        Part(
            "components",
            "compile CoreDNS and the local-path provisioner",
            60,
            tuple(source_files(components)),
            _components,
            module=components,
            packages=programs,
        ),
        Part("metrics-server", "compile metrics-server", 120, modules[metrics_server], _metrics_server, module=metrics_server, packages=(METRICS,)),
        Part("pause", "compile pause", 1, (pause,), _pause),
        Part("images", "write the images", 5, (LAB / "container_image.py",), _images, needs=("components", "metrics-server", "pause")),
    ]
