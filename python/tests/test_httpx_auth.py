"""HttpxAuth with the real library httpx."""

from __future__ import annotations

import asyncio
import tempfile
import traceback
import unittest
from collections.abc import AsyncIterator, Iterator
from typing import Any, Union

import domo_token
from domo_api import DomoApi
from domo_token.testing import FakeBroker

try:
    import httpx
except ImportError:
    print("SKIPPED the tests of HttpxAuth: httpx is not installed", flush=True)
    raise unittest.SkipTest("httpx is not installed") from None


class Case(unittest.TestCase):
    is_async = False

    def setUp(self) -> None:
        self.fake, self.api, self.other = FakeBroker(), DomoApi(), DomoApi()
        for used in (self.fake, self.api, self.other):
            self.addCleanup(used.close)
        self.fake.grant("data", "first")
        self.api.accepted.add("first")
        self.auth = domo_token.HttpxAuth("data", self.fake.broker())

    def call(self, method: str, url: str, **options: Any) -> httpx.Response:
        if self.is_async:
            return asyncio.run(self.async_call(method, url, **options))
        with httpx.Client(auth=self.auth, follow_redirects=True) as client:
            return client.request(method, url, **options)

    async def async_call(self, method: str, url: str, **options: Any) -> httpx.Response:
        async with httpx.AsyncClient(auth=self.auth, follow_redirects=True) as client:
            return await client.request(method, url, **options)

    def revoke(self) -> None:
        """Let the API reject the token of the client, and accept the next one."""
        self.call("GET", self.api.url)
        self.api.requests.clear()
        self.fake.grant("data", "second")
        self.api.accepted = {"second"}


class Blocking(Case):
    def test_requests_have_the_token_and_share_it(self) -> None:
        for _ in range(3):
            self.assertEqual(self.call("GET", self.api.url).json()[0]["name"], "x")
        self.assertEqual(self.api.tokens, ["first"] * 3)
        self.assertEqual(self.fake.requests, 1)

    def test_default_broker_is_used(self) -> None:
        self.auth = domo_token.HttpxAuth("data")
        with self.fake.as_default():
            self.assertEqual(self.call("GET", self.api.url).status_code, 200)

    def test_error_of_the_broker_is_raised(self) -> None:
        self.fake.fail("data", "not_permitted")
        with self.assertRaises(domo_token.NotPermitted):
            self.call("GET", self.api.url)
        self.assertEqual(self.api.requests, [])

    def test_rejected_token_is_renewed_and_the_request_repeated_once(self) -> None:
        self.revoke()
        self.assertEqual(self.call("GET", self.api.url).status_code, 200)
        self.assertEqual(self.api.tokens, ["first", "second"])
        self.api.accepted = set()
        self.assertEqual(self.call("GET", self.api.url).status_code, 401)
        self.assertEqual(len(self.api.requests), 4)

    def test_406_counts_only_if_csv_was_requested(self) -> None:
        self.revoke()
        response = self.call("GET", self.api.url, headers={"Accept": "text/csv"})
        self.assertEqual((response.status_code, self.api.tokens), (200, ["first", "second"]))

    def test_body_in_memory_is_sent_again(self) -> None:
        self.revoke()
        response = self.call("POST", self.api.url, content=b"bytes")
        self.assertEqual(response.status_code, 200)
        self.assertEqual([request.body for request in self.api.requests], [b"bytes"] * 2)

    def test_generator_is_sent_once_and_the_next_request_has_another_token(self) -> None:
        self.revoke()
        self.assertEqual(self.call("POST", self.api.url, content=self.parts()).status_code, 401)
        self.assertEqual(self.call("GET", self.api.url).status_code, 200)
        self.assertEqual(self.api.tokens, ["first", "second"])

    def parts(self) -> Union[Iterator[bytes], AsyncIterator[bytes]]:
        async def parts() -> AsyncIterator[bytes]:
            yield b"a"

        return parts() if self.is_async else iter([b"a", b"b"])

    def test_first_response_is_returned_if_there_is_no_other_token(self) -> None:
        self.revoke()
        self.fake.fail("data", "denied")
        self.assertEqual(self.call("GET", self.api.url).status_code, 401)
        self.assertEqual(len(self.api.requests), 1)

    def redirect_to(self, url: str, status: int = 307) -> str:
        return f"{self.api.url}/redirect?to={url}&status={status}"

    def test_token_is_not_sent_to_another_host(self) -> None:
        self.assertEqual(self.call("GET", self.redirect_to(self.other.url)).status_code, 401)
        self.assertEqual((self.other.tokens, self.fake.rejections("data")), ([None], 0))

    def test_rejection_after_a_redirect_within_the_host_is_repeated(self) -> None:
        self.revoke()
        self.assertEqual(self.call("GET", self.redirect_to("/x")).status_code, 200)
        self.assertEqual(self.api.tokens, ["first", "first", "second", "second"])

    def test_redirected_post_is_not_repeated(self) -> None:
        self.revoke()
        self.assertEqual(self.call("POST", self.redirect_to("/x", 303)).status_code, 401)
        self.assertEqual([request.method for request in self.api.requests], ["POST", "GET"])

    def test_headers_show_no_token(self) -> None:
        self.fake.grant("data", "c4nary")
        self.api.accepted = {"c4nary"}
        response = self.call("GET", self.api.url)
        shown = [response, response.request, response.request.headers, self.auth]
        self.assertNotIn("c4nary", repr([*shown, response.request.headers.raw]))

    def test_traceback_of_a_failed_request_shows_no_token(self) -> None:
        self.fake.grant("data", "c4nary")
        # assertRaises would remove the traceback.
        try:
            self.call("GET", "http://127.0.0.1:1/")
        except httpx.ConnectError as error:
            found = traceback.TracebackException.from_exception(error, capture_locals=True)
        shown = "".join(found.format())
        self.assertIn("auth_flow = ", shown)
        self.assertNotIn("c4nary", shown)


class Asyncio(Blocking):
    is_async = True

    def test_async_broker_is_used_directly(self) -> None:
        self.auth = domo_token.HttpxAuth("data", self.fake.async_broker())
        self.assertEqual(self.call("GET", self.api.url).status_code, 200)
        self.is_async = False
        with self.assertRaises(TypeError):
            self.call("GET", self.api.url)


class Files(Case):
    def test_file_is_sent_again(self) -> None:
        self.revoke()
        with tempfile.TemporaryFile() as file:
            file.write(b"sent")
            file.seek(0)
            self.assertEqual(self.call("POST", self.api.url, content=file).status_code, 200)
        self.assertEqual([request.body for request in self.api.requests], [b"sent"] * 2)


if __name__ == "__main__":
    unittest.main()
