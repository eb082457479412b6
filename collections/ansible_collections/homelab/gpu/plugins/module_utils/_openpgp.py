# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.
#
# Fingerprints of public keys, by RFC 4880 (version 4) and RFC 9580 (version 6). Hosts need not have gpg, which apt no longer needs either.

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError

__all__ = ["fingerprints", "normalised"]

_BLOCK = re.compile(
    r"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n:]+:[^\r\n]*\r?\n)*\r?\n(?P<body>.*?)\r?\n?-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL
)
_PUBLIC_KEY = 6
_HEXADECIMAL = re.compile(r"[0-9A-F]{40}(?:[0-9A-F]{24})?")


def normalised(text: str) -> str:
    """Hexadecimal digits without spaces and colons."""
    digits = re.sub(r"[\s:]", "", text).upper().removeprefix("0X")
    if not _HEXADECIMAL.fullmatch(digits):
        raise InputError(f"fingerprint is {text!r}; write all 40 (or 64) hexadecimal digits: the last 8 or 16 of them can be forged")
    return digits


def fingerprints(armoured: str) -> list[str]:
    """Of all primary keys in the text."""
    blocks = list(_BLOCK.finditer(armoured))
    if not blocks:
        raise InputError("the content is no public key: it has no line BEGIN PGP PUBLIC KEY BLOCK")
    found = []
    for block in blocks:
        lines = [line.strip() for line in block["body"].splitlines() if line.strip() and not line.startswith("=")]
        try:
            data = base64.b64decode("".join(lines), validate=True)
        except binascii.Error as error:
            raise InputError(f"the content is no public key: {error}") from error
        found += [_fingerprint(body) for tag, body in _packets(data) if tag == _PUBLIC_KEY]
    if not found:
        raise InputError("the content has no public key in its block")
    return found


def _fingerprint(body: bytes) -> str:
    if body[:1] == b"\x04":
        return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()  # noqa: S324 - so it is defined
    if body[:1] == b"\x06":
        return hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest().upper()
    raise InputError(f"the key has version {body[:1].hex() or 'none'}; only 4 and 6 are known")


def _packets(data: bytes) -> t.Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        header = data[position]
        if not header & 0x80:
            raise InputError("the content is no public key: a packet does not begin as one")
        position += 1
        if header & 0x40:
            tag, (length, position) = header & 0x3F, _new_length(data, position)
        else:
            tag, kind = header >> 2 & 0x0F, header & 0x03
            if kind == 3:
                raise InputError("the content is no public key: a packet has no length")
            size = 1 << kind
            length, position = int.from_bytes(data[position : position + size], "big"), position + size
        if position + length > len(data):
            raise InputError("the content is no whole public key: its end is missing")
        yield tag, data[position : position + length]
        position += length


def _new_length(data: bytes, position: int) -> tuple[int, int]:
    first = data[position] if position < len(data) else 255
    if first < 192:
        return first, position + 1
    if first < 224:
        return (first - 192 << 8) + data[position + 1] + 192, position + 2
    if first == 255:
        return int.from_bytes(data[position + 1 : position + 5], "big"), position + 5
    raise InputError("the content is no public key: a packet comes in parts")
