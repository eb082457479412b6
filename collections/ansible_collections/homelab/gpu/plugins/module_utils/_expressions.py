# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.

#
# JMESPath, compiled and checked before anything is sent: what only shows when it is evaluated would be waited for in vain.

from __future__ import annotations

import typing as t

from ansible_collections.homelab.gpu.plugins.module_utils._errors import ClientConfigError, InputError, KubeError

__all__ = ["Expression"]

_COMPARISONS = frozenset({"eq", "ne", "lt", "lte", "gt", "gte"})
_PART_OF_MORE = frozenset({"dot", "lbracket", "flatten", "filter"})


class Expression:
    """A JMESPath expression that an option gave; refused if it can never be evaluated."""

    def __init__(self, option: str, text: str) -> None:
        self._option = option
        self._text = text
        try:
            import jmespath
        except ImportError as error:
            raise ClientConfigError(f"{option} needs the Python package jmespath ({error}); install it for the Python that runs this module") from error
        try:
            self._compiled = jmespath.compile(text)
        except (jmespath.exceptions.JMESPathError, ValueError) as error:
            raise InputError(f"{option}: {text!r} is not JMESPath: {' '.join(str(error).split())}") from error
        self._evaluation_error = jmespath.exceptions.JMESPathError
        self._refuse_unknown_functions(self._compiled.parsed)
        self._refuse_text_in_double_quotes()

    def value(self, data: t.Any) -> t.Any:
        """What the expression makes of C(data); KubeError where it does not fit the data."""
        try:
            return self._compiled.search(data)
        except self._evaluation_error as error:
            raise KubeError(f"{self._option} {self._text!r} cannot be evaluated: {error}") from error

    def _refuse_unknown_functions(self, node: t.Any) -> None:
        from jmespath.functions import Functions

        if node["type"] == "function_expression":
            known = Functions.FUNCTION_TABLE.get(node["value"])
            if known is None:
                raise InputError(f"{self._option}: JMESPath has no function {node['value']}; it has {', '.join(sorted(Functions.FUNCTION_TABLE))}")
            signature, given = known["signature"], len(node["children"])
            variadic = bool(signature) and signature[-1].get("variadic", False)
            if given < len(signature) or (given > len(signature) and not variadic):
                wanted = f"{'at least ' if variadic else ''}{len(signature)}"
                raise InputError(f"{self._option}: {node['value']}() in {self._text!r} takes {wanted} argument(s), not {given}; add or remove some")
        for child in node["children"]:
            if isinstance(child, dict):
                self._refuse_unknown_functions(child)

    def _refuse_text_in_double_quotes(self) -> None:
        """C(phase == "Running") compares two fields, which is hardly ever meant, and then never true."""
        from jmespath.lexer import Lexer

        tokens = list(Lexer().tokenize(self._text))
        for before, token, after in zip(tokens, tokens[1:], tokens[2:]):
            if before["type"] in _COMPARISONS and token["type"] == "quoted_identifier" and after["type"] not in _PART_OF_MORE:
                text = token["value"]
                raise InputError(
                    f"{self._option}: in JMESPath \"{text}\" is the name of a field; write '{text}' for the text, "
                    f'or @."{text}" if the field is meant: {self._text!r}'
                )
