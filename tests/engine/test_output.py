"""Tests for `streamfn.engine.output`, and for its use in `Invoker`."""

import asyncio
from datetime import datetime

import orjson
import pytest

from streamfn._core import PARTITION_KEY_CHARS_MAX, RECORD_BYTES_MAX
from streamfn.clock import ManualClock
from streamfn.engine.invoker import Interrupt, Invoker
from streamfn.engine.lazy_event_loop import LazyEventLoop
from streamfn.engine.outcome import Failed, Partial, Reported, Success
from streamfn.engine.output import Output, Outputs
from streamfn.errors import RecordTooLarge
from streamfn.model.mapping import EventSourceMapping


@pytest.fixture
def loops():
    loops = LazyEventLoop()
    yield loops
    loops.close()


def mapping(**fields):
    fields = {"to": "next"} | fields
    return EventSourceMapping(name="a.f", app="a", function="f", stream="orders", **fields)


def invoker(handler, loops=None, **fields):
    return Invoker(mapping(**fields), handler, None, ManualClock(), loops or LazyEventLoop())


def values(returned, key=None):
    outputs = Outputs(mapping(), ManualClock()).of_values(returned, key)
    assert {output.stream for output in outputs} <= {"next"}
    return [(output.data, output.partition_key) for output in outputs]


class TestOfValues:
    """Tests for `Outputs.of_values`."""

    @pytest.mark.parametrize(
        ("returned", "expected"),
        [
            (None, []),
            ([], []),
            (b"raw", [b"raw"]),
            (bytearray(b"raw"), [b"raw"]),
            ("text ü", ["text ü".encode()]),
            ("", [b""]),
            ({"a": [1, None]}, [b'{"a":[1,null]}']),
            (7, [b"7"]),
            (False, [b"false"]),
            ([b"a", "b", {"c": 1}], [b"a", b"b", b'{"c":1}']),
            (iter("ab"), [b"a", b"b"]),
            ([["in", "a", "list"]], [b'["in","a","list"]']),
            (datetime(2026, 1, 1), [b'"2026-01-01T00:00:00"']),  # noqa: DTZ001 -- any will do
        ],
    )
    def test_each_item_becomes_a_record(self, returned, expected):
        assert values(returned) == [(data, None) for data in expected]

    def test_an_item_brings_its_key_or_has_that_of_the_record(self):
        assert values([(b"a", "mine"), b"b", (b"c", None)], "yours") == [
            (b"a", "mine"), (b"b", "yours"), (b"c", None)
        ]  # fmt: skip

    def test_an_empty_key_is_none(self):
        assert values((b"a", "")) == [(b"a", None)]

    @pytest.mark.parametrize("item", [object(), (b"a",), (b"a", "k", 3), (b"a", 7), {1, 2}])
    def test_what_is_no_record_is_an_error_of_the_function(self, item):
        with pytest.raises(TypeError):
            values([item])

    def test_limits_are_those_of_a_put(self):
        values((b"x" * (RECORD_BYTES_MAX - 1), "k"))
        values((b"", "k" * PARTITION_KEY_CHARS_MAX))
        for item in [(b"x" * RECORD_BYTES_MAX, "k"), (b"", "k" * (PARTITION_KEY_CHARS_MAX + 1))]:
            with pytest.raises(RecordTooLarge):
                values(item)


class TestCalls:
    """What an `Invoker` makes of what functions return and yield."""

    def test_a_success_has_its_values(self, kit):
        outcome = invoker(lambda batch: batch.values()).call_batch(kit.records_of("ab"), 1)

        assert outcome == Success([Output("next", b"0", None), Output("next", b"1", None)])

    def test_a_generator_runs_inside_the_call(self, kit):
        """What it raises fails the call; what it yielded before is not sent."""

        def function(batch):
            yield b"first"
            raise ValueError("second")

        assert isinstance(invoker(function).call_batch(kit.records_of("a"), 1), Failed)

    def test_a_generator_may_fail_records(self, kit):
        def function(batch):
            for record in batch:
                if record.partition_key == "b":
                    batch.fail(record)
                else:
                    yield record.data

        outcome = invoker(function).call_batch(kit.records_of("abc"), 1)

        assert isinstance(outcome, Partial)
        assert set(outcome.failures) == {101}
        assert [output.data for output in outcome.outputs] == [b"0", b"2"]

    def test_so_may_an_asynchronous_one(self, kit, loops):
        async def function(batch):
            for record in batch:
                await asyncio.sleep(0)
                yield record.data

        outcome = invoker(function, loops).call_batch(kit.records_of("ab"), 1)

        assert [output.data for output in outcome.outputs] == [b"0", b"1"]

    def test_a_report_is_no_value(self, kit):
        def function(batch):
            return {"batchItemFailures": [{"itemIdentifier": str(n)} for n in failed]}

        failed = []
        assert invoker(function).call_batch(kit.records_of("a"), 1) == Success([])
        failed = [100]
        assert isinstance(invoker(function).call_batch(kit.records_of("a"), 1), Reported)

    def test_a_value_that_is_no_record_fails_the_call(self, kit):
        outcome = invoker(lambda batch: object()).call_batch(kit.records_of("a"), 1)

        assert outcome.failure.error_type == "TypeError"

    def test_without_to_a_value_means_nothing(self, kit):
        calls = invoker(lambda batch: object(), to=None)

        assert calls.call_batch(kit.records_of("a"), 1) == Success()

    def test_a_record_function_sends_under_the_records_key(self, kit):
        records = kit.records_of("ab")

        def function(record):
            if record.partition_key == "b":
                raise ValueError
            return record.data

        swept = invoker(function, input="record").call_records(
            records, iter(records), 1, Interrupt()
        )

        assert swept.done == 1
        assert swept.outputs == [Output("next", b"0", "a")]


class TestOnSuccess:
    """The invocation record of a successful call."""

    def test_it_has_the_shape_of_aws(self, kit):
        calls = invoker(lambda batch: {"sum": 7}, to=None, on_success="done")

        [output] = calls.call_batch(kit.records_of("ab"), 2).outputs

        record = orjson.loads(output.data)
        assert output.stream == "done"
        assert record["requestContext"] == {
            "requestId": record["requestContext"]["requestId"],
            "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:f",
            "condition": "Success",
            "approximateInvokeCount": 2,
        }
        assert record["responsePayload"] == {"sum": 7}
        assert record["KinesisBatchInfo"] == {
            "shardId": "shardId-000000000000",
            "startSequenceNumber": "100",
            "endSequenceNumber": "101",
            "approximateArrivalOfFirstRecord": "2026-01-01T00:00:00.000Z",
            "approximateArrivalOfLastRecord": "2026-01-01T00:00:00.000Z",
            "batchSize": 2,
            "streamArn": "arn:aws:kinesis:us-east-1:000000000000:stream/orders",
        }

    def test_a_result_that_is_no_json_is_shown(self, kit):
        calls = invoker(lambda batch: {1, 2}, to=None, on_success="done")

        [output] = calls.call_batch(kit.records_of("a"), 1).outputs

        assert orjson.loads(output.data)["responsePayload"] == "{1, 2}"

    def test_a_result_that_no_record_holds_fails_the_call(self, kit):
        """As one for `to` does; nothing of it can be sent on."""
        calls = invoker(lambda batch: "x" * RECORD_BYTES_MAX, to=None, on_success="done")

        outcome = calls.call_batch(kit.records_of("a"), 1)

        assert isinstance(outcome, Failed)
        assert outcome.failure.error_type == "RecordTooLarge"

    def test_a_failure_has_none(self, kit):
        def function(batch):
            raise ValueError

        outcome = invoker(function, on_success="done").call_batch(kit.records_of("a"), 1)

        assert isinstance(outcome, Failed)

    def test_each_record_has_its_own_under_input_record(self, kit):
        records = kit.records_of("ab")
        calls = invoker(lambda record: None, input="record", to=None, on_success="done")

        swept = calls.call_records(records, iter(records), 1, Interrupt())

        firsts = [
            orjson.loads(output.data)["KinesisBatchInfo"]["startSequenceNumber"]
            for output in swept.outputs
        ]
        assert firsts == ["100", "101"]
        assert [output.partition_key for output in swept.outputs] == ["a", "b"]
