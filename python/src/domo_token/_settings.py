"""What both brokers, the blocking one and that of asyncio, show of their settings."""

from __future__ import annotations

import os
from typing import Optional, Union

from ._connection import Transport


class BrokerSettings:
    """The settings of a broker, none of which is a secret."""

    _named_socket: Optional[Union[str, os.PathLike[str]]]
    _client: Optional[str]
    _timeout: float
    _transport: Transport

    @property
    def socket(self) -> str:
        """The path of the socket that the next request uses."""
        return self._transport.address.target().path

    @property
    def client(self) -> Optional[str]:
        """The name of the API client; None for the broker's default."""
        return self._client

    @property
    def timeout(self) -> float:
        """The time limit of each call in seconds."""
        return self._timeout

    def __repr__(self) -> str:
        return f"<domo_token.{type(self).__name__} socket={self.socket!r} client={self._client!r}>"

    def __reduce__(self) -> tuple[object, ...]:
        # Another process has its own tokens and connections.
        return type(self), (self._named_socket, self._client, self._timeout)
