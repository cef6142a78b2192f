"""Tests for `streamfn.testing`: the engine on a log in memory."""

import asyncio
from datetime import timedelta
from time import monotonic

import pytest

from streamfn import App, Backoff, Batch, ConfigError, Context, Record, Reject
from streamfn._core import RECORD_BYTES_MAX
from streamfn.engine.deadletter import DeadLetters
from streamfn.testing import Crash, Driver, MemoryLog, run_once


@pytest.fixture
def app():
    return App("shop")


class TestRunOnce:
    """Tests for `run_once`."""

    def test_a_function_gets_what_was_put(self, app):
        seen = []

        @app.stream("orders", batch_size=2)
        def total(batch: Batch) -> None:
            seen.append([(record.data, record.partition_key) for record in batch])

        ran = run_once(app, {"orders": [b"raw", "text", ({"a": 1}, "ada")]})

        assert seen == [[(b"raw", None), (b"text", None)], [(b'{"a":1}', "ada")]]
        assert ran.calls("total") == [[0, 1], [2]]

    def test_a_function_is_told_its_memory_limit(self, app):
        told = []

        @app.stream("orders", memory="20MiB")
        def total(batch: Batch, context: Context) -> None:
            told.append(context.memory_limit)

        @app.stream("orders", input="lambda", memory="256MiB")
        def handler(event, context):
            told.append(context.memory_limit_in_mb)

        run_once(app, {"orders": [b"x"]})

        assert told == [20 * 2**20, "256"]

    def test_a_stream_that_no_function_has_to_do_with_is_a_typo(self, app):
        @app.stream("orders", to="totals")
        def total(batch: Batch) -> None: ...

        with pytest.raises(ConfigError, match=r"streams.*`ordrs`, did you mean `orders`\?"):
            run_once(app, {"ordrs": [1]})

        assert run_once(app, {"totals": [1]}).calls("total") == []
        log = MemoryLog()
        log.create_stream("others")
        assert len(run_once(app, {"others": [1]}, log=log).records("others")) == 1

    @pytest.mark.parametrize("ask", [Driver.calls, Driver.dead_letters, Driver.redrive])
    def test_a_function_that_the_app_does_not_have_is_a_typo(self, app, ask):
        @app.stream("orders")
        def total(batch: Batch) -> None: ...

        ran = run_once(app, {"orders": [1]})

        with pytest.raises(ConfigError, match=r"no function `totl`, did you mean `total`\?"):
            ask(ran, "totl")

    def test_a_bad_record_is_bisected_and_set_aside(self, app):
        @app.stream("orders", max_retries=0)
        def total(batch: Batch) -> None:
            for order in batch.json():
                order["amount"] + 1

        ran = run_once(app, {"orders": [{"amount": 1}, {"amount": None}, {"amount": 3}]})

        [letter] = ran.dead_letters("total")
        assert (letter.sequence_number, letter.error_type) == (1, "TypeError")
        assert ran.calls("total") == [[0, 1, 2], [0], [1, 2], [1], [2]]

    def test_waits_take_no_time_and_move_the_clock(self, app):
        @app.stream(
            "orders",
            max_retries=3,
            backoff=Backoff(base=timedelta(minutes=10), cap=timedelta(hours=1)),
        )
        def total(batch: Batch) -> None:
            raise ValueError

        log, began = MemoryLog(), monotonic()
        before = log.clock.now()
        ran = run_once(app, {"orders": [b"x"]}, log=log)

        assert monotonic() - began < 10
        assert log.clock.now() - before > timedelta(minutes=1)
        assert len(ran.calls("total")) == 4
        assert ran.dead_letters("total")[0].attempts == 4

    def test_the_same_seed_waits_the_same(self, app):
        @app.stream("orders", max_retries=2)
        def total(batch: Batch) -> None:
            raise ValueError

        def waited(seed):
            ran = run_once(app, {"orders": [b"x"]}, seed=seed)
            return ran.clock.monotonic()

        assert waited(1) == waited(1) != waited(2)

    def test_streams_that_functions_append_to_are_made(self, app):
        options = {"to": "lines", "on_success": "audit", "on_failure": "broken"}
        app.stream("orders", name="split", **options)(lambda batch: None)

        assert sorted(Driver(app).log.streams()) == ["audit", "broken", "lines", "orders"]

    def test_a_record_that_on_failure_has_no_room_for_holds_up_nothing(self, app):
        """Its dead letter goes to the function's own, which is said and counted."""

        @app.stream("orders", input="record", max_retries=0, on_failure="broken")
        def total(record: Record) -> None:
            raise ValueError

        sizes = (RECORD_BYTES_MAX, 5)
        ran = run_once(app, {"orders": [bytes(size) for size in sizes]})

        assert [len(letter.data) for letter in ran.dead_letters("total")] == [RECORD_BYTES_MAX]
        assert [len(record.data) for record in ran.records("broken")] == [5]
        told = [fields for event, fields in ran.events if event == "dead_lettered"]
        places = [(each["destination"], each["too_large_for"]) for each in told]
        assert places == [("shop.total.dlq", "broken"), ("broken", None)]
        assert ran.redrive("total") == 1
        assert [call.stream for call in ran.run().all_calls][2:] == ["shop.total.redrive"]
        assert [letter.round for letter in ran.dead_letters("total")] == [1]

    def test_a_start_is_compared_with_the_clock_of_the_log(self, app):
        log = MemoryLog()
        log.create_stream("orders").put(b"before")
        log.clock.advance(timedelta(hours=1))
        start = log.clock.now()
        seen = []
        app.stream("orders", name="new", start=start)(lambda batch: seen.extend(batch.values()))

        driver = Driver(app, log)
        log.stream("orders").put(b"after")
        driver.run()
        assert seen == [b"after"]
        with pytest.raises(ConfigError, match="yet to come"):
            Driver(app)

    def test_endless_retries_are_given_up(self, app):
        @app.stream("orders", max_retries=-1)
        def total(batch: Batch) -> None:
            raise ValueError

        driver = Driver(app, calls_max=50)
        driver.log.stream("orders").put(b"x")
        with pytest.raises(RuntimeError, match="not finished after 50 calls"):
            driver.run()

    def test_a_row_of_functions_runs_to_its_end(self, app):
        @app.stream("orders", to="lines")
        def split(batch: Batch):
            for record in batch:
                yield from record.json()["lines"]

        seen = []

        @app.stream("lines", input="record")
        def line(record: Record) -> None:
            seen.append(record.text())

        ran = run_once(app, {"orders": [{"lines": ["a", "b"]}, {"lines": ["c"]}]})

        assert seen == ["a", "b", "c"]
        assert [record.data for record in ran.records("lines")] == [b"a", b"b", b"c"]

    def test_filters_start_positions_and_other_inputs_are_those_of_a_worker(self, app):
        seen = []

        @app.stream("orders", input="lambda", filter={"data": {"amount": [{"numeric": [">", 5]}]}})
        def handler(event, context):
            seen.append([each["kinesis"]["sequenceNumber"] for each in event["Records"]])

        run_once(app, {"orders": [{"amount": 1}, {"amount": 7}, {"amount": 9}]})

        assert seen == [["1", "2"]]

    def test_asynchronous_functions_run_too(self, app):
        seen = []

        @app.stream("orders")
        async def total(batch: Batch) -> None:
            seen.extend(batch.values())

        run_once(app, {"orders": [b"a", b"b"]})

        assert seen == [b"a", b"b"]


class TestDeaths:
    """Crashes and timeouts, as a worker would judge them."""

    def test_a_record_that_kills_is_found_and_its_neighbours_are_not_blamed(self, app):
        @app.stream("orders", max_retries=1)
        def total(batch: Batch) -> None:
            if b"poison" in batch.values():
                raise Crash(11)

        ran = run_once(app, {"orders": [b"a", b"b", b"poison", b"d"]})

        [letter] = ran.dead_letters("total")
        assert (letter.data, letter.error_type) == (b"poison", "FunctionCrashed")
        assert "SIGSEGV" in letter.error_message
        done = {number for numbers in ran.calls("total") for number in numbers}
        assert done == {0, 1, 2, 3}

    def test_so_it_is_under_input_record(self, app):
        handled = []

        @app.stream("orders", input="record", max_retries=0)
        def total(record: Record) -> None:
            if record.data == b"poison":
                raise Crash
            handled.append(record.data)

        ran = run_once(app, {"orders": [b"a", b"poison", b"c"]})

        assert sorted(handled) == [b"a", b"c"]
        assert [letter.data for letter in ran.dead_letters("total")] == [b"poison"]

    def test_what_it_had_not_sent_on_yet_is_sent_all_the_same(self, app):
        """Values wait in the runner until their range of records is over, and die with it."""
        called = []

        @app.stream("orders", input="record", to="lines", on_success="audit", max_retries=0)
        def price(record: Record) -> bytes:
            called.append(record.data)
            if record.data == b"poison":
                raise Crash
            return record.data

        ran = run_once(app, {"orders": [b"a", b"b", b"poison", b"c"]})

        assert [record.data for record in ran.records("lines")] == [b"a", b"b", b"c"]
        assert len(ran.records("audit")) == 3
        assert [letter.data for letter in ran.dead_letters("price")] == [b"poison"]
        assert called == [b"a", b"b", b"poison", b"a", b"b", b"poison", b"c"]

    def test_a_record_overtakes_nothing_of_its_key_that_comes_again(self, app):
        """What was done before the death comes again before the record that died is repeated."""
        deaths = iter("12")

        @app.stream("orders", input="record", to="lines", max_retries=3)
        def price(record: Record) -> bytes:
            if record.data == b"c" and next(deaths, None):
                raise Crash
            return record.data

        ran = run_once(app, {"orders": [(each, "ada") for each in (b"a", b"b", b"c", b"d")]})

        assert [record.data for record in ran.records("lines")] == [b"a", b"b", b"c", b"d"]

    def test_redriven_records_done_before_a_death_are_resolved(self, app):
        crashes = iter("1")
        is_mended = False

        @app.stream("orders", input="record", max_retries=0)
        def total(record: Record) -> None:
            if not is_mended:
                raise ValueError
            if record.data == b"c" and next(crashes, None):
                raise Crash

        ran = run_once(app, {"orders": [b"a", b"b", b"c", b"d"]})
        is_mended = True
        ran.redrive("total")
        ran.run()

        letters = DeadLetters(ran.log, "shop.total", clock=ran.clock)
        assert letters.entries("queued") == []
        assert len(letters.entries("resolved")) == 4

    def test_a_crash_after_the_work_was_done_repeats_it(self, app):
        """At least once: what a test of an idempotent function wants to see."""
        handled = []

        @app.stream("orders", max_retries=3)
        def total(batch: Batch, context: Context) -> None:
            handled.extend(batch.values())
            if context.attempt == 1:
                raise Crash

        ran = run_once(app, {"orders": [b"a"]})

        assert handled == [b"a", b"a"]
        assert ran.dead_letters("total") == []

    def test_a_call_past_its_timeout_is_ended(self, app):
        log = MemoryLog()

        @app.stream("orders", timeout="5s", max_retries=0, input="record")
        def total(record: Record) -> None:
            log.clock.advance(timedelta(seconds=6 if record.data == b"slow" else 4))

        ran = run_once(app, {"orders": [b"a", b"slow", b"c"]}, log=log)

        [letter] = ran.dead_letters("total")
        assert (letter.data, letter.error_type) == (b"slow", "FunctionTimedOut")

    def test_an_asynchronous_function_can_crash(self, app):
        @app.stream("orders", max_retries=0)
        async def total(batch: Batch) -> None:
            raise Crash

        ran = run_once(app, {"orders": [b"a"]})

        assert [letter.error_type for letter in ran.dead_letters("total")] == ["FunctionCrashed"]

    def test_what_a_call_left_behind_harms_no_other(self, app):
        """A task of the first record cancels all others, for ever: its process is no good."""

        async def harass():
            me = asyncio.current_task()
            while True:
                for task in asyncio.all_tasks() - {me}:
                    task.cancel()
                await asyncio.sleep(0)

        @app.stream("orders", input="record", max_retries=0)
        async def total(record: Record) -> None:
            if record.data == b"a":
                asyncio.create_task(harass())  # noqa: RUF006 -- the mistake that is tested
            else:
                await asyncio.sleep(0.01)

        ran = run_once(app, {"orders": [b"a", b"b", b"c"]})

        assert ran.dead_letters("total") == []
        assert ran.calls("total")[-2:] == [[1], [2]]

    @pytest.mark.parametrize("input", ["batch", "record"])
    def test_a_generator_can_crash(self, app, input):
        """Its body runs when its values are listed."""

        @app.stream("orders", input=input, to="lines", max_retries=0)
        def total(given):
            yield b"x"
            raise Crash

        ran = run_once(app, {"orders": [b"a"]})

        assert [letter.error_type for letter in ran.dead_letters("total")] == ["FunctionCrashed"]
        assert ran.records("lines") == []


class TestDriver:
    """Tests for `Driver`."""

    def test_it_goes_on_with_what_came_since(self, app):
        seen = []

        @app.stream("orders")
        def total(batch: Batch) -> None:
            seen.append(batch.values())

        driver = Driver(app)
        orders = driver.log.stream("orders")
        orders.put(b"a")
        driver.run()
        orders.put(b"b")
        driver.run()

        assert seen == [[b"a"], [b"b"]]

    @pytest.mark.parametrize("is_split_before", [True, False])
    def test_latest_over_a_split_is_all_that_is_put_after_it_began(self, app, is_split_before):
        seen, log = [], MemoryLog()

        @app.stream("orders", start="latest")
        def total(batch: Batch) -> None:
            seen.extend(batch.values())

        def put(*names):
            orders.put_many([name.encode() for name in names], names)

        orders = log.create_stream("orders")
        put("old", "older")
        if is_split_before:
            orders.split("shardId-000000000000")
            put("old too", "older too")
        driver = Driver(app, log)
        put("a", "b", "c")
        if not is_split_before:
            orders.split("shardId-000000000000")
        put("d", "e", "f")
        driver.run()

        assert sorted(seen) == [b"a", b"b", b"c", b"d", b"e", b"f"]

    def test_what_is_redriven_is_tried_again(self, app):
        is_mended = False

        @app.stream("orders")
        def total(batch: Batch) -> None:
            if not is_mended:
                raise Reject("not yet")

        ran = run_once(app, {"orders": [b"a", b"b"]})
        assert len(ran.dead_letters("total")) == 2
        is_mended = True
        assert ran.redrive("total") == 2
        ran.run()

        assert ran.dead_letters("total") == []

    def test_lanes_wait_beside_each_other(self, app):
        """Eight lanes that fail for ten minutes wait together, not one after the other."""
        log = MemoryLog()
        end = log.clock.now() + timedelta(minutes=10)

        @app.stream("orders", parallelization_factor=8, max_retries=-1)
        def total(batch: Batch) -> None:
            if log.clock.now() < end:
                raise ConnectionError

        run_once(app, {"orders": [(b"x", f"k{n}") for n in range(40)]}, log=log)

        assert log.clock.now() < end + timedelta(minutes=2)

    def test_records_are_stamped_by_its_clock(self, app):
        log = MemoryLog()
        orders = log.create_stream("orders")
        orders.put(b"a")
        log.clock.advance(timedelta(hours=1))
        orders.put(b"b")

        first, second = (record for batch in orders.read() for record in batch)
        assert second.timestamp - first.timestamp == timedelta(hours=1)

    def test_it_shows_what_its_functions_did(self, app):
        @app.stream("orders", max_retries=0)
        def total(batch: Batch) -> None:
            raise ValueError

        @app.stream("orders")
        def count(batch: Batch) -> None: ...

        ran = run_once(app, {"orders": [b"a"]})

        assert repr(ran) == f"<Driver {app.name}: total 1 call, 1 dead letter; count 1 call>"
        ran.close()
        assert repr(ran).startswith(f"<Driver {app.name}: total 1 call")

    def test_nothing_is_left_behind(self, app, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

        @app.stream("orders")
        def total(batch: Batch) -> None: ...

        run_once(app, {"orders": [b"a"]}).close()

        assert list(tmp_path.iterdir()) == []


def test_the_fixtures_are_there_without_an_import(pytester_like):
    """`streamfn_log` and `streamfn_run`, in anybody's tests."""
    pytester_like(
        """
        from streamfn import App

        app = App("shop")

        @app.stream("orders")
        def total(batch): ...

        def test_it(streamfn_run, streamfn_log):
            assert streamfn_run(app, {"orders": [b"a"]}).calls("total") == [[0]]
            assert streamfn_log.streams() == ["orders"]
        """
    )
