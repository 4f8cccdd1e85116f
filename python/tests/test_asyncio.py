"""The broker for asyncio against a fake one."""

from __future__ import annotations

import asyncio
import select
import threading
import unittest

import domo_token
from domo_token.testing import FakeBroker


async def turns_of_the_loop() -> None:
    """Let each task run until it waits for bytes."""
    for _ in range(20):
        await asyncio.sleep(0)


class Case(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        self.fake = FakeBroker()
        self.addCleanup(self.fake.close)
        self.broker = self.fake.async_broker()


class Tokens(Case):
    async def test_tasks_share_one_request(self) -> None:
        tokens = await asyncio.gather(*(self.broker.token("data") for _ in range(32)))
        self.assertEqual(len({token.generation for token in tokens}), 1)
        self.assertIs(await self.broker.token("data"), tokens[0])
        self.assertEqual(self.fake.requests, 1)

    async def test_tasks_share_one_request_for_a_rejected_token(self) -> None:
        first = await self.broker.token("data")
        tokens = await asyncio.gather(*(self.broker.renew(first) for _ in range(16)))
        self.assertEqual(len({token.generation for token in tokens}), 1)
        self.assertNotEqual(tokens[0].generation, first.generation)
        self.assertEqual((self.fake.rejections("data"), self.fake.token_requests("data")), (1, 2))

    async def test_errors_are_those_of_the_blocking_broker(self) -> None:
        self.fake.fail("data", "denied", "Domo rejects the credentials")
        with self.assertRaises(domo_token.Rejected) as caught:
            await self.broker.token("data")
        self.assertEqual(str(caught.exception), "Domo rejects the credentials")
        with self.assertRaises(domo_token.NotRunning):
            await domo_token.AsyncBroker("/nonexistent/broker.sock").token("data")
        self.fake.fail("data", "timeout")
        with self.assertRaises(domo_token.Unavailable) as late:
            await self.fake.async_broker(timeout=0.3).token("data")
        self.assertEqual(late.exception.kind, "timeout")

    async def test_restart_of_a_known_broker_is_waited_for(self) -> None:
        await self.broker.token("data")
        self.fake.stop()
        timer = threading.Timer(0.3, self.fake.start)
        timer.start()
        self.assertEqual((await self.broker.token("user")).scope, "user")
        timer.join()

    async def test_cancelled_call_does_not_cancel_the_request_of_others(self) -> None:
        self.fake.fail("data", "busy")
        first = asyncio.create_task(self.broker.token("data"))
        second = asyncio.create_task(self.broker.token("data"))
        while not self.fake.token_requests("data"):
            await asyncio.sleep(0.005)
        first.cancel()
        self.fake.grant("data", "granted")
        self.assertEqual((await second).text, "granted")
        with self.assertRaises(asyncio.CancelledError):
            await first

    async def test_request_of_cancelled_calls_alone_is_cancelled(self) -> None:
        self.fake.fail("data", "timeout")
        calls = [asyncio.create_task(self.broker.token("data")) for _ in range(2)]
        while not self.fake.token_requests("data"):
            await asyncio.sleep(0.005)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        self.fake.stop()
        self.fake.start()
        self.fake.grant("data", "next")
        self.assertEqual((await self.broker.token("data")).text, "next")
        others = asyncio.all_tasks() - {asyncio.current_task()}
        self.assertEqual(others, set())

    async def test_wait_for_ends_a_call(self) -> None:
        self.fake.fail("data", "timeout")
        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(self.broker.token("data"), 0.1)

    async def test_status_is_returned(self) -> None:
        await self.broker.token("data")
        status = await self.broker.status()
        self.assertEqual([found["scope"] for found in status["tokens"]], ["data"])


class Loops(unittest.TestCase):
    def test_broker_is_used_by_several_event_loops(self) -> None:
        with FakeBroker() as fake:
            broker = fake.async_broker()
            first = asyncio.run(broker.token("data"))
            found: list[domo_token.Token] = []
            threads = [
                threading.Thread(target=lambda: found.append(asyncio.run(broker.token("user"))))
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual({token.scope for token in found}, {"user"})
            self.assertEqual(len(found), 4)
            self.assertIs(asyncio.run(broker.token("data")), first)

    def test_tokens_are_shared_with_a_blocking_broker(self) -> None:
        with FakeBroker() as fake:
            broker = fake.broker()
            token = broker.token("data")
            shared = domo_token.AsyncBroker.sharing(broker)
            self.assertIs(asyncio.run(shared.token("data")), token)


class Watching(Case):
    async def test_watch_returns_each_token_and_ends_when_it_is_gone(self) -> None:
        errors: list[domo_token.Error] = []
        async with self.broker.watch("data", errors.append) as watch:
            await watch.__anext__()
            self.fake.grant("data", "second")
            self.assertEqual((await watch.__anext__()).text, "second")
            self.assertEqual((await self.broker.token("data")).text, "second")
            self.fake.stop()
            self.fake.start()
            self.fake.grant("data", "third")
            self.assertEqual((await watch.__anext__()).text, "third")
            self.fake.fail("data", "gone")
            with self.assertRaises(domo_token.UnknownScopeSet):
                await watch.__anext__()
            with self.assertRaises(StopAsyncIteration):
                await watch.__anext__()

    async def test_cancelled_step_loses_no_token(self) -> None:
        watch = self.broker.watch("data")
        await watch.__anext__()
        step = asyncio.create_task(watch.__anext__())
        await turns_of_the_loop()  # It reads now.
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
        self.fake.grant("data", "second")
        self.assertEqual((await watch.__anext__()).text, "second")
        await watch.aclose()

    async def test_watch_that_another_task_closes_ends_and_affects_no_other_connection(
        self,
    ) -> None:
        watch = self.broker.watch("data")
        await watch.__anext__()
        step = asyncio.create_task(watch.__anext__())
        await turns_of_the_loop()  # It reads now.
        watch.close()
        # The descriptor of this connection could have the number of the closed one.
        await asyncio.wait_for(self.broker.token("user"), 5)
        with self.assertRaises(StopAsyncIteration):
            await asyncio.wait_for(step, 5)
        self.assertIsNone(watch._connection)

    async def test_watch_that_is_closed_while_it_connects_ends(self) -> None:
        watch = self.broker.watch("data")
        step = asyncio.create_task(watch.__anext__())
        await asyncio.sleep(0)  # It pauses before it connects.
        watch.close()
        with self.assertRaises(StopAsyncIteration):
            await asyncio.wait_for(step, 5)
        self.assertIsNone(watch._connection)

    async def test_cancellation_that_comes_with_a_token_is_not_ignored(self) -> None:
        async def collect(watch: domo_token.AsyncWatch) -> None:
            async for _ in watch:
                pass

        # A cancellation between the read and its result, which the turns of the loop try.
        for turns in range(8):
            watch = self.broker.watch("data")
            await watch.__anext__()
            task = asyncio.create_task(collect(watch))
            await turns_of_the_loop()
            connection = watch._connection
            assert connection is not None
            self.fake.grant("data")
            # Blocks the loop until the bytes are there.
            self.assertTrue(select.select([connection._stream], [], [], 5)[0])
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=5)
            self.assertEqual(done, {task}, turns)
            self.assertTrue(task.cancelled())
            watch.close()

    async def test_time_limit_ends_a_request_without_an_answer(self) -> None:
        self.fake.fail("data", "timeout")
        with self.assertRaises(domo_token.Unavailable) as caught:
            await self.fake.async_broker(timeout=0.1).token("data")
        self.assertEqual(caught.exception.kind, "timeout")
        self.assertIn("did not answer in time", str(caught.exception))

    async def test_iteration_in_a_task_is_cancelled(self) -> None:
        seen: list[domo_token.Token] = []

        async def collect() -> None:
            async for token in self.broker.watch("data"):
                seen.append(token)

        task = asyncio.create_task(collect())
        while not seen:
            await asyncio.sleep(0.005)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        self.assertEqual(len(seen), 1)


if __name__ == "__main__":
    unittest.main()
