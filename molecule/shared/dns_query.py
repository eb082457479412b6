#!/usr/bin/env python3
# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks one DNS server for one name and prints the IPv4 addresses, with nothing but the standard library: hosts have no client."""

from __future__ import annotations

import socket
import struct
import sys


def question(name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split("."))
    return struct.pack("!6H", 0x1CE, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


def addresses(answer: bytes, asked: bytes) -> list[str]:
    identity, flags, _, count, _, _ = struct.unpack("!6H", answer[:12])
    if identity != 0x1CE or flags & 0x000F:
        raise SystemExit(f"answer code {flags & 0x000F}")
    found = []
    position = len(asked)
    for _ in range(count):
        # A name is a pointer of two bytes, or labels up to an empty one
        while answer[position] and answer[position] < 0xC0:
            position += answer[position] + 1
        position += 2 if answer[position] >= 0xC0 else 1
        kind, _, _, length = struct.unpack("!2HIH", answer[position : position + 10])
        position += 10
        if kind == 1:
            found.append(socket.inet_ntoa(answer[position : position + length]))
        position += length
    return found


def main(server: str, name: str) -> None:
    asked = question(name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(asked, (server, 53))
        print("\n".join(addresses(client.recv(4096), asked)))


if __name__ == "__main__":
    main(*sys.argv[1:])
