"""Holders of secret text whose ``repr`` does not show it."""

from __future__ import annotations

from typing import Any, Callable, NoReturn

REDACTED = "[redacted]"


class Secret:
    """Holds text that no traceback, log line or pickle may show."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "_text", _Hidden(text))

    def reveal(self) -> str:
        """Return the text."""
        hidden: _Hidden = self._text  # type: ignore[attr-defined]
        return hidden()

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a secret cannot be changed")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a token cannot be pickled; request it again where it is needed")


class _Hidden:
    """Keeps a text out of what lists the values of slots."""

    __slots__ = ("_get",)

    def __init__(self, text: str) -> None:
        self._get: Callable[[], str] = lambda: text

    def __call__(self) -> str:
        return self._get()

    def __repr__(self) -> str:
        return REDACTED


class HeaderValue(str):
    """The value of an ``Authorization`` header.

    HTTP libraries use it as text. What shows the headers of a request shows it redacted, and a
    pickled request does not contain it.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr("Bearer " + REDACTED)

    def __radd__(self, other: str) -> HeaderValue:
        return HeaderValue(str.__add__(other, self))

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> HeaderBytes:
        """Return the value as bytes."""
        return HeaderBytes(super().encode(encoding, errors))

    def __copy__(self) -> HeaderValue:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> HeaderValue:
        return self

    def __reduce_ex__(self, protocol: object) -> tuple[type[str], tuple[str]]:
        return str, ("Bearer " + REDACTED,)


class HeaderBytes(bytes):
    """The same as :class:`HeaderValue`, for libraries that keep headers as bytes."""

    def __repr__(self) -> str:
        return repr(b"Bearer " + REDACTED.encode())

    def __copy__(self) -> HeaderBytes:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> HeaderBytes:
        return self

    def __reduce_ex__(self, protocol: object) -> tuple[type[bytes], tuple[bytes]]:
        return bytes, (b"Bearer " + REDACTED.encode(),)


class Received:
    """Bytes that were received, which may contain a token."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = bytearray()

    def extend(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        self._bytes += data

    def find(self, part: bytes, start: int = 0) -> int:
        """Return where the part begins, or -1."""
        return self._bytes.find(part, start)

    def starts_with(self, part: bytes) -> bool:
        """Return whether the bytes begin so."""
        return self._bytes.startswith(part)

    def take(self, count: int) -> Received:
        """Remove the first bytes and return them."""
        taken = Received()
        taken._bytes = self._bytes[:count]
        del self._bytes[:count]
        return taken

    def append(self, other: Received) -> None:
        """Append the bytes of another holder."""
        self._bytes += other._bytes

    def reveal(self) -> bytes:
        """Return the bytes."""
        return bytes(self._bytes)

    def __len__(self) -> int:
        return len(self._bytes)

    def __repr__(self) -> str:
        return f"<{len(self._bytes)} bytes>"
