"""Apps that run through renewals, restarts of the broker and a revocation without an error."""

from __future__ import annotations

import asyncio
import http.client
import re
import threading
import time
import unittest
from typing import Callable

import domo_token
from programs import Daemon, daemon_and_sandbox, until

_LIFETIME = 6
_REVOKED_AFTER = 4


def status_of(port: int, token: domo_token.Token) -> int:
    """Return the status of a call of Domo's API."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/v1/datasets", headers={"Authorization": token.authorization()})
        return connection.getresponse().status
    finally:
        connection.close()


async def async_status_of(port: int, token: domo_token.Token) -> int:
    """Return the same for asyncio."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "GET /v1/datasets HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    writer.write(f"{head}Authorization: {token.authorization()}\r\n\r\n".encode())
    line = await reader.readline()
    await reader.read()
    writer.close()
    return int(line.split()[1])


class ThreadedApp:
    """An app of a few threads. ``calls`` counts what succeeded."""

    def __init__(self, socket: str, port: int) -> None:
        self.broker, self.port = domo_token.Broker(socket), port
        self.calls, self.errors = 0, list[str]()
        self.rejections = 0
        self.is_stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(4)]

    def call(self) -> None:
        token = self.broker.token("data")
        status = status_of(self.port, token)
        if status == 401:
            self.rejections += 1
            token = self.broker.renew(token)
            status = status_of(self.port, token)
        assert status == 200, status
        self.calls += 1

    def run(self) -> None:
        while not self.is_stopped.wait(0.02):
            try:
                self.call()
            except Exception as error:
                self.errors.append(repr(error))

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.is_stopped.set()
        for thread in self.threads:
            thread.join()


class AsyncApp(ThreadedApp):
    """An app of a few tasks in one event loop."""

    def __init__(self, socket: str, port: int) -> None:
        super().__init__(socket, port)
        self.async_broker = domo_token.AsyncBroker(socket)
        self.threads = [threading.Thread(target=lambda: asyncio.run(self.run_tasks()))]

    async def async_call(self) -> None:
        token = await self.async_broker.token("data")
        status = await async_status_of(self.port, token)
        if status == 401:
            self.rejections += 1
            token = await self.async_broker.renew(token)
            status = await async_status_of(self.port, token)
        assert status == 200, status
        self.calls += 1

    async def task(self) -> None:
        while not self.is_stopped.is_set():
            try:
                await self.async_call()
            except Exception as error:
                self.errors.append(repr(error))
            await asyncio.sleep(0.02)

    async def run_tasks(self) -> None:
        await asyncio.gather(*(self.task() for _ in range(4)))


class Restarts(unittest.TestCase):
    def renewals(self, daemon: Daemon) -> int:
        """Return how many tokens this run of the daemon has obtained."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = domo_token._connection.open_stream(
            domo_token.Broker(daemon.socket)._transport.address.target()
        )
        connection.sock.settimeout(10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return sum(int(n) for n in re.findall(r"domo_token_renewals_total\{.*\} ([0-9]+)", text))

    def survives(self, make: Callable[[str, int], ThreadedApp]) -> None:
        # Each token is revoked before the daemon renews it.
        options = ("--revoke-after", f"{_REVOKED_AFTER}s")
        with daemon_and_sandbox(f"{_LIFETIME}s", "", options, ("data",)) as (daemon, sandbox):
            app = make(daemon.socket, sandbox.port)
            start = time.monotonic()
            app.start()
            try:
                obtained = 0
                for _ in range(2):
                    self.succeeds(app)
                    obtained += self.stop_after_renewal(daemon)
                    daemon.start()
                until(lambda: time.monotonic() > start + 3 * _LIFETIME, "lifetimes", 60)
                self.succeeds(app)
            finally:
                app.stop()
            self.assertEqual(app.errors, [])
            self.assertGreater(app.rejections, 0)
            until(
                lambda: sandbox.token_requests == obtained + self.renewals(daemon),
                "Domo receives one request per token",
            )

    def stop_after_renewal(self, daemon: Daemon) -> int:
        """Stop the daemon while it sends no request; return how many tokens it has obtained."""
        before = self.renewals(daemon)
        until(lambda: self.renewals(daemon) > before, "a renewal")
        # The next one is a second later at the earliest.
        after = self.renewals(daemon)
        daemon.stop()
        return after

    def succeeds(self, app: ThreadedApp) -> None:
        before = app.calls
        until(lambda: app.calls >= before + 40 or bool(app.errors), "the app calls Domo")

    def test_threads_call_domo_without_an_error(self) -> None:
        self.survives(ThreadedApp)

    def test_tasks_call_domo_without_an_error(self) -> None:
        self.survives(AsyncApp)


if __name__ == "__main__":
    unittest.main()
