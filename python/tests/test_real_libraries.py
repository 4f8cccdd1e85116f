"""requests, httpx and pydomo with the real daemon and a fake Domo."""

from __future__ import annotations

import asyncio
import importlib.util
import unittest

import domo_token
from programs import Daemon, Sandbox, daemon_and_sandbox


def needs(library: str) -> None:
    """Skip a test whose library is not installed."""
    if importlib.util.find_spec(library) is None:
        print(f"SKIPPED a test with {library}: it is not installed", flush=True)
        raise unittest.SkipTest(f"{library} is not installed")


class Libraries(unittest.TestCase):
    def setUp(self) -> None:
        programs = daemon_and_sandbox()
        self.daemon: Daemon
        self.sandbox: Sandbox
        self.daemon, self.sandbox = programs.__enter__()
        self.addCleanup(programs.__exit__, None, None, None)
        self.broker = domo_token.Broker(self.daemon.socket)
        self.url = f"{self.sandbox.url}/v1/datasets"

    def test_requests_lists_datasets(self) -> None:
        needs("requests")
        import requests

        auth = domo_token.RequestsAuth("data", self.broker)
        response = requests.get(self.url, auth=auth, timeout=10)
        self.assertEqual(response.status_code, 200)
        self.assertGreater(len(response.json()), 0)

    def test_httpx_lists_datasets(self) -> None:
        needs("httpx")
        import httpx

        auth = domo_token.HttpxAuth("data", self.broker)

        async def call() -> httpx.Response:
            async with httpx.AsyncClient(auth=auth) as client:
                return await client.get(self.url)

        with httpx.Client(auth=auth) as client:
            self.assertEqual(client.get(self.url).json(), asyncio.run(call()).json())

    def test_pydomo_lists_creates_imports_exports_and_queries_datasets(self) -> None:
        needs("pydomo")
        from pydomo.datasets import Column, ColumnType, DataSetRequest, Schema

        from domo_token.pydomo import Domo

        host = self.sandbox.url[len("http://") :]
        domo = Domo("data", self.broker, api_host=host, use_https=False)
        self.assertGreater(len(list(domo.datasets.list())), 0)
        request = DataSetRequest()
        request.name = "numbers"
        request.schema = Schema([Column(ColumnType.STRING, "a"), Column(ColumnType.LONG, "b")])
        dataset = domo.datasets.create(request)["id"]
        domo.datasets.data_import(dataset, "x,1\ny,2\n")
        exported = domo.datasets.data_export(dataset, include_csv_header=True)
        self.assertEqual(exported, "a,b\nx,1\ny,2\n")
        found = domo.datasets.query(dataset, "SELECT a FROM table WHERE b = 2")
        self.assertEqual(found["rows"], [["y"]])


if __name__ == "__main__":
    unittest.main()
