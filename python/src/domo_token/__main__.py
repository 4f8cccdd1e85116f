"""``python -m domo_token``: prints one token, where the helper ``domo-token`` is not installed."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from typing import NoReturn, Optional

from . import __version__
from ._retry import MAX_TIMEOUT
from ._secret import Secret
from .broker import Broker
from .errors import Error
from .token import Token

_USAGE, _BUG, _CLOSED_OUTPUT = 2, 70, 74

_DURATION = re.compile(r"(?=[0-9])(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?\Z")

#: Characters that PowerShell reads as a single quote.
_POWERSHELL_QUOTES = re.compile("(['\u2018\u2019\u201a\u201b])")

#: Commands of the helper. None of them is a scope of Domo.
_COMMANDS = frozenset(
    [
        "status",
        "watch",
        "exec",
        "check",
        "init",
        "renew",
        "completions",
        "help",
        "version",
        "login",
        "logout",
        "doctor",
    ]
)

_FORMATS = ("token", "header", "curl", "json", "env", "export", "powershell", "fish")


def main(arguments: Optional[list[str]] = None) -> int:
    """Print a token and return the exit code."""
    try:
        options = _options(sys.argv[1:] if arguments is None else arguments)
        token = _token(options)
    except _UsageError as error:
        return _report(str(error), _USAGE)
    except Error as error:
        return _report(str(error), error.exit_code)
    except KeyboardInterrupt:
        return 130
    return _print(_formatted(token, options.format, "" if options.no_newline else "\n"))


class _UsageError(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message}; for all options, run: python -m domo_token --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m domo_token",
        description="Print one access token for exactly this scope set.",
        epilog="Exit codes: 0, 2 usage, 69 no broker, 70 bug, 74 output, 75 retry later, "
        "77 not permitted, 78 configuration or rejected by Domo. DURATION is 90s, 5m, 1h, 1h30m, "
        "or a number of seconds.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("scopes", nargs="+", metavar="SCOPE", help="a scope of the token, such as data")
    add("-V", "--version", action="version", version=f"domo_token {__version__}")
    add("--socket", metavar="PATH", help="connect to this socket [env: DOMO_TOKEN_SOCKET]")
    add("-c", "--client", metavar="NAME", help="use this API client [env: DOMO_TOKEN_CLIENT]")
    add("-o", "--format", choices=_FORMATS, default="token", help="[default: token]")
    add("-n", "--no-newline", action="store_true", help="print no newline after the token")
    add(
        "--min-ttl",
        metavar="DURATION",
        type=_seconds,
        help="fail unless the token is valid for at least DURATION",
    )
    add(
        "--timeout",
        metavar="DURATION",
        type=_seconds,
        default=10.0,
        help="fail after DURATION without a token, at most 10m [default: 10s]",
    )
    return parser


def _options(arguments: list[str]) -> argparse.Namespace:
    options = _parser().parse_args(arguments)
    if options.scopes[0] in _COMMANDS:
        name = options.scopes[0]
        raise _UsageError(f'this module has no command "{name}"; install the helper domo-token')
    # argparse drops the separator of a command, whose words would become scopes.
    before = arguments[: arguments.index("--")] if "--" in arguments else []
    if before and _has_scope(before):
        raise _UsageError('this module runs no commands; install the helper domo-token for "exec"')
    if not 1 <= options.timeout <= MAX_TIMEOUT:
        raise _UsageError(f"--timeout is out of range; use 1s to {MAX_TIMEOUT:.0f}s")
    return options


def _has_scope(arguments: list[str]) -> bool:
    try:
        _parser().parse_args(arguments)
    except _UsageError:
        return False
    return True


def _token(options: argparse.Namespace) -> Token:
    client = options.client or os.environ.get("DOMO_TOKEN_CLIENT") or None
    broker = Broker(options.socket, client, options.timeout)
    words = options.scopes[1:] if options.scopes[0] == "get" else options.scopes
    return broker.token(" ".join(words), options.min_ttl)


def _seconds(text: str) -> float:
    if text.isascii() and text.isdigit():
        return float(text)
    found = _DURATION.match(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 90s, 5m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


def _formatted(token: Token, form: str, end: str) -> Secret:
    text = Secret(token.text)
    if form == "header":
        text = Secret(f"Authorization: Bearer {text.reveal()}")
    elif form == "curl":
        quoted = text.reveal().replace("\\", r"\\").replace('"', r"\"")
        text = Secret(f'header = "Authorization: Bearer {quoted}"')
    elif form == "json":
        text = Secret(_json(token))
    elif form == "env":
        text = Secret(f"DOMO_ACCESS_TOKEN={text.reveal()}")
    elif form == "export":
        quoted = text.reveal().replace("'", r"'\''")
        text = Secret(f"export DOMO_ACCESS_TOKEN='{quoted}'")
    elif form == "powershell":
        quoted = _POWERSHELL_QUOTES.sub(r"\1\1", text.reveal())
        text = Secret(f"$env:DOMO_ACCESS_TOKEN = '{quoted}'")
    elif form == "fish":
        quoted = text.reveal().replace("\\", r"\\").replace("'", r"\'")
        text = Secret(f"set -gx DOMO_ACCESS_TOKEN '{quoted}'")
    return Secret(text.reveal() + end)


def _json(token: Token) -> str:
    fields = {
        "access_token": token.text,
        "token_type": "bearer",
        "expires_at": int(token.expires_at),
        "expires_in": int(token.expires_in),
        "scope": token.scope,
        "client": token.client,
        "generation": token.generation,
        "broker": token.broker,
    }
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def _print(text: Secret) -> int:
    try:
        if sys.stdout is None:
            return _report("cannot write to standard output: it is closed", _CLOSED_OUTPUT)
        sys.stdout.write(text.reveal())
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is closed"
        # Python would report the same error again when it exits.
        sys.stdout = None
        return _report(f"cannot write to standard output: {reason}", _CLOSED_OUTPUT)
    return 0


def _report(message: str, code: int) -> int:
    if sys.stderr is not None:
        print(f"domo_token: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:
        # Without a traceback: an error is one line.
        kind = type(error).__name__
        sys.exit(_report(f"internal error ({kind}); please report this bug", _BUG))
