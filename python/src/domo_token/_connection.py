"""Blocking connections to the broker."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from typing import Callable

from ._answers import busy_error
from ._clock import boot_now
from ._exchange import Exchange
from ._find_socket import Address, Target
from ._http import Response
from ._retry import FIRST, GRACE, ConnectAttempts, Lost, RequestAttempts, RetryPolicy
from ._trust import check_server
from .errors import Error

#: Errors of a connection that the broker has closed.
LOST = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)

BUFFER = 64 * 1024


class Connection:
    """A connection to a server that may be the broker."""

    def __init__(self, stream: socket.socket, target: Target) -> None:
        self._stream = stream
        self.target = target

    def __repr__(self) -> str:
        return f"<Connection to {self.target.path}>"

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._stream.close()

    def shut_down(self) -> None:
        """End a read of another thread."""
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)

    def send(self, request: bytes, until: float) -> None:
        """Send the whole request."""
        self._limit(until)
        self._stream.sendall(request)

    def receive(self, into: memoryview, until: float) -> int:
        """Receive bytes; 0 at the end."""
        self._limit(until)
        return self._stream.recv_into(into)

    def _limit(self, until: float) -> None:
        left = until - boot_now()
        if left <= 0:
            raise socket.timeout
        self._stream.settimeout(left)


def open_stream(target: Target) -> socket.socket:
    """Return a stream to the socket that does not block: Unix sockets connect immediately."""
    if sys.platform == "win32":
        raise OSError("named pipes are not supported; use the helper domo-token.exe")
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.setblocking(False)
        stream.connect(target.path)
        check_server(target, stream)
    except BaseException:
        stream.close()
        raise
    return stream


class Transport:
    """Connects to the broker of one address and sends requests."""

    def __init__(self, address: Address) -> None:
        self.address = address
        #: Whether there has been a connection.
        self.has_connected = False

    def attempts(self, deadline: float, retry: RetryPolicy) -> ConnectAttempts:
        """Return the attempts of a connection. Before the first one there may be no broker."""
        if not self.has_connected:
            missing, refusing = (
                min(retry.missing, FIRST.missing),
                min(retry.refusing, FIRST.refusing),
            )
            retry = RetryPolicy(missing, refusing)
        return ConnectAttempts(deadline, retry)

    def connect(self, deadline: float, retry: RetryPolicy) -> Connection:
        """Connect and check the server. Retries for as long as ``retry`` and the deadline allow."""
        attempts = self.attempts(deadline, retry)
        while True:
            target = self.address.target()
            try:
                stream = open_stream(target)
            except OSError as error:
                cause = error
            else:
                self.has_connected = True
                return Connection(stream, target)
            time.sleep(attempts.pause_after(cause, target))

    def request(
        self, make: Callable[[float], bytes], deadline: float, retry: RetryPolicy
    ) -> tuple[Response, Exchange]:
        """Send a request and return its response, whatever its status.

        ``make`` returns the request by the time that is left. Until the deadline, it is sent again
        after the connection was lost.
        """
        attempts = RequestAttempts(deadline)
        while True:
            try:
                connection = self.connect(deadline, retry)
            except Error as error:
                raise attempts.not_connected(error) from None
            failure: Error
            try:
                with connection:
                    exchange = _exchange(connection, make, deadline)
            except Lost as lost:
                failure = lost.error
            else:
                busy = busy_error(exchange.response)
                if busy is None:
                    return exchange.response, exchange
                failure = busy
            time.sleep(attempts.pause_after(failure))


def _exchange(connection: Connection, make: Callable[[float], bytes], deadline: float) -> Exchange:
    exchange = Exchange(connection.target.path, boot_now())
    until = deadline + GRACE
    failure: BaseException
    try:
        connection.send(make(deadline - boot_now()), until)
        # A traceback shows no bytes of a memoryview.
        view = memoryview(bytearray(BUFFER))
        while True:
            count = connection.receive(view, until)
            if exchange.feed(view[:count]):
                return exchange
    except socket.timeout:
        failure = exchange.late()
    except LOST:
        failure = exchange.lost()
    except OSError as error:
        failure = connection.target.unusable(error)
    raise failure
