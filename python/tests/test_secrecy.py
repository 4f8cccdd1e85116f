"""No token is shown by anything but ``text`` and ``authorization``."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import logging
import pickle
import pprint
import traceback
import unittest
from typing import Any, Callable

import domo_token
from domo_token import _requests, asyncio
from domo_token._http import parse_object
from domo_token._secret import HeaderValue, Received, Secret
from domo_token.testing import FakeBroker

_TEXT = "c4nary-t0ken"


def shown_by(error: BaseException) -> str:
    """Return a traceback with all local variables, except those of the test's own first frame."""
    if error.__traceback__ is not None:
        error = error.with_traceback(error.__traceback__.tb_next)
    found = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(found.format())


class Tokens(unittest.TestCase):
    def setUp(self) -> None:
        self.fake = FakeBroker()
        self.addCleanup(self.fake.close)
        self.fake.grant("data", _TEXT)
        self.broker = self.fake.broker()
        self.token = self.broker.token("data")

    def test_text_and_authorization_return_it(self) -> None:
        self.assertEqual(self.token.text, _TEXT)
        self.assertEqual(self.token.authorization(), "Bearer " + _TEXT)

    def test_nothing_that_prints_values_shows_it(self) -> None:
        @dataclasses.dataclass
        class Holder:
            token: domo_token.Token
            header: str

        holder = Holder(self.token, self.token.authorization())
        log = io.StringIO()
        logger = logging.Logger("test")
        logger.addHandler(logging.StreamHandler(log))
        logger.warning("%s %r %s", self.token, self.token, [self.token.authorization()])
        slots = [getattr(self.token, name) for name in type(self.token).__slots__]
        for shown in [
            repr(self.token),
            str(self.token),
            f"{self.token}",
            pprint.pformat([self.token, holder]),
            log.getvalue(),
            repr(slots),
            repr(self.broker),
            repr(vars(self.broker)),
            repr(self.broker._cache),
            repr(vars(self.broker._cache)),
            repr({"Authorization": self.token.authorization()}),
        ]:
            self.assertNotIn(_TEXT, shown)
            self.assertNotIn("c4nary", shown)

    def test_token_is_not_copied_to_what_leaves_the_process(self) -> None:
        for refuse in (pickle.dumps, json.dumps, vars):
            with self.assertRaises(TypeError):
                refuse(self.token)
        self.assertIs(copy.copy(self.token), self.token)
        self.assertIs(copy.deepcopy([self.token])[0], self.token)
        self.assertNotIn(b"c4nary", pickle.dumps({"Authorization": self.token.authorization()}))
        header = copy.deepcopy(self.token.authorization())
        self.assertEqual(header, "Bearer " + _TEXT)
        with self.assertRaises(TypeError):
            pickle.dumps(Secret(_TEXT))

    def test_token_cannot_be_changed_or_made(self) -> None:
        with self.assertRaises(AttributeError):
            self.token._generation = 1
        with self.assertRaises(AttributeError):
            self.token.other = 1
        with self.assertRaises(AttributeError):
            del self.token._secret
        with self.assertRaises(TypeError):
            domo_token.Token()

    def test_header_remains_redacted_as_bytes_and_after_a_prefix(self) -> None:
        value = "bearer " + HeaderValue(_TEXT)
        self.assertEqual(value, "bearer " + _TEXT)
        self.assertNotIn("c4nary", repr([value, value.encode(), value.encode("latin-1")]))
        self.assertEqual(value.encode(), b"bearer c4nary-t0ken")
        for hidden in (value, value.encode()):
            self.assertNotIn(b"c4nary", pickle.dumps(hidden))
            self.assertIs(copy.deepcopy(hidden), hidden)
            self.assertIs(copy.copy(hidden), hidden)


class Tracebacks(unittest.TestCase):
    """Each answer has a token and a mistake."""

    BODIES = (
        b'{"access_token":"c4nary-t0ken"}',
        b'{"access_token":"c4nary-t0ken"',
        b'{"access_token":"c4nary-t0ken","expires_in":1,"expires_at":1,"client":"a",'
        b'"scope":"user","generation":1}',
        b'{"access_token":"c4nary-t0ken bad","expires_in":1,"expires_at":1,"client":"a",'
        b'"scope":"data","generation":1}',
    )

    def fails(self, call: Callable[[], Any]) -> None:
        # assertRaises would remove the traceback.
        try:
            call()
        except domo_token.Error as error:
            shown = shown_by(error)
        self.assertIn("broker = ", shown)
        self.assertIn("token = <domo_token.Token", shown)
        self.assertNotIn("c4nary", shown)

    def test_local_variables_of_invalid_answers_show_no_token(self) -> None:
        from test_broker import Case

        case = Case()
        for body in self.BODIES:
            for cut in (len(body), len(body) - 5):
                case.fake = FakeBroker()
                self.addCleanup(case.fake.close)
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                error = case.answer(head + body[:cut], timeout=0.05)
                self.assertNotIn("c4nary", shown_by(error))

    def test_local_variables_of_a_chunked_answer_show_no_token(self) -> None:
        from test_broker import Case

        case = Case()
        case.fake = FakeBroker()
        self.addCleanup(case.fake.close)
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        error = case.answer(head + b"3\r\n" + self.BODIES[0] + b"\r\n")
        self.assertEqual(error.kind, "protocol")
        self.assertNotIn("c4nary", shown_by(error))

    def test_local_variables_of_asyncio_show_no_token(self) -> None:
        import asyncio as loops

        with FakeBroker() as fake:
            fake.grant("data", _TEXT)
            fake.grant("user", _TEXT)
            broker = fake.async_broker()
            self.assertIsInstance(broker, asyncio.AsyncBroker)

            async def fail() -> None:
                token = await broker.token("data")
                fake.fail("data", "denied")
                await broker.renew(token)

            self.fails(lambda: loops.run(fail()))

    def test_error_with_a_token_in_the_callers_frame_shows_none(self) -> None:
        with FakeBroker() as fake:
            fake.grant("data", _TEXT)

            def call() -> None:
                broker = fake.broker()
                token = broker.token("data")
                headers = {"Authorization": token.authorization()}
                fake.fail("data", "denied")
                broker.renew(token)
                del headers

            self.fails(call)

    def test_values_of_parsers_show_no_token(self) -> None:
        body = Received()
        body.extend(self.BODIES[0])
        self.assertNotIn("c4nary", repr([body, parse_object(body)]))
        request = _requests.token_request((None, "data"), domo_token._cache.Requirement(), 1)
        self.assertIn(b"/v1/token/data?timeout=1s ", request)


if __name__ == "__main__":
    unittest.main()
