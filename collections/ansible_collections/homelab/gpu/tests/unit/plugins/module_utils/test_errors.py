# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.homelab.gpu.plugins.module_utils._errors import ApiError, ApplyConflict, Unreachable


def status(**fields: object) -> dict[str, object]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", **fields}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (status(reason="NotFound", message='nodes "a" not found'), 'GET /x: 404 NotFound: nodes "a" not found'),
        (status(reason="Unauthorized", message="Unauthorized"), "GET /x: 404 Unauthorized"),
        (status(message="no reason"), "GET /x: 404 no reason"),
        ("404 page not found\n", "GET /x: 404 404 page not found"),
        ("", "GET /x: 404 no explanation given"),
        (None, "GET /x: 404 no explanation given"),
    ],
)
def test_message_says_what_the_server_said(body: object, text: str) -> None:
    assert str(ApiError.from_response(404, "GET", "/x", body)) == text


def test_refused_credentials_come_with_a_hint() -> None:
    text = str(ApiError.from_response(401, "GET", "/x", status(reason="Unauthorized", message="Unauthorized")))
    assert text.startswith("GET /x: 401 Unauthorized (the API server does not accept the token or client certificate")


def test_causes_and_retry_after_are_kept() -> None:
    body = status(
        reason="Invalid",
        message="bad",
        details={"retryAfterSeconds": 7, "causes": [{"reason": "FieldValueInvalid", "message": "wrong", "field": "spec.x", "extra": 1}, {"message": "also"}]},
    )
    error = ApiError.from_response(422, "PATCH", "/x", body)
    assert error.data == {
        "status": 422,
        "reason": "Invalid",
        "causes": [{"reason": "FieldValueInvalid", "message": "wrong", "field": "spec.x"}, {"message": "also"}],
    }
    assert error.retry_after == 7.0


def test_retry_after_header_wins_over_the_body() -> None:
    assert ApiError.from_response(429, "GET", "/x", status(details={"retryAfterSeconds": 7}), 2.0).retry_after == 2.0


@pytest.mark.parametrize(
    ("code", "transient"),
    [(400, False), (401, False), (403, False), (404, False), (409, False), (410, False), (422, False), (429, True), (500, True), (503, True), (504, True)],
)
def test_only_answers_that_may_change_are_transient(code: int, transient: bool) -> None:
    assert ApiError(code, "GET", "/x").transient is transient


def test_an_unreachable_server_is_transient() -> None:
    assert Unreachable("no").transient


def test_conflict_names_managers_and_their_fields() -> None:
    body = status(
        reason="Conflict",
        message="Apply failed with 3 conflicts",
        details={
            "causes": [
                {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl" using apps/v1', "field": ".spec.replicas"},
                {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl" using apps/v1', "field": ".spec.paused"},
                {"reason": "FieldManagerConflict", "message": 'conflict with "hpa" with subresource "scale" using apps/v1', "field": ".spec.replicas"},
            ]
        },
    )
    conflict = ApplyConflict("Deployment default/web", ApiError.from_response(409, "PATCH", "/x", body))
    assert conflict.data["conflicts"] == [
        {"manager": "hpa", "fields": [".spec.replicas"]},
        {"manager": "kubectl", "fields": [".spec.paused", ".spec.replicas"]},
    ]
    assert "hpa owns .spec.replicas; kubectl owns .spec.paused, .spec.replicas" in str(conflict)
    assert "force_conflicts=true" in str(conflict)
