"""Scope sets: the scopes of one token."""

from __future__ import annotations

import functools
import re

from .errors import error_of

_MAX_BYTES = 1024
_SEPARATORS = re.compile(r"[ ,\t]+")
# RFC 6749 §3.3.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+\Z")


def canonical(scopes: str) -> str:
    """Return the scopes without duplicates, sorted, separated by one space.

    Raises :class:`domo_token.Error` for an empty set or an invalid scope.
    """
    # Before the cache, which fails for a list.
    if not isinstance(scopes, str):
        raise TypeError('scopes are one text, such as "data user"')
    return _canonical(scopes)


@functools.lru_cache(maxsize=256)
def _canonical(scopes: str) -> str:
    names = sorted({name for name in _SEPARATORS.split(scopes) if name})
    if not names:
        message = 'a scope set needs at least one scope, such as "data"'
        raise error_of("invalid_scope", message)
    if not all(_SCOPE.match(name) for name in names):
        message = "a scope may contain only printable ASCII without quotes and backslashes"
        raise error_of("invalid_scope", message)
    if len(scopes) > _MAX_BYTES:
        raise error_of("invalid_scope", f"a scope set has at most {_MAX_BYTES} bytes")
    return " ".join(names)
