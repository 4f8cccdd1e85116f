"""Why there is no token. Each class is what a program can do about it."""

from __future__ import annotations

import re
from typing import Optional

from ._clock import boot_now

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

#: The exit codes of the helper ``domo-token``, by kind.
_EXIT_CODES = {
    "not_running": 69,
    "io": 69,
    "unavailable": 75,
    "busy": 75,
    "timeout": 75,
    "not_permitted": 77,
    "untrusted": 77,
    "unknown_client": 78,
    "unknown_scope": 78,
    "min_ttl_too_long": 78,
    "gone": 78,
    "denied": 78,
    "invalid_scope": 2,
    "invalid_socket": 2,
    "bug": 70,
    "protocol": 70,
}


class Error(Exception):
    """There is no token. The text is one line: what failed, the cause, what to do.

    ``kind`` is the broker's name of the error, such as ``"unavailable"``; ``exit_code`` is the
    exit code of the helper ``domo-token`` for it. Errors of the package itself have the kinds
    ``not_running``, ``timeout``, ``untrusted``, ``invalid_scope``, ``invalid_socket``,
    ``protocol`` (the answer is not a broker's) and ``io``.
    """

    def __init__(self, message: str, *, kind: str, exit_code: Optional[int] = None) -> None:
        super().__init__(one_line(message))
        self.kind = kind
        self.exit_code = _EXIT_CODES.get(kind, 70) if exit_code is None else exit_code

    @property
    def is_retryable(self) -> bool:
        """Whether the same call may succeed later without a fix."""
        return isinstance(self, (NotRunning, Unavailable))

    @property
    def message(self) -> str:
        """The text without the time of the next attempt."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.message, self.kind, self.exit_code)


class NotRunning(Error):
    """No broker listens on the socket: start it. Exit code 69."""


class Unavailable(Error):
    """There is no token now; retry later. Exit code 75.

    The broker cannot get one from Domo (``unavailable``), is at a limit (``busy``), or has not
    answered in time (``timeout``).
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str = "unavailable",
        exit_code: Optional[int] = None,
        retry_after: Optional[float] = None,
    ) -> None:
        super().__init__(message, kind=kind, exit_code=exit_code)
        self._retry_at = None if retry_after is None else boot_now() + retry_after

    @property
    def retry_after(self) -> Optional[float]:
        """The seconds until the broker tries again, counted down since the error; or ``None``."""
        return None if self._retry_at is None else max(0.0, self._retry_at - boot_now())

    def __str__(self) -> str:
        left = self.retry_after
        if left is None or self.kind != "unavailable":
            return self.message
        return f"{self.message}; next attempt in {_shown(left)}"

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.message, self.kind, self.exit_code, self.retry_after)


class NotPermitted(Error):
    """The broker denies this process the token, or the socket cannot be trusted. Exit code 77."""


class UnknownScopeSet(Error):
    """The broker has no such client or scope set: its config must list it. Exit code 78."""


class Rejected(Error):
    """Domo rejects the broker's credentials or scopes. Exit code 78."""


_CLASSES: dict[str, type[Error]] = {
    "not_running": NotRunning,
    "unavailable": Unavailable,
    "busy": Unavailable,
    "timeout": Unavailable,
    "not_permitted": NotPermitted,
    "untrusted": NotPermitted,
    "unknown_client": UnknownScopeSet,
    "unknown_scope": UnknownScopeSet,
    "min_ttl_too_long": UnknownScopeSet,
    "gone": UnknownScopeSet,
    "denied": Rejected,
}

#: Errors by exit code, for kinds that a newer broker has.
_CLASSES_BY_CODE: dict[int, type[Error]] = {
    75: Unavailable,
    77: NotPermitted,
    78: UnknownScopeSet,
}

#: The broker, or the system, has decided against this caller and scope set.
_DECISIONS = frozenset(
    [
        "not_permitted",
        "unknown_client",
        "unknown_scope",
        "min_ttl_too_long",
        "gone",
        "denied",
        "bad_request",
        "invalid_scope",
        "invalid_socket",
    ]
)


def error_of(
    kind: str,
    message: str,
    exit_code: Optional[int] = None,
    retry_after: Optional[float] = None,
) -> Error:
    """Return the error of a kind."""
    found = _CLASSES.get(kind) or _CLASSES_BY_CODE.get(exit_code or 0, Error)
    if issubclass(found, Unavailable):
        return found(message, kind=kind, exit_code=exit_code, retry_after=retry_after)
    return found(message, kind=kind, exit_code=exit_code)


def is_decision(error: Error) -> bool:
    """Return whether a valid token in memory does not outlast the error."""
    return error.kind in _DECISIONS


def copy_of(error: Error) -> Error:
    """Return the same error without a traceback, for another caller that shares the request."""
    retry_after = error.retry_after if isinstance(error, Unavailable) else None
    return error_of(error.kind, error.message, error.exit_code, retry_after)


def late() -> Error:
    """Return the error of a call whose time limit has passed."""
    return error_of("timeout", "the broker did not answer in time")


def one_line(text: str) -> str:
    """Replace control characters, which a path or a message may contain."""
    return _CONTROL.sub(" ", text)


def _shown(seconds: float) -> str:
    """Return a duration in its largest unit, rounded down."""
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"


def _restore(
    found: type[Error],
    message: str,
    kind: str,
    exit_code: int,
    retry_after: Optional[float] = None,
) -> Error:
    if issubclass(found, Unavailable):
        return found(message, kind=kind, exit_code=exit_code, retry_after=retry_after)
    return found(message, kind=kind, exit_code=exit_code)
