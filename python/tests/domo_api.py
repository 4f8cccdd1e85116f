"""An API that checks tokens, and redirects on request."""

from __future__ import annotations

import http.server
import threading
from typing import Any, NamedTuple, Optional
from urllib.parse import parse_qs, urlsplit


class Request(NamedTuple):
    """A request that has arrived."""

    method: str
    path: str
    authorization: Optional[str]
    body: bytes


class DomoApi:
    """Domo's API on 127.0.0.1 with tokens that the test names.

    ``/redirect?to=URL&status=307`` redirects without a look at the token, all else needs one.
    """

    def __init__(self) -> None:
        self.accepted: set[str] = set()
        self.requests: list[Request] = []
        self._server = _Server(self)
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        thread.start()

    @property
    def url(self) -> str:
        """The base of its URLs."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def tokens(self) -> list[Optional[str]]:
        """The tokens of the requests, by order of arrival."""
        headers = [request.authorization for request in self.requests]
        return [header and header.split(" ")[-1] for header in headers]

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, api: DomoApi) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = api

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that has disconnected; its test reports the rest."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        api = self.server.api
        body = self._body()
        header = self.headers.get("Authorization")
        api.requests.append(Request(self.command, self.path, header, body))
        parts = urlsplit(self.path)
        if parts.path == "/redirect":
            query = parse_qs(parts.query)
            self._send(int(query["status"][0]), b"", {"Location": query["to"][0]})
            return
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() == "bearer" and token in api.accepted:
            self._send(200, b'[{"id":"1","name":"x"}]')
        elif "text/csv" in self.headers.get("Accept", ""):
            self._send(406, b"<html>")
        else:
            self._send(401, b"{}")

    do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while True:
                size = int(self.rfile.readline(), 16)
                body += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(self, status: int, body: bytes, headers: Optional[dict[str, str]] = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
