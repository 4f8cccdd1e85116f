"""RequestsAuth with the real library requests."""

from __future__ import annotations

import io
import pickle
import tempfile
import traceback
import unittest
from typing import Any
from unittest import mock

import domo_token
from domo_api import DomoApi
from domo_token.testing import FakeBroker

try:
    import requests
except ImportError:
    print("SKIPPED the tests of RequestsAuth: requests is not installed", flush=True)
    raise unittest.SkipTest("requests is not installed") from None


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.fake, self.api, self.other = FakeBroker(), DomoApi(), DomoApi()
        for used in (self.fake, self.api, self.other):
            self.addCleanup(used.close)
        self.fake.grant("data", "first")
        self.api.accepted.add("first")
        self.session = requests.Session()
        self.addCleanup(self.session.close)
        self.session.auth = domo_token.RequestsAuth("data", self.fake.broker())

    def revoke(self) -> None:
        """Let the API reject the token of the session, and accept the next one."""
        self.session.get(self.api.url)
        self.api.requests.clear()
        self.fake.grant("data", "second")
        self.api.accepted = {"second"}


class Calls(Case):
    def test_requests_have_the_token_and_share_it(self) -> None:
        for _ in range(3):
            self.assertEqual(self.session.get(self.api.url).json()[0]["name"], "x")
        self.assertEqual(self.api.tokens, ["first"] * 3)
        self.assertEqual(self.fake.requests, 1)

    def test_default_broker_is_used(self) -> None:
        with self.fake.as_default():
            response = requests.get(self.api.url, auth=domo_token.RequestsAuth("data"), timeout=10)
        self.assertEqual(response.status_code, 200)

    def test_error_of_the_broker_is_raised(self) -> None:
        self.fake.fail("data", "not_permitted")
        with self.assertRaises(domo_token.NotPermitted):
            self.session.get(self.api.url)
        self.assertEqual(self.api.requests, [])


class Rejections(Case):
    def test_rejected_token_is_renewed_and_the_request_repeated_once(self) -> None:
        self.revoke()
        response = self.session.get(self.api.url)
        self.assertEqual((response.status_code, self.api.tokens), (200, ["first", "second"]))
        self.assertEqual([before.status_code for before in response.history], [401])
        self.assertEqual(self.session.get(self.api.url).status_code, 200)
        self.assertEqual(len(self.api.requests), 3)

    def test_request_is_not_repeated_twice(self) -> None:
        self.revoke()
        self.api.accepted = set()
        self.assertEqual(self.session.get(self.api.url).status_code, 401)
        self.assertEqual(len(self.api.requests), 2)

    def test_406_counts_only_if_csv_was_requested(self) -> None:
        self.revoke()
        response = self.session.get(self.api.url, headers={"Accept": "text/csv"})
        self.assertEqual((response.status_code, self.api.tokens), (200, ["first", "second"]))

    def test_bodies_in_memory_and_files_are_sent_again(self) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(b"skipped,sent")
            file.seek(8)
            bodies: list[tuple[Any, bytes]] = [
                (b"bytes", b"bytes"),
                ("text", b"text"),
                ({"a": "b"}, b"a=b"),
                (file, b"sent"),
                (io.BytesIO(b"memory"), b"memory"),
            ]
            for body, sent in bodies:
                self.fake.grant("data", "first")
                self.api.accepted = {"first"}
                self.session.auth = domo_token.RequestsAuth("data", self.fake.broker())
                self.revoke()
                response = self.session.post(self.api.url, data=body)
                self.assertEqual(response.status_code, 200, body)
                self.assertEqual([request.body for request in self.api.requests], [sent, sent])

    def test_generator_is_sent_once_and_the_next_request_has_another_token(self) -> None:
        self.revoke()
        response = self.session.post(self.api.url, data=(part for part in [b"a", b"b"]))
        self.assertEqual((response.status_code, self.api.tokens), (401, ["first"]))
        self.assertEqual(self.session.get(self.api.url).status_code, 200)
        self.assertEqual(self.api.tokens, ["first", "second"])

    def test_first_response_is_returned_if_there_is_no_other_token(self) -> None:
        self.revoke()
        self.fake.fail("data", "denied")
        self.assertEqual(self.session.get(self.api.url).status_code, 401)
        self.assertEqual(len(self.api.requests), 1)

    def test_streamed_response_is_repeated(self) -> None:
        self.revoke()
        with self.session.get(self.api.url, stream=True) as response:
            self.assertEqual(b"".join(response.iter_content(4)), b'[{"id":"1","name":"x"}]')


class Redirects(Case):
    def to(self, url: str, status: int = 307) -> str:
        return f"{self.api.url}/redirect?to={url}&status={status}"

    def test_token_is_not_sent_to_another_host(self) -> None:
        response = self.session.get(self.to(self.other.url))
        self.assertEqual(response.status_code, 401)
        self.assertEqual(self.other.tokens, [None])
        self.assertEqual(self.fake.rejections("data"), 0)

    def test_token_is_sent_after_a_redirect_within_the_host(self) -> None:
        self.assertEqual(self.session.get(self.to("/v1/datasets")).status_code, 200)
        self.assertEqual(self.api.tokens, ["first", "first"])

    def test_rejection_after_a_redirect_within_the_host_is_repeated(self) -> None:
        self.revoke()
        response = self.session.get(self.to("/v1/datasets"))
        self.assertEqual((response.status_code, self.api.tokens[-1]), (200, "second"))

    def test_new_token_is_sent_to_later_redirects_within_the_host(self) -> None:
        self.revoke()
        response = self.session.post(self.to("/v1/datasets"), data=b"x")
        self.assertEqual(response.status_code, 200)
        self.assertEqual(self.api.requests[-1].body, b"x")


class Secrecy(Case):
    def test_traceback_of_a_failed_request_shows_no_token(self) -> None:
        self.fake.grant("data", "c4nary")
        # assertRaises would remove the traceback.
        try:
            self.session.get("http://127.0.0.1:1/")
        except requests.ConnectionError as error:
            found = traceback.TracebackException.from_exception(error, capture_locals=True)
        lines = "".join(found.format()).splitlines()
        headers = [line for line in lines if line.strip().startswith("headers = {")]
        self.assertTrue(all("Bearer [redacted]" in line for line in headers) and headers, headers)
        # The standard library joins the headers to the bytes that it sends.
        shown = [line.split("=")[0].strip() for line in lines if "c4nary" in line]
        self.assertLessEqual(set(shown), {"msg", "data"})

    def test_session_and_request_show_and_pickle_no_token(self) -> None:
        self.fake.grant("data", "c4nary")
        self.api.accepted = {"c4nary"}
        response = self.session.get(self.api.url)
        request = response.request
        shown = [self.session, self.session.auth, request, request.headers, vars(request)]
        self.assertNotIn("c4nary", repr(shown))
        with mock.patch.object(request, "hooks", {}):
            self.assertNotIn(b"c4nary", pickle.dumps(response))
        self.assertEqual(
            pickle.loads(pickle.dumps(self.session.auth)).broker.socket, self.fake.socket
        )


if __name__ == "__main__":
    unittest.main()
