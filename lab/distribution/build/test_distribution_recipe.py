# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.distribution.build import build, recipe


def test_parts_come_after_those_they_need() -> None:
    seen: set[str] = set()
    for part in recipe.parts():
        assert set(part.needs) <= seen, part.name
        seen.add(part.name)


def test_every_input_exists_and_lies_in_the_checkout() -> None:
    for part in recipe.parts():
        assert part.inputs, part.name
        for path in part.inputs:
            assert path.is_file(), path
            path.relative_to(build.CHECKOUT)


@pytest.mark.parametrize("name", ["cmd/k3s/main.go", "go.mod", "go.sum", "embed.go"])
def test_sources_of_the_binary(name: str) -> None:
    assert recipe.DISTRIBUTION / name in recipe.source_files(recipe.DISTRIBUTION)


def test_what_does_not_enter_the_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "DISTRIBUTION", tmp_path)
    wanted = ["embed/.gitignore", "go.mod", "internal/a/a.go", "manifests/a.yaml"]
    others = ["README.md", "build/recipe.py", "embed/runc", "internal/a/a_test.go", "internal/a/testdata/x", "internal/__pycache__/x.pyc", ".git/config"]
    for name in [*wanted, *others]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert sorted(str(path.relative_to(tmp_path)) for path in recipe.source_files(tmp_path)) == wanted
    program = tmp_path / "build/runc"
    program.write_text("built")
    staged = recipe.stage(tmp_path / "build/staged", [program])
    found = {str(path.relative_to(staged)): path.read_text() for path in staged.rglob("*") if path.is_file()}
    assert found == {**{name: name for name in wanted}, "embed/runc": "built"}


def test_version_names_kubernetes_and_the_lab() -> None:
    assert re.fullmatch(r"v1\.\d+\.\d+\+lab\d+", recipe.kubernetes_version())


def requirements(module: Path) -> dict[str, str]:
    text = module.read_text()
    found = dict(re.findall(r"^\s*(?:require\s+)?(\S+\.\S+)\s+(v\d\S*)", text, re.MULTILINE))
    found.update(re.findall(r"^\s*(?:replace\s+)?(\S+)(?:\s+v\S+)?\s+=>\s+\S+\s+(v\S+)", text, re.MULTILINE))
    return found


def test_versions_that_the_images_are_named_after() -> None:
    components = requirements(recipe.BUILD / "components/go.mod")
    assert components["github.com/coredns/coredns"] == f"v{recipe.COREDNS}"
    assert components["github.com/rancher/local-path-provisioner"] == f"v{recipe.LOCAL_PATH_PROVISIONER}"
    assert requirements(recipe.BUILD / "metrics-server/go.mod")["sigs.k8s.io/metrics-server"] == f"v{recipe.METRICS_SERVER}"


@pytest.mark.parametrize(
    "module", ["k8s.io/api", "k8s.io/apimachinery", "k8s.io/client-go", "golang.org/x/net", "google.golang.org/grpc", "google.golang.org/protobuf"]
)
def test_components_share_what_the_binary_is_compiled_from(module: str) -> None:
    assert requirements(recipe.BUILD / "components/go.mod")[module] == requirements(recipe.DISTRIBUTION / "go.mod")[module]


def test_go_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "GOFLAGS": "-race",
        "GOOS": "plan9",
        "GOARCH": "mips",
        "GOWORK": "/x",
        "GOROOT": "/x",
        "CGO_CFLAGS": "-O0",
        "GOPROXY": "https://proxy.test",
        "A": "1",
    }.items():
        monkeypatch.setenv(name, value)
    environment = recipe.go_environment("arm64")
    assert environment["GOFLAGS"] == "-trimpath -buildvcs=false"
    assert (environment["GOOS"], environment["GOARCH"], environment["GOWORK"], environment["CGO_ENABLED"]) == ("linux", "arm64", "off", "0")
    assert (environment["GOPROXY"], environment["A"]) == ("https://proxy.test", "1")
    assert not {"GOROOT", "CGO_CFLAGS"} & set(environment)
