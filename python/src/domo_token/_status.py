"""The types of a broker's status. New versions of the broker only add fields."""

from __future__ import annotations

from typing import Optional, TypedDict


class AppStatus(TypedDict, total=False):
    """An application of the gateway. ``last_used_at`` is in seconds since 1970."""

    name: str
    client: str
    last_used_at: Optional[int]
    connections: int
    error: Optional[str]


class FleetStatus(TypedDict, total=False):
    """The store through which the hosts of a fleet share tokens.

    ``since`` is in seconds since 1970.
    """

    place: str
    up: bool
    since: Optional[int]
    last_error: Optional[str]
    clock_difference_ms: Optional[int]


class BrokerStatus(TypedDict, total=False):
    """The daemon. Times are seconds since 1970.

    ``apps`` is empty for users other than root and the daemon's. It has up to 100 applications, and
    ``more_apps`` counts the others.
    """

    socket: str
    version: str
    protocol: int
    pid: int
    started_at: int
    config_path: Optional[str]
    config_loaded_at: int
    config_error: Optional[str]
    default_client: Optional[str]
    fleet: Optional[FleetStatus]
    apps: list[AppStatus]
    more_apps: int


# The name of its field is a keyword.
_TokenOrigin = TypedDict("_TokenOrigin", {"from": Optional[str]}, total=False)


class TokenStatus(_TokenOrigin, total=False):
    """One scope set.

    ``state`` is idle, fetching, fresh, waiting or denied. ``from`` is domo, or fleet if another
    host obtained the token.
    """

    client: str
    client_id: str
    scope: str
    state: str
    obtained_at: Optional[int]
    expires_at: Optional[int]
    generation: Optional[int]
    next_attempt_at: Optional[int]
    requests: int
    failed_attempts: int
    last_error: Optional[str]
    last_error_at: Optional[int]
    rejected: int
    last_rejected_by: Optional[str]
    credentials_error: Optional[str]


class Status(TypedDict):
    """The daemon and each scope set that this process may see. There are no tokens in it."""

    broker: BrokerStatus
    tokens: list[TokenStatus]
