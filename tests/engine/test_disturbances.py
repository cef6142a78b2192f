"""Calls on one event loop: a call that breaks the loop or other calls is blamed for it.

Another call that fails because of it is `Disturbed`, which does not count as an attempt. A call
that is alone on the loop is always blamed itself.
"""

import asyncio
import ctypes
import gc
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest

from streamfn.clock import ManualClock
from streamfn.engine import event_loop
from streamfn.engine.invoker import Interrupt, Invoker
from streamfn.engine.lazy_event_loop import LazyEventLoop
from streamfn.engine.outcome import Disturbed, Failed, Success
from streamfn.model.mapping import EventSourceMapping

# What these functions do has Python warn of coroutines that never ran.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def loops():
    loops = LazyEventLoop(is_shielded=True)
    yield loops
    loops.close()


@pytest.fixture(scope="module", autouse=True)
def collected():
    """What the garbage collector warns of belongs to these tests."""
    yield
    gc.collect()


@pytest.fixture
def call(kit, loops):
    """Calls a function with one record and returns the outcome."""

    def call(function, timeout=30.0):
        mapping = EventSourceMapping(
            name="shop.total", app="shop", function="total", stream="orders",
            timeout=timedelta(seconds=timeout),
        )  # fmt: skip
        return Invoker(mapping, function, None, ManualClock(), loops).call_batch(
            kit.records_of("a"), 1
        )

    return call


class Neighbour:
    """A calm function that is in its call while another one is called."""

    def __init__(self):
        self.has_begun, self.may_end = threading.Event(), threading.Event()

    async def __call__(self, batch):
        self.has_begun.set()
        await asyncio.create_task(self._rest())
        assert await asyncio.to_thread(int, "7") == 7

    async def _rest(self):
        while not self.may_end.is_set():  # noqa: ASYNC110 -- another thread sets it
            await asyncio.sleep(0.001)


@pytest.fixture
def beside(call):
    """Calls a function beside a calm one; returns both outcomes, and the calm one's next."""

    def beside(function):
        neighbour = Neighbour()
        with ThreadPoolExecutor(1) as threads:
            calm = threads.submit(call, neighbour)
            assert neighbour.has_begun.wait(10)
            own = call(function)
            neighbour.may_end.set()
            return own, calm.result(), call(neighbour)

    return beside


async def exits(error=SystemExit):
    raise error(3)


async def awaits_an_exit(batch):
    await asyncio.create_task(exits())


async def awaits_an_interrupt(batch):
    await asyncio.create_task(exits(KeyboardInterrupt))


async def awaits_a_group(batch):
    async with asyncio.TaskGroup() as group:
        group.create_task(exits())


async def exits_in_a_callback(batch):
    asyncio.get_running_loop().call_soon(sys.exit)
    await asyncio.sleep(0.01)


async def leaves_an_exit_behind(batch):
    asyncio.create_task(exits())  # noqa: RUF006 -- the mistake that is tested


async def leaves_a_broken_handler(batch):
    asyncio.get_running_loop().set_exception_handler(sys.exit)
    asyncio.get_running_loop().call_soon(int, "x")
    await asyncio.sleep(0.01)


async def stops(batch):
    for _ in range(20):
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)


def throw_at(thread, error):
    """Have something raised in a thread, as a library for time-outs may."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


async def throws_at_the_loop(batch):
    """While it waits in its selector."""
    threading.Timer(0.02, throw_at, (threading.get_ident(), MemoryError)).start()
    await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (awaits_an_exit, "SystemExit"),
        (awaits_an_interrupt, "KeyboardInterrupt"),
        (awaits_a_group, "SystemExit"),
        (exits_in_a_callback, None),
        (leaves_an_exit_behind, None),
        (leaves_a_broken_handler, None),
        (stops, None),
        (throws_at_the_loop, None),
    ],
)
def test_the_loop_goes_on(beside, function, error):
    """Whatever ends a turn of it: only the call that awaits an exit fails, and gets it."""
    own, calm, next_one = beside(function)

    assert (own.failure.error_type if isinstance(own, Failed) else None) == error
    assert isinstance(calm, Success)
    assert isinstance(next_one, Success)


def cancel(tasks):
    for task in tasks:
        task.cancel()


async def cancels_all(batch):
    cancel(asyncio.all_tasks())
    await asyncio.sleep(5)


async def cancels_the_others(batch):
    cancel(asyncio.all_tasks() - {asyncio.current_task()})


async def cancels_parts_of_the_others(batch):
    """Not the tasks of their calls, but those that these wait for."""
    cancel(task for task in asyncio.all_tasks() if task.get_coro().__name__ == "_rest")


async def leaves_a_canceller(batch):
    asyncio.create_task(cancels_the_others(batch))  # noqa: RUF006 -- the mistake that is tested


async def cancels_from_a_thread(batch):
    """Of which nobody knows whose it is."""
    loop, others = asyncio.get_running_loop(), asyncio.all_tasks() - {asyncio.current_task()}
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(cancel, others))
    thread.start()
    await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (cancels_all, Failed),
        (cancels_the_others, Success),
        (cancels_parts_of_the_others, Success),
        (leaves_a_canceller, Success),
        (cancels_from_a_thread, Success),
    ],
)
def test_who_is_cancelled_by_another_has_not_failed(beside, function, kind):
    own, calm, next_one = beside(function)

    assert isinstance(own, kind)
    assert isinstance(calm, Disturbed)
    assert not calm.is_fatal
    assert isinstance(next_one, Success)


class TestCancelledByItself:
    """A function that is cancelled, and nobody says by whom."""

    async def raises(self, batch):
        raise asyncio.CancelledError

    async def cancels_what_it_awaits(self, batch):
        task = asyncio.create_task(asyncio.sleep(5))
        asyncio.get_running_loop().call_soon(task.cancel)
        await task

    async def lets_a_thread_cancel_it(self, batch):
        task = asyncio.current_task()
        threading.Thread(target=task.get_loop().call_soon_threadsafe, args=(task.cancel,)).start()
        await asyncio.sleep(5)

    @pytest.mark.parametrize(
        "name", ["raises", "cancels_what_it_awaits", "lets_a_thread_cancel_it"]
    )
    def test_alone_it_has_failed(self, call, name):
        outcome = call(getattr(self, name))

        assert isinstance(outcome, Failed)
        assert outcome.failure.error_type == "CancelledError"

    def test_in_company_it_may_have_been_the_others(self, beside):
        own, calm, _ = beside(self.raises)

        assert isinstance(own, Disturbed)
        assert isinstance(calm, Success)


async def shuts_the_threads(batch):
    await asyncio.get_running_loop().shutdown_default_executor()


async def leaves_threads_that_are_shut(batch):
    pool = ThreadPoolExecutor()
    pool.shutdown()
    asyncio.get_running_loop().set_default_executor(pool)


async def leaves_a_factory_of_nothing(batch):
    asyncio.get_running_loop().set_task_factory(lambda *_, **__: None)


async def leaves_a_factory_that_exits(batch):
    asyncio.get_running_loop().set_task_factory(sys.exit)


async def hides_the_loop(batch):
    asyncio._set_running_loop(None)


BREAKERS = [
    shuts_the_threads,
    leaves_threads_that_are_shut,
    leaves_a_factory_of_nothing,
    leaves_a_factory_that_exits,
    hides_the_loop,
]


async def needs_all(batch):
    assert await asyncio.create_task(asyncio.to_thread(int, "7")) == 7


class TestWhatAllShare:
    """Threads, the task factory and the running loop: broken by one call, missed by the next."""

    @pytest.mark.parametrize("breaks", BREAKERS)
    def test_who_misses_it_first_has_not_failed_and_it_is_put_right(self, call, breaks):
        """Though it is alone: the call before has ended and took no harm."""
        assert isinstance(call(breaks), Success)

        first, second = call(needs_all), call(needs_all)

        assert isinstance(first, Success if breaks is hides_the_loop else Disturbed)
        assert isinstance(second, Success)

    @pytest.mark.parametrize("breaks", BREAKERS)
    def test_who_breaks_it_again_and_again_fails_by_that(self, call, breaks):
        async def breaks_and_needs(batch):
            await breaks(batch)
            await needs_all(batch)

        outcomes = [call(breaks_and_needs), call(breaks_and_needs)]

        assert [type(each) for each in outcomes] == [Failed, Failed]

    @pytest.mark.parametrize("breaks", BREAKERS[:4])
    def test_a_neighbour_in_its_call_has_not_failed_either(self, beside, breaks):
        """Of the threads it had not asked for any yet."""
        own, calm, next_one = beside(breaks)

        assert isinstance(own, Success)
        assert isinstance(calm, Disturbed | Success)
        assert isinstance(next_one, Disturbed | Success)

    def test_what_a_function_sets_and_what_works_stays(self, call):
        seen = []

        class Task(asyncio.Task):
            pass

        def make(loop, coroutine, **options):
            return Task(coroutine, loop=loop, **options)

        pool = ThreadPoolExecutor(1, thread_name_prefix="mine")

        async def sets(batch):
            asyncio.get_running_loop().set_task_factory(make)
            asyncio.get_running_loop().set_default_executor(pool)

        async def fails(batch):
            raise ValueError

        async def looks(batch):
            name = await asyncio.to_thread(lambda: threading.current_thread().name)
            seen.append((type(asyncio.create_task(exits(ValueError))), name))

        for function in (sets, fails, looks):
            call(function)
        pool.shutdown()

        [(task, name)] = seen
        assert task is Task
        assert name.startswith("mine")

    def test_who_waits_for_a_thread_that_others_hold_has_not_timed_out(self, call):
        """One function hangs in all threads of the loop: it cannot be ended there."""
        may_end, hangs_all = threading.Event(), threading.Event()

        async def hangs(batch):
            works = [asyncio.to_thread(may_end.wait) for _ in range(100)]
            hangs_all.set()
            await asyncio.gather(*works)

        with ThreadPoolExecutor(1) as threads:
            guilty = threads.submit(call, hangs, 0.3)
            assert hangs_all.wait(10)
            innocent = call(needs_all, 0.6)
            after = call(needs_all)
            may_end.set()

        assert guilty.result().failure.error_type == "FunctionTimedOut"
        assert isinstance(guilty.result(), Failed)
        assert isinstance(innocent, Disturbed)
        assert innocent.is_fatal
        assert isinstance(after, Success), "the next calls have other threads"


async def breaks_the_selector(batch):
    asyncio.get_running_loop()._selector.close()
    await asyncio.sleep(5)


class TestALoopThatEnds:
    """Nothing can be done on it any more, and what functions keep that belongs to it is lost."""

    def test_no_call_hangs_and_in_company_the_process_has_to_end(self, beside):
        own, calm, next_one = beside(breaks_the_selector)

        assert [type(each) for each in (own, calm, next_one)] == [Disturbed] * 3
        assert own.is_fatal
        assert calm.is_fatal
        assert next_one.is_fatal

    def test_alone_the_call_has_failed(self, call):
        outcome, next_one = call(breaks_the_selector), call(needs_all)

        assert isinstance(outcome, Failed)
        assert "the event loop" in outcome.failure.error_message
        assert isinstance(next_one, Disturbed)

    def test_the_next_is_healthy(self, call, loops):
        call(breaks_the_selector)
        loops.close()

        assert isinstance(call(needs_all), Success)

    def test_a_policy_that_makes_no_loop_does_no_harm(self, call):
        class Policy(asyncio.DefaultEventLoopPolicy):
            def new_event_loop(self):
                sys.exit("no loop")

        asyncio.set_event_loop_policy(Policy())
        try:
            outcome = call(needs_all)
        finally:
            asyncio.set_event_loop_policy(None)

        assert isinstance(outcome, Success)

    def test_no_loop_to_be_had_is_nobodys_failure(self, call, monkeypatch):
        def no_files(*_):
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(event_loop, "_new_loop", no_files)

        outcome = call(needs_all)

        assert isinstance(outcome, Disturbed)
        assert outcome.is_fatal


class TestClose:
    """Tests for `EventLoop.close`: it takes a moment, whatever was left running."""

    @pytest.fixture(autouse=True)
    def in_a_hurry(self, monkeypatch):
        monkeypatch.setattr(event_loop, "CLOSE_PATIENCE", timedelta(seconds=0.1))

    def closed_in(self, loops):
        began = time.monotonic()
        loops.close()
        return time.monotonic() - began

    def test_what_will_not_be_cancelled_is_left(self, call, loops):
        async def stubborn():
            while True:
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)

        async def leaves(batch):
            asyncio.create_task(stubborn())  # noqa: RUF006 -- the mistake that is tested
            await asyncio.sleep(0.01)

        call(leaves)

        assert self.closed_in(loops) < 5

    def test_a_thread_that_hangs_is_left(self, call, loops):
        may_end = threading.Event()

        async def leaves(batch):
            asyncio.get_running_loop().run_in_executor(None, may_end.wait)

        call(leaves)

        assert self.closed_in(loops) < 5
        may_end.set()

    def test_what_was_left_running_can_tidy_up(self, call, loops):
        done = []

        async def tidies():
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.01)
                done.append("tidied")

        async def leaves(batch):
            asyncio.create_task(tidies())  # noqa: RUF006 -- the mistake that is tested
            await asyncio.sleep(0.01)

        call(leaves)
        loops.close()

        assert done == ["tidied"]


@pytest.fixture
def interrupt():
    """Has a signal handler raise in the main thread, which waits for its call."""

    def handler(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR2, handler)
    yield lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, before)


def test_what_is_thrown_at_a_thread_that_waits_is_not_its_calls_failure(call, interrupt):
    """By a function's signal handler, say; the call is still running."""

    async def throws(batch):
        interrupt()
        await asyncio.sleep(0.05)

    assert isinstance(call(throws), Success)


def test_a_loop_that_is_not_shielded_ends_its_call_then(interrupt):
    """In a test of the user's, Ctrl-C ends the test."""
    loops, was_cancelled = LazyEventLoop(), threading.Event()

    async def throws():
        try:
            interrupt()
            await asyncio.sleep(5)
        finally:
            was_cancelled.set()

    with pytest.raises(KeyboardInterrupt):
        loops.get().finish(throws(), 30.0)
    assert was_cancelled.wait(10)
    loops.close()


def test_records_that_are_done_stay_done(kit, loops):
    """A disturbance takes the record that ran, as one that was not called."""
    canceller = None

    async def function(record):
        if record.sequence_number == 102:
            asyncio.current_task().root.cancelled_by(canceller, None)
            raise asyncio.CancelledError

    mapping = EventSourceMapping(
        name="shop.total", app="shop", function="total", stream="orders", input="record"
    )
    from streamfn.engine.loop_call import Call

    canceller = Call(None, 1.0)
    records = kit.records_of("abcd")
    calls = Invoker(mapping, function, None, ManualClock(), loops)
    swept = calls.call_records(records, iter(records), 1, Interrupt())

    assert swept.done == 2
    assert isinstance(swept.outcome, Disturbed)


class TestALoopOfTheUsersChoice:
    """As `uvloop.install()` asks for one: the same holds there."""

    @pytest.fixture(autouse=True)
    def policy(self):
        uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        yield
        asyncio.set_event_loop_policy(None)

    @pytest.mark.parametrize("function", [awaits_an_exit, exits_in_a_callback, stops])
    def test_the_loop_goes_on(self, beside, function):
        _, calm, next_one = beside(function)

        assert isinstance(calm, Success)
        assert isinstance(next_one, Success)

    def test_who_is_cancelled_by_another_has_not_failed(self, beside):
        own, calm, next_one = beside(cancels_all)

        assert isinstance(own, Failed)
        assert isinstance(calm, Disturbed)
        assert isinstance(next_one, Success)

    @pytest.mark.parametrize("breaks", BREAKERS[1:4])
    def test_what_is_broken_is_put_right(self, call, breaks):
        assert isinstance(call(breaks), Success)

        first, second = call(needs_all), call(needs_all)

        assert isinstance(first, Disturbed)
        assert isinstance(second, Success)

    def test_where_it_cannot_be_nobody_is_blamed_at_first(self, beside):
        """Threads that are shut stay so on this loop: the process has to end."""
        _, calm, next_one = beside(shuts_the_threads)

        assert isinstance(calm, Disturbed)
        assert isinstance(next_one, Disturbed)
        assert next_one.is_fatal
