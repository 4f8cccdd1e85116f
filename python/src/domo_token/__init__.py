"""Access tokens for Domo's API from the domo-token broker.

``Broker`` returns tokens; ``RequestsAuth`` and ``HttpxAuth`` add them to requests.
``AsyncBroker`` is for asyncio, ``domo_token.pydomo.Domo`` for pydomo, and ``domo_token.testing``
for tests without a broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._status import BrokerStatus, Status, TokenStatus
from ._watch import Watch
from .broker import Broker
from .errors import (
    Error,
    NotPermitted,
    NotRunning,
    Rejected,
    Unavailable,
    UnknownScopeSet,
)
from .token import Token

if TYPE_CHECKING:
    from .asyncio import AsyncBroker, AsyncWatch
    from .httpx_auth import HttpxAuth
    from .requests_auth import RequestsAuth

__version__ = "0.1.0"

__all__ = [
    "AsyncBroker",
    "AsyncWatch",
    "Broker",
    "BrokerStatus",
    "Error",
    "HttpxAuth",
    "NotPermitted",
    "NotRunning",
    "Rejected",
    "RequestsAuth",
    "Status",
    "Token",
    "TokenStatus",
    "Unavailable",
    "UnknownScopeSet",
    "Watch",
    "__version__",
]

#: What needs a library, or a part of the standard library that is slow to load.
_LAZY = {
    "AsyncBroker": "asyncio",
    "AsyncWatch": "asyncio",
    "HttpxAuth": "httpx_auth",
    "RequestsAuth": "requests_auth",
}


# For type checkers every name would exist.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        module = _LAZY.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        value = getattr(importlib.import_module(f".{module}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
