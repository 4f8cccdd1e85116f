"""The HTTP server of a fake broker on a Unix socket."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import socket
import socketserver
import threading
from typing import Any, Optional
from urllib.parse import parse_qsl, unquote, urlsplit

from . import errors
from ._clock import boot_now
from ._fake_grants import KINDS, TIMEOUT, Failure, Grant, Grants
from ._scopes import canonical

_CLIENT = "fake"

_DURATION = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?\Z")

_KEYS = ("client", "min_ttl", "timeout", "format", "rejected")

#: How often a watch sends a comment.
_COMMENT = 15.0


class _Refusal(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers the requests of a broker's HTTP API, each connection in a thread."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, path: str, grants: Grants) -> None:
        self.grants = grants
        self.path = path
        self.is_stopped = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(path, _Handler)

    def stop(self) -> None:
        """Close the socket and all connections."""
        self.is_stopped.set()
        with self.grants.changed:
            self.grants.changed.notify_all()
        self.shutdown()
        self.server_close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread."""
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a caller that has disconnected; its test reports the rest."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        grants = self.server.grants
        with grants.changed:
            grants.requests += 1
        parts = urlsplit(self.path)
        try:
            self._answer(parts.path, parse_qsl(parts.query, keep_blank_values=True))
        except _Refusal as refusal:
            self._refuse(refusal.failure)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return lambda: self._refuse(Failure("method_not_allowed", "only GET is allowed"))
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing."""

    def _answer(self, path: str, query: list[tuple[str, str]]) -> None:
        values: dict[str, str] = {}
        for key, value in query:
            if key not in _KEYS or key in values:
                raise _Refusal(Failure("bad_request", f"the query key {key!r} is not valid"))
            values[key] = value
        kind, _, rest = path[len("/v1/") :].partition("/")
        if path == "/v1/status":
            self._json(self._status())
        elif path.startswith("/v1/token/"):
            self._token(_scope(rest), values)
        elif path.startswith("/v1/watch/"):
            self._watch(_scope(rest), values)
        else:
            raise _Refusal(Failure("not_found", f"the fake broker has no {kind or path}"))

    def _token(self, scope: str, values: dict[str, str]) -> None:
        grants = self.server.grants
        with grants.changed:
            grants.token_requests[scope] = grants.token_requests.get(scope, 0) + 1
        rejected = values.get("rejected", "")
        min_ttl = _seconds(values.get("min_ttl", "0s"))
        grant = self._grant(scope, int(rejected) if rejected.isdigit() else None, min_ttl)
        fields = grant.fields(values.get("client", _CLIENT), scope, self.server.path)
        form = values.get("format", "json")
        if form == "json":
            self._json(fields)
        elif form in ("token", "header"):
            prefix = "" if form == "token" else "Authorization: Bearer "
            self._send(200, "text/plain", f"{prefix}{fields['access_token']}\n".encode())
        else:
            raise _Refusal(Failure("bad_request", f"the format {form!r} is not valid"))

    def _grant(self, scope: str, rejected: Optional[int], min_ttl: float) -> Grant:
        grant, failure = self.server.grants.current(scope, rejected, min_ttl)
        if failure is not None and failure.kind == TIMEOUT:
            self.server.is_stopped.wait()
            self.close_connection = True
            raise ConnectionAbortedError
        if grant is None:
            raise _Refusal(failure or Failure("bug", "the fake broker has no token"))
        return grant

    def _watch(self, scope: str, values: dict[str, str]) -> None:
        grant, failure = self.server.grants.current(scope)
        if failure is not None and failure.kind not in ("unavailable", "gone", TIMEOUT):
            raise _Refusal(failure)
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        known = self.headers.get("Last-Event-ID")
        reported = None
        commented = boot_now()
        client = values.get("client", _CLIENT)
        while not self.server.is_stopped.is_set():
            version = self.server.grants.version
            grant, failure = self.server.grants.current(scope)
            if grant is not None and str(grant.generation) != known:
                known, reported = str(grant.generation), None
                fields = grant.fields(client, scope, self.server.path)
                self._event("token", fields, known)
            if failure is not None and failure is not reported and failure.kind != TIMEOUT:
                reported = failure
                self._event(failure.kind, _problem(failure), None)
                if failure.kind not in ("unavailable", "busy"):
                    self._chunk(b"")
                    return
            if boot_now() - commented > _COMMENT:
                commented = boot_now()
                self._chunk(b": \n\n")
            wait = grant.renewal_in() if grant is not None else _COMMENT
            with self.server.grants.changed:
                if self.server.grants.version == version and not self.server.is_stopped.is_set():
                    self.server.grants.changed.wait(min(max(wait, 0.005), _COMMENT))

    def _event(self, name: str, fields: dict[str, object], event_id: Optional[str]) -> None:
        lines = [f"event: {name}", f"data: {json.dumps(fields)}"]
        if event_id is not None:
            lines.append(f"id: {event_id}")
        self._chunk("\n".join([*lines, "", ""]).encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _status(self) -> dict[str, object]:
        tokens = [
            {
                "client": _CLIENT,
                "scope": scope,
                "state": "fresh",
                "generation": grant.generation,
            }
            for scope, grant in sorted(self.server.grants.all().items())
        ]
        broker = {"socket": self.server.path, "version": "fake", "default_client": _CLIENT}
        return {"broker": broker, "tokens": tokens}

    def _refuse(self, failure: Failure) -> None:
        status, _ = KINDS[failure.kind]
        retry_after = failure.retry_after
        headers = {} if retry_after is None else {"Retry-After": str(int(retry_after + 0.999))}
        if failure.kind == "method_not_allowed":
            headers["Allow"] = "GET, HEAD"
        body = json.dumps(_problem(failure)).encode()
        self._send(status, "application/problem+json", body, headers)

    def _json(self, fields: dict[str, object]) -> None:
        self._send(200, "application/json", json.dumps(fields).encode() + b"\n")

    def _send(
        self, status: int, media: str, body: bytes, headers: Optional[dict[str, str]] = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _problem(failure: Failure) -> dict[str, object]:
    status, exit_code = KINDS[failure.kind]
    millis = None if failure.retry_after is None else round(failure.retry_after * 1000)
    return {
        "type": f"urn:domo-token:{failure.kind}",
        "title": failure.kind.replace("_", " "),
        "status": status,
        "detail": failure.detail,
        "exit_code": exit_code,
        "retry_after_ms": millis,
    }


def _scope(segment: str) -> str:
    try:
        return canonical(unquote(segment))
    except errors.Error as error:
        problem = str(error)
    raise _Refusal(Failure("bad_request", problem))


def _seconds(text: str) -> float:
    if text.isdigit():
        return float(text)
    found = _DURATION.match(text)
    if not text or found is None:
        raise _Refusal(Failure("bad_request", f"the duration {text!r} is not valid"))
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(hours * 3600 + minutes * 60 + seconds)
