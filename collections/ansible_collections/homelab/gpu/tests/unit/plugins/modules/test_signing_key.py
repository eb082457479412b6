# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib
import textwrap
import typing as t
from pathlib import Path

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._errors import InputError
from ansible_collections.homelab.gpu.plugins.module_utils._openpgp import fingerprints, normalised

Run = t.Callable[..., dict[str, t.Any]]

# Packets as gpg writes them: an old-format header with two octets of length, a version 4 key; what follows in the body is not looked at
BODY = b"\x04" + bytes(range(200)) + b"\x01" * 67
OTHER = b"\x04" + b"other" * 20
USER_ID = b"\xb4\x07someone"


def packet(body: bytes) -> bytes:
    return b"\x99" + len(body).to_bytes(2, "big") + body


def fingerprint(body: bytes) -> str:
    return hashlib.sha1(packet(body)).hexdigest().upper()


def armoured(data: bytes, headers: str = "") -> str:
    lines = "\n".join(textwrap.wrap(base64.b64encode(data).decode(), 64))
    return f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n{headers}\n{lines}\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n"


KEY = armoured(packet(BODY) + USER_ID)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (KEY, [fingerprint(BODY)]),
        (armoured(packet(BODY) + USER_ID, "Version: GnuPG v2\nComment: x\n"), [fingerprint(BODY)]),
        (KEY.replace("\n", "\r\n"), [fingerprint(BODY)]),
        # New-format headers with one and two octets of length
        (armoured(b"\xc6" + bytes([len(OTHER)]) + OTHER), [fingerprint(OTHER)]),
        (armoured(b"\xc6" + bytes([(len(BODY) - 192 >> 8) + 192, len(BODY) - 192 & 255]) + BODY), [fingerprint(BODY)]),
        (armoured(packet(BODY) + packet(OTHER)), [fingerprint(BODY), fingerprint(OTHER)]),
        (KEY + armoured(packet(OTHER)), [fingerprint(BODY), fingerprint(OTHER)]),
    ],
)
def test_fingerprints(text: str, found: list[str]) -> None:
    assert fingerprints(text) == found


def test_key_of_version_6() -> None:
    body = b"\x06" + b"x" * 40
    assert fingerprints(armoured(b"\xc6" + bytes([len(body)]) + body)) == [hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest().upper()]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no line BEGIN PGP PUBLIC KEY BLOCK"),
        ("<html>404</html>", "no line BEGIN PGP PUBLIC KEY BLOCK"),
        (armoured(USER_ID), "no public key in its block"),
        (armoured(packet(BODY)[:-1]), "its end is missing"),
        (armoured(b"\x00\x00"), "a packet does not begin as one"),
        (armoured(packet(b"\x03" + b"x" * 20)), "the key has version 03"),
        (KEY.replace("=abcd", "=abcd").replace("\n\n", "\n\n!!!!"), "no public key"),
    ],
)
def test_what_is_no_key(text: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        fingerprints(text)


@pytest.mark.parametrize("text", ["C95B 321B 61E8 8C18 09C4  F759 DDCA E044 F796 ECB0", "0xc95b321b61e88c1809c4f759ddcae044f796ecb0"])
def test_spaces_and_case_do_not_matter(text: str) -> None:
    assert normalised(text) == "C95B321B61E88C1809C4F759DDCAE044F796ECB0"


@pytest.mark.parametrize("text", ["", "F796ECB0", "DDCAE044F796ECB0", "C95B321B61E88C1809C4F759DDCAE044F796ECBX"])
def test_short_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write all 40"):
        normalised(text)


def test_right_key_is_placed(tmp_path: Path, run_host_module: Run) -> None:
    options = {"content": KEY, "fingerprint": fingerprint(BODY), "path": str(tmp_path / "keyrings/key.asc")}
    assert run_host_module("signing_key", check_mode=True, **options)["changed"]
    assert not (tmp_path / "keyrings").exists()
    assert run_host_module("signing_key", **options)["changed"]
    assert (tmp_path / "keyrings/key.asc").read_text() == KEY
    assert (tmp_path / "keyrings/key.asc").stat().st_mode & 0o777 == 0o644
    assert not run_host_module("signing_key", **options)["changed"]


@pytest.mark.parametrize("content", [armoured(packet(OTHER)), armoured(packet(BODY) + packet(OTHER))])
def test_wrong_or_further_key_is_refused(tmp_path: Path, run_host_module: Run, content: str) -> None:
    path = tmp_path / "key.asc"
    result = run_host_module("signing_key", content=content, fingerprint=fingerprint(BODY), path=str(path))
    assert f"the content has the key {fingerprint(OTHER)}" in result["msg"]
    assert not path.exists()


def test_relative_path_is_refused(run_host_module: Run) -> None:
    assert "path is 'key.asc'" in run_host_module("signing_key", content=KEY, fingerprint=fingerprint(BODY), path="key.asc")["msg"]
