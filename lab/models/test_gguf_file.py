# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import struct

import pytest

from lab.models.gguf_file import GgufFile, Matrix, ones


def written(file: GgufFile) -> bytes:
    stream = io.BytesIO()
    file.write(stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("method", "value", "encoded"),
    [
        ("add_u32", 7, struct.pack("<II", 4, 7)),
        ("add_f32", 0.5, struct.pack("<If", 6, 0.5)),
        ("add_bool", True, struct.pack("<IB", 7, 1)),
        ("add_string", "é", struct.pack("<IQ", 8, 2) + "é".encode()),
        ("add_strings", ["a", "bc"], struct.pack("<IIQQcQ2s", 9, 8, 2, 1, b"a", 2, b"bc")),
        ("add_f32s", [1.0, -2.0], struct.pack("<IIQff", 9, 6, 2, 1.0, -2.0)),
        ("add_i32s", [-1, 6], struct.pack("<IIQii", 9, 5, 2, -1, 6)),
    ],
)
def test_metadata_encoding(method: str, value: object, encoded: bytes) -> None:
    file = GgufFile()
    getattr(file, method)("key", value)
    content = written(file)
    assert content[:24] == b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
    assert content[24:] == (struct.pack("<Q3s", 3, b"key") + encoded).ljust(len(content) - 24, b"\0")
    assert len(content) % 32 == 0


def test_tensors_are_aligned_and_inputs_come_first() -> None:
    matrix = Matrix(2, 3)
    matrix[0, 2] = 1.0
    matrix[1, 0] = 2.0
    file = GgufFile()
    file.add_vector("v", ones(1))
    file.add_matrix("m", matrix)
    content = written(file)
    infos = struct.pack("<Q1sIQIQ", 1, b"v", 1, 1, 0, 0) + struct.pack("<Q1sIQQIQ", 1, b"m", 2, 3, 2, 0, 32)
    assert content[24 : 24 + len(infos)] == infos
    data = content[-(-(24 + len(infos)) // 32) * 32 :]
    assert struct.unpack("<f", data[:4]) == (1.0,)
    assert struct.unpack("<6f", data[32:56]) == (0.0, 0.0, 1.0, 2.0, 0.0, 0.0)
    assert len(data) == 64


@pytest.mark.parametrize("at", [(2, 0), (0, 3), (-1, 0)])
def test_matrix_refuses_entries_outside(at: tuple[int, int]) -> None:
    matrix = Matrix(2, 3)
    with pytest.raises(IndexError, match="2 x 3"):
        matrix[at] = 1.0
    with pytest.raises(IndexError, match="2 x 3"):
        matrix[at]
