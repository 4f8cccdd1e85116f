"""Adds the token to the requests of the library requests: :class:`RequestsAuth`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from ._retry_request import Body, origin, rejects_token
from ._scopes import canonical
from .broker import Broker, default_broker
from .errors import Error
from .token import Token

if TYPE_CHECKING:
    import requests


class RequestsAuth:
    """The authentication of a session or request: ``session.auth = RequestsAuth("data")``.

    Each request gets a valid token. If Domo rejects it (401, or 406 if CSV was requested), the
    request is sent once more with another one. A request whose body cannot be sent twice, such as
    a generator, is sent once: the first response is returned, and the next request has another
    token. The token is not sent to another host that the response redirects to.
    """

    def __init__(self, scopes: str, broker: Optional[Broker] = None) -> None:
        try:
            import requests  # noqa: F401
        except ImportError as error:
            message = "RequestsAuth needs the library requests; run: pip install requests"
            raise ImportError(message) from error
        self._scopes = canonical(scopes)
        self._broker = broker

    @property
    def broker(self) -> Broker:
        """The broker that the tokens come from."""
        return self._broker or default_broker()

    def __repr__(self) -> str:
        return f"<domo_token.RequestsAuth scopes={self._scopes!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RequestsAuth):
            return NotImplemented
        return (self._scopes, self._broker) == (other._scopes, other._broker)

    def __hash__(self) -> int:
        return hash((self._scopes, self._broker))

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header to a request."""
        broker = self.broker
        attempt = _Attempt(broker, broker.token(self._scopes), request)
        request.headers["Authorization"] = attempt.token.authorization()
        request.register_hook("response", attempt.handle_response)  # type: ignore[no-untyped-call,unused-ignore]
        return request


class _Attempt:
    """A request that was sent with a token."""

    def __init__(self, broker: Broker, token: Token, request: requests.PreparedRequest) -> None:
        self.token = token
        self._broker = broker
        self._origin = origin(request.url)
        self._body = Body(request.body)
        self._is_repeated = False

    def handle_response(self, response: requests.Response, **options: Any) -> requests.Response:
        """Return the response, or that of a second request with another token."""
        request = response.request
        accept = request.headers.get("Accept")
        if self._is_repeated or not rejects_token(response.status_code, accept):
            return response
        # After a redirect, requests has removed the header if the host is another one.
        has_token = request.headers.get("Authorization") == self.token.authorization()
        if not has_token or origin(request.url) != self._origin:
            return response
        self._is_repeated = True
        try:
            # Also if this request cannot be repeated: the next one needs the other token.
            token = self._broker.renew(self.token)
        except Error:
            return response
        # A redirect may have removed the body.
        if request.body is not None and not self._body.rewind():
            return response
        return self._repeat(response, token, options)

    def _repeat(
        self, response: requests.Response, token: Token, options: dict[str, Any]
    ) -> requests.Response:
        from requests.cookies import extract_cookies_to_jar

        # Frees the connection for the second request.
        _ = response.content
        response.close()
        self.token = token
        # Later redirects copy the headers of the first request.
        response.request.headers["Authorization"] = token.authorization()
        request = response.request.copy()
        jar: Any = request._cookies  # type: ignore[attr-defined,unused-ignore]
        extract_cookies_to_jar(jar, response.request, response.raw)  # type: ignore[no-untyped-call,unused-ignore]
        request.prepare_cookies(jar)
        connection: Any = response.connection  # type: ignore[attr-defined,unused-ignore]
        repeated: requests.Response = connection.send(request, **options)
        repeated.history.append(response)
        repeated.request = request
        return repeated
