"""Whether a request to Domo is sent once more after Domo rejected its token."""

from __future__ import annotations

from typing import Any, Optional
from urllib.parse import urlsplit

#: The ports of URLs that name none.
_PORTS = {"http": 80, "https": 443}


def rejects_token(status: int, accept: Optional[str]) -> bool:
    """Return whether Domo rejects a token by that status.

    Domo answers 406 where it should be 401 and the answer was to be CSV.
    """
    return status == 401 or (status == 406 and "text/csv" in (accept or ""))


def origin(url: Optional[str]) -> tuple[str, str, Optional[int]]:
    """Return the scheme, the host and the port of a URL."""
    parts = urlsplit(url or "")
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(scheme)


class Body:
    """The body of a request, from where it is sent."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self._position: Optional[int] = None
        if not self._is_text:
            try:
                if body.seekable():
                    self._position = body.tell()
            except (AttributeError, OSError, ValueError):
                self._position = None

    @property
    def _is_text(self) -> bool:
        return self._body is None or isinstance(self._body, (bytes, bytearray, memoryview, str))

    def rewind(self) -> bool:
        """Rewind a file; return whether the body can be sent again."""
        if self._is_text:
            return True
        if self._position is None:
            return False
        try:
            self._body.seek(self._position)
        except (OSError, ValueError):
            return False
        return True
