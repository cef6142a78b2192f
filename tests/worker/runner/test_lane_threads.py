"""Tests for `LaneThreads`: which thread runs which lane of an `async` function."""

import signal
import threading
from contextlib import suppress
from random import Random
from types import SimpleNamespace

import pytest

from streamfn import _core
from streamfn._core import Board
from streamfn.clock import ManualClock
from streamfn.model.mapping import EventSourceMapping
from streamfn.worker.runner.async_threads import AsyncThreads
from streamfn.worker.runner.lane_job import LaneAddress, LaneFunction, LaneJob, RunnerContext
from streamfn.worker.runner.lane_threads import LaneThreads

LANE = 5
AT = LaneAddress("orders", "shardId-000000000000", 0)


class Lanes:
    """A lane set with one lane, which has so much work for whoever asks for any."""

    def __init__(self):
        self.for_anybody, self.taken = 1, []

    def next(self, timeout):
        if len(self.taken) >= self.for_anybody:
            return None
        return self._taken("next")

    def next_of(self, lane):
        if len(self.taken) >= self.for_anybody == 0:
            return None
        assert lane == LANE
        return self._taken("next_of")

    def _taken(self, how):
        self.taken.append(how)
        return SimpleNamespace(lane=LANE)

    def take_damage(self):
        return []

    def pass_on(self):
        pass

    def stop(self):
        pass


class NotingThreads(LaneThreads):
    """Threads that note what they would run."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.ran, self.after_each = [], lambda: None
        self.has_run = threading.Semaphore(0)

    def _run(self, work, thread, *, was_parked=False):
        self.ran.append(threading.current_thread().name)
        self.after_each()
        self.has_run.release()


@pytest.fixture
def threads():
    mapping = EventSourceMapping(name="shop.total", app="shop", function="total", stream="orders")
    function = LaneFunction(mapping, None)
    context = RunnerContext(Lanes(), Board.create(), ManualClock(), Random(0), None, None)
    invoker = SimpleNamespace(is_async=True)
    threads = NotingThreads(context, {mapping.name: function}, lambda _: invoker)
    threads.jobs[LANE] = LaneJob(LANE, 0, function, AT)
    return threads


def run(threads, batches):
    """Run the threads until they have run so many batches."""
    loop = threading.Thread(target=threads.run)
    loop.start()
    for _ in range(batches):
        assert threads.has_run.acquire(timeout=240)
    threads.stop()
    threads.jobs[LANE].is_leaving = True
    loop.join()
    threads.join()


def mixed(are_async):
    """Threads with a lane of each of two exclusive functions; are they `async`?"""
    functions = {
        name: LaneFunction(
            EventSourceMapping(
                name=name, app="shop", function=name, stream="orders", input="lambda"
            ),
            None,
        )
        for name in are_async
    }
    context = RunnerContext(Lanes(), Board.create(), ManualClock(), Random(0), None, None)
    threads = NotingThreads(
        context,
        functions,
        lambda function: SimpleNamespace(is_async=are_async[function.mapping.name]),
    )
    threads.lanes.for_anybody = 0
    for lane, function in enumerate(functions.values()):
        threads.jobs[lane] = LaneJob(lane, 0, function, AT)
    return threads


@pytest.mark.parametrize(
    ("are_async", "where"),
    [({"a": True, "b": True}, "async-1"), ({"a": True, "b": False}, "MainThread")],
)
def test_calls_that_take_turns_across_functions_stay_in_one_kind_of_thread(are_async, where):
    """Or one that is not `async` would be called where `async` ones wait."""
    threads = mixed(are_async)
    threads.start(1)
    for lane in (0, 1):
        threads._take(SimpleNamespace(lane=lane), 0, {})
        assert threads.has_run.acquire(timeout=240)
    threads.stop()
    threads.join()

    assert set(threads.ran) == {where}


def test_the_thread_that_waited_for_a_call_goes_on_with_its_lane(threads):
    threads.start(1)

    run(threads, batches=4)

    assert set(threads.ran) == {"async-1"}
    assert threads.lanes.taken[:4] == ["next", "next_of", "next_of", "next_of"]


@pytest.fixture
def lane_set(log):
    """A real one, with the lane of a stream without records."""
    log.create_stream("orders")
    mapping = _core.Mapping.register(
        log.core, "shop.total", factor=1, start="trim_horizon", windowed=False
    )
    [shard_id] = mapping.prepare("orders")
    lanes = _core.LaneSet(log.core, worker="0" * 32, runner=0)
    answer = lanes.add(
        LANE, mapping, "orders", shard_id, 0, batch_size=1, batch_window=0.0, batch_bytes=1
    )
    assert answer == "ok"
    yield lanes
    lanes.settle(LANE)
    lanes.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_is_thrown_at_a_thread_that_waits_for_work_takes_nothing_with_it(
    threads, lane_set, log, error
):
    """A function's signal handler may run in the main thread, long after its call, and raise.

    Python runs it as soon as the wait is over: what the wait brought must not be lost.
    """
    told = []

    def handler(*_):
        raise error

    def interrupt_and_put():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2)
        log.stream("orders").put(b"1")

    threads._context.lanes = lane_set
    threads._context.report = lambda event, **fields: told.append((event, fields["error_type"]))
    before = signal.signal(signal.SIGUSR2, handler)
    try:
        for tries in range(1, 50):
            timer = threading.Timer(0.02 * tries, interrupt_and_put)
            with suppress(error):  # on a busy machine it may come before the wait
                timer.start()
                work = threads._wait_for_work()
                if told:
                    break
                lane_set.settle(work.lane)
                continue
            timer.join()
            lane_set.settle(threads._wait_for_work().lane)
    finally:
        signal.signal(signal.SIGUSR2, before)

    assert work.lane == LANE
    assert told == [("exception_ignored", error.__name__)]


def test_it_lets_go_of_a_lane_that_is_to_be_given_back(threads):
    """Who gives it back waits for it, and could do so for ever."""
    threads.lanes.for_anybody = 2
    threads.start(1)
    threads.after_each = lambda: setattr(threads.jobs[LANE], "is_leaving", True)

    run(threads, batches=2)

    assert threads.lanes.taken == ["next", "next"]


def test_it_takes_turns_with_the_other_lanes_where_there_are_too_many(threads):
    threads.lanes.for_anybody = 4
    threads._async_threads = AsyncThreads([1])

    run(threads, batches=4)

    assert threads.lanes.taken == ["next"] * 4
