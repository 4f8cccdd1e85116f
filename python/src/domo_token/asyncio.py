"""The same as :class:`domo_token.Broker` for asyncio: :class:`AsyncBroker`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Callable, Optional, Union

from . import _requests
from ._answers import busy_error
from ._cache import Call, Key, Plan, Requirement, TokenCache, after_fork, cached_answer, resolve
from ._clock import boot_now
from ._connection import BUFFER, Transport, open_stream
from ._exchange import Exchange
from ._find_socket import Address, Target
from ._http import Response
from ._retry import FIRST, GRACE, NONE, RECONNECT, Lost, RequestAttempts, RetryPolicy
from ._scopes import canonical
from ._settings import BrokerSettings
from ._status import Status
from ._watch import CONNECT_TIMEOUT, SILENCE, WatchState
from .broker import Broker, SocketPath, checked_min_ttl, checked_timeout
from .errors import Error, copy_of
from .token import Token, expires, key_of


class AsyncBroker(BrokerSettings):
    """The broker of this host, and the tokens that this process keeps in memory.

    The parameters are those of :class:`domo_token.Broker`. One may be used from several event
    loops. A cancelled call does not cancel the request of others that wait for it.
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
        self._prepare()

    def _prepare(self) -> None:
        self._flights: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Key, _Flight]] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()
        after_fork(self, AsyncBroker._reset)

    def _reset(self) -> None:
        self._flights = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    @classmethod
    def sharing(cls, broker: Broker) -> AsyncBroker:
        """Return one with the settings of a blocking broker, which shares its tokens in memory."""
        shared = cls.__new__(cls)
        shared._named_socket = broker._named_socket
        shared._client, shared._timeout = broker._client, broker._timeout
        shared._transport, shared._cache = broker._transport, broker._cache
        shared._prepare()
        return shared

    async def token(self, scopes: str, min_ttl: Optional[float] = None) -> Token:
        """Return a token for exactly these scopes. See :meth:`domo_token.Broker.token`."""
        requirement = Requirement(checked_min_ttl(min_ttl))
        return await self._obtain((self._client, canonical(scopes)), requirement)

    async def renew(self, token: Token) -> Token:
        """Return another token than this one, which Domo rejected."""
        requirement = Requirement(None, token.generation, expires(token))
        return await self._obtain(key_of(token), requirement)

    def watch(self, scopes: str, on_error: Optional[Callable[[Error], None]] = None) -> AsyncWatch:
        """Return an asynchronous iterator. See :meth:`domo_token.Broker.watch`."""
        key = (self._client, canonical(scopes))
        return AsyncWatch(self._transport, self._cache, key, on_error)

    async def status(self) -> Status:
        """Return the state of the broker and of each scope set that this process may see."""
        deadline = boot_now() + self._timeout
        response, _ = await _request(self._transport, _requests.status_request, deadline, RECONNECT)
        return _requests.status_of(response)

    async def _obtain(self, key: Key, requirement: Requirement) -> Token:
        call = Call(key, requirement, boot_now() + self._timeout)
        if requirement.rejected is not None:
            self._cache.evict(key, requirement.rejected)
        # Most calls end here, without a lock.
        token = cached_answer(self._cache, call, is_in_flight=False)
        while token is None:
            flight = self._join_or_lead(call)
            if isinstance(flight, Token):
                return flight
            await flight.wait(min(call.deadline, flight.plan.deadline + GRACE) + GRACE)
            token, error = resolve(self._cache, call, flight.plan, flight.outcome, GRACE)
            if error is not None:
                # Each caller raises its own copy: a traceback belongs to one task.
                raise copy_of(error)
        return token

    def _join_or_lead(self, call: Call) -> Union[_Flight, Token]:
        loop = asyncio.get_running_loop()
        with self._lock:
            flights = self._flights.setdefault(loop, {})
        # Only tasks of this loop use it, and none of them is suspended here.
        now = boot_now()
        flight = flights.get(call.key)
        if flight is not None and now >= flight.plan.deadline + 2 * GRACE:
            flight = None
        token = cached_answer(self._cache, call, flight is not None)
        if token is not None:
            return token
        if flight is None:
            flight = _Flight(Plan(call, self._cache.get(call.key), now))
            flights[call.key] = flight
            flight.task = loop.create_task(self._lead(flights, flight, call.key))
        return flight

    async def _lead(self, flights: dict[Key, _Flight], flight: _Flight, key: Key) -> None:
        plan = flight.plan
        try:
            response, exchange = await _request(
                self._transport,
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
            if flights.get(key) is flight:
                del flights[key]


class _Flight:
    """One request for a token, whose answer several tasks share."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.outcome: Union[Token, Error, None] = None
        self.task: Optional[asyncio.Task[None]] = None
        self._waiting = 0

    async def wait(self, until: float) -> None:
        """Wait until it has ended, until ``until`` at the latest.

        The request is cancelled when the last call that waits for it is cancelled.
        """
        task = self.task
        if task is None:
            return
        self._waiting += 1
        try:
            await asyncio.wait([task], timeout=max(0.0, until - boot_now()))
        except asyncio.CancelledError:
            if self._waiting == 1:
                task.cancel()
            raise
        finally:
            self._waiting -= 1
        if task.done() and not task.cancelled():
            # Raises what is neither a token nor an error of the package: a bug.
            task.result()


class _Connection:
    """A connection to a server that may be the broker."""

    def __init__(self, target: Target, loop: asyncio.AbstractEventLoop, stream: socket.socket):
        self.target = target
        self._loop = loop
        self._stream = stream
        self._is_late = False

    def __repr__(self) -> str:
        return f"<connection to {self.target.path}>"

    def close(self) -> None:
        """Close it; a call that was cancelled no longer uses it."""
        self._stream.close()

    def shut_down(self) -> None:
        """End a read of another task."""
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)

    async def send(self, request: bytes, until: float) -> None:
        """Send the whole request."""
        with self._limited(until):
            await self._loop.sock_sendall(self._stream, request)

    async def receive(self, into: memoryview, until: float) -> int:
        """Receive bytes; 0 at the end."""
        with self._limited(until):
            count = await self._loop.sock_recv_into(self._stream, into)
            if count == 0 and self._is_late:
                raise asyncio.TimeoutError
            return count

    @contextlib.contextmanager
    def _limited(self, until: float) -> Iterator[None]:
        # Not wait_for: before Python 3.12 it ignores a cancellation that comes with the result.
        timer = self._loop.call_later(max(0.001, until - boot_now()), self._expire)
        try:
            yield
        except OSError:
            if self._is_late:
                raise asyncio.TimeoutError from None
            raise
        finally:
            timer.cancel()

    def _expire(self) -> None:
        self._is_late = True
        self.shut_down()


async def _connect(transport: Transport, deadline: float, retry: RetryPolicy) -> _Connection:
    attempts = transport.attempts(deadline, retry)
    while True:
        target = transport.address.target()
        try:
            stream = open_stream(target)
        except OSError as error:
            cause = error
        else:
            transport.has_connected = True
            return _Connection(target, asyncio.get_running_loop(), stream)
        await asyncio.sleep(attempts.pause_after(cause, target))


async def _request(
    transport: Transport, make: Callable[[float], bytes], deadline: float, retry: RetryPolicy
) -> tuple[Response, Exchange]:
    """Send a request and return its response. See :meth:`Transport.request`."""
    attempts = RequestAttempts(deadline)
    while True:
        try:
            connection = await _connect(transport, deadline, retry)
        except Error as error:
            raise attempts.not_connected(error) from None
        failure: Error
        try:
            with contextlib.closing(connection):
                exchange = await _exchange(connection, make, deadline)
        except Lost as lost:
            failure = lost.error
        else:
            busy = busy_error(exchange.response)
            if busy is None:
                return exchange.response, exchange
            failure = busy
        await asyncio.sleep(attempts.pause_after(failure))


async def _exchange(
    connection: _Connection, make: Callable[[float], bytes], deadline: float
) -> Exchange:
    exchange = Exchange(connection.target.path, boot_now())
    until = deadline + GRACE
    failure: BaseException
    try:
        await connection.send(make(deadline - boot_now()), until)
        # A traceback shows no bytes of a memoryview.
        view = memoryview(bytearray(BUFFER))
        while True:
            count = await connection.receive(view, until)
            if exchange.feed(view[:count]):
                return exchange
    except asyncio.TimeoutError:
        failure = exchange.late()
    except (BrokenPipeError, ConnectionResetError, ConnectionAbortedError):
        failure = exchange.lost()
    except OSError as error:
        failure = connection.target.unusable(error)
    raise failure


class AsyncWatch(AsyncIterator[Token]):
    """The tokens of one scope set: the current one, then each new one, no token twice.

    Each one is also kept in memory for :meth:`AsyncBroker.token`. After :meth:`close` the iterator
    ends. A cancelled step loses no token: the next one returns it.
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
        self._connection: Optional[_Connection] = None
        self._is_closed = False
        self._process = os.getpid()
        #: How many tasks wait for the next token.
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<domo_token.AsyncWatch of {self._state.key[1]!r}>"

    async def __aenter__(self) -> AsyncWatch:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.close()

    def __aiter__(self) -> AsyncWatch:
        return self

    def close(self) -> None:
        """End the iterator, also while another task waits for its next token."""
        self._is_closed = True
        if self._waiting == 0:
            self._disconnect()
        elif self._connection is not None:
            # The event loop watches the descriptor for that task. If it were closed here, the next
            # connection could get the same number, and the loop would report no events for it.
            self._connection.shut_down()

    async def aclose(self) -> None:
        """End the iterator."""
        self.close()

    async def __anext__(self) -> Token:
        self._waiting += 1
        try:
            return await self._next()
        finally:
            self._waiting -= 1
            if self._is_closed and self._waiting == 0:
                self._disconnect()

    async def _next(self) -> Token:
        try:
            while not self._is_closed:
                token = self._state.next_token()
                if token is not None:
                    return token
                connection = self._connection
                if connection is None or self._process != os.getpid():
                    await self._connect()
                elif await self._receive(connection):
                    self._disconnect()
        except asyncio.CancelledError:
            # What a cancelled read has received is lost with its connection, not with the watch.
            self._disconnect()
            raise
        except BaseException:
            self._is_closed = True
            raise
        raise StopAsyncIteration

    async def _connect(self) -> None:
        self._disconnect()
        self._process = os.getpid()
        await asyncio.sleep(self._state.next_pause())
        deadline = boot_now() + CONNECT_TIMEOUT
        try:
            connection = await _connect(self._transport, deadline, FIRST)
        except Error as error:
            self._state.not_connected(error)
            return
        self._connection = connection
        request = self._state.connected(connection.target.path)
        try:
            await connection.send(request, deadline)
        except (asyncio.TimeoutError, OSError):
            self._state.lost()
            self._disconnect()

    async def _receive(self, connection: _Connection) -> bool:
        view = memoryview(bytearray(BUFFER))
        try:
            count = await connection.receive(view, boot_now() + SILENCE)
        except (asyncio.TimeoutError, OSError):
            self._state.lost()
            return True
        return self._state.feed(view[:count])

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


__all__ = ["AsyncBroker", "AsyncWatch"]
