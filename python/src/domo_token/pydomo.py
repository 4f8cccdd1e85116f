"""pydomo with tokens from the broker: :class:`Domo`."""

from __future__ import annotations

import types
from typing import Any, Optional

from ._retry_request import Body, origin, rejects_token
from ._scopes import canonical
from ._secret import REDACTED, HeaderValue
from .broker import Broker, default_broker
from .errors import Error
from .token import Token

try:
    import pydomo
    from pydomo.Transport import DomoAPITransport
except ImportError as error:
    _message = "domo_token.pydomo needs the library pydomo; run: pip install pydomo"
    raise ImportError(_message) from error

_FROM_BROKER = ("client_id", "client_secret", "connection_file", "scope")


class Domo(pydomo.Domo):  # type: ignore[misc,unused-ignore]
    """pydomo's client without id and secret: ``Domo("data user")``.

    The keyword arguments are pydomo's: ``api_host``, ``use_https``, ``request_timeout``,
    ``logger_name``, ``log_level``. The constructor requests no token. Each call gets a valid
    token; if Domo rejects it, the call is made once more with another one, provided that its body
    can be sent again.
    """

    def __init__(self, scopes: str, broker: Optional[Broker] = None, **kwargs: Any) -> None:
        for name in _FROM_BROKER:
            if name in kwargs:
                raise TypeError(f"{name} is not an argument: the broker's config has it")
        scopes = canonical(scopes)

        def transport(*args: Any, **options: Any) -> _Transport:
            return _Transport(scopes, broker, *args, **options)

        # pydomo's constructor with this transport in place of its own, which requests a token.
        # To replace it in the module would affect other threads.
        constructor = pydomo.Domo.__init__
        names = {**constructor.__globals__, "DomoAPITransport": transport}
        construct = types.FunctionType(
            constructor.__code__,
            names,
            constructor.__name__,
            constructor.__defaults__,
            constructor.__closure__,
        )
        construct.__kwdefaults__ = constructor.__kwdefaults__
        construct(self, "domo-token", "none", scope=scopes.split(" "), **kwargs)

    def __repr__(self) -> str:
        return f"<domo_token.pydomo.Domo scopes={' '.join(self.transport.scope)!r}>"


class _Transport(DomoAPITransport):  # type: ignore[misc,unused-ignore]
    """pydomo's transport with tokens from the broker."""

    #: pydomo renews a token after this time; the broker does so earlier.
    token_expiration = float("inf")

    def __init__(self, scopes: str, broker: Optional[Broker], *args: Any, **kwargs: Any) -> None:
        self._scopes = scopes
        self._broker = broker
        super().__init__(*args, **kwargs)

    def _renew_access_token(self) -> None:
        """Request no token: each call does so."""

    def _token(self) -> Token:
        return (self._broker or default_broker()).token(self._scopes)

    @property
    def access_token(self) -> str:
        """The current token. Its ``repr`` does not show it."""
        return HeaderValue(self._token().text)

    def request(
        self, url: str, method: str, headers: dict[str, str], params: Any = None, body: Any = None
    ) -> Any:
        """Send a request, and once more with another token if Domo rejects the first one."""
        broker = self._broker or default_broker()
        token, sent = broker.token(self._scopes), Body(body)
        headers["Authorization"] = token.authorization()
        response = super().request(url, method, headers, params, body)
        if not rejects_token(response.status_code, headers.get("Accept")):
            return response
        # After a redirect, requests has removed the header if the host is another one.
        is_ours = response.request.headers.get("Authorization") == headers["Authorization"]
        if not is_ours or origin(response.request.url) != origin(self.apiHost):
            return response
        try:
            token = broker.renew(token)
        except Error:
            return response
        if response.history and method not in ("GET", "HEAD"):
            return response
        if not sent.rewind():
            return response
        response.close()
        headers["Authorization"] = token.authorization()
        return super().request(url, method, headers, params, body)

    def dump_response(self, response: Any) -> str:
        """Return the request and the response as text, without the token."""
        text: str = super().dump_response(response)
        for answer in (response, *response.history):
            _, _, value = answer.request.headers.get("Authorization", "").partition(" ")
            text = text.replace(value, REDACTED) if value else text
        return text
