"""Which broker's socket a caller uses: the named one, the user's own, or the host's."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Optional, Union

from ._socket_path import PathError, parse
from .errors import Error, error_of

HOST_SOCKET = "/run/domo-token/broker.sock"
HOST_PIPE = r"\\.\pipe\domo-token"

#: Where the path of a socket comes from.
CALLER, VARIABLE, OWN, HOST = "caller", "variable", "own", "host"

_ADVICE = {
    CALLER: "start a broker there",
    VARIABLE: "start a broker there, or use the default one after: unset DOMO_TOKEN_SOCKET",
    OWN: "start your own broker: domo-tokend",
    HOST: "start domo-tokend, or set it up first: domo-tokend init",
}


class Target:
    """The socket to connect to now."""

    __slots__ = ("origin", "own_config", "path", "tried")

    def __init__(
        self, path: str, origin: str, tried: list[str], own_config: Optional[str] = None
    ) -> None:
        self.path = path
        #: All paths that were tried.
        self.tried = tried
        #: The user's own config, because of which the host's broker is not used.
        self.own_config = own_config
        self.origin = origin

    @property
    def is_named(self) -> bool:
        """Whether the app or the user named the path; default paths are checked more strictly."""
        return self.origin in (CALLER, VARIABLE)

    def error(self, cause: OSError) -> Error:
        """Return the error of a failed connection."""
        if isinstance(cause, (FileNotFoundError, ConnectionRefusedError)):
            return self.not_running()
        if isinstance(cause, PermissionError):
            return self.not_running() if self._is_something_else() else self._not_permitted()
        return self.unusable(cause)

    def unusable(self, cause: OSError) -> Error:
        """Return the error of a path that cannot be used as a socket."""
        reason = cause.strerror or str(cause)
        return error_of("io", f"cannot connect to the broker at {self.path}: {reason}")

    def not_running(self) -> Error:
        """Return the error of a socket on which no broker listens, which names all paths tried."""
        shown = " or ".join(self.tried)
        advice = _ADVICE[self.origin]
        if self.origin == VARIABLE:
            message = f"$DOMO_TOKEN_SOCKET is {shown}: no broker listens there"
        elif self.own_config is not None:
            message = (
                f"no broker listens on {shown}, the only socket that is used because "
                f"{self.own_config} exists"
            )
            advice += f", or use the host's broker: export DOMO_TOKEN_SOCKET={HOST_SOCKET}"
        else:
            message = f"no broker listens on {shown}"
        return error_of("not_running", f"{message}; {advice}")

    def _is_something_else(self) -> bool:
        try:
            return not stat.S_ISSOCK(os.stat(self.path).st_mode)
        except OSError:
            return False

    def _not_permitted(self) -> Error:
        if sys.platform == "win32":
            message = (
                f"no permission to use {self.path}: you are not in its group (pipe_group in the "
                "broker's config); ask an administrator to add you"
            )
            return error_of("not_permitted", message)
        # If the directory denies access, its execute bit counts.
        for path, bit in ((self.path, 0o020), (os.path.dirname(self.path) or ".", 0o010)):
            try:
                found = os.stat(path)
            except OSError:
                continue
            if found.st_mode & bit:
                message = (
                    f"no permission to use {self.path}: it is open to the members of group "
                    f"{_group(found.st_gid)}; ask to be added to that group, and log in again"
                )
            else:
                message = (
                    f"no permission to use {self.path}: it is for user {found.st_uid} alone; "
                    "to open it, set socket_group and socket_mode in the broker's config"
                )
            return error_of("not_permitted", message)
        message = f"no permission to use {self.path}; ask its owner for access"
        return error_of("not_permitted", message)


class Address:
    """How the socket is found, for each connection."""

    def __init__(
        self,
        named: Optional[Union[str, os.PathLike[str]]] = None,
        variables: Optional[Mapping[str, str]] = None,
    ) -> None:
        env = os.environ if variables is None else variables
        self._named: Optional[tuple[str, str]] = None
        written = os.fspath(named) if named is not None else env.get("DOMO_TOKEN_SOCKET") or None
        if written is not None:
            origin = CALLER if named is not None else VARIABLE
            self._named = (_named(written, origin, env), origin)
        elif sys.platform != "win32":
            self._defaults = Defaults(os.getuid(), env)

    def target(self) -> Target:
        """Return the socket to connect to now."""
        if self._named is not None:
            path, origin = self._named
            return Target(path, origin, [path])
        if sys.platform == "win32":
            return Target(HOST_PIPE, HOST, [HOST_PIPE])
        return self._defaults.target()


class Defaults:
    """The default paths on Unix: the user's own broker, and the host's."""

    def __init__(self, uid: int, env: Mapping[str, str], is_root: Optional[bool] = None) -> None:
        if is_root is None:
            is_root = uid == 0 and not is_root_mapped(_read("/proc/self/uid_map"))
        runtime = _absolute(env, "XDG_RUNTIME_DIR") or f"/run/user/{uid}"
        self.own = os.path.join(runtime, "domo-token/broker.sock")
        #: The config of the user's own broker, whether it exists or not; the host's root has none.
        self.own_config: Optional[str] = None
        if not is_root:
            config = _absolute(env, "XDG_CONFIG_HOME")
            home = env.get("HOME") or home_in(_read("/etc/passwd"), uid)
            if config is None and home is not None:
                config = os.path.join(home, ".config")
            if config is not None:
                self.own_config = os.path.join(config, "domo-token/config.toml")

    def target(self) -> Target:
        """Return the own broker if its config or its socket exists, else the host's.

        A broker that does not run is never replaced by the other: they may have different
        credentials.
        """
        config = self.own_config
        if config is not None and not _exists(config):
            config = None
        if config is not None or _exists(self.own):
            return Target(self.own, OWN, [self.own], config)
        return Target(HOST_SOCKET, HOST, [self.own, HOST_SOCKET])


def is_root_mapped(uid_map: str) -> bool:
    """Return whether uid 0 is another user outside of this user namespace (user_namespaces(7))."""
    lines = [line.split() for line in uid_map.splitlines()]
    return any(line[:1] == ["0"] and line[1:2] != ["0"] for line in lines)


def home_in(users: str, uid: int) -> Optional[str]:
    """Return the home directory of a user in the text of ``/etc/passwd`` (passwd(5))."""
    for line in users.splitlines():
        fields = line.split(":")
        if len(fields) > 5 and fields[2] == str(uid):
            return fields[5] or None
    return None


def _named(written: str, origin: str, env: Mapping[str, str]) -> str:
    try:
        return parse(written, env.get("HOME"))
    except PathError as error:
        what = "$DOMO_TOKEN_SOCKET is" if origin == VARIABLE else "socket"
        problem = f'{what} "{written}": {error}'
    raise error_of("invalid_socket", problem)


def _absolute(env: Mapping[str, str], name: str) -> Optional[str]:
    # The XDG specification says to ignore relative paths.
    value = env.get(name)
    return value if value and os.path.isabs(value) else None


def _exists(path: str) -> bool:
    # A dangling symlink is a config, too: an unfinished one.
    try:
        os.lstat(path)
    except (OSError, ValueError):
        return False
    return True


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _group(gid: int) -> str:
    for line in _read("/etc/group").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(gid):
            return f"{fields[0]} ({gid})"
    return str(gid)
