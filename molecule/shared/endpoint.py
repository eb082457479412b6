# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the lab's endpoint that asks ten times a second while a test does something, and what it saw."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
PORT = 30080
FIGURES = PROJECT / "junit" / "serving.json"


def url() -> str:
    lab = json.loads((PROJECT / ".lab/lab.json").read_text(encoding="utf-8"))
    return f"http://{lab['hosts']['k3s-server']['address']}:{PORT}"


def _module(name: str, arguments: dict[str, Any]) -> subprocess.Popen[str]:
    environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "false", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    command = ["ansible", "localhost", "--connection=local", f"--module-name=homelab.gpu.{name}", f"--args={json.dumps(arguments)}"]
    return subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _result(process: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
    output, _none = process.communicate(timeout=seconds)
    found: dict[str, Any] = json.loads(output[output.index("=> {") + 3 :])
    return found


def probe(model: str, **options: Any) -> dict[str, Any]:
    return _result(_module("llm_probe", {"url": url(), "model": model, **options}), 300)


def gpu_answers(model: str) -> None:
    found = probe(model, expected_backend="gpu", wait_seconds=120)
    assert found.get("outcome") == "answered", found


class Watch:
    """As a context: asks from before until after."""

    def __init__(self, model: str, **options: Any) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="watch-")
        self._stop = Path(self._folder.name, "stop")
        self._lines = Path(self._folder.name, "answers.jsonl")
        self._options = {
            "url": url(),
            "model": model,
            "rate_per_second": 10,
            "timeout_seconds": 20,
            "duration_seconds": 300,
            "stop_file": str(self._stop),
            "results_path": str(self._lines),
            **options,
        }
        self.told: dict[str, Any] = {}

    def __enter__(self) -> Watch:
        self._process = _module("endpoint_watch", self._options)
        try:
            self._wait("the watch asks", lambda: len(self._seen()) >= 5)
        except AssertionError:
            self._process.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.touch()
        self.told = _result(self._process, 60)
        self.seen = self._seen()
        self._folder.cleanup()

    @staticmethod
    def now() -> float:
        return time.monotonic()

    def _seen(self) -> list[dict[str, Any]]:
        """What was asked, each with the moment by the machine's own clock."""
        try:
            head, *lines = [json.loads(line) for line in self._lines.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
        except (FileNotFoundError, ValueError):
            return []
        return [{**line, "asked": head["monotonic_start"] + line["at_seconds"]} for line in lines]

    def _wait(self, what: str, found: Any, seconds: float = 90) -> None:
        end = time.monotonic() + seconds
        while not found():
            assert time.monotonic() < end, f"{what}: not within {seconds:g} s; last seen: {self._seen()[-3:]}"
            assert self._process.poll() is None, self._process.stdout.read() if self._process.stdout else ""
            time.sleep(0.2)

    def wait_for(self, backend: str, since: float) -> None:
        """A good answer of this backend to a question that was asked after that moment."""
        self._wait(f"the backend {backend} answers", lambda: any(one["backend"] == backend and good(one) and one["asked"] >= since for one in self._seen()))

    @property
    def failures(self) -> int:
        return int(self.told["failures"])

    @property
    def empty(self) -> int:
        return int(self.told["empty"])


def good(answer: dict[str, Any]) -> bool:
    return bool(answer["outcome"] == "answered")


def figures(what: str, watch: Watch, fault: float) -> None:
    """Printed, and kept in a file beside the reports."""
    fallback = [one["asked"] + one["duration_seconds"] - fault for one in watch.seen if good(one) and one["backend"] == "cpu" and one["asked"] >= fault]
    row = {
        "asked": watch.told["asked"],
        "failed": watch.failures,
        "empty": watch.empty,
        "longest_gap_seconds": watch.told["longest_gap_seconds"],
        "first_answer_of_fallback_seconds": round(min(fallback), 3) if fallback else None,
        "median_latency_seconds": watch.told["latency_seconds"].get("p50"),
        "late_seconds": watch.told["longest_delay_seconds"],
    }
    print(f"\n{what}: {row}")
    FIGURES.parent.mkdir(exist_ok=True)
    kept = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    FIGURES.write_text(json.dumps({**kept, what: row}, indent=1) + "\n", encoding="utf-8")
