"""Adds the token to the requests of the library httpx: :class:`HttpxAuth`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any, Optional, Union

from ._retry_request import Body, origin, rejects_token
from ._scopes import canonical
from .asyncio import AsyncBroker
from .broker import Broker, default_broker
from .errors import Error
from .token import Token

try:
    import httpx
except ImportError as error:
    _message = "HttpxAuth needs the library httpx; run: pip install httpx"
    raise ImportError(_message) from error


class HttpxAuth(httpx.Auth):
    """The authentication of a client or request: ``httpx.Client(auth=HttpxAuth("data"))``.

    Each request gets a valid token. If Domo rejects it (401, or 406 if CSV was requested), the
    request is sent once more with another one. A request whose body cannot be sent twice, such as
    a generator, is sent once: the first response is returned, and the next request has another
    token. The token is not sent to another host that the response redirects to.

    It is for ``httpx.Client`` and, with asyncio, for ``httpx.AsyncClient``. With an
    :class:`AsyncBroker` it is for the latter alone.
    """

    def __init__(self, scopes: str, broker: Union[Broker, AsyncBroker, None] = None) -> None:
        self._scopes = canonical(scopes)
        self._broker = broker
        self._async_broker: Optional[tuple[Broker, AsyncBroker]] = None

    def __repr__(self) -> str:
        return f"<domo_token.HttpxAuth scopes={self._scopes!r}>"

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token, and send the request again if Domo rejects it."""
        broker = self._broker or default_broker()
        if isinstance(broker, AsyncBroker):
            raise TypeError("httpx.Client needs a domo_token.Broker, not an AsyncBroker")
        token, body = broker.token(self._scopes), Body(_source(request))
        _authorize(request, token)
        response = yield request
        if not _rejects(request, response):
            return
        try:
            # Also if this request cannot be repeated: the next one needs the other token.
            token = broker.renew(token)
        except Error:
            return
        if _can_repeat(request, response, body):
            _authorize(request, token)
            yield request

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Add the token, and send the request again if Domo rejects it."""
        broker = self._for_asyncio()
        token, body = await broker.token(self._scopes), Body(_source(request))
        _authorize(request, token)
        response = yield request
        if not _rejects(request, response):
            return
        try:
            token = await broker.renew(token)
        except Error:
            return
        if _can_repeat(request, response, body):
            _authorize(request, token)
            yield request

    def _for_asyncio(self) -> AsyncBroker:
        broker = self._broker or default_broker()
        if isinstance(broker, AsyncBroker):
            return broker
        if self._async_broker is None or self._async_broker[0] is not broker:
            self._async_broker = (broker, AsyncBroker.sharing(broker))
        return self._async_broker[1]


def _authorize(request: httpx.Request, token: Token) -> None:
    request.headers["Authorization"] = token.authorization()


def _rejects(request: httpx.Request, response: httpx.Response) -> bool:
    # After redirects, the response is that of another request.
    hops = [*(before.request for before in response.history), response.request]
    first = origin(str(request.url))
    is_same_host = all(origin(str(hop.url)) == first for hop in hops)
    return is_same_host and rejects_token(response.status_code, request.headers.get("Accept"))


def _can_repeat(request: httpx.Request, response: httpx.Response, body: Body) -> bool:
    # A redirected POST has been carried out.
    is_safe = response.request is request or request.method in ("GET", "HEAD")
    return is_safe and body.rewind()


def _source(request: httpx.Request) -> Any:
    """Return the body in memory, or what it is read from."""
    try:
        return request.content
    except httpx.RequestNotRead:
        stream = request.stream
        # httpx sends a file through a wrapper.
        return getattr(stream, "_stream", stream)
