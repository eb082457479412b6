# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel log of one host's own, with the records of /dev/kmsg: what is written to the real one reaches every host of the machine."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable
from typing import Final

_WARNING: Final = 4
_FACILITY_USER: Final = 8
_MOST_RECORDS: Final = 10_000


class KernelLog:
    """Each record begins at a position of its own, as in a file: who reads on from a record's end gets the next one, who seeks to the end gets what comes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Of an earlier run the numbers were lower: journald takes no number twice
        self._number = 100_000 + int(clock() * 1000)
        self._starts: list[int] = []
        self._records: list[bytes] = []
        self.size = 0
        self.grown = threading.Condition()

    def kernel_says(self, text: str) -> None:
        self._append(_WARNING, text)

    def written(self, text: str) -> None:
        """By a process: never with the kernel's own facility."""
        priority = _WARNING
        if text.startswith("<") and text.partition(">")[0][1:].isdigit():
            head, _end, text = text[1:].partition(">")
            priority = int(head)
        self._append(priority if priority >= _FACILITY_USER else priority | _FACILITY_USER, text)

    def _append(self, priority: int, text: str) -> None:
        with self.grown:
            for line in text.splitlines():
                record = f"{priority},{self._number},{int(self._clock() * 1e6)},-;{line}\n".encode()
                self._starts.append(self.size)
                self._records.append(record)
                self._number += 1
                self.size += len(record)
            del self._starts[:-_MOST_RECORDS], self._records[:-_MOST_RECORDS]
            self.grown.notify_all()

    def record_at(self, position: int) -> bytes:
        """The first one that begins there or later; nothing if there is none yet."""
        with self.grown:
            found = bisect.bisect_left(self._starts, position)
            return self._records[found] if found < len(self._records) else b""
