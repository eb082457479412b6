# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo` on a fresh clone of what is committed: with empty caches, again at once, and anew with warm caches. Debian packages are taken as installed."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measured_lab import CHECKOUT, BenchmarkError, log, machine

TITLE = "make demo"


def measure() -> dict[str, Any]:
    about = machine()
    with tempfile.TemporaryDirectory(prefix="bench-demo-", dir=os.environ.get("HOMELAB_GPU_BENCH_DIR")) as name:
        folder = Path(name)
        clone = folder / "clone"
        subprocess.run(["git", "clone", "--quiet", CHECKOUT, clone], check=True)
        settings = {
            **{key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"},
            "HOMELAB_GPU_CACHE": str(folder / "cache"),
            "XDG_CACHE_HOME": str(folder / "xdg"),
            "GOCACHE": str(folder / "go-build"),
            "GOPATH": str(folder / "go"),
            "GOFLAGS": "-modcacherw",
            "PIP_CACHE_DIR": str(folder / "pip"),
        }
        try:
            runs = {"cold": make("demo", clone, settings), "again": make("demo", clone, settings)}
            make("demo-down", clone, settings)
            runs["warm"] = make("demo", clone, settings)
        finally:
            make("demo-down", clone, settings)
    return {**about, **runs}


def make(target: str, clone: Path, settings: dict[str, str]) -> dict[str, Any]:
    log(f"make {target} in {clone}")
    output = clone.parent / f"{target}.log"
    started = time.monotonic()
    with output.open("w") as stream:
        done = subprocess.run(["make", target], cwd=clone, env=settings, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise BenchmarkError(f"make {target} ended with {done.returncode}:\n{output.read_text()[-6000:]}")
    log(f"  {seconds:.0f} s")
    timings = json.loads((Path(settings["HOMELAB_GPU_CACHE"]) / "timings.json").read_text())
    return {"seconds": round(seconds), "steps": {name.removeprefix("demo/"): took for name, took in timings.items() if name.startswith("demo/")}}
