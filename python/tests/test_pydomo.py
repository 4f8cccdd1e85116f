"""domo_token.pydomo with the real library pydomo."""

from __future__ import annotations

import io
import logging
import unittest
from typing import Any

import domo_token
from domo_api import DomoApi
from domo_token.testing import FakeBroker

try:
    from domo_token.pydomo import Domo
except ImportError:
    print("SKIPPED the tests of domo_token.pydomo: pydomo is not installed", flush=True)
    raise unittest.SkipTest("pydomo is not installed") from None


class Pydomo(unittest.TestCase):
    def setUp(self) -> None:
        self.fake, self.api, self.other = FakeBroker(), DomoApi(), DomoApi()
        for used in (self.fake, self.api, self.other):
            self.addCleanup(used.close)
        self.fake.grant("data", "first")
        self.api.accepted.add("first")
        self.domo = self.client(self.fake.broker())

    def client(self, broker: Any = None, **options: Any) -> Domo:
        host = self.api.url[len("http://") :]
        return Domo("data", broker, api_host=host, use_https=False, **options)

    def revoke(self) -> None:
        """Let the API reject the token of the client, and accept the next one."""
        self.domo.transport.get("/v1/datasets", {})
        self.api.requests.clear()
        self.fake.grant("data", "second")
        self.api.accepted = {"second"}

    def test_constructor_requests_no_token(self) -> None:
        self.client()
        self.assertEqual((self.fake.requests, self.api.requests), (0, []))

    def test_constructor_leaves_pydomo_as_it_is(self) -> None:
        import pydomo

        self.assertEqual(pydomo.DomoAPITransport.__module__, "pydomo.Transport")
        self.assertIsInstance(self.domo, pydomo.Domo)
        with self.assertRaises(ValueError):
            pydomo.Domo()

    def test_credentials_are_no_arguments(self) -> None:
        for name in ("client_id", "client_secret", "connection_file", "scope"):
            with self.assertRaises(TypeError):
                self.client(**{name: "x"})

    def test_calls_have_the_token_and_share_it(self) -> None:
        self.assertEqual([found["name"] for found in self.domo.datasets.list(limit=1)], ["x"])
        self.domo.transport.get("/v1/datasets", {})
        self.assertEqual(set(self.api.tokens), {"first"})
        self.assertEqual(self.fake.requests, 1)

    def test_default_broker_is_used(self) -> None:
        with self.fake.as_default():
            response = self.client().transport.get("/v1/datasets", {})
        self.assertEqual(response.status_code, 200)

    def test_rejected_token_is_renewed_and_the_call_repeated_once(self) -> None:
        self.revoke()
        response = self.domo.transport.put_csv("/v1/datasets/1/data", "a,b")
        self.assertEqual((response.status_code, self.api.tokens), (200, ["first", "second"]))
        self.assertEqual([request.body for request in self.api.requests], [b"a,b"] * 2)
        self.api.accepted = set()
        self.assertEqual(self.domo.transport.get("/v1/datasets", {}).status_code, 401)
        self.assertEqual(len(self.api.requests), 4)

    def test_406_for_csv_is_a_rejected_token(self) -> None:
        self.revoke()
        self.assertEqual(self.domo.transport.get_csv("/v1/x", {}).status_code, 200)
        self.assertEqual(self.api.tokens, ["first", "second"])

    def test_generator_is_sent_once_and_the_next_call_has_another_token(self) -> None:
        self.revoke()
        response = self.domo.transport.put_csv("/v1/x", iter([b"a", b"b"]))
        self.assertEqual(response.status_code, 401)
        self.assertEqual(self.domo.transport.get("/v1/datasets", {}).status_code, 200)
        self.assertEqual(self.api.tokens, ["first", "second"])

    def test_token_is_not_sent_to_another_host(self) -> None:
        path = f"/redirect?to={self.other.url}&status=307"
        self.assertEqual(self.domo.transport.get(path, {}).status_code, 401)
        self.assertEqual((self.other.tokens, self.fake.rejections("data")), ([None], 0))

    def test_error_of_the_broker_is_raised(self) -> None:
        self.fake.fail("data", "denied", "Domo rejects the credentials")
        with self.assertRaises(domo_token.Rejected):
            self.domo.datasets.get("1")

    def test_debug_log_shows_no_token(self) -> None:
        log = io.StringIO()
        handler = logging.StreamHandler(log)
        domo = self.client(self.fake.broker(), log_level=logging.DEBUG, logger_name="test")
        logger = logging.getLogger("pydomo.test")
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        self.fake.grant("data", "c4nary")
        self.api.accepted = set()
        with self.assertRaises(Exception) as caught:
            domo.datasets.get("1")
        self.assertIn("Error retrieving", log.getvalue())
        self.assertIn("[redacted]", log.getvalue())
        self.assertNotIn("c4nary", log.getvalue() + str(caught.exception) + repr(domo))
        self.assertNotIn("c4nary", repr(domo.transport._headers_receive_csv()))


if __name__ == "__main__":
    unittest.main()
