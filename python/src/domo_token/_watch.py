"""Receives each new token of a scope set over its own connection."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from typing import Callable, Optional

from . import _requests
from ._answers import error_of_event, error_of_response, is_final
from ._cache import Key, TokenCache
from ._clock import boot_now
from ._connection import BUFFER, Connection, Transport
from ._exchange import Exchange
from ._http import BadResponse, Event, EventStream
from ._retry import FIRST, Lost
from .errors import Error, error_of
from .token import Token, new_token

#: The time limit of connecting and of sending the request.
CONNECT_TIMEOUT = 10.0

#: The broker sends a comment every 15 s; a connection that is silent for longer is lost.
SILENCE = 45.0

#: The longest pause between two attempts to connect.
_MAX_PAUSE = 1.0


class WatchState:
    """The state of a watch between two connections, and what events mean. Does not wait."""

    def __init__(
        self, cache: TokenCache, key: Key, on_error: Optional[Callable[[Error], None]]
    ) -> None:
        self.key = key
        self._cache = cache
        self._on_error = on_error
        self.last_generation: Optional[int] = None
        #: Whether a broker has answered.
        self._has_answered = False
        #: Whether this outage of the broker was reported.
        self._is_reported = False
        self._pause = 0.0
        self._exchange: Optional[Exchange] = None
        self._events = EventStream()

    def next_pause(self) -> float:
        """Return the pause before the next connection."""
        pause = self._pause
        self._pause = min(_MAX_PAUSE, pause * 2 + random.uniform(0.01, 0.05))  # noqa: S311
        return pause

    def connected(self, path: str) -> bytes:
        """Take a new connection; return the request to send."""
        self._exchange = Exchange(path, boot_now())
        self._events = EventStream()
        return _requests.watch_request(self.key, self.last_generation)

    def not_connected(self, error: Error) -> None:
        """Take a failure to connect; raise it unless another attempt follows."""
        # A descriptor may become free, and a directory that is being created gets its mode.
        is_local = self._has_answered and error.kind in ("io", "not_permitted")
        if not (is_local or (self._has_answered and error.is_retryable)):
            raise error
        self._report(error)

    def lost(self) -> None:
        """Take the end of a connection."""
        # All watchers of a broker lose their connections at the same moment.
        self._pause = max(self._pause, random.uniform(0.01, 0.05))  # noqa: S311

    def feed(self, data: memoryview) -> bool:
        """Take bytes that were received; return whether the connection has ended.

        Raises the error that ends the watch.
        """
        exchange = self._exchange
        if exchange is None:
            return True
        try:
            is_complete = exchange.feed(data)
        except Lost as lost:
            if lost.error.kind == "busy":
                self._report(lost.error)
            self.lost()
            return True
        response = exchange.response
        if not response.has_head:
            return False
        if response.status != 200:
            if is_complete:
                self._refused(error_of_response(response))
            return is_complete
        self._has_answered = True
        self._events.feed(response.take_body())
        if is_complete:
            self.lost()
        return is_complete

    def next_token(self) -> Optional[Token]:
        """Return the next token that was received, if there is one; raise the error that ends."""
        while True:
            event = self._next_event()
            if event is None:
                return None
            if event.name == "token":
                token = self._token(event.json())
                if token is not None:
                    return token
            elif event.name in ("unavailable", "busy"):
                self._call(error_of_event(event))
            elif event.name == "gone":
                raise error_of_event(event)

    def _next_event(self) -> Optional[Event]:
        problem = None
        try:
            return self._events.next()
        except BadResponse as error:
            problem = str(error)
        raise error_of("protocol", f"{problem}; check which program serves the socket")

    def _token(self, fields: Optional[dict[str, object]]) -> Optional[Token]:
        if fields is None or self._exchange is None:
            raise error_of("protocol", "the broker returned no valid event; check its version")
        token = new_token(fields, self.key, self._exchange.path, boot_now())
        self._pause, self._is_reported = 0.0, False
        is_known = self.last_generation == token.generation
        self.last_generation = token.generation
        # A caller that reads late finds tokens that have expired meanwhile.
        if is_known or not token.expires_in:
            return None
        self._cache.insert(self.key, token)
        return token

    def _refused(self, error: Error) -> None:
        if is_final(error):
            raise error
        self._has_answered = True
        self.lost()
        self._report(error)

    def _report(self, error: Error) -> None:
        if not self._is_reported:
            self._is_reported = True
            self._call(error)

    def _call(self, error: Error) -> None:
        if self._on_error is not None:
            self._on_error(error)


class Watch(Iterator[Token]):
    """The tokens of one scope set: the current one, then each new one, no token twice.

    ``next`` blocks until there is another token. Each one is also kept in memory for
    :meth:`domo_token.Broker.token`. After :meth:`close` the iterator ends.
    """

    def __init__(
        self,
        transport: Transport,
        cache: TokenCache,
        key: Key,
        on_error: Optional[Callable[[Error], None]],
    ) -> None:
        self._transport = transport
        self._state = WatchState(cache, key, on_error)
        self._connection: Optional[Connection] = None
        self._is_closed = False
        self._process = os.getpid()
        #: Held by the thread that waits for the next token.
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<domo_token.Watch of {self._state.key[1]!r}>"

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Watch:
        return self

    def close(self) -> None:
        """End the iterator, also while another thread waits for its next token."""
        # Before the connection: one that is made from now on is not read from.
        self._is_closed = True
        connection = self._connection
        if connection is not None:
            connection.shut_down()
        self._disconnect_if_unused()

    def __next__(self) -> Token:
        if self._process != os.getpid():
            self._start_in_child()
        try:
            with self._lock:
                return self._next()
        finally:
            if self._is_closed:
                self._disconnect_if_unused()

    def _start_in_child(self) -> None:
        # The connection is the parent's, which other threads of it may use.
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._disconnect()

    def _disconnect_if_unused(self) -> None:
        # The thread that reads disconnects itself.
        if self._lock.acquire(blocking=False):
            try:
                self._disconnect()
            finally:
                self._lock.release()

    def _next(self) -> Token:
        try:
            while not self._is_closed:
                token = self._state.next_token()
                if token is not None:
                    return token
                connection = self._connection
                if connection is None:
                    self._connect()
                elif self._receive(connection):
                    self._disconnect()
        except BaseException:
            self._is_closed = True
            raise
        raise StopIteration

    def _connect(self) -> None:
        time.sleep(self._state.next_pause())
        deadline = boot_now() + CONNECT_TIMEOUT
        try:
            connection = self._transport.connect(deadline, FIRST)
        except Error as error:
            self._state.not_connected(error)
            return
        self._connection = connection
        request = self._state.connected(connection.target.path)
        try:
            connection.send(request, deadline)
        except OSError:
            self._state.lost()
            self._disconnect()

    def _receive(self, connection: Connection) -> bool:
        view = memoryview(bytearray(BUFFER))
        try:
            count = 0 if self._is_closed else connection.receive(view, boot_now() + SILENCE)
        except OSError:
            self._state.lost()
            return True
        return self._state.feed(view[:count])

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
