"""Bytes become responses and events."""

from __future__ import annotations

import unittest
from typing import Optional

from domo_token._http import BadResponse, Event, EventStream, Response, get, number_of
from domo_token._secret import Received, Secret


def fed(data: bytes, step: int) -> Response:
    response = Response()
    for start in range(0, len(data), step):
        response.feed(memoryview(data[start : start + step]))
    return response


class Responses(unittest.TestCase):
    def test_request_has_one_host_and_an_encoded_target(self) -> None:
        request = get("/v1/token/data", {"client": "a b&c", "timeout": "9s"}, "application/json")
        self.assertTrue(
            request.startswith(
                b"GET /v1/token/data?client=a%20b%26c&timeout=9s HTTP/1.1\r\nHost: localhost\r\n"
            )
        )
        self.assertTrue(request.endswith(b"\r\n\r\n"))

    def test_body_of_a_known_length_is_complete_with_its_last_byte(self) -> None:
        data = b'HTTP/1.1 200 OK\r\ncontent-length: 7\r\nX: y\r\n\r\n{"a":1}'
        for step in (1, 3, len(data)):
            response = fed(data, step)
            self.assertTrue(response.is_complete)
            self.assertEqual((response.status, response.headers["x"]), (200, "y"))
            self.assertEqual(response.json(), {"a": 1})
        self.assertFalse(fed(data[:-1], 5).is_complete)

    def test_chunked_body_is_decoded(self) -> None:
        data = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'3;x=y\r\n{"a\r\n4\r\n":1}\r\n0\r\nTrailer: x\r\n\r\n'
        )
        for step in (1, 2, 7, len(data)):
            response = fed(data, step)
            self.assertTrue(response.is_complete, step)
            self.assertEqual(response.json(), {"a": 1})
        self.assertFalse(fed(data[:-2], 9).is_complete)

    def test_body_without_a_length_ends_with_the_connection(self) -> None:
        response = fed(b"HTTP/1.1 200 OK\r\n\r\n{}", 4)
        self.assertFalse(response.is_complete)
        response.end()
        self.assertTrue(response.is_complete)

    def test_interim_response_is_skipped(self) -> None:
        data = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
        response = fed(data, 5)
        self.assertEqual((response.status, response.is_complete), (204, True))

    def test_any_number_of_interim_responses_is_skipped(self) -> None:
        data = b"HTTP/1.1 100 Continue\r\n\r\n" * 2000 + b"HTTP/1.1 204 No Content\r\n\r\n"
        self.assertTrue(fed(data, len(data)).is_complete)

    def test_what_is_no_response_is_rejected(self) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for data in [
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 2x0 OK\r\n\r\n",
            b"HTTP/1.1 2\xb20 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
            chunked + b"zz\r\n",
            chunked + b"1\r\nabc\r\n",
            chunked + b"-1\r\n",
        ]:
            with self.subTest(data[:60]), self.assertRaises(BadResponse):
                fed(data, 1000)

    def test_answer_of_the_other_protocol_is_recognised(self) -> None:
        self.assertTrue(fed(b"DTK\x02abc", 1).starts_with_frame())
        self.assertFalse(fed(b"DTK", 1).has_head)

    def test_body_that_is_no_object_is_none(self) -> None:
        for body in (b"", b"[1]", b"{", b"\xff", b'{"a":' + b"[" * 100_000):
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            self.assertIsNone(fed(head + body, 1000).json())

    def test_number_that_no_float_holds_is_none(self) -> None:
        values = (True, None, "1", 10**400, float("inf"), float("nan"))
        self.assertEqual([number_of(value) for value in values], [None] * len(values))
        self.assertEqual([number_of(1), number_of(-0.5)], [1.0, -0.5])

    def test_token_of_a_body_is_hidden(self) -> None:
        data = b'HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n{"access_token":"c4nary"}'
        response = fed(data, 100)
        fields = response.json()
        self.assertNotIn("c4nary", repr(fields))
        assert fields is not None
        self.assertIsInstance(fields["access_token"], Secret)


class Events(unittest.TestCase):
    def events(self, data: bytes, step: int) -> list[tuple[str, bytes, Optional[str]]]:
        stream, found = EventStream(), list[Event]()
        for start in range(0, len(data), step):
            part = Received()
            part.extend(data[start : start + step])
            stream.feed(part)
            event = stream.next()
            while event is not None:
                found.append(event)
                event = stream.next()
        return [(event.name, event.data.reveal(), event.id) for event in found]

    def test_events_are_complete_with_their_blank_line(self) -> None:
        data = (
            b": comment\n\nevent: token\nid: 7\ndata: {}\n\ndata:x\ndata: y\n\n"
            b"event: gone\r\ndata: z\r\n\r\nevent: late\ndata: 1"
        )
        expected = [("token", b"{}", "7"), ("message", b"x\ny", None), ("gone", b"z", None)]
        for step in (1, 2, 5, len(data)):
            self.assertEqual(self.events(data, step), expected)

    def test_event_without_an_end_is_rejected(self) -> None:
        with self.assertRaises(BadResponse):
            self.events(b"data: " + b"x" * 1_100_000, 65536)


if __name__ == "__main__":
    unittest.main()
