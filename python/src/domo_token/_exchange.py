"""One request and its response over a stream of bytes, without I/O."""

from __future__ import annotations

from ._http import BadResponse, Response
from ._retry import Lost
from .errors import Error, error_of

_SILENT = (
    "the broker closed the connection without an answer: nothing was received from {}; "
    "check that it runs this package's version and that [broker] http is not false"
)


class Exchange:
    """The state of one request that was sent to the socket at ``path``."""

    def __init__(self, path: str, sent: float) -> None:
        self.path = path
        #: When connecting began, on the boot clock.
        self.sent = sent
        self.response = Response()

    def __repr__(self) -> str:
        return f"<Exchange with {self.path}>"

    def feed(self, data: memoryview) -> bool:
        """Take bytes that were received, none at the end; return whether the response is complete.

        Raises Lost if the connection ended too early.
        """
        problem = None
        try:
            if data:
                self.response.feed(data)
            else:
                self.response.end()
        except BadResponse as error:
            problem = str(error)
        if problem is not None:
            message = f"{problem}; check which program serves {self.path}"
            raise error_of("protocol", message)
        if self.response.starts_with_frame():
            message = "the broker is busy: the limit of its connections is reached"
            raise Lost(error_of("busy", message))
        if not data and not self.response.is_complete:
            raise Lost(self._closed())
        return self.response.is_complete

    def lost(self) -> Lost:
        """Return the failure of a connection that broke."""
        return Lost(self._closed())

    def late(self) -> Error:
        """Return the error of a response that did not come in time."""
        message = "the broker did not answer in time"
        if self.response.is_empty:
            message += f": nothing was received from {self.path}"
        return error_of("timeout", message)

    def _closed(self) -> Error:
        if self.response.is_empty:
            return error_of("timeout", _SILENT.format(self.path))
        return error_of(
            "timeout", "the broker closed the connection before its answer was complete"
        )
