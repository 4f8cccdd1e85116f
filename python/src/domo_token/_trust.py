"""Whether the server on a socket is the broker: decided by its owner, before a request is sent.

Only Linux identifies the server of a Unix socket to unprivileged programs. On other Unix systems
each server is accepted, and the permissions of the socket's directory protect the caller.
"""

from __future__ import annotations

import functools
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Optional

from ._find_socket import Target
from .errors import Error, error_of

#: Mode bits by which group or others may write.
_WRITABLE_BY_OTHERS = 0o022


def check_server(target: Target, connection: socket.socket) -> None:
    """Raise NotPermitted unless the connected server may be the broker."""
    if sys.platform == "linux":
        uid = server_uid(connection)
        try:
            check_owner(target, uid)
        except OSError as cause:
            error = target.unusable(cause)
        else:
            return
        raise error


def server_uid(connection: socket.socket) -> int:
    """Return the user that listens on the socket (SO_PEERCRED of unix(7))."""
    if sys.platform != "linux":
        raise NotImplementedError
    size = struct.calcsize("iII")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    uid: int = struct.unpack("iII", credentials)[1]
    return uid


def check_owner(target: Target, uid: int) -> None:
    """Raise NotPermitted unless the server is root, this user, or the owner of the directory.

    The directories above a default path must also belong to root or this user. A user without a
    uid in this user namespace is none of these. Then the directories' modes decide: only their
    owners may be able to create a socket there.
    """
    server = _known(uid)
    us = _known(os.geteuid())
    directory = os.path.dirname(target.path) or "."
    if server is not None and server != 0 and server != us:
        owner = _known(os.stat(directory).st_uid)
        if server != owner:
            message = (
                f"untrusted broker at {target.path}: it runs as user {uid}, who is neither root, "
                "nor you, nor the owner of the socket's directory; no request was sent"
            )
            raise _untrusted(message)
    if server is None or not target.is_named:
        for above in _above(directory, only_first=target.is_named):
            _check_directory(target, above, server, us)
    if server is None:
        # A symlink at the path, or above it, leads to other directories.
        real = os.path.dirname(os.path.realpath(target.path))
        for above in _above(real, only_first=target.is_named):
            _check_directory(target, above, server, us)


def _check_directory(
    target: Target, directory: str, server: Optional[int], us: Optional[int]
) -> None:
    found = os.stat(directory)
    owner = _known(found.st_uid)
    if owner not in (None, 0, us) and not target.is_named:
        message = (
            f"untrusted socket {target.path}: {directory} belongs to user {owner}, who can replace "
            f"it; to use it nevertheless, run: export DOMO_TOKEN_SOCKET={target.path}"
        )
        raise _untrusted(message)
    if (server is None or owner is None) and found.st_mode & _WRITABLE_BY_OTHERS:
        message = (
            f"untrusted broker at {target.path}: its user or the owner of {directory} has no uid "
            f"in this user namespace, and other users than the owner can write to {directory}; use "
            "a directory that only its owner can write to"
        )
        raise _untrusted(message)


def _above(directory: str, only_first: bool) -> list[str]:
    path = Path(directory)
    every = [str(path), *(str(parent) for parent in path.parents)]
    return every[:1] if only_first else every


def _untrusted(message: str) -> Error:
    return error_of("untrusted", message)


def _known(uid: int) -> Optional[int]:
    """Return the user, unless it is the overflow uid.

    That stands for all users without a uid in this user namespace.
    """
    return uid if uid == 0 or uid != overflow_uid() else None


@functools.lru_cache(maxsize=1)
def overflow_uid() -> int:
    """Return the overflow uid of this system."""
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 65534
