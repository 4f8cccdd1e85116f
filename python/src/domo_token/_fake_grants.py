"""The tokens and failures of a fake broker, without I/O."""

from __future__ import annotations

import random
import threading
import time
from typing import Optional

from ._clock import boot_now
from ._secret import Secret

#: The HTTP status and the exit code of each kind of error.
KINDS = {
    "bad_request": (400, 2),
    "not_permitted": (403, 77),
    "not_found": (404, 2),
    "unknown_client": (404, 78),
    "unknown_scope": (404, 78),
    "method_not_allowed": (405, 2),
    "min_ttl_too_long": (409, 78),
    "gone": (410, 78),
    "denied": (424, 78),
    "busy": (429, 75),
    "bug": (500, 70),
    "unavailable": (503, 75),
}

#: A failure that is not an answer: the request is received and never answered.
TIMEOUT = "timeout"

#: When a new token replaces the old one, as a part of its lifetime.
_RENEWAL = 0.75


class Failure:
    """An error that requests are answered with."""

    def __init__(self, kind: str, detail: str, retry_after: Optional[float] = None) -> None:
        if kind not in KINDS and kind != TIMEOUT:
            raise ValueError(f"no answer of a broker has the kind {kind!r}")
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after


class Grant:
    """The token of one scope set."""

    def __init__(self, text: str, generation: int, lifetime: float) -> None:
        self.text = Secret(text)
        self.generation = generation
        self.obtained = boot_now()
        self.lifetime = lifetime

    def left(self) -> float:
        """Return the seconds until it expires."""
        return self.obtained + self.lifetime - boot_now()

    def renewal_in(self) -> float:
        """Return the seconds until a new token replaces it."""
        return self.obtained + self.lifetime * _RENEWAL - boot_now()

    def fields(self, client: str, scope: str, socket: str) -> dict[str, object]:
        """Return it as the broker does."""
        left = max(0.0, self.left())
        return {
            "access_token": self.text.reveal(),
            "token_type": "bearer",
            "expires_at": int(time.time() + left),
            "expires_in": int(left),
            "scope": scope,
            "client": client,
            "generation": self.generation,
            "broker": socket,
        }


class Grants:
    """The state of a fake broker. Each call holds the lock."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        #: Incremented at each change.
        self.version = 0
        self.lifetime = 3600.0
        self.requests = 0
        self.token_requests: dict[str, int] = {}
        self.rejections: dict[str, int] = {}
        self.renewals: dict[str, int] = {}
        self.failures: dict[str, Failure] = {}
        self.others: Optional[Failure] = None
        self._grants: dict[str, Grant] = {}
        self._generation = random.randrange(1, 1 << 40)  # noqa: S311

    def set(self, scope: str, text: Optional[str], lifetime: Optional[float]) -> None:
        """Replace the token of a scope set and end its failure."""
        with self.changed:
            self.failures.pop(scope, None)
            self._new(scope, text, lifetime)
            self._notify()

    def fail(self, scope: str, failure: Failure) -> None:
        """Answer requests for a scope set with an error."""
        with self.changed:
            self.failures[scope] = failure
            self._grants.pop(scope, None)
            self._notify()

    def expire(self, scope: str) -> None:
        """Replace the token of a scope set at the next request."""
        with self.changed:
            self._grants.pop(scope, None)
            self._notify()

    def current(
        self, scope: str, rejected: Optional[int] = None, min_ttl: float = 0.0
    ) -> tuple[Optional[Grant], Optional[Failure]]:
        """Return the token of a scope set, a new one if necessary, or the failure."""
        with self.changed:
            failure = self.failures.get(scope)
            grant = self._grants.get(scope)
            if failure is None and grant is None:
                failure = self.others
            if failure is not None:
                return None, failure
            if min_ttl > self.lifetime:
                longest = f"the longest min_ttl that can be met is {self.lifetime:.0f}s"
                return None, Failure("min_ttl_too_long", longest)
            is_rejected = grant is not None and grant.generation == rejected
            if is_rejected:
                self.rejections[scope] = self.rejections.get(scope, 0) + 1
            if grant is None or is_rejected or grant.left() < min_ttl or grant.renewal_in() <= 0:
                grant = self._new(scope, None, None)
                self._notify()
            return grant, None

    def all(self) -> dict[str, Grant]:
        """Return the tokens by scope set."""
        with self.changed:
            return dict(self._grants)

    def _notify(self) -> None:
        self.version += 1
        self.changed.notify_all()

    def _new(self, scope: str, text: Optional[str], lifetime: Optional[float]) -> Grant:
        self._generation += 1
        self.renewals[scope] = self.renewals.get(scope, 0) + 1
        if text is None:
            text = f"fake-{scope.replace(' ', '-')}-{self._generation}"
        grant = Grant(text, self._generation, self.lifetime if lifetime is None else lifetime)
        self._grants[scope] = grant
        return grant
