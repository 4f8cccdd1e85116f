"""What follows a failed attempt: an error, or another attempt after a pause. Does not wait."""

from __future__ import annotations

import random
from typing import Optional

from ._clock import boot_now
from ._find_socket import Target
from .errors import Error, Unavailable, error_of

#: How long a first connection is retried while the socket refuses: as long as a restart takes.
RESTART_TIME = 1.0

#: The broker answers by the deadline; a call is cancelled this much later.
GRACE = 0.2

#: The longest time limit of a call.
MAX_TIMEOUT = 600.0

_FOREVER = float("inf")


class RetryPolicy:
    """How long connecting is retried, within the deadline."""

    __slots__ = ("missing", "refusing")

    def __init__(self, missing: float, refusing: float) -> None:
        #: While the socket does not exist.
        self.missing = missing
        #: While the socket refuses connections.
        self.refusing = refusing

    def duration_for(self, cause: OSError) -> Optional[float]:
        """Return for how long an error is retried; None if it is not."""
        if isinstance(cause, FileNotFoundError):
            return self.missing
        if isinstance(cause, ConnectionRefusedError):
            return self.refusing
        # The backlog is full: the broker runs and is busy.
        return _FOREVER if isinstance(cause, (BlockingIOError, TimeoutError)) else None


#: No retries.
NONE = RetryPolicy(0, 0)
#: Before the first connection: there may be no broker at all.
FIRST = RetryPolicy(0, RESTART_TIME)
#: After a connection: the broker is restarting.
RECONNECT = RetryPolicy(_FOREVER, _FOREVER)


class Lost(Exception):
    """The connection ended before the answer; another one may succeed."""

    def __init__(self, error: Error) -> None:
        super().__init__()
        self.error = error


class Backoff:
    """Pauses between retries: random, so that callers do not reconnect together, and growing."""

    def __init__(self) -> None:
        self._doublings = 0

    def next(self) -> float:
        """Return the next pause: 10 to 50 ms at first, 40 to 200 ms from the third on."""
        pause = random.uniform(0.01, 0.05) * (1 << self._doublings)  # noqa: S311
        self._doublings = min(2, self._doublings + 1)
        return pause


class ConnectAttempts:
    """The attempts to connect for one request."""

    def __init__(self, deadline: float, retry: RetryPolicy) -> None:
        self._start = boot_now()
        self._deadline = deadline
        self._retry = retry
        self._backoff = Backoff()

    def pause_after(self, cause: OSError, target: Target) -> float:
        """Return the pause before the next attempt, or raise the error."""
        wait = self._retry.duration_for(cause)
        if wait is None:
            raise target.error(cause)
        pause = self._backoff.next()
        if boot_now() + pause < min(self._deadline, self._start + wait):
            return pause
        if isinstance(cause, (BlockingIOError, TimeoutError)):
            message = (
                "the broker is too busy to take a connection: nothing was received from "
                f"{target.path}"
            )
            raise error_of("busy", message)
        raise target.error(cause)


class RequestAttempts:
    """The attempts to get the response to one request."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        #: The broker's last answer that it is busy.
        self._busy: Optional[Error] = None
        self._backoff = Backoff()

    def not_connected(self, error: Error) -> Error:
        """Return the error of a request for which connecting failed.

        If the broker answered "busy" and has stopped since, that answer explains more.
        """
        return self._busy or error

    def pause_after(self, error: Error) -> float:
        """Return the pause before the next attempt, or raise the error."""
        is_busy = error.kind == "busy"
        pause = self._backoff.next()
        if is_busy:
            self._busy = error
            if isinstance(error, Unavailable) and error.retry_after is not None:
                pause += error.retry_after
        if boot_now() + pause < self._deadline:
            return pause
        raise self._busy or error


def seconds_to_request(left: float) -> int:
    """Return the time limit to send, in whole seconds, by the time that is left.

    The broker's answer should come before the call is cancelled.
    """
    whole = int(left)
    return max(1, whole + 1 if whole + 1 - left < GRACE - 0.05 else whole)
