"""The fake broker for apps' tests."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import os
import socket
import subprocess
import sys
import unittest

import domo_token
from domo_token.broker import default_broker
from domo_token.testing import FakeBroker


class Fake(unittest.TestCase):
    def setUp(self) -> None:
        self.fake = FakeBroker()
        self.addCleanup(self.fake.close)

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self.fake.socket)
        connection.request(method, path)
        response = connection.getresponse()
        status, text = response.status, response.read().decode()
        connection.close()
        return status, text

    def test_token_has_the_text_of_the_test(self) -> None:
        self.fake.grant("data", "t0ken", lifetime=60)
        token = self.fake.broker().token("data")
        self.assertEqual(token.text, "t0ken")
        self.assertTrue(58 < token.expires_in <= 60)
        self.assertEqual(asyncio.run(self.fake.async_broker().token("data")).text, "t0ken")

    def test_requests_are_counted(self) -> None:
        broker = self.fake.broker()
        first = broker.token("data")
        broker.renew(first)
        broker.token("user")
        counts = (self.fake.requests, self.fake.token_requests("data"), self.fake.renewals("data"))
        self.assertEqual(counts, (3, 2, 2))
        self.assertEqual((self.fake.rejections("data"), self.fake.rejections("user")), (1, 0))

    def test_failure_lasts_until_a_grant(self) -> None:
        self.fake.fail("data", "not_permitted", "no")
        for _ in range(2):
            with self.assertRaises(domo_token.NotPermitted) as caught:
                self.fake.broker().token("data")
        self.assertEqual(str(caught.exception), "no")
        self.fake.grant("data")
        self.assertEqual(self.fake.broker().token("data").scope, "data")
        with self.assertRaises(ValueError):
            self.fake.fail("data", "no such kind")

    def test_other_scopes_fail(self) -> None:
        self.fake.grant("data")
        self.fake.fail_others("unknown_scope")
        self.assertEqual(self.fake.broker().token("data").scope, "data")
        with self.assertRaises(domo_token.UnknownScopeSet):
            self.fake.broker().token("data user")

    def test_expired_token_is_replaced(self) -> None:
        first = self.fake.broker().token("data")
        self.fake.expire("data")
        self.assertNotEqual(self.fake.broker().token("data").generation, first.generation)

    def test_stopped_broker_is_not_running_and_keeps_its_tokens(self) -> None:
        first = self.fake.broker().token("data")
        self.fake.stop()
        with self.assertRaises(domo_token.NotRunning):
            self.fake.broker().token("data")
        self.fake.start()
        self.assertEqual(self.fake.broker().token("data").generation, first.generation)

    def test_default_broker_is_the_fake_one_while_it_is_the_default(self) -> None:
        before = os.environ.get("DOMO_TOKEN_SOCKET")
        with self.fake.as_default():
            self.assertEqual(default_broker().socket, self.fake.socket)
            self.assertIs(default_broker(), default_broker())
            with FakeBroker() as other, other.as_default():
                self.assertEqual(default_broker().socket, other.socket)
        self.assertEqual(os.environ.get("DOMO_TOKEN_SOCKET"), before)

    def test_answers_are_those_of_the_http_api(self) -> None:
        self.fake.grant("data", "t0ken")
        self.assertEqual(self.get("/v1/token/data?format=token"), (200, "t0ken\n"))
        header = self.get("/v1/token/data?format=header")
        self.assertEqual(header, (200, "Authorization: Bearer t0ken\n"))
        for path, status in [
            ("/v1/token/data?x=1", 400),
            ("/v1/token/data?min_ttl=x", 400),
            ("/v1/token/data?format=x", 400),
            ("/v1/token/data?min_ttl=3h", 409),
            ("/v1/token/,", 400),
            ("/v1/other", 404),
            ("/", 404),
        ]:
            self.assertEqual(self.get(path)[0], status, path)
        self.assertEqual(self.get("/v1/token/data", "POST")[0], 405)

    def test_directory_is_removed(self) -> None:
        with FakeBroker() as fake:
            folder = os.path.dirname(fake.socket)
            self.assertTrue(os.path.exists(folder))
        self.assertFalse(os.path.exists(folder))


class Imports(unittest.TestCase):
    def loaded_by(self, statement: str) -> set[str]:
        command = [sys.executable, "-c", f"{statement}; import sys; print(*sys.modules)"]
        return set(
            subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
        )

    def test_package_loads_no_library(self) -> None:
        loaded = self.loaded_by("import domo_token")
        others = {"asyncio", "requests", "httpx", "pydomo", "pytest", "http.client", "ssl"}
        self.assertEqual(loaded & others, set())
        self.assertNotIn("pytest", self.loaded_by("import domo_token.testing"))

    def test_missing_library_is_named(self) -> None:
        for name, statement in [
            ("requests", "domo_token.RequestsAuth('data')"),
            ("httpx", "domo_token.HttpxAuth('data')"),
            ("pydomo", "import domo_token.pydomo"),
        ]:
            hide = f"import sys; sys.modules[{name!r}] = None; import domo_token; {statement}"
            found = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True)
            self.assertEqual(found.returncode, 1)
            last = found.stderr.splitlines()[-1]
            self.assertTrue(
                last.endswith(f"needs the library {name}; run: pip install {name}"), last
            )

    def test_help_and_import_of_all_names_need_no_library(self) -> None:
        for code in ("import domo_token; help(domo_token)", "from domo_token import *"):
            code = f"import sys; sys.modules['httpx'] = None; {code}"
            found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            self.assertEqual((found.returncode, found.stderr), (0, ""))

    def test_modules_need_no_import_of_their_own(self) -> None:
        code = "import domo_token; print(domo_token.testing.FakeBroker.__name__)"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        self.assertEqual((found.stdout, found.stderr), ("FakeBroker\n", ""))

    def test_all_names_exist(self) -> None:
        for name in domo_token.__all__:
            self.assertIsNotNone(getattr(domo_token, name))
            self.assertIn(name, dir(domo_token))
        has_httpx = importlib.util.find_spec("httpx") is not None
        self.assertEqual("HttpxAuth" in dir(domo_token), has_httpx)
        with self.assertRaises(AttributeError):
            domo_token.other  # type: ignore[attr-defined] # noqa: B018


if __name__ == "__main__":
    unittest.main()
