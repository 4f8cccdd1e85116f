"""The requests to a broker, and the values in their answers."""

from __future__ import annotations

import math
from typing import Optional

from . import _http
from ._answers import error_of_response
from ._cache import Key, Requirement
from ._exchange import Exchange
from ._http import Response
from ._retry import seconds_to_request
from ._status import Status
from .errors import error_of
from .token import Token, new_token

_JSON = "application/json, application/problem+json"


def token_request(key: Key, requirement: Requirement, left: float) -> bytes:
    """Return the request for a token."""
    client, scope = key
    query = {"timeout": f"{seconds_to_request(left)}s"}
    if client is not None:
        query["client"] = client
    if requirement.min_ttl is not None:
        query["min_ttl"] = f"{math.ceil(requirement.min_ttl)}s"
    if requirement.rejected is not None:
        query["rejected"] = str(requirement.rejected)
    return _http.get("/v1/token/" + _http.segment(scope), query, _JSON)


def watch_request(key: Key, last_generation: Optional[int]) -> bytes:
    """Return the request for all tokens from now on."""
    client, scope = key
    query = {} if client is None else {"client": client}
    headers = {} if last_generation is None else {"Last-Event-ID": str(last_generation)}
    path = "/v1/watch/" + _http.segment(scope)
    return _http.get(path, query, "text/event-stream", headers)


def status_request(_: float) -> bytes:
    """Return the request for the broker's status."""
    return _http.get("/v1/status", {}, _JSON)


def token_of(response: Response, exchange: Exchange, key: Key, requirement: Requirement) -> Token:
    """Return the token of a response, or raise its error."""
    token = new_token(_fields(response), key, exchange.path, exchange.sent)
    if requirement.rejected is not None and token.generation == requirement.rejected:
        raise error_of("protocol", "the broker returned the token that was rejected")
    return token


def status_of(response: Response) -> Status:
    """Return the status of a response, or raise its error."""
    fields = _fields(response)
    if not isinstance(fields.get("tokens"), list) or not isinstance(fields.get("broker"), dict):
        raise error_of("protocol", "the broker returned no valid status; check its version")
    return fields  # type: ignore[return-value]


def _fields(response: Response) -> dict[str, object]:
    if response.status != 200:
        raise error_of_response(response)
    fields = response.json()
    if fields is None:
        raise error_of("protocol", "the broker returned no valid JSON; check its version")
    return fields
