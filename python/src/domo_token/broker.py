"""The blocking API: :class:`Broker`."""

from __future__ import annotations

import os
import threading
from typing import Callable, Optional, Union

from . import _requests
from ._cache import Call, Key, Plan, Requirement, TokenCache, after_fork, cached_answer, resolve
from ._clock import boot_now
from ._connection import Transport
from ._find_socket import Address
from ._retry import GRACE, MAX_TIMEOUT, NONE, RECONNECT
from ._scopes import canonical
from ._settings import BrokerSettings
from ._status import Status
from ._watch import Watch
from .errors import Error, copy_of
from .token import Token, expires, key_of

SocketPath = Union[str, "os.PathLike[str]"]


class Broker(BrokerSettings):
    """The broker of this host, and the tokens that this process keeps in memory.

    Keep one for the process; any number of threads may use it, also in forked children. It
    connects when it is used.

    ``socket`` is a path or ``unix:///PATH``. By default it is ``$DOMO_TOKEN_SOCKET``, else the
    user's own broker, else the host's. ``client`` is the name of an API client in the broker's
    config, needed only if it has several and no default. ``timeout`` is the time limit of each
    call in seconds, at most 600.
    """

    def __init__(
        self,
        socket: Optional[SocketPath] = None,
        client: Optional[str] = None,
        timeout: float = 10,
    ) -> None:
        self._named_socket = socket
        self._client = client
        self._timeout = checked_timeout(timeout)
        self._transport = Transport(Address(socket))
        self._cache = TokenCache()
        self._flights: dict[Key, _Flight] = {}
        self._lock = threading.Lock()
        after_fork(self, Broker._reset)

    def _reset(self) -> None:
        self._flights = {}
        self._lock = threading.Lock()

    def token(self, scopes: str, min_ttl: Optional[float] = None) -> Token:
        """Return a token for exactly these scopes, separated by spaces or commas.

        It is valid for at least ``min_ttl`` seconds [default: 1, or a tenth of its lifetime if
        that is shorter]. A token in memory is returned while it is fresh; otherwise all threads
        share one request to the broker.
        """
        requirement = Requirement(checked_min_ttl(min_ttl))
        return self._obtain((self._client, canonical(scopes)), requirement)

    def renew(self, token: Token) -> Token:
        """Return another token than this one, which Domo rejected.

        If a newer token is in memory, no request is sent; if the broker has one, it sends none to
        Domo. The rejected token is not returned again.
        """
        requirement = Requirement(None, token.generation, expires(token))
        return self._obtain(key_of(token), requirement)

    def watch(self, scopes: str, on_error: Optional[Callable[[Error], None]] = None) -> Watch:
        """Return an iterator over the current token and each new one; it never ends by itself.

        It has its own connection, and reconnects when the broker restarts. ``on_error`` is called
        with each outage: :class:`Unavailable` when a token has expired and Domo issues no other,
        :class:`NotRunning` when the broker stops. A decision of the broker is raised, for example
        when the scope set is removed from its config; so is a broker that does not run at the
        start. Close it to end it, also from another thread.
        """
        return Watch(self._transport, self._cache, (self._client, canonical(scopes)), on_error)

    def status(self) -> Status:
        """Return the state of the broker and of each scope set that this process may see."""
        deadline = boot_now() + self._timeout
        response, _ = self._transport.request(_requests.status_request, deadline, RECONNECT)
        return _requests.status_of(response)

    def _obtain(self, key: Key, requirement: Requirement) -> Token:
        call = Call(key, requirement, boot_now() + self._timeout)
        if requirement.rejected is not None:
            self._cache.evict(key, requirement.rejected)
        # Most calls end here, without a lock.
        token = cached_answer(self._cache, call, is_in_flight=False)
        while token is None:
            flight, is_own = self._join_or_lead(call)
            if isinstance(flight, Token):
                return flight
            if is_own:
                self._lead(flight, key)
            else:
                flight.wait(min(call.deadline, flight.plan.deadline + GRACE) + GRACE)
            token, error = resolve(self._cache, call, flight.plan, flight.outcome, GRACE)
            if error is not None:
                # Each caller raises its own copy: a traceback belongs to one thread.
                raise error if is_own else copy_of(error)
        return token

    def _join_or_lead(self, call: Call) -> tuple[Union[_Flight, Token], bool]:
        with self._lock:
            now = boot_now()
            flight = self._flights.get(call.key)
            if flight is not None and now >= flight.plan.deadline + 2 * GRACE:
                flight = None
            # Looked up under the lock: a request that has ended meanwhile has stored its token.
            token = cached_answer(self._cache, call, flight is not None)
            if token is not None:
                return token, False
            if flight is not None:
                return flight, False
            flight = _Flight(Plan(call, self._cache.get(call.key), now))
            self._flights[call.key] = flight
            return flight, True

    def _lead(self, flight: _Flight, key: Key) -> None:
        plan = flight.plan
        try:
            response, exchange = self._transport.request(
                lambda left: _requests.token_request(key, plan.requirement, left),
                plan.deadline,
                NONE if plan.is_early else RECONNECT,
            )
            token = _requests.token_of(response, exchange, key, plan.requirement)
            # Before the request ends, so that the next caller finds the token.
            self._cache.insert(key, token)
            flight.outcome = token
        except Error as error:
            flight.outcome = error
        finally:
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
            flight.ended.set()


class _Flight:
    """One request for a token, whose answer several threads share."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.outcome: Union[Token, Error, None] = None
        self.ended = threading.Event()

    def wait(self, until: float) -> None:
        """Block until it has ended, until ``until`` at the latest."""
        while not self.ended.is_set():
            left = until - boot_now()
            if left <= 0:
                return
            self.ended.wait(left)


def checked_timeout(timeout: float) -> float:
    """Return a time limit in seconds, or raise ValueError."""
    if not timeout > 0:
        raise ValueError("the timeout must be a positive number of seconds")
    return min(float(timeout), MAX_TIMEOUT)


def checked_min_ttl(min_ttl: Optional[float]) -> Optional[float]:
    """Return the least time until expiry in seconds, or raise ValueError."""
    if min_ttl is not None and not 0 <= min_ttl < float("inf"):
        raise ValueError("min_ttl must be a number of seconds, 0 or more")
    return min_ttl


_default: Optional[tuple[tuple[Optional[str], ...], Broker]] = None
_default_lock = threading.Lock()


def default_broker() -> Broker:
    """Return the broker that this process shares; another one if the variables name another."""
    global _default
    names = ("DOMO_TOKEN_SOCKET", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HOME")
    variables = tuple(os.environ.get(name) for name in names)
    with _default_lock:
        if _default is None or _default[0] != variables:
            _default = (variables, Broker())
        return _default[1]


def _reset_default_lock() -> None:
    global _default_lock
    _default_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_default_lock)
