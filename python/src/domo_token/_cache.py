"""The tokens in memory, and when they are sufficient for a caller."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Optional

from . import token as tokens
from ._clock import boot_now
from .errors import Error, is_decision, late
from .token import Token

#: The client's name, None for the broker's default, and the scope set.
Key = tuple[Optional[str], str]

#: The most tokens in memory. Further ones are not kept.
_MAX_ENTRIES = 256

#: The time limit of a request for a fresher token while the one in memory is still valid.
EARLY_RENEWAL = 1.0


class Requirement:
    """The conditions that a caller sets for a token."""

    __slots__ = ("min_ttl", "rejected", "rejected_expires")

    def __init__(
        self,
        min_ttl: Optional[float] = None,
        rejected: Optional[int] = None,
        rejected_expires: float = 0.0,
    ) -> None:
        #: The least time until it expires.
        self.min_ttl = min_ttl
        #: The generation that Domo rejected, and when that token expires.
        self.rejected = rejected
        self.rejected_expires = rejected_expires

    @property
    def is_any(self) -> bool:
        """Whether there are no conditions."""
        return self.min_ttl is None and self.rejected is None

    def is_met_by_cached(self, token: Token, now: float) -> bool:
        """Return whether a token in memory is sufficient, without a request."""
        if self.rejected is not None and (
            token.generation == self.rejected or tokens.expires(token) <= self.rejected_expires
        ):
            return False
        if self.min_ttl is None:
            return tokens.is_fresh(token, now)
        return tokens.is_valid(token, now) and tokens.expires(token) - now >= self.min_ttl

    def is_met_by(self, token: Token) -> bool:
        """Return whether a token is sufficient that was requested with other conditions."""
        if self.rejected is not None and token.generation == self.rejected:
            return False
        return self.min_ttl is None or tokens.expires(token) - boot_now() >= self.min_ttl

    def is_no_stricter_than(self, other: Requirement) -> bool:
        """Return whether a failure to meet this requirement is one to meet the other, too."""
        if (self.min_ttl, self.rejected) == (other.min_ttl, other.rejected):
            return True
        return self.rejected is None and (self.min_ttl or 0) <= (other.min_ttl or 0)


class TokenCache:
    """The tokens of a process by client and scope set."""

    def __init__(self) -> None:
        self._tokens: dict[Key, Token] = {}
        self._lock = threading.Lock()
        after_fork(self, TokenCache._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<TokenCache of {len(self._tokens)} tokens>"

    def get(self, key: Key) -> Optional[Token]:
        """Return the token of this key. It may have expired."""
        return self._tokens.get(key)

    def insert(self, key: Key, token: Token) -> None:
        """Keep a token, and drop the expired tokens of all keys."""
        now = boot_now()
        with self._lock:
            kept = {
                known: other for known, other in self._tokens.items() if tokens.is_valid(other, now)
            }
            known = kept.get(key)
            # Answers can overtake each other.
            is_older = (
                known is not None
                and known.generation != token.generation
                and tokens.is_fresh(known, now)
                and tokens.expires(known) > tokens.expires(token)
            )
            has_room = known is not None or len(kept) < _MAX_ENTRIES
            if tokens.is_valid(token, now) and not is_older and has_room:
                kept[key] = token
            # Readers take no lock.
            self._tokens = kept

    def evict(self, key: Key, generation: int) -> None:
        """Drop the token of that generation, by whichever client name it was requested."""
        with self._lock:
            self._tokens = {
                known: token
                for known, token in self._tokens.items()
                if known[1] != key[1] or token.generation != generation
            }


class Call:
    """One call for a token."""

    __slots__ = ("deadline", "has_led", "key", "requirement")

    def __init__(self, key: Key, requirement: Requirement, deadline: float) -> None:
        self.key = key
        self.requirement = requirement
        self.deadline = deadline
        #: A caller with conditions first requests a token without any, so that callers without
        #: conditions do not wait for the stricter request.
        self.has_led = False


class Plan:
    """The request that a call sends: with which conditions, and until when."""

    __slots__ = ("deadline", "is_early", "requirement")

    def __init__(self, call: Call, cached: Optional[Token], now: float) -> None:
        usable = cached is not None and tokens.is_valid(cached, now + EARLY_RENEWAL)
        self.requirement = call.requirement
        self.deadline = call.deadline
        if self.requirement.rejected is None and not usable and not call.has_led:
            self.requirement = Requirement()
        call.has_led = True
        #: Whether the token in memory is returned if this request fails.
        self.is_early = usable and self.requirement.is_any
        if self.is_early:
            self.deadline = min(self.deadline, now + EARLY_RENEWAL)


def cached_answer(cache: TokenCache, call: Call, is_in_flight: bool) -> Optional[Token]:
    """Return the token in memory if the call needs no request."""
    token, now = cache.get(call.key), boot_now()
    if token is None:
        return None
    # A caller without conditions does not wait for the fresher token of a request in flight.
    if is_in_flight and call.requirement.is_any and tokens.is_valid(token, now):
        return token
    return token if call.requirement.is_met_by_cached(token, now) else None


def resolve(
    cache: TokenCache, call: Call, plan: Plan, outcome: Any, grace: float
) -> tuple[Optional[Token], Optional[Error]]:
    """Return what a call gets from a request that it sent or awaited: nothing if it needs another.

    ``outcome`` is the token, the error, or None for a request that has not ended in time.
    """
    if isinstance(outcome, Token):
        is_own = plan.requirement is call.requirement
        return (outcome, None) if is_own or call.requirement.is_met_by(outcome) else (None, None)
    now = boot_now()
    if outcome is None and now < call.deadline:
        return None, None
    error = outcome if isinstance(outcome, Error) else late()
    # A valid token in memory outlasts any error but a decision of the broker.
    if call.requirement.is_any and not is_decision(error):
        token = cache.get(call.key)
        if token is not None and tokens.is_valid(token, now):
            return token, None
    # A caller with more time, or a weaker requirement, than the first may still succeed. An early
    # renewal is not retried, so a caller that needs its token sends a request of its own.
    has_no_more_time = not plan.is_early and call.deadline <= plan.deadline + grace
    is_out_of_time = has_no_more_time or now >= call.deadline
    is_final = not error.is_retryable or is_out_of_time
    if plan.requirement.is_no_stricter_than(call.requirement) and is_final:
        return None, error
    return None, error if now >= call.deadline + grace else None


_reset_after_fork: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def after_fork(instance: Any, reset: Any) -> None:
    """Call ``reset`` with the instance in a forked child, where other threads no longer run."""
    _reset_after_fork[instance] = reset


def _reset_all() -> None:
    for instance, reset in list(_reset_after_fork.items()):
        reset(instance)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
