# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write GGUF version 3 files with the standard library only (little-endian, F32 tensors)."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from typing import BinaryIO, Final

MAGIC: Final = b"GGUF"
VERSION: Final = 3
ALIGNMENT: Final = 32

_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_TENSOR_F32 = 0


class Matrix:
    """A dense float32 matrix, filled entry by entry; `rows` are outputs, `columns` are inputs."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.columns = columns
        self.values = array("f", bytes(4 * rows * columns))

    def __setitem__(self, at: tuple[int, int], value: float) -> None:
        row, column = at
        if not (0 <= row < self.rows and 0 <= column < self.columns):
            raise IndexError(f"({row}, {column}) is outside a {self.rows} x {self.columns} matrix")
        self.values[row * self.columns + column] = value

    def __getitem__(self, at: tuple[int, int]) -> float:
        row, column = at
        if not (0 <= row < self.rows and 0 <= column < self.columns):
            raise IndexError(f"({row}, {column}) is outside a {self.rows} x {self.columns} matrix")
        return self.values[row * self.columns + column]


def ones(length: int) -> array[float]:
    return array("f", [1.0] * length)


class GgufFile:
    """Collects metadata and tensors in order, then writes them at once."""

    def __init__(self) -> None:
        self._metadata: list[tuple[str, bytes]] = []
        self._tensors: list[tuple[str, tuple[int, ...], array[float]]] = []

    def add_u32(self, key: str, value: int) -> None:
        self._metadata.append((key, struct.pack("<II", _U32, value)))

    def add_f32(self, key: str, value: float) -> None:
        self._metadata.append((key, struct.pack("<If", _F32, value)))

    def add_bool(self, key: str, value: bool) -> None:
        self._metadata.append((key, struct.pack("<I?", _BOOL, value)))

    def add_string(self, key: str, value: str) -> None:
        self._metadata.append((key, struct.pack("<I", _STRING) + _string(value)))

    def add_strings(self, key: str, values: Sequence[str]) -> None:
        self._add_array(key, _STRING, len(values), b"".join(map(_string, values)))

    def add_f32s(self, key: str, values: Sequence[float]) -> None:
        self._add_array(key, _F32, len(values), struct.pack(f"<{len(values)}f", *values))

    def add_i32s(self, key: str, values: Sequence[int]) -> None:
        self._add_array(key, _I32, len(values), struct.pack(f"<{len(values)}i", *values))

    def add_matrix(self, name: str, matrix: Matrix) -> None:
        self._tensors.append((name, (matrix.columns, matrix.rows), matrix.values))

    def add_vector(self, name: str, values: array[float]) -> None:
        self._tensors.append((name, (len(values),), values))

    def _add_array(self, key: str, item_type: int, length: int, items: bytes) -> None:
        self._metadata.append((key, struct.pack("<IIQ", _ARRAY, item_type, length) + items))

    def write(self, stream: BinaryIO) -> None:
        header = bytearray(MAGIC + struct.pack("<IQQ", VERSION, len(self._tensors), len(self._metadata)))
        for key, value in self._metadata:
            header += _string(key) + value
        offset = 0
        for name, shape, values in self._tensors:
            header += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, _TENSOR_F32, offset)
            offset += _padded(4 * len(values))
        stream.write(header.ljust(_padded(len(header)), b"\0"))
        for _name, _shape, values in self._tensors:
            data = _little_endian(values)
            stream.write(data.ljust(_padded(len(data)), b"\0"))


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _string(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _little_endian(values: array[float]) -> bytes:
    if sys.byteorder == "little":
        return values.tobytes()
    swapped = values[:]
    swapped.byteswap()
    return swapped.tobytes()
