# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
import typing as t

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._errors import ClientConfigError, InputError, KubeError
from ansible_collections.homelab.gpu.plugins.module_utils._expressions import Expression

DATA = {"status": {"x": "4", "list": []}, "Running": "yes", "phase": "Running"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("status.x == '4'", True),
        ("status.x", "4"),
        ("status.y", None),
        ("to_number(status.x) > `3`", True),
        ("not_null(a, b, status.x)", "4"),
        ('phase == @."Running"', False),
        ('"status".x', "4"),
        ("'4' == status.\"x\"", True),
    ],
)
def test_value(text: str, value: t.Any) -> None:
    assert Expression("query", text).value(DATA) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a ==", "query: 'a ==' is not JMESPath: "),
        ("", "query: '' is not JMESPath: "),
        ("[?a", "is not JMESPath: "),
        ("lenght(a)", "query: JMESPath has no function lenght; it has abs, avg, "),
        ("[?contains(a, 'b') && size(c) > `1`]", "JMESPath has no function size"),
        ("sort_by(a, &upper(b))", "JMESPath has no function upper"),
        ("contains(a)", "query: contains() in 'contains(a)' takes 2 argument(s), not 1"),
        ("not_null()", "takes at least 1 argument(s), not 0"),
        ('phase == "Running"', "write 'Running' for the text, or @.\"Running\" if the field is meant"),
        ('[?type == "Ready"].status', "write 'Ready' for the text"),
    ],
)
def test_what_can_never_be_evaluated_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Expression("query", text)
    assert words in str(caught.value)


def test_data_that_does_not_fit_is_named() -> None:
    with pytest.raises(KubeError, match=r"query 'length\(status.y\)' cannot be evaluated: In function length\(\), invalid type for value: None"):
        Expression("query", "length(status.y)").value(DATA)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jmespath", None)
    with pytest.raises(ClientConfigError, match="query needs the Python package jmespath"):
        Expression("query", "a")
