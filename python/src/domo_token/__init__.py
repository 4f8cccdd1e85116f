"""Access tokens for Domo's API from the domo-token broker.

``Broker`` returns tokens; ``RequestsAuth`` and ``HttpxAuth`` add them to requests.
``AsyncBroker`` is for asyncio, ``domo_token.pydomo.Domo`` for pydomo, and ``domo_token.testing``
for tests without a broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._status import AppStatus, BrokerStatus, FleetStatus, Status, TokenStatus
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
    from . import pydomo as pydomo
    from . import testing as testing
    from .asyncio import AsyncBroker, AsyncWatch
    from .httpx_auth import HttpxAuth as HttpxAuth
    from .requests_auth import RequestsAuth

__version__ = "0.1.0"

# Without HttpxAuth, because `import *` would fail where httpx is not installed.
__all__ = [
    "AppStatus",
    "AsyncBroker",
    "AsyncWatch",
    "Broker",
    "BrokerStatus",
    "Error",
    "FleetStatus",
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

#: Modules that need no import of their own.
_LAZY_MODULES = ("pydomo", "testing")


# For type checkers every name would exist.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        import importlib

        if name in _LAZY_MODULES:
            return importlib.import_module(f".{name}", __name__)
        module = _LAZY.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{module}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    import importlib.util

    # Tools such as help() load each name.
    optional = [] if importlib.util.find_spec("httpx") is None else ["HttpxAuth"]
    return sorted({*globals(), *__all__, *optional})
