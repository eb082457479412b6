# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three hosts from nothing to Ready; then site.yml again, which must change nothing and be quick. Makes this checkout's lab anew."""

from __future__ import annotations

import os
from typing import Any, Final

from benchmarks.measured_lab import ansible_playbook, lab_description, log, machine, slowest_tasks, unit_starts

TITLE = "Three hosts to Ready, and again"
ROUNDS: Final = 3


def measure() -> dict[str, Any]:
    about = machine()
    # Once up: afterwards everything that is built or fetched once is in the cache.
    ansible_playbook("lab/up.yml")
    rounds = [one_round() for _ in range(ROUNDS)]
    return {**about, "rounds": rounds}


def one_round() -> dict[str, Any]:
    ansible_playbook("lab/down.yml")
    up = ansible_playbook("lab/up.yml")
    first = ansible_playbook("playbooks/site.yml")
    load_between = os.getloadavg()[0]
    hosts = sorted(lab_description()["hosts"])
    before = unit_starts(hosts)
    second = ansible_playbook("playbooks/site.yml")
    after = unit_starts(hosts)
    result: dict[str, Any] = {
        "hosts": len(hosts),
        "up_seconds": round(up.seconds, 1),
        "first_seconds": round(first.seconds, 1),
        "load_between": round(load_between, 1),
        "second_seconds": round(second.seconds, 1),
        "second_changed": second.changed,
        "units": len(before),
        "units_restarted": sorted(unit for unit in before if before[unit] != after.get(unit)),
        "first_slowest": slowest_tasks(first.timeline, 10),
        "second_slowest": slowest_tasks(second.timeline, 10),
    }
    log(f"  second/first {result['second_seconds'] / result['first_seconds']:.2f}")
    return result
