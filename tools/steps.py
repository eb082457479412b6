# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs commands one after the other, says before each what it does and how long it should take, and stops at the first that fails.

The time to expect is what the step took when it last succeeded on this machine, or the guess given with it.
Needs the standard library only: the first step may be the one that installs everything else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    name: str
    guess_seconds: int
    command: str


def parse_step(text: str) -> Step:
    """`name=seconds=command`"""
    name, _, rest = text.partition("=")
    seconds, separator, command = rest.partition("=")
    if not (name and separator and command and seconds.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name=seconds=command")
    return Step(name, int(seconds), command)


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def read_timings(path: Path) -> dict[str, float]:
    try:
        timings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(timings, dict):
        return {}
    return {name: float(seconds) for name, seconds in timings.items() if isinstance(seconds, (int, float))}


def write_timing(path: Path, name: str, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    timings = {**read_timings(path), name: round(seconds, 1)}
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(timings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)


def run(title: str, steps: list[Step], timings_path: Path) -> int:
    timings = read_timings(timings_path)
    expected = {step.name: timings.get(f"{title}/{step.name}", float(step.guess_seconds)) for step in steps}
    print(f"== {title}: {', '.join(step.name for step in steps)}; about {clock(sum(expected.values()))} min", flush=True)
    begin = time.monotonic()
    for number, step in enumerate(steps, start=1):
        ahead = sum(expected[other.name] for other in steps[number - 1 :])
        gone = clock(time.monotonic() - begin)
        print(f"\n== [{number}/{len(steps)}] {step.name}: expected {clock(expected[step.name])}; {gone} gone, about {clock(ahead)} to go", flush=True)
        started = time.monotonic()
        status = subprocess.run(step.command, shell=True, check=False).returncode
        took = time.monotonic() - started
        if status != 0:
            print(
                f"\n== {title} failed in step {number} of {len(steps)}, {step.name} (exit status {status}), after {clock(took)}. Alone: {step.command}",
                flush=True,
            )
            return status if status > 0 else 128 - status
        write_timing(timings_path, f"{title}/{step.name}", took)
        if number < len(steps):
            print(f"== {step.name} passed in {clock(took)}", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--title", required=True)
    parser.add_argument("--timings", required=True, type=Path, help="JSON file of the last durations")
    parser.add_argument("steps", nargs="+", type=parse_step, metavar="name=seconds=command")
    arguments = parser.parse_args()
    return run(arguments.title, arguments.steps, arguments.timings)


if __name__ == "__main__":
    sys.exit(main())
