"""The access token that a broker returns."""

from __future__ import annotations

from typing import Any, NoReturn, Optional

from ._clock import boot_now
from ._http import number_of
from ._secret import HeaderValue, Secret
from .errors import error_of

#: A token in memory that expires within this time, or within a tenth of its lifetime if that is
#: shorter, is no longer fresh: a fresher one is requested.
_MAX_MARGIN = 60.0

#: A token in memory that expires within this time, or within a tenth of its lifetime if that is
#: shorter, is not used.
_MIN_LEFT = 1.0

#: RFC 6750 §2.1, which also keeps line breaks out of a header.
_TOKEN_CHARACTERS = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="
)


class Token:
    """An access token of Domo's API.

    Neither ``repr`` nor ``str`` shows it, and it cannot be pickled: :attr:`text` and
    :meth:`authorization` alone return it.
    """

    __slots__ = (
        "_client",
        "_expires",
        "_expires_at",
        "_fresh_until",
        "_generation",
        "_key",
        "_scope",
        "_secret",
        "_socket",
        "_valid_until",
    )

    _secret: Secret
    _key: tuple[Optional[str], str]
    _client: str
    _scope: str
    _generation: int
    _socket: str
    _expires_at: float
    _expires: float
    _fresh_until: float
    _valid_until: float

    def __init__(self) -> None:
        raise TypeError("tokens come from a broker: domo_token.Broker().token(...)")

    @property
    def text(self) -> str:
        """The token itself."""
        return self._secret.reveal()

    @property
    def expires_at(self) -> float:
        """When it expires, in seconds since 1970 by the wall clock."""
        return self._expires_at

    @property
    def expires_in(self) -> float:
        """The seconds until it expires, by a clock that runs in suspend; 0 once it has expired."""
        return max(0.0, self._expires - boot_now())

    @property
    def scope(self) -> str:
        """The scopes that Domo granted, separated by spaces."""
        return self._scope

    @property
    def client(self) -> str:
        """The name of the API client in the broker's config."""
        return self._client

    @property
    def generation(self) -> int:
        """A number that identifies this token. Compare it for equality only."""
        return self._generation

    @property
    def broker(self) -> str:
        """The socket of the broker that it came from."""
        return self._socket

    def authorization(self) -> str:
        """Return the value of the header ``Authorization``, whose ``repr`` shows no token."""
        return HeaderValue("Bearer " + self._secret.reveal())

    def __repr__(self) -> str:
        return (
            f"<domo_token.Token scope={self._scope!r} client={self._client!r} "
            f"generation={self._generation} expires_in={self.expires_in:.0f}>"
        )

    __str__ = __repr__

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a token cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a token cannot be changed")

    def __copy__(self) -> Token:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Token:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a token cannot be pickled; request it again where it is needed")


def new_token(
    fields: dict[str, object], key: tuple[Optional[str], str], socket: str, sent: float
) -> Token:
    """Return the token of an answer to a request that was sent at ``sent`` on the boot clock.

    Raises :class:`domo_token.Error` if the answer is not a token for this request.
    """
    text, generation = fields.get("access_token"), fields.get("generation")
    client, scope = fields.get("client"), fields.get("scope")
    left, expires_at = number_of(fields.get("expires_in")), number_of(fields.get("expires_at"))
    if not (
        isinstance(text, Secret)
        and left is not None
        and left >= 0
        and expires_at is not None
        and isinstance(client, str)
        and isinstance(scope, str)
        and isinstance(generation, int)
    ):
        raise error_of("protocol", "the broker returned no valid token; check its version")
    if not text.reveal() or not _TOKEN_CHARACTERS.issuperset(text.reveal()):
        raise error_of("protocol", "the broker returned a token that is not valid in a header")
    requested_client, requested_scope = key
    if requested_client not in (None, client):
        raise error_of("protocol", f"the broker returned a token of another client, {client!r}")
    if not set(scope.split(" ")).issuperset(requested_scope.split(" ")):
        message = (
            f"the broker returned a token that grants {scope!r}, not all of {requested_scope!r}"
        )
        raise error_of("protocol", message)
    token = object.__new__(Token)
    values: dict[str, object] = {
        "_secret": text,
        "_key": key,
        "_client": client,
        "_scope": scope,
        "_generation": generation,
        "_socket": socket,
        "_expires_at": expires_at,
        "_expires": sent + left,
        "_fresh_until": sent + left - min(_MAX_MARGIN, left / 10),
        "_valid_until": sent + left - min(_MIN_LEFT, left / 10),
    }
    for name, value in values.items():
        object.__setattr__(token, name, value)
    return token


def key_of(token: Token) -> tuple[Optional[str], str]:
    """Return the client and the scope set that a token was requested for."""
    return token._key


def is_fresh(token: Token, now: float) -> bool:
    """Return whether callers without conditions use it without a request for a fresher one."""
    return now < token._fresh_until


def is_valid(token: Token, now: float) -> bool:
    """Return whether it can be used at all."""
    return now < token._valid_until


def expires(token: Token) -> float:
    """Return when it expires on the boot clock."""
    return token._expires
