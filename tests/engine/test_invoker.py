"""Tests for `streamfn.engine.invoker`: calls of functions that return, raise or misbehave."""

import asyncio
import gc
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from streamfn.clock import ManualClock
from streamfn.engine.invoker import Interrupt, Invoker
from streamfn.engine.lazy_event_loop import LazyEventLoop
from streamfn.engine.outcome import Expired, Failed, Partial, Rejected, Reported, Success
from streamfn.errors import Reject
from streamfn.model.mapping import EventSourceMapping
from streamfn.model.policy import RetryPolicy


def invoker(handler, clock=None, loops=None, **fields):
    fields = {"name": "shop.total", "app": "shop", "function": "total", "stream": "orders"} | fields
    clock = clock or ManualClock()
    return Invoker(EventSourceMapping(**fields), handler, None, clock, loops or LazyEventLoop())


def sweep(handler, records, interrupt=None, clock=None, **fields):
    calls = invoker(handler, clock, input="record", **fields)
    return calls.call_records(records, iter(records), 1, interrupt or Interrupt())


class TestCallBatch:
    """Tests for `Invoker.call_batch`."""

    def test_a_function_that_returns_has_succeeded(self, kit):
        seen = []

        outcome = invoker(seen.append).call_batch(kit.records_of("abc"), 1)

        assert isinstance(outcome, Success)
        assert [100, 101, 102] == [record.sequence_number for record in seen[0]]

    @pytest.mark.parametrize(
        "error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]
    )
    def test_whatever_it_raises_is_its_failure(self, kit, error):
        """`sys.exit` in a function does not end the runner."""

        def function(batch):
            raise error

        outcome = invoker(function).call_batch(kit.records_of("a"), 1)

        assert isinstance(outcome, Failed)
        assert type(error).__name__ == outcome.failure.error_type

    def test_the_traceback_begins_in_the_users_code(self, kit):
        def function(batch):
            int("x")

        failure = invoker(function).call_batch(kit.records_of("a"), 1).failure

        first, *_, last = failure.traceback.splitlines()[1:]
        assert "in function" in first
        assert last == "ValueError: invalid literal for int() with base 10: 'x'"
        assert "engine/invoker.py" not in failure.traceback.replace(__file__, "")

    def test_an_error_that_cannot_be_printed_is_still_an_error(self, kit):
        class Bad(Exception):
            def __str__(self):
                raise RuntimeError

        def function(batch):
            raise Bad

        failure = invoker(function).call_batch(kit.records_of("a"), 1).failure

        assert "RuntimeError in __str__" in failure.error_message
        assert "in function" in failure.traceback

    def test_half_a_surrogate_pair_does_not_spoil_the_letter(self, kit):
        def function(batch):
            raise ValueError("\ud800")

        assert invoker(function).call_batch(kit.records_of("a"), 1).failure.error_message == "?"

    def test_an_error_that_exits_as_it_is_printed_is_still_an_error(self, kit):
        class Bad(Exception):
            def __str__(self):
                raise SystemExit

            __repr__ = __str__

        def function(batch):
            raise Bad

        failure = invoker(function).call_batch(kit.records_of("a"), 1).failure

        assert "SystemExit in __str__" in failure.error_message
        assert "in function" in failure.traceback

    def test_a_wrong_number_of_arguments_is_a_failure_with_a_traceback(self, kit):
        outcome = invoker(lambda: None).call_batch(kit.records_of("a"), 1)

        assert outcome.failure.error_type == "TypeError"
        assert "TypeError" in outcome.failure.traceback

    def test_reject_is_told_apart(self, kit):
        def function(batch):
            raise Reject("too old")

        outcome = invoker(function).call_batch(kit.records_of("a"), 1)

        assert isinstance(outcome, Rejected)
        assert outcome.failure.error_message == "too old"

    def test_failed_records_have_their_own_tracebacks(self, kit):
        def function(batch):
            for record in batch:
                try:
                    [][record.sequence_number]
                except IndexError:
                    if record.sequence_number != 101:
                        batch.fail(record)

        outcome = invoker(function).call_batch(kit.records_of("abc"), 1)

        assert isinstance(outcome, Partial)
        assert [100, 102] == list(outcome.failures)
        assert "[][record.sequence_number]" in outcome.failures[100].failure.traceback

    def test_a_record_may_be_rejected_on_its_own(self, kit):
        def function(batch):
            batch.fail(batch[0], Reject("never"))
            batch.fail(batch[1], "not yet")

        failures = invoker(function).call_batch(kit.records_of("ab"), 1).failures

        assert [Rejected, Failed] == [type(each) for each in failures.values()]

    def test_a_report_counts_only_where_reports_are_on(self, kit):
        """K-31."""

        def report(batch):
            return {"batchItemFailures": [{"itemIdentifier": "101"}]}

        off = RetryPolicy(report_failures=False)

        assert isinstance(invoker(report).call_batch(kit.records_of("ab"), 1), Reported)
        assert isinstance(invoker(report, retry=off).call_batch(kit.records_of("ab"), 1), Success)

    def test_a_report_and_failed_records_together_mean_the_lowest_of_both(self, kit):
        def both(batch):
            batch.fail(batch[1], "no")
            return {"batchItemFailures": [{"itemIdentifier": "102"}]}

        assert invoker(both).call_batch(kit.records_of("abc"), 1).lowest == 101


def hidden(function):
    """A decorator that does not say what it decorates."""

    def wrapper(*arguments):
        return function(*arguments)

    return wrapper


async def coroutine(given):
    raise AssertionError("nobody awaits it")


async def asynchronous_generator(given):
    yield given


def generator(given):
    yield given


class TestNothingRan:
    """Functions that return their body instead of running it: no success."""

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("input", ["batch", "record", "lambda"])
    @pytest.mark.parametrize(
        ("function", "what", "advice"),
        [
            (coroutine, "coroutine", "functools.wraps"),
            (asynchronous_generator, "async generator", "functools.wraps"),
            (generator, "generator", "`to=`"),
        ],
    )
    def test_it_failed_and_the_decorator_is_named(self, kit, input, function, what, advice):
        if input == "record":
            outcome = sweep(hidden(function), kit.records_of("a")).outcome
        else:
            outcome = invoker(hidden(function), input=input).call_batch(kit.records_of("a"), 1)
        gc.collect()  # a coroutine that was not closed would warn

        assert outcome.failure.error_type == "InvalidResponse"
        message = outcome.failure.error_message
        assert f"a {what}, of which nothing ran; probably a decorator" in message
        assert advice in message

    @pytest.mark.parametrize("input", ["batch", "record"])
    @pytest.mark.parametrize("function", [coroutine, asynchronous_generator])
    def test_it_is_no_value_either(self, kit, input, function):
        records = kit.records_of("a")
        if input == "record":
            outcome = sweep(hidden(function), records, to="lines").outcome
        else:
            outcome = invoker(hidden(function), to="lines").call_batch(records, 1)

        assert outcome.failure.error_type == "InvalidResponse"

    def test_an_awaitable_that_a_coroutine_returned_is_one_too(self, kit):
        loops = LazyEventLoop()

        async def function(batch):
            return coroutine(batch)

        outcome = invoker(function, loops=loops).call_batch(kit.records_of("a"), 1)
        loops.close()

        assert outcome.failure.error_type == "InvalidResponse"

    @pytest.mark.parametrize("input", ["batch", "record"])
    def test_a_generator_that_is_sent_on_runs(self, kit, input):
        records = kit.records_of("a")
        function = hidden(lambda given: (each for each in "xy"))
        if input == "record":
            sent = sweep(function, records, to="lines").outputs
        else:
            sent = invoker(function, to="lines").call_batch(records, 1).outputs

        assert [b"x", b"y"] == [output.data for output in sent]


class Unshown:
    """A value that cannot be shown, such as a row whose session has ended."""

    def __repr__(self):
        raise SystemExit("no session")


class Unread(dict):
    """A report that answers to one look, and not to the next."""

    def __getitem__(self, key):
        raise SystemExit("no session")


class TestWhatItReturned:
    """A value that raises as it is read or shown is a failure of its call, not of the runner."""

    def assert_failed(self, outcome, error_type="SystemExit"):
        assert isinstance(outcome, Failed)
        assert outcome.failure.error_type == error_type

    def test_one_that_cannot_be_shown_fails_its_batch(self, kit):
        outcome = invoker(lambda _: Unshown(), on_success="audit").call_batch(
            kit.records_of("a"), 1
        )

        self.assert_failed(outcome)
        assert "in __repr__" in outcome.failure.traceback

    def test_and_its_record(self, kit):
        swept = sweep(lambda _: Unshown(), kit.records_of("ab"), on_success="audit")

        assert swept.done == 0
        self.assert_failed(swept.outcome)

    def test_and_what_an_async_function_returned(self, kit):
        async def function(batch):
            return Unshown()

        loops = LazyEventLoop()
        calls = invoker(function, loops=loops, on_success="audit")
        outcome = calls.call_batch(kit.records_of("a"), 1)
        loops.close()

        self.assert_failed(outcome)

    def test_a_report_that_cannot_be_read_does_so_too(self, kit):
        report = Unread(batchItemFailures=[])

        self.assert_failed(invoker(lambda _: report).call_batch(kit.records_of("a"), 1))

    @pytest.mark.parametrize("number", ["9" * 5_000, 10**5_000], ids=["text", "number"])
    def test_so_does_one_with_a_number_without_end(self, kit, number):
        report = {"batchItemFailures": [{"itemIdentifier": number}]}

        outcome = invoker(lambda _: report).call_batch(kit.records_of("a"), 1)

        self.assert_failed(outcome, "InvalidResponse")


class TestContext:
    """What a second parameter receives."""

    def contexts(self, kit, records, attempt=1, **fields):
        seen = []
        invoker(lambda batch, context: seen.append(context), **fields).call_batch(records, attempt)
        return seen[0]

    def test_it_says_what_is_called(self, kit):
        context = self.contexts(kit, kit.records_of("ab"), 3, timeout=timedelta(seconds=5))

        assert context.attempt == 3
        assert context.function == "total"
        assert context.stream == "orders"
        assert context.remaining == timedelta(seconds=5)

    def test_all_attempts_of_the_same_records_have_one_request_id(self, kit):
        same = self.contexts(kit, kit.records_of("ab")), self.contexts(kit, kit.records_of("ab"), 2)
        other = self.contexts(kit, kit.records_of("abc"))

        assert same[0].request_id == same[1].request_id != other.request_id

    def test_the_batch_has_it_too(self, kit):
        seen = []

        invoker(lambda batch: seen.append(batch.context)).call_batch(kit.records_of("a"), 1)

        assert seen[0].attempt == 1


class TestCallRecords:
    """Tests for `Invoker.call_records`."""

    def test_it_stops_at_the_first_that_fails(self, kit):
        def function(record):
            if record.sequence_number == 102:
                raise ValueError

        swept = sweep(function, kit.records_of("abcd"))

        assert swept.done == 2
        assert isinstance(swept.outcome, Failed)

    def test_what_it_returns_means_nothing(self, kit):
        def function(record):
            return {"batchItemFailures": [{"itemIdentifier": "100"}]}

        assert sweep(function, kit.records_of("ab")).done == 2

    @pytest.mark.parametrize("done", [0, 1, 2])
    def test_an_exception_between_two_records_is_not_that_of_one_that_is_done(self, kit, done):
        """A signal's handler may raise anywhere."""
        records = kit.records_of("abc")

        def running():
            yield from records[:done]
            raise MemoryError

        swept = invoker(lambda record: None, input="record").call_records(
            records, running(), 1, Interrupt()
        )

        assert swept.done == done
        assert swept.outcome.failure.error_type == "MemoryError"

    def test_an_exception_after_the_last_record_is_nobodys(self, kit):
        records = kit.records_of("abc")

        def running():
            yield from records
            raise MemoryError

        swept = invoker(lambda record: None, input="record").call_records(
            records, running(), 1, Interrupt()
        )

        assert (swept.done, swept.outcome) == (3, None)

    def test_an_interrupt_takes_effect_before_the_next_record(self, kit):
        interrupt = Interrupt()

        def function(record):
            interrupt.is_set = record.sequence_number == 101

        swept = sweep(function, kit.records_of("abc"), interrupt)

        assert swept.done == 2
        assert swept.outcome is None

    def test_age_is_looked_at_record_by_record(self, kit):
        clock = ManualClock()
        policy = RetryPolicy(max_record_age=timedelta(seconds=3))

        def function(record):
            clock.advance(timedelta(seconds=2))

        swept = sweep(function, kit.records_of("abc"), clock=clock, retry=policy)

        assert swept.done == 2
        assert isinstance(swept.outcome, Expired)

    def test_each_record_has_its_own_context(self, kit):
        seen = []

        sweep(lambda record, context: seen.append(context.request_id), kit.records_of("ab"))

        assert len(set(seen)) == 2


class TestAsync:
    """`async def` functions, on one loop for all of them."""

    @pytest.fixture
    def loops(self):
        loops = LazyEventLoop()
        yield loops
        loops.close()

    def test_a_coroutine_runs_to_its_end(self, kit, loops):
        seen = []

        async def function(batch):
            await asyncio.sleep(0)
            seen.append(len(batch))

        calls = invoker(function, loops=loops)

        assert isinstance(calls.call_batch(kit.records_of("ab"), 1), Success)
        assert isinstance(calls.call_batch(kit.records_of("a"), 1), Success)
        assert seen == [2, 1]

    def test_an_object_with_an_async_call_is_one_too(self, kit, loops):
        class Function:
            async def __call__(self, batch):
                raise LookupError

        calls = invoker(Function(), loops=loops)

        assert calls.call_batch(kit.records_of("a"), 1).failure.error_type == "LookupError"

    def test_a_call_is_cancelled_at_its_timeout(self, kit, loops):
        async def function(record):
            await asyncio.sleep(60)

        calls = invoker(function, loops=loops, input="record", timeout=timedelta(milliseconds=20))
        records = kit.records_of("ab")
        swept = calls.call_records(records, iter(records), 1, Interrupt())

        assert swept.done == 0
        assert swept.outcome.failure.error_type == "FunctionTimedOut"
        assert "await asyncio.sleep(60)" in swept.outcome.failure.traceback

    def test_a_call_loses_no_time_while_another_blocks_the_loop(self, kit, loops):
        """It would be cancelled for its neighbour's fault as soon as the loop turns again."""
        has_begun, timeout = asyncio.Event(), timedelta(seconds=0.3)

        async def innocent(batch):
            has_begun.set()
            await asyncio.sleep(0.1)

        async def guilty(batch):
            await has_begun.wait()
            time.sleep(0.6)  # noqa: ASYNC251 -- the mistake that is tested

        calls = [invoker(each, loops=loops, timeout=timeout) for each in (guilty, innocent)]
        with ThreadPoolExecutor(2) as threads:
            outcomes = list(
                threads.map(lambda each: each.call_batch(kit.records_of("a"), 1), calls)
            )

        assert [Success] * 2 == [type(outcome) for outcome in outcomes]

    def test_beside_calls_that_come_and_go_a_call_is_cancelled_at_its_timeout(self, kit, loops):
        async def late(batch):
            await asyncio.sleep(60)

        async def busy(batch):
            for _ in range(100):
                await asyncio.sleep(0.002)

        late, busy = (
            invoker(each, loops=loops, timeout=timedelta(seconds=seconds))
            for each, seconds in ((late, 0.2), (busy, 30))
        )
        with ThreadPoolExecutor(2) as threads:
            before = time.monotonic()
            call = threads.submit(late.call_batch, kit.records_of("a"), 1)
            while not call.done():
                assert isinstance(busy.call_batch(kit.records_of("a"), 1), Success)

        assert call.result().failure.error_type == "FunctionTimedOut"
        assert time.monotonic() - before < 20

    def test_a_timeout_of_its_own_is_its_own_error(self, kit, loops):
        async def function(batch):
            raise TimeoutError("the database")

        calls = invoker(function, loops=loops)

        assert calls.call_batch(kit.records_of("a"), 1).failure.error_message == "the database"

    def test_its_traceback_is_free_of_the_loop(self, kit, loops):
        async def function(batch):
            raise ValueError

        calls = invoker(function, loops=loops)
        traceback = calls.call_batch(kit.records_of("a"), 1).failure.traceback

        assert "asyncio" not in traceback
        assert "event_loop.py" not in traceback

    def test_calls_of_several_threads_run_side_by_side_on_one_loop(self, kit, loops):
        """Each waits until all three are there: one after the other they would wait for ever."""
        seen, all_here = [], asyncio.Event()

        async def function(batch):
            seen.append(asyncio.get_running_loop())
            if len(seen) == 3:
                all_here.set()
            await all_here.wait()

        calls = invoker(function, loops=loops)
        with ThreadPoolExecutor(3) as threads:
            outcomes = list(threads.map(lambda _: calls.call_batch(kit.records_of("a"), 1), "abc"))

        assert [Success] * 3 == [type(outcome) for outcome in outcomes]
        assert len(set(map(id, seen))) == 1

    @pytest.mark.parametrize(
        "error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), ValueError("no")]
    )
    def test_whatever_a_call_raises_the_loop_goes_on(self, kit, loops, error):
        async def failing(batch):
            raise error

        async def fine(batch): ...

        outcome = invoker(failing, loops=loops).call_batch(kit.records_of("a"), 1)

        assert type(error).__name__ == outcome.failure.error_type
        assert isinstance(invoker(fine, loops=loops).call_batch(kit.records_of("a"), 1), Success)

    def test_other_functions_do_not_import_asyncio(self):
        """It takes longer than the rest of a runner's imports."""
        import subprocess

        script = "import sys, streamfn.engine.invoker; sys.exit('asyncio' in sys.modules)"

        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
