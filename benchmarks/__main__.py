# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure, keep the results in benchmarks/results/ and write them into docs/performance.md. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.measured_lab import CHECKOUT, BenchmarkError, log
from benchmarks.report import GROUPS, SECTIONS, renewed, section_of

HERE = Path(__file__).resolve().parent
DOCUMENT = CHECKOUT / "docs/performance.md"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="+", choices=[*SECTIONS, *GROUPS], metavar="name", help=", ".join([*SECTIONS, *GROUPS]))
    parser.add_argument("--report-only", action="store_true", help="write the document from the kept results; measure nothing")
    chosen = parser.parse_args(arguments)
    reasons = yaml.safe_load((HERE / "reasons.yml").read_text())
    for name in dict.fromkeys(section for given in chosen.names for section in GROUPS.get(given, [given])):
        kept = HERE / f"results/{name}.json"
        if chosen.report_only and not kept.exists():
            log(f"{name}: not measured yet")
            continue
        if not chosen.report_only:
            try:
                result = importlib.import_module(f"benchmarks.{name}").measure()
            except BenchmarkError as error:
                print(f"bench: {name}: {error}", file=sys.stderr)
                return 1
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(json.dumps(result, indent=2) + "\n")
        section = section_of(name, json.loads(kept.read_text()), reasons)
        DOCUMENT.write_text(renewed(DOCUMENT.read_text(), name, section))
        log(f"{name}: {DOCUMENT.relative_to(CHECKOUT)} renewed\n{section}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
