"""Tests for callers on an event loop: many calls at once over one connection."""

import asyncio
import gc
import threading
import time
import warnings

import pytest
from fake_front import dying, echo, failing, late, refusing, silent

from streamfn import App, Log, aio
from streamfn.errors import (
    ForkedHandle,
    FunctionError,
    FunctionNotFound,
    InvalidRequest,
    StreamClosed,
    Throttled,
    WorkerUnavailable,
)
from streamfn.invocation import async_client, async_connection, liveness

APP = App("shop")


def run(coroutine):
    return asyncio.run(coroutine)


def call(log, payload=..., function="price", **options):
    return aio.invoke(APP, function, payload, where="worker", log=log, **options)


async def longest_pause(stop):
    """The longest time in which the loop did not run this task."""
    longest, last = 0.0, time.monotonic()
    while not stop.is_set():
        await asyncio.sleep(0.001)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    return longest


class TestManyAtOnce:
    def test_a_thousand_calls_share_one_connection(self, log, front):
        there = front(behave=late(0.1))

        async def main():
            return await asyncio.gather(*(call(log, n) for n in range(1_000)))

        assert run(main()) == list(range(1_000))
        assert there.opened == 1

    def test_each_gets_its_own_answer_in_any_order(self, log, front):
        def behave(front, reply, frame):
            late(0.3 if frame.body == b"0" else 0.0)(front, reply, frame)

        front(behave=behave)
        order = []

        async def one(n):
            order.append(await call(log, n))

        async def main():
            await asyncio.gather(*(one(n) for n in range(10)))

        run(main())
        assert order[-1] == 0
        assert sorted(order) == list(range(10))

    def test_the_loop_is_not_blocked_meanwhile(self, log, front):
        front(behave=late(0.5))

        async def main():
            stop = asyncio.Event()
            pause = asyncio.create_task(longest_pause(stop))
            await asyncio.gather(*(call(log, n) for n in range(20)))
            stop.set()
            return await pause

        assert run(main()) < 0.3

    def test_large_calls_wait_for_room_and_all_arrive(self, log, front):
        there = front()
        there.reads.clear()
        text = "x" * 500_000

        async def main():
            calls = [asyncio.create_task(call(log, [n, text])) for n in range(20)]
            await asyncio.sleep(0.3)
            [peer] = async_client._loops[asyncio.get_running_loop()].values()
            unsent = sum(len(left) for _, left in peer._connection._unsent)
            there.reads.set()
            return unsent, await asyncio.gather(*calls)

        unsent, answers = run(main())
        assert [each[0] for each in answers] == list(range(20))
        assert unsent <= async_connection.UNSENT_BYTES_MAX + 600_000, "not all of them in memory"

    def test_two_loops_have_a_connection_each(self, log, front):
        there = front()

        assert [run(call(log, n)) for n in range(3)] == [0, 1, 2]
        assert there.opened == 3

    def test_a_loop_that_ends_leaves_nothing_open(self, log, front):
        there = front()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run(call(log))
            gc.collect()
        time.sleep(0.2)

        assert there.connections == []


class TestSilence:
    def test_another_worker_answers(self, log, front):
        stopped, other = front(), front()
        stopped.greets = False

        async def main():
            return await asyncio.gather(*(call(log, n) for n in range(50)))

        began = time.monotonic()

        assert run(main()) == list(range(50))
        assert time.monotonic() - began < 1.0, "they wait together"
        assert (len(stopped.calls), len(other.calls)) == (0, 50)

    def test_without_another_one_it_is_unavailable(self, log, front):
        there = front()
        there.greets = False
        began = time.monotonic()

        with pytest.raises(WorkerUnavailable, match="its worker does not answer"):
            run(call(log))
        assert time.monotonic() - began < 2.5

    def test_the_next_front_is_waited_for(self, log, front):
        there = front()
        there.greets = False
        threading.Timer(0.5, there.restart).start()

        assert run(call(log, 5)) == 5

    def test_an_idle_connection_is_pinged_once_for_all(self, log, front):
        there = front()

        async def main():
            await call(log)
            await asyncio.sleep(liveness.IDLE_SECONDS + 0.05)
            await asyncio.gather(*(call(log) for _ in range(30)))

        run(main())
        assert (there.pings, there.opened) == (1, 1)

    def test_a_call_in_flight_survives_a_ping_without_an_answer(self, log, front):
        """The front was slow for a while; new calls go elsewhere, the old one is waited for."""
        there = front(behave=late(1.0))

        async def main():
            first = asyncio.create_task(call(log, 1))
            await asyncio.sleep(0.3)
            there.answers_pings = False
            other = front()
            second = await call(log, 2)
            return await first, second, other

        first, second, other = run(main())
        assert (first, second) == (1, 2)
        assert len(there.calls) + len(other.calls) == 2

    def test_nobody_listens(self, log, front):
        front().stop_listening()

        with pytest.raises(WorkerUnavailable):
            run(call(log))

    def test_a_socket_of_another_worker_is_refused(self, log, front):
        there = front()
        there.worker = "f" * 32

        with pytest.raises(WorkerUnavailable):
            run(call(log))
        assert there.calls == []


class TestDeath:
    def test_all_calls_of_a_front_that_dies_are_errors_and_none_is_repeated(self, log, front):
        there, other = front(behave=silent), front(behave=silent)

        async def main():
            calls = [asyncio.create_task(call(log, n)) for n in range(30)]
            await asyncio.sleep(0.3)
            there.drop_connections()
            other.drop_connections()
            return await asyncio.gather(*calls, return_exceptions=True)

        errors = run(main())
        assert {each.error_type for each in errors} == {"Runtime.WorkerLost"}
        assert len({each.request_id for each in errors}) == 30
        assert len(there.calls) + len(other.calls) == 30

    def test_the_next_call_succeeds(self, log, front):
        there = front(behave=dying)

        async def main():
            with pytest.raises(FunctionError):
                await call(log)
            there.behave = echo
            return await call(log, 3)

        assert run(main()) == 3

    def test_a_death_between_calls_is_not_noticed(self, log, front):
        there = front()

        async def main():
            for n in range(5):
                assert await call(log, n) == n
                there.restart()
                await asyncio.sleep(0)

        run(main())
        assert len(there.calls) == 5

    def test_a_worker_whose_lock_is_gone_is_lost_within_two_seconds(self, log, front):
        there = front(behave=silent)
        threading.Timer(0.3, there.leave).start()
        began = time.monotonic()

        with pytest.raises(FunctionError, match="the worker ended"):
            run(call(log))
        assert time.monotonic() - began < 2.3

    def test_a_front_that_is_stopped_in_a_call_is_given_up_at_last(self, log, front, monkeypatch):
        monkeypatch.setattr(liveness, "DEAF_SECONDS", 1.0)
        there = front(behave=silent)
        there.answers_pings = False

        with pytest.raises(FunctionError, match="did not answer for 1 s"):
            run(call(log))

    def test_a_long_call_goes_on_while_the_front_answers_pings(self, log, front, monkeypatch):
        monkeypatch.setattr(liveness, "DEAF_SECONDS", 1.0)
        monkeypatch.setattr(liveness, "ASK_SECONDS", 0.3)
        there = front(behave=late(2.0))

        assert run(call(log, 1)) == 1
        assert there.pings >= 3


class TestCancelling:
    def test_a_cancelled_call_disturbs_no_other(self, log, front, caplog):
        there = front(behave=late(0.5))

        async def main():
            calls = [asyncio.create_task(call(log, n)) for n in range(10)]
            await asyncio.sleep(0.2)
            calls[3].cancel()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            await asyncio.sleep(0.4)  # the late answer comes, and is dropped
            return answers, await call(log, "next")

        answers, after = run(main())
        assert isinstance(answers.pop(3), asyncio.CancelledError)
        assert answers == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        assert after == "next"
        assert (len(there.calls), there.opened) == (11, 1)
        assert caplog.records == []

    def test_a_call_that_is_cancelled_while_it_is_sent_leaves_whole_frames(self, log, front):
        there = front()
        there.reads.clear()

        async def main():
            large = asyncio.create_task(call(log, "x" * 3_000_000))
            await asyncio.sleep(0.3)
            large.cancel()
            there.reads.set()
            return await call(log, "next")

        assert run(main()) == "next"
        assert there.opened == 1

    def test_nothing_is_said_about_calls_cancelled_with_a_dying_front(self, log, front, caplog):
        there = front(behave=silent)

        async def main():
            calls = [asyncio.create_task(call(log, n)) for n in range(10)]
            await asyncio.sleep(0.2)
            there.drop_connections()
            for each in calls:
                each.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await asyncio.sleep(0.1)

        run(main())
        gc.collect()
        assert caplog.records == []


class TestErrors:
    def test_a_function_that_failed(self, log, front):
        front(behave=failing({"errorType": "ValueError", "errorMessage": "no"}))

        with pytest.raises(FunctionError, match="ValueError: no"):
            run(call(log))

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (429, Throttled),
            (400, InvalidRequest),
            (503, WorkerUnavailable),
            (404, FunctionNotFound),
        ],
    )
    def test_a_refusal(self, log, front, status, error):
        front(behave=refusing(status))

        with pytest.raises(error):
            run(call(log))

    def test_a_closed_log(self, log_dir, front, log):
        front()
        mine = Log.open(log_dir)
        mine.close()

        with pytest.raises(StreamClosed):
            run(call(mine))

    def test_a_log_of_asyncio_will_do(self, log_dir, front, log):
        front()

        async def main():
            async with await aio.Log.open(log_dir) as opened:
                return await aio.invoke(APP, "price", 1, where="worker", log=opened)

        assert run(main()) == 1

    def test_an_old_handle_in_a_child_is_refused(self, log, front):
        import os

        front()
        run(call(log))
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                run(call(log))
            except ForkedHandle:
                os.write(writing, b"refused")
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)

        assert os.read(reading, 100) == b"refused"
        os.close(reading)
