"""The package against the real daemon and a fake Domo."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import unittest

import domo_token
from programs import daemon_and_sandbox, until


def _requests_to_domo(broker: domo_token.Broker) -> dict[str, int]:
    # The sandbox may print a request after its response was used.
    return {found["scope"]: found["requests"] for found in broker.status()["tokens"]}


class RealBroker(unittest.TestCase):
    def test_token_of_each_format_and_scope_set_is_returned(self) -> None:
        with daemon_and_sandbox() as (daemon, _):
            broker = domo_token.Broker(daemon.socket)
            token = broker.token("user,data")
            self.assertEqual(token.scope, "data user")
            self.assertEqual(token.client, "sandbox")
            self.assertEqual(token.broker, daemon.socket)
            self.assertLess(abs(token.expires_at - time.time() - 3600), 10)
            self.assertIs(broker.token("data user data"), token)
            self.assertEqual(broker.token("data").scope, "data")
            self.assertEqual(_requests_to_domo(broker), {"data": 1, "data user": 1})

    def test_min_ttl_is_checked_by_the_broker(self) -> None:
        with daemon_and_sandbox() as (daemon, _):
            broker = domo_token.Broker(daemon.socket)
            token = broker.token("data", min_ttl=1800)
            self.assertGreaterEqual(token.expires_in, 1800)
            with self.assertRaises(domo_token.UnknownScopeSet) as caught:
                broker.token("data", min_ttl=7200)
            self.assertEqual(caught.exception.kind, "min_ttl_too_long")
            self.assertIs(broker.token("data"), token)

    def test_errors_have_the_class_of_their_kind(self) -> None:
        settings = "[clients.sandbox.access]\ndata = { users = [12345] }\n"
        with daemon_and_sandbox() as (daemon, _):
            broker = domo_token.Broker(daemon.socket)
            with self.assertRaises(domo_token.UnknownScopeSet) as caught:
                broker.token("buzz")
            self.assertEqual(
                (caught.exception.kind, caught.exception.exit_code), ("unknown_scope", 78)
            )
            with self.assertRaises(domo_token.UnknownScopeSet) as caught:
                domo_token.Broker(daemon.socket, client="other").token("data")
            self.assertEqual(caught.exception.kind, "unknown_client")
            self.assertNotIn("\n", str(caught.exception))
        with daemon_and_sandbox(settings=settings) as (daemon, _):
            with self.assertRaises(domo_token.NotPermitted) as denied:
                domo_token.Broker(daemon.socket).token("data")
            self.assertEqual(
                (denied.exception.kind, denied.exception.exit_code), ("not_permitted", 77)
            )

    def test_http_turned_off_is_an_error_that_names_the_setting(self) -> None:
        with daemon_and_sandbox(settings="[broker]\nhttp = false\n") as (daemon, _):
            with self.assertRaises(domo_token.Unavailable) as caught:
                domo_token.Broker(daemon.socket, timeout=0.5).token("data")
            self.assertIn("[broker] http is not false", str(caught.exception))

    def test_outage_of_domo_is_unavailable_with_the_time_of_the_next_attempt(self) -> None:
        with daemon_and_sandbox() as (daemon, sandbox):
            daemon.stop()
            sandbox.stop()
            daemon.start()
            with self.assertRaises(domo_token.Unavailable) as caught:
                domo_token.Broker(daemon.socket, timeout=1).token("data")
            self.assertEqual(caught.exception.kind, "unavailable")
            self.assertIsNotNone(caught.exception.retry_after)

    def test_renew_fetches_one_other_token_for_all_threads(self) -> None:
        # The daemon renews a token of this lifetime after a second at the earliest.
        with daemon_and_sandbox("20s") as (daemon, _):
            broker = domo_token.Broker(daemon.socket)
            first = broker.token("data")
            others: list[domo_token.Token] = []
            threads = [
                threading.Thread(target=lambda: others.append(broker.renew(first)))
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(len({other.generation for other in others}), 1)
            self.assertNotEqual(others[0].generation, first.generation)
            self.assertEqual(len(others), 8)
            self.assertEqual(_requests_to_domo(broker)["data"], 2)

    def test_status_lists_the_scope_sets_without_tokens(self) -> None:
        with daemon_and_sandbox() as (daemon, _):
            broker = domo_token.Broker(daemon.socket)
            text = broker.token("data").text
            status = broker.status()
            self.assertEqual([found["scope"] for found in status["tokens"]], ["data", "data user"])
            self.assertEqual(status["broker"]["socket"], daemon.socket)
            self.assertEqual(
                asyncio.run(domo_token.AsyncBroker(daemon.socket).status())["broker"],
                status["broker"],
            )
            self.assertNotIn(text, repr(status))

    def test_watch_returns_each_token_over_a_restart_and_ends_when_the_set_is_removed(self) -> None:
        with daemon_and_sandbox("4s") as (daemon, _):
            outages: list[domo_token.Error] = []
            watch = domo_token.Broker(daemon.socket).watch("data", outages.append)
            seen = [next(watch).generation, next(watch).generation]
            daemon.stop()
            daemon.start()
            seen.append(next(watch).generation)
            self.assertEqual(len(set(seen)), 3)
            config = daemon._config
            with open(config) as file:
                text = file.read()
            with open(config, "w") as file:
                file.write(text.replace('"data", "data user"', '"data user"'))
            with self.assertRaises(domo_token.UnknownScopeSet) as caught:
                for _ in watch:
                    pass
            self.assertEqual(caught.exception.kind, "gone")
            self.assertEqual(list(watch), [])

    def test_async_watch_returns_each_token(self) -> None:
        async def generations(socket: str) -> list[int]:
            found = []
            async with domo_token.AsyncBroker(socket).watch("data") as watch:
                async for token in watch:
                    found.append(token.generation)
                    if len(found) == 3:
                        break
            return found

        with daemon_and_sandbox("3s") as (daemon, _):
            self.assertEqual(len(set(asyncio.run(generations(daemon.socket)))), 3)

    def test_module_prints_the_token_like_the_helper(self) -> None:
        with daemon_and_sandbox() as (daemon, _):

            def run(*arguments: str) -> subprocess.CompletedProcess[str]:
                command = [sys.executable, "-m", "domo_token", "--socket", daemon.socket]
                return subprocess.run([*command, *arguments], capture_output=True, text=True)

            token = domo_token.Broker(daemon.socket).token("data")
            self.assertEqual(run("data").stdout, token.text + "\n")
            header = run("--format", "header", "-n", "data").stdout
            self.assertEqual(header, "Authorization: Bearer " + token.text)
            self.assertEqual(run("get", "data", "user").returncode, 0)
            unknown = run("buzz")
            self.assertEqual((unknown.returncode, unknown.stdout), (78, ""))
            self.assertEqual(unknown.stderr.count("\n"), 1)

    def test_no_token_is_in_the_log_of_the_daemon(self) -> None:
        with daemon_and_sandbox(settings='[log]\nlevel = "debug"\n') as (daemon, _):
            text = domo_token.Broker(daemon.socket).token("data").text
            until(lambda: "data" in daemon.log(), "the daemon logs the request")
            self.assertNotIn(text, daemon.log())


if __name__ == "__main__":
    unittest.main()
