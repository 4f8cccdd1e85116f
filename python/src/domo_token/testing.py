"""A broker for an app's tests: :class:`FakeBroker`. It needs neither daemon nor sandbox.

With pytest, use the fixture ``domo_token_broker``, which this package registers: it is a
:class:`FakeBroker` that ``DOMO_TOKEN_SOCKET`` names during the test.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Optional

from ._fake_grants import Failure, Grants
from ._scopes import canonical
from .asyncio import AsyncBroker
from .broker import Broker

__all__ = ["FakeBroker"]


class FakeBroker:
    """A broker inside a test, on a temporary Unix socket. Close it, or use it in ``with``.

    It grants a generated token for any scope set, unless the test decides otherwise, and answers
    immediately. A token is renewed after three quarters of its lifetime.
    """

    def __init__(self, lifetime: float = 3600.0) -> None:
        if sys.platform == "win32":
            raise NotImplementedError("FakeBroker needs Unix sockets, which Python lacks here")
        self._directory = tempfile.mkdtemp(prefix="domo-token-")
        self._grants = Grants()
        self._grants.lifetime = lifetime
        self._running: Optional[tuple[object, threading.Thread]] = None
        self._process = os.getpid()
        self.start()

    def __repr__(self) -> str:
        return f"<domo_token.testing.FakeBroker {self.socket}>"

    def __enter__(self) -> FakeBroker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def socket(self) -> str:
        """The path of its socket."""
        return os.path.join(self._directory, "broker.sock")

    def broker(self, client: Optional[str] = None, timeout: float = 10) -> Broker:
        """Return a client of this broker with no tokens in memory."""
        return Broker(self.socket, client, timeout)

    def async_broker(self, client: Optional[str] = None, timeout: float = 10) -> AsyncBroker:
        """Return a client for asyncio with no tokens in memory."""
        return AsyncBroker(self.socket, client, timeout)

    @contextlib.contextmanager
    def as_default(self) -> Iterator[FakeBroker]:
        """Set ``DOMO_TOKEN_SOCKET`` to its socket, and restore the variable afterwards."""
        before = os.environ.get("DOMO_TOKEN_SOCKET")
        os.environ["DOMO_TOKEN_SOCKET"] = self.socket
        try:
            yield self
        finally:
            if before is None:
                os.environ.pop("DOMO_TOKEN_SOCKET", None)
            else:
                os.environ["DOMO_TOKEN_SOCKET"] = before

    def grant(
        self, scopes: str, text: Optional[str] = None, lifetime: Optional[float] = None
    ) -> None:
        """Replace the token for these scopes, by one with this text; ends a failure."""
        self._grants.set(canonical(scopes), text, lifetime)

    def fail(
        self,
        scopes: str,
        kind: str,
        detail: str = "the fake broker returns this error",
        retry_after: Optional[float] = None,
    ) -> None:
        """Answer requests for these scopes with this error until :meth:`grant`.

        ``kind`` is that of an error, such as ``"unavailable"`` or ``"not_permitted"``, or
        ``"timeout"`` for no answer. While an app has a valid token in memory, it gets only
        decisions such as ``"not_permitted"``. Calls retry ``"busy"`` until their time limit.
        """
        self._grants.fail(canonical(scopes), Failure(kind, detail, retry_after))

    def fail_others(self, kind: str, detail: str = "the fake broker returns this error") -> None:
        """Answer requests for scopes without :meth:`grant` with this error.

        A test notices thereby that an app requests other scopes than intended. A daemon answers
        such requests with ``"unknown_scope"``.
        """
        self._grants.others = Failure(kind, detail)

    def expire(self, scopes: str) -> None:
        """Replace the token for these scopes at the next request."""
        self._grants.expire(canonical(scopes))

    @property
    def lifetime(self) -> float:
        """The lifetime of each new token in seconds."""
        return self._grants.lifetime

    @lifetime.setter
    def lifetime(self, seconds: float) -> None:
        self._grants.lifetime = seconds

    @property
    def requests(self) -> int:
        """How many requests it has received, of any sort."""
        return self._grants.requests

    def token_requests(self, scopes: str) -> int:
        """Return how many requests for a token with these scopes it has received."""
        return self._grants.token_requests.get(canonical(scopes), 0)

    def renewals(self, scopes: str) -> int:
        """Return how many tokens there were for these scopes: what Domo would have issued."""
        return self._grants.renewals.get(canonical(scopes), 0)

    def rejections(self, scopes: str) -> int:
        """Return how many requests reported that Domo rejected the current token."""
        return self._grants.rejections.get(canonical(scopes), 0)

    def start(self) -> None:
        """Start it again after :meth:`stop`, with the same tokens."""
        from ._fake_server import Server

        self.stop()
        server = Server(self.socket, self._grants)
        thread = threading.Thread(
            target=server.serve_forever, args=(0.02,), name="fake-broker", daemon=True
        )
        thread.start()
        self._running = (server, thread)

    def stop(self) -> None:
        """Close its socket and all connections: apps get NotRunning. Its tokens are kept."""
        from ._fake_server import Server

        running, self._running = self._running, None
        # A forked child has no such thread, and must not remove its parent's socket.
        if running is None or self._process != os.getpid():
            return
        server, thread = running
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
        if isinstance(server, Server):
            server.stop()
        thread.join()

    def close(self) -> None:
        """Stop it and remove its directory."""
        self.stop()
        if self._process == os.getpid():
            shutil.rmtree(self._directory, ignore_errors=True)
