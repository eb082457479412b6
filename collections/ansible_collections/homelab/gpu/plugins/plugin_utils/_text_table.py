# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time.
"""Columns of text that stay aligned whatever is in them."""

from __future__ import annotations

import typing as t
import unicodedata

__all__ = ["columns", "fit", "human_age", "width_of"]


def width_of(text: str) -> int:
    """Terminal cells that the text takes."""
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _plain(text: str) -> str:
    # Control characters would break the row.
    return "".join(char if char.isprintable() else " " for char in text)


def fit(text: str, width: int) -> str:
    """Padded or shortened to C(width) cells."""
    text = _plain(text)
    if width_of(text) > width:
        while width_of(text) > width - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (width - width_of(text))


def columns(rows: t.Sequence[t.Sequence[str]], *, right: t.Collection[int] = ()) -> list[str]:
    """Rows as lines, two blanks between columns; the columns named by C(right) are aligned to the right."""
    rows = [[_plain(cell) for cell in row] for row in rows]
    widths = [max(width_of(row[index]) for row in rows) for index in range(len(rows[0]))] if rows else []
    lines = []
    for row in rows:
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            blanks = " " * (width - width_of(cell))
            cells.append(blanks + cell if index in right else cell + blanks)
        lines.append("  ".join(cells).rstrip())
    return lines


def human_age(seconds: int | None) -> str:
    """Two units at most, as in C(4d3h); C(-) for what is unknown."""
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 120:
        return f"{minutes}m"
    if hours < 48:
        rest = minutes % 60
        return f"{hours}h{rest}m" if hours < 10 and rest else f"{hours}h"
    rest = hours % 24
    return f"{days}d{rest}h" if days < 10 and rest else f"{days}d"
