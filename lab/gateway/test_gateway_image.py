# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.gateway import image
from lab.models.python_base import BuildError


def test_content_key_follows_every_input(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_text("1")
    keys = [
        image.content_key(*where, inputs=(source,))
        for where in (("amd64", "bookworm", "2.6.12-1"), ("arm64", "bookworm", "2.6.12-1"), ("amd64", "trixie", "2.6.12-1"), ("amd64", "bookworm", "2.6.12-2"))
    ]
    source.write_text("2")
    keys.append(image.content_key("amd64", "bookworm", "2.6.12-1", inputs=(source,)))
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch("[0-9a-f]{16}", key) for key in keys)


def test_every_source_of_the_image_is_an_input() -> None:
    assert {path for path in image.HERE.glob("*.py") if not path.name.startswith("test_")} <= set(image.INPUTS)
    assert all(path.is_file() for path in image.INPUTS)


@pytest.mark.parametrize(("version", "tag"), [("2.6.12-1+deb12u4", "2.6.12-lab1"), ("3.0.11-1", "3.0.11-lab1"), ("1:2.8.5-1ubuntu3", "2.8.5-lab1")])
def test_the_tag_is_haproxys_version(version: str, tag: str) -> None:
    assert image.tag(version) == tag


def test_a_version_without_a_number() -> None:
    with pytest.raises(BuildError, match="does not begin with a number"):
        image.tag("unknown")


def test_what_haproxy_needs_stays(tmp_path: Path) -> None:
    kept = ["usr/sbin/haproxy", "bin/sh", "usr/bin/sed", "lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/liblua5.3.so.0"]
    kept += ["usr/share/doc/haproxy/copyright", "etc/ld.so.conf.d/x.conf", "etc/ssl/openssl.cnf"]
    gone = ["usr/bin/perl", "usr/bin/apt", "usr/sbin/adduser", "var/lib/dpkg/status", "usr/share/doc/haproxy/changelog.gz", "etc/passwd"]
    gone += ["usr/lib/x86_64-linux-gnu/perl-base/x.pm", "usr/lib/x86_64-linux-gnu/gconv/IBM.so", "usr/lib/systemd/system/haproxy.service", "dev/null"]
    for name in kept + gone:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    image.trim(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_the_image_runs_as_haproxys_own_does() -> None:
    assert image.USER == "99:99"
    assert image.STOP_SIGNAL == "SIGUSR1"
    assert image.COMMAND[-1] == "/usr/local/etc/haproxy/haproxy.cfg"
