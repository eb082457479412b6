# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._options import coerced, type_problems, unknown_options

TEXT = {"type": "str"}
SECRET = {"type": "str", "no_log": True}
NUMBER = {"type": "int"}
TEXTS = {"type": "list", "elements": "str"}
CHOICE = {"type": "str", "choices": ["present", "absent"]}
NESTED = {"type": "list", "elements": "dict", "options": {"name": {"type": "str", "required": True}, "count": {"type": "int"}}}


@pytest.mark.parametrize(
    ("value", "spec"),
    [
        ("x", TEXT),
        ("/x", {"type": "path"}),
        (None, TEXT),
        (3, NUMBER),
        (3, {"type": "float"}),
        # From the command line every value is text.
        ("3", NUMBER),
        ("-1.5", {"type": "float"}),
        ("no", {"type": "bool"}),
        (True, {"type": "bool"}),
        ([], TEXTS),
        (["a"], TEXTS),
        ({}, {"type": "dict"}),
        ("absent", CHOICE),
        ([{"name": "a", "count": 1}], NESTED),
        (object(), {"type": "raw"}),
    ],
)
def test_right_types(value: Any, spec: dict[str, Any]) -> None:
    assert list(type_problems("o", value, spec)) == []


@pytest.mark.parametrize(
    ("value", "spec", "fact", "fix"),
    [
        (1.37, TEXT, "o is 1.37 (a number)", "make it text; put it in quotes: o: '1.37'"),
        (True, TEXT, "o is True (true or false)", "make it text; put it in quotes: o: 'true'"),
        ("3.5", NUMBER, "o is '3.5' (text)", "make it a whole number"),
        (True, NUMBER, "o is True (true or false)", "make it a whole number"),
        ("maybe", {"type": "bool"}, "o is 'maybe' (text)", "make it true or false"),
        ("a,b", TEXTS, "o is 'a,b' (text)", "make it a list"),
        ("a=b", {"type": "dict"}, "o is 'a=b' (text)", "make it a dictionary"),
        (["a"], {"type": "dict"}, "o is ['a'] (a list)", "make it a dictionary"),
        (["a", 1], TEXTS, "o[1] is 1 (a whole number)", "make it text; put it in quotes: o[1]: '1'"),
        ([None], TEXTS, "o[0] is empty", "remove the element or give it a value"),
        (["s3cret"], SECRET, "o is a secret value (a list)", "make it text"),
        ("presnt", CHOICE, "o is 'presnt'", "use one of present, absent; did you mean present?"),
        ([{"count": 1}], NESTED, "o[0] has no name", "add name"),
        ([{"name": "a", "cuont": 1}], NESTED, "o[0] has the unknown key cuont", "remove it; did you mean count?"),
        ([{"name": "a", "count": "one"}], NESTED, "o[0].count is 'one' (text)", "make it a whole number"),
        (None, {"type": "str", "required": True}, "o is not set", "set o"),
    ],
)
def test_wrong_types(value: Any, spec: dict[str, Any], fact: str, fix: str) -> None:
    assert list(type_problems("o", value, spec)) == [(fact, fix)]


def test_a_long_value_is_cut() -> None:
    [(fact, _fix)] = type_problems("o", "x" * 500, NUMBER)
    assert len(fact) < 120


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("k3s_versoin", "remove it; did you mean k3s_version?"),
        ("k3s_server_tls_san", "remove it; did you mean k3s_server_tls_sans?"),
        ("k3s_zzz", "remove it"),
    ],
)
def test_unknown_option(name: str, fix: str) -> None:
    known = ["k3s_version", "k3s_server_tls_sans"]
    assert list(unknown_options([name, "k3s_version", "other_option"], ["k3s_"], known)) == [(name, fix)]


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [("25", "int", 25), ("yes", "bool", True), ("2.5", "float", 2.5), ("25", "str", "25"), ("x", "int", "x"), (["1"], "int", ["1"])],
)
def test_coerced(value: Any, kind: str, expected: Any) -> None:
    assert coerced(value, {"type": kind}) == expected
