"""Starts the daemon and the sandbox for tests."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import unittest
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Optional

_BINARIES = Path(
    os.environ.get("DOMO_TOKEN_BIN_DIR", Path(__file__).parents[2] / "target" / "debug")
)

_TOKEN_REQUEST = re.compile(r"# +[0-9.]+ s  (?:POST|GET) client ")


def binary(name: str) -> str:
    """Return the path of a program, or skip the test where it was not built."""
    path = _BINARIES / name
    if not path.exists():
        message = f"{path} does not exist; run: cargo build --workspace --bins"
        if "DOMO_TOKEN_BIN_DIR" in os.environ:
            raise AssertionError(message)
        print(f"SKIPPED a test with the daemon: {message}", flush=True)
        raise unittest.SkipTest(message)
    return str(path)


def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait until a condition is met."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.005)


class Sandbox:
    """A fake Domo."""

    def __init__(self, lifetime: str, *options: str) -> None:
        command = [binary("domo-sandbox"), "--port", "0", "--lifetime", lifetime, *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        until(lambda: any("token_url" in line for line in self._lines), "the sandbox starts")
        found = re.search(r"http://127\.0\.0\.1:([0-9]+)", "".join(self._lines))
        assert found is not None
        self.url, self.port = found.group(), int(found.group(1))

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._lines.extend(self._process.stdout)

    @property
    def token_requests(self) -> int:
        """How many token requests it has answered."""
        return sum(1 for line in list(self._lines) if _TOKEN_REQUEST.match(line))

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Daemon:
    """A daemon whose client is the sandbox's."""

    def __init__(
        self,
        folder: str,
        token_url: str,
        settings: str = "",
        scope_sets: Sequence[str] = ("data", "data user"),
    ) -> None:
        self.socket = os.path.join(folder, "broker.sock")
        self._config = os.path.join(folder, "config.toml")
        self._log = os.path.join(folder, "log")
        self._process: Optional[subprocess.Popen[bytes]] = None
        with open(os.open(self._config, os.O_WRONLY | os.O_CREAT, 0o600), "w") as config:
            config.write(
                f"{settings}\n[clients.sandbox]\n"
                'client_id = "5a4db0c5-0000-4000-8000-000000000001"\n'
                'client_secret = "domo-sandbox-secret"\n'
                f"tokens = {json.dumps(scope_sets)}\n"
                f'token_url = "{token_url}/oauth/token"\nallow_http_loopback = true\n'
            )
        self.start()

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [binary("domo-tokend"), "--config", self._config, "--socket", self.socket]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(command, stderr=log, stdout=log)
        until(lambda: os.path.exists(self.socket), "the daemon listens")

    def stop(self, by: int = signal.SIGTERM) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(by)
            self._process.wait()
            self._process = None

    def log(self) -> str:
        """Return its log."""
        return Path(self._log).read_text()


@contextlib.contextmanager
def daemon_and_sandbox(
    lifetime: str = "1h",
    settings: str = "",
    options: Sequence[str] = (),
    scope_sets: Sequence[str] = ("data", "data user"),
) -> Iterator[tuple[Daemon, Sandbox]]:
    """Run both programs during a test. ``options`` are the sandbox's."""
    sandbox = Sandbox(lifetime, *options)
    try:
        with tempfile.TemporaryDirectory() as folder:
            daemon = Daemon(folder, sandbox.url, settings, scope_sets)
            try:
                yield daemon, sandbox
            finally:
                daemon.stop()
    finally:
        sandbox.stop()
