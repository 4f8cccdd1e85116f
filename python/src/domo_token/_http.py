"""HTTP/1.1 without I/O: requests become bytes, and bytes become responses and events."""

from __future__ import annotations

import json
import math
import re
from typing import Optional
from urllib.parse import quote, urlencode

from ._secret import Received, Secret

#: A response whose head or JSON is longer is not a broker's.
_MAX_HEAD = 64 * 1024
_MAX_BODY = 16 * 1024 * 1024

#: An event that is longer is not a broker's.
_MAX_EVENT = 1024 * 1024

_STATUS = re.compile(r"[0-9]{3}\Z")
_LENGTH = re.compile(r"[0-9]{1,15}\Z")
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,6}\Z")

#: What a broker sends to a caller of its other protocol, such as "busy".
FRAME = b"DTK"


class BadResponse(Exception):
    """What was received is no response."""


def get(
    path: str, query: dict[str, str], accept: str, headers: Optional[dict[str, str]] = None
) -> bytes:
    """Return the bytes of a GET request, after whose response the connection ends."""
    target = path + ("?" + urlencode(query, quote_via=quote) if query else "")
    lines = [
        f"GET {target} HTTP/1.1",
        "Host: localhost",
        f"Accept: {accept}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def segment(text: str) -> str:
    """Return a text as one segment of a path."""
    return quote(text, safe="")


class Response:
    """A response that is being received.

    Bytes go in by :meth:`feed`, the body comes out decoded.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        #: Whether the last byte of the body was received.
        self.is_complete = False
        self._received = Received()
        self._body = Received()
        self._has_head = False
        #: The bytes that are left of the body or the chunk; None without Content-Length.
        self._left: Optional[int] = None
        self._is_chunked = False
        self._in_trailer = False
        self._after_chunk = False

    def __repr__(self) -> str:
        return f"<Response {self.status}>"

    @property
    def has_head(self) -> bool:
        """Whether the status and the headers were received."""
        return self._has_head

    @property
    def is_empty(self) -> bool:
        """Whether nothing was received at all."""
        return not self._has_head and not len(self._received)

    def feed(self, data: memoryview) -> None:
        """Take bytes that were received."""
        self._received.extend(data)
        while not self._has_head and self._take_head():
            pass
        if self._has_head:
            self._take_body()
        if len(self._body) > _MAX_BODY:
            raise BadResponse("the response is too long")

    def end(self) -> None:
        """Take the end of the connection."""
        if self._has_head and not self._is_chunked and self._left is None:
            self.is_complete = True

    def starts_with_frame(self) -> bool:
        """Return whether the answer is one of the broker's other protocol."""
        return not self._has_head and self._received.starts_with(FRAME)

    def take_body(self) -> Received:
        """Remove and return the part of the body that was received."""
        body, self._body = self._body, Received()
        return body

    def json(self) -> Optional[dict[str, object]]:
        """Return the body's JSON object, with the token hidden; None if it is none."""
        return parse_object(self.take_body())

    def _take_head(self) -> bool:
        """Take one head, also of an interim response; return False while more bytes are needed."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            if len(self._received) > _MAX_HEAD:
                raise BadResponse("the head of the response is too long")
            if len(self._received) >= 5 and not self._received.starts_with(b"HTTP/"):
                if self.starts_with_frame():
                    return False
                raise BadResponse("the answer is not HTTP")
            return False
        lines = self._received.take(end + 4).reveal().decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        code = rest[:3]
        if not version.startswith("HTTP/1.") or not _STATUS.match(code):
            raise BadResponse("the answer is not HTTP/1.1")
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon:
                self.headers[name.strip().lower()] = value.strip()
        self.status = int(code)
        if 100 <= self.status < 200:
            self.headers.clear()
            return True
        self._has_head = True
        self._is_chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        length = self.headers.get("content-length")
        if self._is_chunked or self.status in (204, 304):
            self._left = 0
        elif length is not None:
            if not _LENGTH.match(length):
                raise BadResponse("the length of the response is not a number")
            self._left = int(length)
            if self._left > _MAX_BODY:
                raise BadResponse("the response is too long")
        return True

    def _take_body(self) -> None:
        if self._is_chunked:
            while not self.is_complete and self._take_chunk_part():
                pass
            return
        if self._left is None:
            self._body.append(self._received.take(len(self._received)))
            return
        part = self._received.take(min(self._left, len(self._received)))
        self._left -= len(part)
        self._body.append(part)
        self.is_complete = self._left == 0

    def _take_chunk_part(self) -> bool:
        """Take one part of a chunked body; return False while more bytes are needed."""
        left = self._left or 0
        if left:
            part = self._received.take(min(left, len(self._received)))
            self._left = left - len(part)
            self._body.append(part)
            self._after_chunk = self._left == 0
            return len(part) > 0
        end = self._received.find(b"\r\n")
        if end < 0:
            if len(self._received) > _MAX_HEAD:
                raise BadResponse("a chunk of the response is not valid")
            return False
        line = self._received.take(end + 2)
        is_blank = len(line) == 2
        if self._in_trailer:
            self.is_complete = is_blank
            return True
        if self._after_chunk:
            self._after_chunk = False
            if not is_blank:
                raise BadResponse("a chunk of the response is not valid")
            return True
        size = line.reveal().split(b";")[0].strip()
        if not _CHUNK_SIZE.match(size):
            raise BadResponse("the size of a chunk of the response is not valid")
        self._left = int(size, 16)
        self._in_trailer = self._left == 0
        return True


class Event:
    """One event of an event stream."""

    __slots__ = ("data", "id", "name")

    def __init__(self, name: str, data: Received, event_id: Optional[str]) -> None:
        self.name = name
        self.data = data
        self.id = event_id

    def __repr__(self) -> str:
        return f"<Event {self.name}>"

    def json(self) -> Optional[dict[str, object]]:
        """Return the data's JSON object, with the token hidden; None if it is none."""
        return parse_object(self.data)


class EventStream:
    """Parses ``text/event-stream`` (https://html.spec.whatwg.org/#event-stream-interpretation)."""

    def __init__(self) -> None:
        self._received = Received()

    def feed(self, body: Received) -> None:
        """Take a part of the body."""
        self._received.append(body)

    def next(self) -> Optional[Event]:
        """Return the next event that is complete."""
        while True:
            end, size = self._blank_line()
            if end < 0:
                if len(self._received) > _MAX_EVENT:
                    raise BadResponse("an event is too long")
                return None
            event = _event(self._received.take(end + size))
            if event is not None:
                return event

    def _blank_line(self) -> tuple[int, int]:
        found = [(self._received.find(blank), len(blank)) for blank in (b"\n\n", b"\r\n\r\n")]
        found = [(at, size) for at, size in found if at >= 0]
        return min(found) if found else (-1, 0)


def _event(block: Received) -> Optional[Event]:
    """Return the event of the lines up to a blank one; None if they are a comment."""
    name, event_id, data = "message", None, Received()
    has_data = False
    for line in block.reveal().splitlines():
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"id":
            event_id = value.decode("utf-8", "replace")
        elif field == b"data":
            data.extend(b"\n" + value if has_data else value)
            has_data = True
    return Event(name, data, event_id) if has_data else None


def number_of(value: object) -> Optional[float]:
    """Return a JSON number as float; None for other values and for what no float can hold."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def parse_object(body: Received) -> Optional[dict[str, object]]:
    """Return a JSON object with its token hidden; None if the text is none."""
    try:
        parsed = json.loads(body.reveal(), object_pairs_hook=_hide_token)
    except (ValueError, RecursionError):
        # The exception, or its traceback, contains the text.
        return None
    return parsed if isinstance(parsed, dict) else None


def _hide_token(pairs: list[tuple[str, object]]) -> dict[str, object]:
    return {
        name: Secret(value) if name == "access_token" and isinstance(value, str) else value
        for name, value in pairs
    }
