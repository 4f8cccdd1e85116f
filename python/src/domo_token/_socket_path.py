"""The path of a broker's socket, as arguments and variables name it."""

from __future__ import annotations

import os
import sys
from typing import Optional

EXAMPLE = r"\\.\pipe\domo-token" if sys.platform == "win32" else "/run/domo-token/broker.sock"

#: The longest scheme that messages show: a longer one may be a secret.
_MAX_SCHEME = 16


class PathError(ValueError):
    """What is wrong with a value, and what to write instead; without the value itself."""


def parse(value: str, home: Optional[str]) -> str:
    """Return the path of a plain path, ``unix:///PATH`` or ``unix:/PATH``."""
    if not value:
        raise PathError(f"it is empty; write a path such as {EXAMPLE}")
    if "\0" in value:
        raise PathError(f"it contains a null byte; write a path such as {EXAMPLE}")
    if value.startswith("~") and ("/" in value or value == "~"):
        full = "the full path"
        if home and (value == "~" or value.startswith("~/")):
            full = os.path.join(home, value[2:]) if len(value) > 2 else home
        raise PathError(f"the tilde is not expanded; write {full}")
    scheme, colon, rest = value.partition(":")
    is_drive = sys.platform == "win32" and len(scheme) == 1
    if not colon or "/" in scheme or "\\" in scheme or is_drive:
        return value
    if sys.platform != "win32" and scheme.lower() == "unix":
        return _url_path(rest)
    shown = f'with "{scheme}:"' if len(scheme) <= _MAX_SCHEME else "with a name and a colon"
    message = f"the path of a socket does not start {shown}; write a path such as {EXAMPLE}"
    raise PathError(message)


def _url_path(rest: str) -> str:
    if "%" in rest:
        raise PathError('"%" is not decoded; write the plain path, without "unix:"')
    path = rest[2:] if rest.startswith("//") else rest
    if path.startswith("/"):
        return path
    if path.startswith("localhost/"):
        path = path[len("localhost/") :]
    if not path:
        raise PathError(f'"unix:" names no path; write a path such as {EXAMPLE}')
    raise PathError(f'in a "unix:" URL the path starts at the root; write unix:///{path}')
