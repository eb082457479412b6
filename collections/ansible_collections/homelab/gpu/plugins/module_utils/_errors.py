# Copyright (c) 2026, homelab.gpu contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change at any time, without notice.

from __future__ import annotations

import re
import sys
import typing as t

__all__ = [
    "ApiError",
    "ApplyConflict",
    "ClientConfigError",
    "DeadlinePassed",
    "InputError",
    "KubeError",
    "Unreachable",
    "WaitFailed",
    "WrongCluster",
]

_SCHEMA_ERROR = "failed to create typed patch object"
_CONFLICT_MANAGER = re.compile(r'^conflicts? with "(?P<manager>[^"]*)"')


class KubeError(Exception):
    """Something a user must be told; C(data) becomes part of the module's result."""

    def __init__(self, message: str, **data: t.Any) -> None:
        super().__init__(message)
        self.data: dict[str, t.Any] = data

    @property
    def transient(self) -> bool:
        """Whether the same request may well succeed in a moment."""
        return False


class InputError(KubeError):
    """An option has a value that cannot be right."""


class ClientConfigError(KubeError):
    """The API server could not be addressed at all: kubeconfig, credentials or Python packages."""

    @classmethod
    def package_missing(cls, package: str, error: ImportError) -> ClientConfigError:
        return cls(
            f"the Python package {package} cannot be imported ({error}); install it for the Python that runs this module, {sys.executable}, "
            f"with `pip install {package}`, or set ansible_python_interpreter to a Python that has it"
        )

    @classmethod
    def untrusted_certificate(cls, where: str, error: BaseException) -> ClientConfigError:
        return cls(
            f"the certificate of {where} is not trusted: {getattr(error, 'verify_message', '') or error}. "
            "Use the kubeconfig of this very cluster, or set ca_cert to the CA that signed it."
        )


class Unreachable(KubeError):
    """No HTTP answer: connection refused, reset, timed out, or cut."""

    @property
    def transient(self) -> bool:
        return True


class WrongCluster(KubeError):
    """The cluster answering is not the one the task was written for."""


class DeadlinePassed(KubeError):
    """No time is left to ask once more; the message says what became of the last attempt. What it asked for may have been done."""


class WaitFailed(KubeError):
    """A wait ended without what was waited for: deadline passed, or it can no longer come true."""


class ApiError(KubeError):
    """An HTTP answer outside 2xx, with what the Status object says."""

    def __init__(
        self,
        status: int,
        method: str,
        path: str,
        *,
        reason: str = "",
        message: str = "",
        causes: list[dict[str, str]] | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = causes or []
        self.retry_after = retry_after
        text = message or reason or "no explanation given"
        if status == 401:
            text += " (the API server does not accept the token or client certificate; check api_key, or fetch the kubeconfig anew)"
        super().__init__(f"{method} {path}: {status} {text}" if not reason or reason in text else f"{method} {path}: {status} {reason}: {text}")
        self.data = {"status": status, "reason": reason, "causes": self.causes}

    @property
    def transient(self) -> bool:
        # Server-side apply answers 500 to definitions that do not fit the schema
        return self.status in (429, 500, 502, 503, 504) and _SCHEMA_ERROR not in self.message

    @classmethod
    def from_response(cls, status: int, method: str, path: str, body: t.Any, retry_after: float | None = None) -> ApiError:
        if not isinstance(body, dict) or body.get("kind") != "Status":
            return cls(status, method, path, message=str(body or "").strip()[:500], retry_after=retry_after)
        details = body.get("details") or {}
        causes = []
        for cause in details.get("causes") or []:
            causes.append({key: str(cause[key]) for key in ("reason", "message", "field") if cause.get(key)})
        if retry_after is None and details.get("retryAfterSeconds"):
            retry_after = float(details["retryAfterSeconds"])
        return cls(status, method, path, reason=body.get("reason") or "", message=body.get("message") or "", causes=causes, retry_after=retry_after)


class ApplyConflict(KubeError):
    """A server-side apply wants fields that other field managers own."""

    def __init__(self, what: str, error: ApiError) -> None:
        self.managers: dict[str, list[str]] = {}
        for cause in error.causes:
            match = _CONFLICT_MANAGER.match(cause.get("message", ""))
            self.managers.setdefault(match["manager"] if match else "unknown", []).append(cause.get("field", ""))
        owners = "; ".join(f"{manager} owns {', '.join(sorted(fields))}" for manager, fields in sorted(self.managers.items()))
        super().__init__(
            f"{what}: other field managers own fields of this definition: {owners or error.message}. "
            "Leave those fields out of the definition, or set force_conflicts=true to take them over.",
            status=error.status,
            reason=error.reason,
            causes=error.causes,
            conflicts=[{"manager": manager, "fields": sorted(fields)} for manager, fields in sorted(self.managers.items())],
        )
