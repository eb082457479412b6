# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lab.distribution.build import artifacts_lock, build, recipe
from lab.distribution.build.build import Build
from lab.distribution.build.recipe import BuildError, Part, Work

Made = list[str]


class Pipeline:
    """Three small parts in the place of the real ones, and the names of those that were made."""

    def __init__(self, sources: Path, cache: Path) -> None:
        self.sources = sources
        self.cache = cache
        self.made: Made = []
        self.during: Callable[[str], None] = lambda _name: None
        for name in ("runc", "k3s", "images"):
            (sources / name).write_text(f"source of {name}")

    def parts(self) -> list[Part]:
        return [
            Part("runc", "compile runc", 1, (self.sources / "runc",), self.make("runc", "runc")),
            Part("k3s", "compile the binary", 1, (self.sources / "k3s",), self.make("k3s", "k3s"), needs=("runc",)),
            Part("images", "write the images", 1, (self.sources / "images",), self.make("images", recipe.airgap_name("amd64"))),
        ]

    def make(self, part: str, filename: str) -> Callable[[Work], None]:
        def write(work: Work) -> None:
            self.made.append(part)
            (work.out / filename).write_bytes((self.sources / part).read_bytes())
            self.during(part)

        return write

    def build(self, force: bool = False) -> Build:
        return Build(self.cache, "amd64", force)


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    sources = tmp_path / "checkout"
    sources.mkdir()
    made = Pipeline(sources, tmp_path / "cache")
    monkeypatch.setattr(recipe, "parts", made.parts)
    monkeypatch.setattr(build, "part_keys", lambda parts, arch, root=sources: REAL_KEYS(parts, arch, root))
    return made


REAL_KEYS = build.part_keys


def test_first_build_makes_all_parts_and_the_second_none(pipeline: Pipeline) -> None:
    first = pipeline.build()
    build.ensure(first, thorough=True)
    assert pipeline.made == ["runc", "k3s", "images"]
    again = pipeline.build()
    build.ensure(again, thorough=True)
    assert again.result == first.result
    assert pipeline.made == ["runc", "k3s", "images"]


def test_lock_file_and_sums_describe_the_files(pipeline: Pipeline) -> None:
    made = pipeline.build()
    build.ensure(made, thorough=True)
    lock = yaml.safe_load((made.result / "artifacts.lock.yml").read_text())
    assert [(entry["name"], entry["kind"], entry["filename"]) for entry in lock["artifacts"]] == [
        ("k3s", "binary", "k3s"),
        ("k3s-airgap-images", "images", "k3s-airgap-images-amd64.tar.zst"),
    ]
    for entry in lock["artifacts"]:
        path = Path(entry["url"].removeprefix("file://"))
        assert path == made.result / entry["filename"]
        assert (path.stat().st_size, artifacts_lock.sha256_file(path)) == (entry["size"], entry["sha256"])
        assert entry["version"] == recipe.kubernetes_version()
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=made.result, check=True)


@pytest.mark.parametrize(
    ("changed", "made"),
    [("runc", ["runc", "k3s"]), ("k3s", ["k3s"]), ("images", ["images"])],
)
def test_a_change_makes_the_part_and_those_that_need_it(pipeline: Pipeline, changed: str, made: Made) -> None:
    before = pipeline.build()
    build.ensure(before, thorough=False)
    pipeline.made.clear()
    (pipeline.sources / changed).write_text("changed")
    after = pipeline.build()
    build.ensure(after, thorough=False)
    assert pipeline.made == made
    assert after.key != before.key
    assert (before.result / "artifacts.lock.yml").exists()


def test_times_and_places_do_not_enter_the_key(pipeline: Pipeline, tmp_path: Path) -> None:
    before = pipeline.build().key
    for path in pipeline.sources.iterdir():
        os.utime(path, (1, 1))
    assert pipeline.build().key == before
    moved = tmp_path / "elsewhere"
    pipeline.sources.rename(moved)
    pipeline.sources = moved
    keys = REAL_KEYS(pipeline.parts(), "amd64", moved)
    assert build.content_key(keys) == before


def test_architecture_enters_the_key(pipeline: Pipeline) -> None:
    assert Build(pipeline.cache, "arm64", False).key != pipeline.build().key


def test_renamed_source_changes_the_key(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    before = REAL_KEYS([Part("a", "a", 1, (pipeline.sources / "runc",), lambda _work: None)], "amd64", pipeline.sources)
    (pipeline.sources / "runc").rename(pipeline.sources / "runc2")
    after = REAL_KEYS([Part("a", "a", 1, (pipeline.sources / "runc2",), lambda _work: None)], "amd64", pipeline.sources)
    assert before != after


@pytest.mark.parametrize("size_kept", [True, False])
def test_damaged_result_is_built_anew(pipeline: Pipeline, capsys: pytest.CaptureFixture[str], size_kept: bool) -> None:
    made = pipeline.build()
    build.ensure(made, thorough=True)
    binary = made.result / "k3s"
    whole = binary.read_bytes()
    binary.write_bytes(b"?" * len(whole) if size_kept else whole[:-1])
    pipeline.made.clear()
    build.ensure(pipeline.build(), thorough=size_kept)
    assert pipeline.made == ["runc", "k3s", "images"]
    assert binary.read_bytes() == whole
    assert ("damaged" if size_kept else "incomplete") in capsys.readouterr().err


def test_force(pipeline: Pipeline) -> None:
    build.ensure(pipeline.build(), thorough=True)
    pipeline.made.clear()
    build.ensure(pipeline.build(force=True), thorough=True)
    assert pipeline.made == ["runc", "k3s", "images"]


def test_failed_part_leaves_no_result_and_keeps_the_finished_parts(pipeline: Pipeline) -> None:
    def fail(name: str) -> None:
        if name == "k3s":
            raise BuildError("compile failed")

    pipeline.during = fail
    made = pipeline.build()
    with pytest.raises(BuildError, match=r"step 'k3s': compile failed; the whole log: .*k3s\.log"):
        build.ensure(made, thorough=True)
    assert not made.result.exists()
    pipeline.made.clear()
    pipeline.during = lambda _name: None
    build.ensure(pipeline.build(), thorough=True)
    assert pipeline.made == ["k3s", "images"]


def test_sources_that_change_during_the_build(pipeline: Pipeline) -> None:
    def edit(name: str) -> None:
        (pipeline.sources / name).write_text("edited")

    pipeline.during = edit
    made = pipeline.build()
    with pytest.raises(BuildError, match="changed while they were compiled"):
        build.ensure(made, thorough=True)
    assert not list((pipeline.cache / "distribution/parts").iterdir())


def test_leftovers_of_a_killed_build_are_removed(pipeline: Pipeline) -> None:
    left = [pipeline.cache / "distribution/.work-x", pipeline.cache / "distribution/parts/.k3s-x.y"]
    for path in left:
        path.mkdir(parents=True)
    build.ensure(pipeline.build(), thorough=True)
    assert not [path for path in left if path.exists()]


class Announcements:
    """Standard error that tells when somebody waits."""

    def __init__(self) -> None:
        self.waiting = threading.Event()
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text
        if "waiting for it" in self.text:
            self.waiting.set()

    def flush(self) -> None:
        """Nothing is held back."""


def test_second_build_waits_and_takes_the_first_ones_result(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    announcements = Announcements()
    first, second = pipeline.build(), pipeline.build()
    waiting = threading.Thread(target=build.ensure, args=(second, True))
    with build.only_one_build(first.home):
        monkeypatch.setattr(sys, "stderr", announcements)
        waiting.start()
        assert announcements.waiting.wait(20)
        assert pipeline.made == []
        first.run()
    waiting.join(20)
    assert not waiting.is_alive()
    assert pipeline.made == ["runc", "k3s", "images"]
    assert f"process {os.getpid()}" in announcements.text


def test_lock_of_a_dead_process_does_not_last(pipeline: Pipeline) -> None:
    home = pipeline.build().home
    code = "import os, sys; from lab.distribution.build import build; from pathlib import Path\nwith build.only_one_build(Path(sys.argv[1])): os._exit(9)"
    died = subprocess.run([sys.executable, "-c", code, str(home)], cwd=build.CHECKOUT, check=False)
    assert died.returncode == 9
    with build.only_one_build(home):
        assert (home / ".lock").read_text() == f"{os.getpid()}\n"


def test_prune_removes_what_was_not_used(pipeline: Pipeline) -> None:
    old = pipeline.build()
    build.ensure(old, thorough=False)
    (pipeline.sources / "k3s").write_text("changed")
    new = pipeline.build()
    build.ensure(new, thorough=False)
    day = 86400
    for path in (old.result, *(old.home / "parts").iterdir()):
        os.utime(path, (path.stat().st_mtime - 10 * day,) * 2)
    keep = {new.key, *(build.part_directory(new.home, part, new.keys).name for part in new.parts)}
    removed = build.prune(new.home, keep, 5)
    assert {path.name for path in removed} == {old.key, build.part_directory(old.home, old.parts[1], old.keys).name}
    assert build.problem_with(new.result, thorough=True) is None


def test_notes_tell_of_missing_seccomp(pipeline: Pipeline) -> None:
    made = pipeline.build()
    build.ensure(made, thorough=False)
    assert made.notes() == []
    (build.part_directory(made.home, made.parts[0], made.keys) / "without-seccomp").touch()
    assert "without seccomp" in made.notes()[0]


def test_print_lock_path_builds_nothing(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HOMELAB_GPU_CACHE", str(pipeline.cache))
    monkeypatch.setattr(build.container_image, "machine_architecture", lambda: "amd64")
    assert build.main(["--print-lock-path"]) == 0
    assert capsys.readouterr().out == f"{pipeline.build().result}/artifacts.lock.yml\n"
    assert not pipeline.cache.exists()


def test_failure_is_told_on_standard_error(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(name: str) -> None:
        raise BuildError(f"{name} cannot be")

    pipeline.during = fail
    monkeypatch.setenv("HOMELAB_GPU_CACHE", str(pipeline.cache))
    monkeypatch.setattr(build.os, "nice", lambda _more: 0)
    monkeypatch.setattr(build.signal, "signal", lambda *_arguments: None)
    assert build.main([]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "build: step 'runc': runc cannot be" in shown.err
