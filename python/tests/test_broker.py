"""The blocking broker against a fake one."""

from __future__ import annotations

import os
import pickle
import socket
import threading
import time
import unittest
from typing import Callable, TypeVar
from unittest import mock

import domo_token
from domo_token import _cache, _clock, _retry
from domo_token.testing import FakeBroker
from programs import until

_T = TypeVar("_T")


def in_threads(count: int, call: Callable[[], _T]) -> list[_T]:
    """Return the results of a call in several threads."""
    results: list[_T] = []
    threads = [threading.Thread(target=lambda: results.append(call())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class EarlyRenewalTest(unittest.TestCase):
    def test_caller_that_needs_a_fresher_token_outlasts_the_failed_renewal_of_another(self) -> None:
        cache, key, now = _cache.TokenCache(), (None, "data"), _clock.boot_now()
        with FakeBroker() as fake:
            cached = fake.broker().token("data")
        early = _cache.Plan(_cache.Call(key, _cache.Requirement(), now + 10), cached, now)
        self.assertTrue(early.is_early)
        strict = _cache.Call(key, _cache.Requirement(min_ttl=60), now + 1.1)
        gone = domo_token.NotRunning("no broker", kind="not_running")
        resolved = _cache.resolve(cache, strict, early, gone, grace=0.2)
        self.assertEqual(resolved, (None, None))


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.fake = FakeBroker()
        self.addCleanup(self.fake.close)
        self.broker = self.fake.broker()

    def answer(self, data: bytes, timeout: float = 0.4) -> domo_token.Error:
        """Return the error of a request that a server answers with these bytes."""
        self.fake.stop()
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(self.fake.socket)
            server.listen(16)

            def serve() -> None:
                while True:
                    try:
                        connection, _ = server.accept()
                    except OSError:
                        return
                    with connection:
                        connection.recv(4096)
                        connection.sendall(data)

            thread = threading.Thread(target=serve)
            thread.start()
            try:
                self.fake.broker(timeout=timeout).token("data")
            except domo_token.Error as error:
                return error
            finally:
                server.shutdown(socket.SHUT_RDWR)
                thread.join()
                os.unlink(self.fake.socket)
        raise AssertionError("no error")


class Tokens(Case):
    def test_token_in_memory_is_returned_without_a_request(self) -> None:
        token = self.broker.token("data")
        self.assertIs(self.broker.token("data"), token)
        self.assertEqual(self.fake.requests, 1)
        self.assertEqual(self.broker.token("user,data").scope, "data user")

    def test_threads_share_one_request(self) -> None:
        tokens = in_threads(32, lambda: self.broker.token("data"))
        self.assertEqual(len({token.generation for token in tokens}), 1)
        self.assertEqual((len(tokens), self.fake.token_requests("data")), (32, 1))

    def test_threads_share_one_request_for_a_rejected_token(self) -> None:
        first = self.broker.token("data")
        tokens = in_threads(16, lambda: self.broker.renew(first))
        self.assertEqual(len({token.generation for token in tokens}), 1)
        self.assertNotEqual(tokens[0].generation, first.generation)
        self.assertEqual(self.fake.rejections("data"), 1)
        self.assertEqual(self.fake.renewals("data"), 2)

    def test_rejected_token_is_not_returned_again(self) -> None:
        first = self.broker.token("data")
        self.fake.fail("data", "unavailable")
        with self.assertRaises(domo_token.Unavailable):
            self.broker.renew(first)
        with self.assertRaises(domo_token.Unavailable):
            self.broker.token("data")

    def test_scopes_that_are_no_text_are_a_type_error_that_shows_the_form(self) -> None:
        for scopes in (["data", "user"], ("data", "user"), None):
            with self.assertRaises(TypeError) as caught:
                self.broker.token(scopes)  # type: ignore[arg-type]
            self.assertIn('"data user"', str(caught.exception))

    def test_newer_token_in_memory_needs_no_request(self) -> None:
        first = self.broker.token("data")
        second = self.broker.renew(first)
        self.assertIs(self.broker.renew(first), second)
        self.assertEqual(self.fake.token_requests("data"), 2)

    def test_fresher_token_is_requested_near_expiry_and_the_old_one_outlasts_an_outage(
        self,
    ) -> None:
        first = self.broker.token("data")
        later = _clock.boot_now() + 3600 - 30
        self.fake.fail("data", "unavailable")
        with (
            mock.patch("domo_token.broker.boot_now", return_value=later),
            mock.patch("domo_token._cache.boot_now", return_value=later),
        ):
            self.assertIs(self.broker.token("data"), first)
        self.assertEqual(self.fake.token_requests("data"), 2)

    def test_decision_of_the_broker_replaces_a_valid_token(self) -> None:
        self.broker.token("data")
        self.fake.fail("data", "not_permitted")
        later = _clock.boot_now() + 3600 - 30
        with (
            mock.patch("domo_token._cache.boot_now", return_value=later),
            self.assertRaises(domo_token.NotPermitted),
        ):
            self.broker.token("data")

    def test_expired_token_is_replaced(self) -> None:
        self.fake.lifetime = 1.0
        first = self.broker.token("data")
        until(lambda: self.broker.token("data").generation != first.generation, "another token", 5)

    def test_min_ttl_requests_a_token_that_meets_it(self) -> None:
        self.fake.grant("data", lifetime=100)
        first = self.broker.token("data")
        self.assertIs(self.broker.token("data", min_ttl=50), first)
        self.assertGreaterEqual(self.broker.token("data", min_ttl=1000).expires_in, 1000)
        with self.assertRaises(domo_token.UnknownScopeSet) as caught:
            self.broker.token("data", min_ttl=7200)
        self.assertEqual(caught.exception.kind, "min_ttl_too_long")

    def test_clients_have_separate_tokens(self) -> None:
        self.assertEqual(self.fake.broker(client="acme").token("data").client, "acme")

    def test_invalid_arguments_are_errors_without_a_request(self) -> None:
        for scopes in ("", " , ", 'da"ta', "d\u00e4ta", "x" * 2000):
            with self.assertRaises(domo_token.Error) as caught:
                self.broker.token(scopes)
            self.assertEqual(
                (caught.exception.kind, caught.exception.exit_code), ("invalid_scope", 2)
            )
        for value in (-1, float("nan"), float("inf")):
            with self.assertRaises(ValueError):
                self.broker.token("data", min_ttl=value)
        for value in (0, -1, float("nan")):
            with self.assertRaises(ValueError):
                domo_token.Broker(timeout=value)
        self.assertEqual(self.fake.requests, 0)


class Failures(Case):
    def test_each_kind_has_its_class_and_exit_code(self) -> None:
        broker = self.fake.broker(timeout=0.3)
        for kind, expected, code in [
            ("unavailable", domo_token.Unavailable, 75),
            ("busy", domo_token.Unavailable, 75),
            ("timeout", domo_token.Unavailable, 75),
            ("not_permitted", domo_token.NotPermitted, 77),
            ("unknown_client", domo_token.UnknownScopeSet, 78),
            ("unknown_scope", domo_token.UnknownScopeSet, 78),
            ("gone", domo_token.UnknownScopeSet, 78),
            ("denied", domo_token.Rejected, 78),
            ("bug", domo_token.Error, 70),
            ("bad_request", domo_token.Error, 2),
        ]:
            self.fake.fail("data", kind, "what failed:\ncause")
            with self.subTest(kind), self.assertRaises(domo_token.Error) as caught:
                broker.token("data")
            error = caught.exception
            self.assertEqual((error.kind, type(error), error.exit_code), (kind, expected, code))
            self.assertNotIn("\n", str(error))

    def test_retry_after_counts_down(self) -> None:
        self.fake.fail("data", "unavailable", retry_after=60)
        with self.assertRaises(domo_token.Unavailable) as caught:
            self.broker.token("data")
        left = caught.exception.retry_after
        assert left is not None
        self.assertTrue(50 < left <= 60, left)
        self.fake.fail("data", "unavailable")
        with self.assertRaises(domo_token.Unavailable) as caught:
            self.broker.token("data")
        self.assertIsNone(caught.exception.retry_after)

    def test_threads_that_share_a_failure_have_errors_of_their_own(self) -> None:
        self.fake.fail("data", "timeout")
        broker = self.fake.broker(timeout=0.3)

        def error() -> domo_token.Error:
            try:
                broker.token("data")
            except domo_token.Error as found:
                return found
            raise AssertionError("no error")

        errors = in_threads(4, error)
        self.assertEqual(len({id(error) for error in errors}), 4)
        self.assertEqual({error.kind for error in errors}, {"timeout"})

    def test_missing_broker_is_reported_immediately(self) -> None:
        start = time.monotonic()
        with self.assertRaises(domo_token.NotRunning) as caught:
            domo_token.Broker("/nonexistent/broker.sock").token("data")
        self.assertLess(time.monotonic() - start, 0.9)
        message = "no broker listens on /nonexistent/broker.sock; start a broker there"
        self.assertEqual(str(caught.exception), message)

    def test_refused_connection_is_retried_for_a_second(self) -> None:
        path = self.fake.socket + "2"
        with socket.socket(socket.AF_UNIX) as unused:
            unused.bind(path)
        start = time.monotonic()
        with self.assertRaises(domo_token.NotRunning):
            domo_token.Broker(path).token("data")
        self.assertTrue(0.7 < time.monotonic() - start < 3)

    def test_full_backlog_is_busy(self) -> None:
        path = self.fake.socket + "2"
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as other:
            server.bind(path)
            server.listen(0)
            other.connect(path)
            with self.assertRaises(domo_token.Unavailable) as caught:
                domo_token.Broker(path, timeout=0.3).token("data")
            self.assertEqual(caught.exception.kind, "busy")

    def test_restart_of_a_known_broker_is_waited_for(self) -> None:
        self.broker.token("data")
        self.fake.stop()
        timer = threading.Timer(0.3, self.fake.start)
        timer.start()
        self.assertEqual(self.broker.token("user").scope, "user")
        timer.join()

    def test_busy_broker_gets_the_request_again_until_the_time_limit(self) -> None:
        self.fake.fail("data", "busy", retry_after=0.1)
        timer = threading.Timer(0.3, lambda: self.fake.grant("data"))
        timer.start()
        self.assertEqual(self.broker.token("data").scope, "data")
        timer.join()
        self.assertTrue(1 < self.fake.token_requests("data") < 8)

    def test_request_to_a_silent_broker_ends_shortly_after_the_time_limit(self) -> None:
        self.fake.fail("data", "timeout")
        start = time.monotonic()
        with self.assertRaises(domo_token.Unavailable) as caught:
            self.fake.broker(timeout=0.5).token("data")
        self.assertTrue(0.6 < time.monotonic() - start < 3)
        self.assertIn("did not answer in time", str(caught.exception))

    def test_frame_of_the_other_protocol_is_busy(self) -> None:
        self.assertEqual(self.answer(b"DTK\x02whatever").kind, "busy")

    def test_connection_closed_without_an_answer_is_repeated_and_then_reported(self) -> None:
        error = self.answer(b"")
        self.assertEqual(error.kind, "timeout")
        self.assertIn("[broker] http", str(error))

    def test_incomplete_answer_is_repeated_and_then_reported(self) -> None:
        error = self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
        self.assertIn("before its answer was complete", str(error))

    def test_invalid_answers_are_errors_that_show_no_token(self) -> None:
        for body in [
            b"{}",
            b'{"access_token":"c4nary"}',
            b'{"access_token":"c4nary"',
            b'{"access_token":"c4nary","expires_in":1%s,"expires_at":9,"client":"a","scope":"data","generation":1}'
            % (b"0" * 400),
            b'{"access_token":"c4nary","expires_in":9,"expires_at":1e999,"client":"a","scope":"data","generation":1}',
            b'{"access_token":"c4nary","expires_in":-9,"expires_at":9,"client":"a","scope":"data","generation":1}',
            b'{"access_token":"c4nary\\n","expires_in":9,"expires_at":9,"client":"a","scope":"data","generation":1}',
            b'{"access_token":"c4nary","expires_in":9,"expires_at":9,"client":"a","scope":"user","generation":1}',
        ]:
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            error = self.answer(head + body)
            self.assertEqual((error.kind, error.exit_code), ("protocol", 70), body)
            self.assertNotIn("c4nary", str(error))
        self.assertEqual(self.answer(b"SSH-2.0\r\n").kind, "protocol")
        self.assertIn(
            "HTTP status 418", str(self.answer(b"HTTP/1.1 418 x\r\nContent-Length: 0\r\n\r\n"))
        )

    def test_time_of_the_next_attempt_that_is_no_number_is_ignored(self) -> None:
        for millis in (b"1e999", b"1" + b"0" * 400, b"NaN"):
            body = (
                b'{"type":"urn:domo-token:unavailable","detail":"x","retry_after_ms":%s}' % millis
            )
            head = b"HTTP/1.1 503 x\r\nContent-Length: %d\r\n\r\n" % len(body)
            error = self.answer(head + body)
            assert isinstance(error, domo_token.Unavailable)
            self.assertEqual((error.retry_after, str(error)), (None, "x"))

    def test_unknown_kind_of_a_newer_broker_has_the_class_of_its_exit_code(self) -> None:
        body = b'{"type":"urn:domo-token:new","detail":"x","exit_code":75}'
        head = b"HTTP/1.1 503 x\r\nContent-Length: %d\r\n\r\n" % len(body)
        error = self.answer(head + body)
        self.assertEqual((type(error), error.kind), (domo_token.Unavailable, "new"))

    def test_errors_can_be_pickled(self) -> None:
        self.fake.fail("data", "unavailable", "x", retry_after=60)
        with self.assertRaises(domo_token.Unavailable) as caught:
            self.broker.token("data")
        copy = pickle.loads(pickle.dumps(caught.exception))
        self.assertEqual((copy.message, copy.kind, copy.exit_code), ("x", "unavailable", 75))
        self.assertRegex(str(copy), r"^x; next attempt in (59|60) s$")


class TimeLimits(unittest.TestCase):
    def test_seconds_to_request_let_the_answer_come_in_time(self) -> None:
        for left, seconds in [(10.0, 10), (9.99, 10), (9.9, 10), (9.8, 9), (9.5, 9), (0.3, 1)]:
            self.assertEqual(_retry.seconds_to_request(left), seconds, left)


class Processes(Case):
    def child(self, call: Callable[[], object]) -> int:
        """Return the exit code of a forked child that makes the call."""
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if call() else 1)
            finally:
                os._exit(2)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def test_forked_child_uses_the_tokens_and_requests_others(self) -> None:
        token = self.broker.token("data")
        same = self.child(lambda: self.broker.token("data").generation == token.generation)
        other = self.child(lambda: self.broker.token("user").scope == "user")
        self.assertEqual((same, other), (0, 0))
        self.assertEqual(self.fake.token_requests("data"), 1)

    def test_child_that_is_forked_during_a_request_makes_its_own(self) -> None:
        self.fake.fail("data", "timeout")
        broker = self.fake.broker(timeout=3)
        thread = threading.Thread(target=self.ignore_error, args=(broker,))
        thread.start()
        until(lambda: self.fake.token_requests("data") == 1, "the request arrives")
        self.fake.grant("data")
        self.assertEqual(self.child(lambda: broker.token("data").scope == "data"), 0)
        self.fake.stop()
        self.fake.start()
        thread.join()

    def ignore_error(self, broker: domo_token.Broker) -> None:
        try:
            broker.token("data")
        except domo_token.Error as error:
            self.assertEqual(error.kind, "timeout")

    def test_pickled_broker_has_its_settings_and_no_token(self) -> None:
        self.broker.token("data")
        data = pickle.dumps(self.broker)
        self.assertNotIn(b"fake-data", data)
        copy = pickle.loads(data)
        self.assertEqual((copy.socket, copy.timeout), (self.broker.socket, 10))
        self.assertEqual(copy.token("data").scope, "data")


class Watching(Case):
    def test_watch_returns_each_token_once(self) -> None:
        with self.broker.watch("data") as watch:
            first = next(watch)
            self.fake.grant("data", "second")
            self.assertEqual(next(watch).text, "second")
            self.assertEqual(self.broker.token("data").text, "second")
            self.fake.stop()
            self.fake.start()
            self.fake.grant("data", "third")
            self.assertEqual(next(watch).text, "third")
            self.assertNotEqual(first.text, "third")
        self.assertEqual(list(watch), [])

    def test_outages_are_reported_and_gone_ends_the_watch(self) -> None:
        errors: list[domo_token.Error] = []
        watch = self.broker.watch("data", errors.append)
        self.addCleanup(watch.close)
        next(watch)
        self.fake.fail("data", "unavailable", "Domo is down", retry_after=5)
        recovery = threading.Thread(target=self.grant_after_report, args=(errors,))
        recovery.start()
        self.assertEqual(next(watch).text, "back")
        (error,) = errors
        self.assertRegex(str(error), r"^Domo is down; next attempt in [345] s$")
        recovery.join()
        self.fake.fail("data", "gone")
        with self.assertRaises(domo_token.UnknownScopeSet) as caught:
            next(watch)
        self.assertEqual(caught.exception.kind, "gone")
        with self.assertRaises(StopIteration):
            next(watch)

    def grant_after_report(self, errors: list[domo_token.Error]) -> None:
        until(lambda: len(errors) == 1, "the outage is reported")
        self.fake.grant("data", "back")

    def test_stopped_broker_is_reported_once_and_waited_for(self) -> None:
        errors: list[domo_token.Error] = []
        watch = self.broker.watch("data", errors.append)
        self.addCleanup(watch.close)
        next(watch)
        self.fake.stop()
        results: list[str] = []
        thread = threading.Thread(target=lambda: results.append(next(watch).text))
        thread.start()
        until(lambda: len(errors) == 1, "the outage is reported")
        self.fake.grant("data", "again")
        self.fake.start()
        thread.join()
        self.assertEqual((results, [error.kind for error in errors]), (["again"], ["not_running"]))

    def test_watch_without_a_broker_fails(self) -> None:
        self.fake.stop()
        with self.assertRaises(domo_token.NotRunning):
            next(self.fake.broker().watch("data"))

    def test_denied_watch_fails(self) -> None:
        self.fake.fail("data", "not_permitted")
        with self.assertRaises(domo_token.NotPermitted):
            next(self.broker.watch("data"))

    def test_close_ends_a_watch_that_waits_in_another_thread(self) -> None:
        watch = self.broker.watch("data")
        next(watch)
        found: list[list[domo_token.Token]] = []
        thread = threading.Thread(target=lambda: found.append(list(watch)))
        thread.start()
        watch.close()
        thread.join(5)
        self.assertEqual(found, [[]])


if __name__ == "__main__":
    unittest.main()
