"""What the broker's answers mean."""

from __future__ import annotations

import re
from typing import Optional

from ._http import Event, Response, number_of
from .errors import Error, error_of, is_decision

_SECONDS = re.compile(r"[0-9]{1,9}\Z")


def error_of_response(response: Response) -> Error:
    """Return the error of a response whose status is not 200."""
    fields = response.json() or {}
    error = _error(fields, _retry_after(fields, response.headers.get("retry-after")))
    if error is None:
        message = f"the broker answered with HTTP status {response.status}; check its version"
        error = error_of("protocol", message)
    return error


def busy_error(response: Response) -> Optional[Error]:
    """Return the error of a response whose request may succeed in a moment; None for others."""
    return error_of_response(response) if response.status == 429 else None


def error_of_event(event: Event) -> Error:
    """Return the error of an event that is not a token."""
    fields = event.json() or {}
    detail = fields.get("detail")
    detail = detail if isinstance(detail, str) else f"the broker reports {event.name}"
    return error_of(event.name, detail, retry_after=_retry_after(fields, None))


def is_final(error: Error) -> bool:
    """Return whether a watch ends with the error."""
    return is_decision(error) or not error.is_retryable


def _error(fields: dict[str, object], retry_after: Optional[float]) -> Optional[Error]:
    kind = fields.get("type")
    prefix = "urn:domo-token:"
    if not isinstance(kind, str) or not kind.startswith(prefix):
        return None
    detail, code = fields.get("detail") or fields.get("title"), fields.get("exit_code")
    message = detail if isinstance(detail, str) else kind[len(prefix) :]
    # Another number cannot be the exit code of a failed process.
    exit_code = code if isinstance(code, int) and 0 < code < 256 else None
    return error_of(kind[len(prefix) :], message, exit_code, retry_after)


def _retry_after(fields: dict[str, object], header: Optional[str]) -> Optional[float]:
    millis = number_of(fields.get("retry_after_ms"))
    if millis is not None:
        return max(0.0, millis / 1000)
    return float(header) if header and _SECONDS.match(header) else None
