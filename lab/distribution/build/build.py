# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the lab distribution: one binary, the images it runs, and the lock file that describes both.

Everything lies in the cache, under a key made of the sources' content, so that any checkout with the same sources finds it ready.
Needs Python 3.9 and what ``toolchain`` can find or fetch; no root. Progress goes to standard error, the lock file's path to standard output.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
if str(CHECKOUT) not in sys.path:
    sys.path.insert(0, str(CHECKOUT))

from lab import container_image
from lab.distribution.build import artifacts_lock, recipe, toolchain
from lab.distribution.build.progress import Durations, Progress, Step, spell_seconds

LOCK_FILE = "artifacts.lock.yml"
SUMS_FILE = "SHA256SUMS"
MODULES = Step("modules", "download the modules", 60)
LOG_LINES = 30


def part_keys(parts: Sequence[recipe.Part], arch: str, root: Path = CHECKOUT) -> dict[str, str]:
    """The key of each part: its inputs' names and content, the recipe, the architecture, the keys of the parts it needs."""
    keys: dict[str, str] = {}
    recipe_sum = artifacts_lock.sha256_file(Path(recipe.__file__))
    for part in parts:
        content = {
            "arch": arch,
            "files": {str(path.relative_to(root)): artifacts_lock.sha256_file(path) for path in part.inputs},
            "name": part.name,
            "needs": [keys[need] for need in part.needs],
            "recipe": recipe_sum,
        }
        keys[part.name] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return keys


def content_key(keys: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:20]


def part_directory(home: Path, part: recipe.Part, keys: dict[str, str]) -> Path:
    return home / "parts" / f"{part.name}-{keys[part.name][:20]}"


def problem_with(result: Path, thorough: bool) -> str | None:
    """Why a finished result cannot be used, or None. A thorough look reads every byte."""
    if not (result / LOCK_FILE).exists():
        return "not built yet"
    for artifact in artifacts_lock.read(result / LOCK_FILE):
        path = result / artifact.filename
        if not path.exists() or path.stat().st_size != artifact.size:
            return f"{path} is missing or incomplete"
        if thorough and artifacts_lock.sha256_file(path) != artifact.sha256:
            return f"{path} is damaged"
    return None


@contextlib.contextmanager
def only_one_build(home: Path) -> Iterator[None]:
    """Hold the cache's build lock; the kernel gives it back if this process dies."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = f"process {lock.read().strip() or 'unknown'}"
            print(f"another build is running ({holder}); waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


@contextlib.contextmanager
def result_directory(final: Path) -> Iterator[Path]:
    """A directory that appears under its final name only when all of it is there."""
    final.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        yield scratch
        scratch.chmod(0o755)
        if final.exists():
            old = Path(tempfile.mkdtemp(prefix=f".old-{final.name}.", dir=final.parent))
            final.rename(old / final.name)
            scratch.rename(final)
            shutil.rmtree(old)
        else:
            scratch.rename(final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class Build:
    """One run of the pipeline."""

    def __init__(self, cache: Path, arch: str, force: bool) -> None:
        self.home = cache / "distribution"
        self.cache = cache
        self.arch = arch
        self.force = force
        self.parts = recipe.parts()
        self.keys = part_keys(self.parts, arch)
        self.key = content_key(self.keys)
        self.result = self.home / self.key
        self.logs = self.home / "logs" / self.key

    def missing(self) -> list[recipe.Part]:
        return [part for part in self.parts if self.force or not part_directory(self.home, part, self.keys).exists()]

    def run(self) -> None:
        missing = self.missing()
        modules = sorted({part.module for part in missing if part.module})
        steps = [MODULES] if modules else []
        cores = os.cpu_count() or 2
        steps += [Step(part.name, part.title, part.estimate * 2 / min(cores, 8)) for part in missing]
        steps.append(Step("assemble", "write the lock file", 2))
        progress = Progress(steps, Durations(self.home / "durations.json"))
        self._sweep()
        self.logs.mkdir(parents=True)
        progress.say(f"lab distribution {self.key}: {len(steps)} steps, about {spell_seconds(progress.remaining(0))}; logs in {self.logs}")
        began = time.monotonic()
        tools = recipe.Tools(self._go(modules), self.arch, self.cache) if modules else recipe.Tools(Path("go"), self.arch, self.cache)
        if modules:
            with progress.step(MODULES.name), self._explaining(MODULES.name):
                self._download(tools, missing)
        for part in missing:
            with progress.step(part.name), self._explaining(part.name):
                self._make(part, tools)
        with progress.step("assemble"):
            self._assemble()
        progress.say(f"lab distribution {self.key}: built in {spell_seconds(time.monotonic() - began)}")

    def _sweep(self) -> None:
        """Remove the logs of an earlier try and what builds that were killed left behind; nobody else builds now."""
        shutil.rmtree(self.logs, ignore_errors=True)
        for left in [*self.home.glob(".*"), *self.home.glob("parts/.*")]:
            if left.is_dir():
                shutil.rmtree(left)

    def _go(self, modules: Sequence[Path]) -> Path:
        return toolchain.find_go(self.cache, toolchain.go_needed(folder / "go.mod" for folder in modules), self.logs / "toolchain.log")

    @contextlib.contextmanager
    def _explaining(self, name: str) -> Iterator[None]:
        log = self.logs / f"{name}.log"
        try:
            yield
        except recipe.BuildError as error:
            tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:] if log.exists() else []
            raise recipe.BuildError("\n".join([*tail, f"step {name!r}: {error}; the whole log: {log}"])) from error

    def _download(self, tools: recipe.Tools, missing: Sequence[recipe.Part]) -> None:
        log = self.logs / f"{MODULES.name}.log"
        for part in missing:
            if part.module:
                # Listing all packages fetches just the modules they come from
                command = [str(tools.go), "list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Version}}{{end}}", *part.packages]
                if toolchain.run(command, log, recipe.go_environment(self.arch), part.module) != 0:
                    raise recipe.BuildError(f"the Go modules of {part.module} could not be downloaded")

    def _make(self, part: recipe.Part, tools: recipe.Tools) -> None:
        others = {other.name: part_directory(self.home, other, self.keys) for other in self.parts}
        final = others[part.name]
        with result_directory(final) as out, tempfile.TemporaryDirectory(prefix=".work-", dir=self.home) as scratch:
            part.make(recipe.Work(tools, self.keys[part.name], out, Path(scratch), self.logs / f"{part.name}.log", others))
            if part_keys(self.parts, self.arch)[part.name] != self.keys[part.name]:
                raise recipe.BuildError("the sources changed while they were compiled; run the build again")

    def _assemble(self) -> None:
        home = {part.name: part_directory(self.home, part, self.keys) for part in self.parts}
        airgap = recipe.airgap_name(self.arch)
        version = recipe.kubernetes_version()
        with result_directory(self.result) as out:
            os.link(home["k3s"] / "k3s", out / "k3s")
            os.link(home["images"] / airgap, out / airgap)
            artifacts = [
                artifacts_lock.describe(out / "k3s", name="k3s", version=version, arch=self.arch, kind="binary", final=self.result / "k3s"),
                artifacts_lock.describe(out / airgap, name="k3s-airgap-images", version=version, arch=self.arch, kind="images", final=self.result / airgap),
            ]
            (out / LOCK_FILE).write_text(artifacts_lock.render(artifacts), encoding="utf-8")
            (out / SUMS_FILE).write_text("".join(f"{artifact.sha256}  {artifact.filename}\n" for artifact in artifacts), encoding="utf-8")

    def notes(self) -> list[str]:
        """What whoever uses the result should know."""
        runc = next(part for part in self.parts if part.name == "runc")
        if (part_directory(self.home, runc, self.keys) / "without-seccomp").exists():
            return ["runc was built without seccomp, so pods that ask for a seccomp profile fail; install libseccomp-dev and build again with --force"]
        return []


def prune(home: Path, keep: set[str], days: float) -> list[Path]:
    """Remove results and parts that have not been used for so many days."""
    limit = time.time() - days * 86400
    candidates = [path for path in [*home.glob("[0-9a-f]*"), *home.glob("parts/*"), *home.glob("logs/*")] if path.is_dir()]
    removed = [path for path in candidates if path.name not in keep and path.stat().st_mtime < limit]
    for path in removed:
        shutil.rmtree(path)
    return removed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the lab distribution into the cache.")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--if-needed", action="store_true", help="trust a finished result whose files have the right size (default: check their sums too)")
    mode.add_argument("--force", action="store_true", help="build every part anew")
    mode.add_argument("--print-lock-path", action="store_true", help="only print where the lock file is, or would be")
    mode.add_argument("--prune", type=float, metavar="DAYS", help="only remove results that were not used for so many days")
    options = parser.parse_args(arguments)
    try:
        build = Build(toolchain.cache_directory(), container_image.machine_architecture(), options.force)
        if options.prune is not None:
            keep = {build.key, *(part_directory(build.home, part, build.keys).name for part in build.parts)}
            with only_one_build(build.home):
                for path in prune(build.home, keep, options.prune):
                    print(f"removed {path}")
            return 0
        if not options.print_lock_path:
            os.nice(5)
            signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
            ensure(build, thorough=not options.if_needed)
    except (recipe.BuildError, toolchain.ToolError, container_image.ImageError, artifacts_lock.LockFileError) as error:
        print(f"build: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("build: interrupted; finished parts are kept", file=sys.stderr)
        return 130
    print(build.result / LOCK_FILE)
    return 0


def ensure(build: Build, thorough: bool) -> None:
    problem = "every part is built anew" if build.force else problem_with(build.result, thorough)
    if problem:
        with only_one_build(build.home):
            # Another checkout may have built it while this one waited
            problem = "every part is built anew" if build.force else problem_with(build.result, thorough)
            if problem:
                if build.result.exists():
                    print(f"lab distribution {build.key}: {problem}", file=sys.stderr)
                    build.force = True
                build.run()
    for used in [build.result, *(part_directory(build.home, part, build.keys) for part in build.parts)]:
        with contextlib.suppress(OSError):
            os.utime(used)
    for note in build.notes():
        print(f"note: {note}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
