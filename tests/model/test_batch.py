"""Tests for `streamfn.model.batch` and `streamfn.model.context`."""

from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import pytest

from streamfn import Batch, Context
from streamfn.clock import ManualClock
from streamfn.errors import FunctionFailed

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def records(make_record):
    """Three records of one key, put at 1, 2 and 3 s before `NOW`."""
    now_us = int(NOW.timestamp() * 1e6)
    return [
        make_record(
            b'{"n": %d}' % n,
            "key",
            sequence_number=10 + n,
            stream="orders",
            timestamp_us=now_us - (3 - n) * 1_000_000,
        )
        for n in range(3)
    ]


class TestBatch:
    """Tests for `Batch`."""

    def test_it_is_a_sequence_of_records(self, records):
        batch = Batch.of(records)

        assert len(batch) == 3
        assert [record.sequence_number for record in batch] == [10, 11, 12]
        assert batch[-1].sequence_number == 12
        assert [record.sequence_number for record in batch[1:]] == [11, 12]
        assert batch.values() == [b'{"n": 0}', b'{"n": 1}', b'{"n": 2}']
        assert batch.json() == [{"n": 0}, {"n": 1}, {"n": 2}]

    def test_an_empty_one_is_one_too(self):
        batch = Batch.of([])

        assert (len(batch), list(batch), batch.values()) == (0, [], [])
        assert batch.iterator_age == timedelta(0)
        assert repr(batch) == "<Batch of 0 records>"

    def test_its_age_is_that_of_its_last_record(self, records):
        batch = Batch(Batch.of(records).records, clock=ManualClock(NOW))

        assert batch.iterator_age == timedelta(seconds=1)

    def test_a_clock_that_went_back_gives_no_negative_age(self, records):
        clock = ManualClock(NOW - timedelta(hours=1))

        assert Batch(Batch.of(records).records, clock=clock).iterator_age == timedelta(0)

    def test_the_context_it_is_given_is_the_one_it_shows(self, records):
        """A test's stand-in may be anything, something that can be called too."""
        context = Mock(spec=Context)

        assert Batch.of(records, context).context is context

    def test_it_has_no_context_outside_a_call(self, records):
        with pytest.raises(RuntimeError, match="not made for a call"):
            _ = Batch.of(records).context

    def test_its_name_says_where_it_is_from(self, records):
        place = "orders/shardId-000000000000 10..12"

        assert repr(Batch.of(records)) == f"<Batch of 3 records, {place}>"


class TestFail:
    """Tests for `Batch.fail`."""

    def test_failures_come_in_order_of_the_records(self, records):
        batch = Batch.of(records)

        batch.fail(batch[2], ValueError("late"))
        batch.fail(batch[0], "early")

        [first, second] = batch.failures
        assert (first[0], str(first[1])) == (10, "early")
        assert isinstance(first[1], FunctionFailed)
        assert (second[0], str(second[1])) == (12, "late")

    def test_inside_an_except_block_the_exception_is_taken(self, records):
        """So the dead letter has its traceback."""
        batch = Batch.of(records)

        try:
            int("NA")
        except ValueError as error:
            batch.fail(batch[1])
            expected = error

        assert batch.failures == [(11, expected)]
        assert expected.__traceback__ is not None

    def test_elsewhere_it_says_that_the_function_said_so(self, records):
        batch = Batch.of(records)

        batch.fail(batch[1])

        assert str(batch.failures[0][1]) == "the function marked this record as failed"

    def test_a_record_that_fails_twice_is_one_failure(self, records):
        batch = Batch.of(records)

        batch.fail(batch[1], "first")
        batch.fail(batch[1], "second")

        assert [(number, str(error)) for number, error in batch.failures] == [(11, "second")]

    def test_a_record_of_another_batch_is_refused(self, records, make_record):
        with pytest.raises(ValueError, match="99"):
            Batch.of(records).fail(make_record(b"", sequence_number=99))


class TestContext:
    """Tests for `Context`."""

    def context(self, **values):
        """A context of a call that may take ten seconds from `NOW`."""
        clock = ManualClock(NOW)
        defaults = {
            "request_id": "4f8e1f6e-0000-0000-0000-000000000000",
            "attempt": 1,
            "deadline": NOW + timedelta(seconds=10),
            "function": "total",
            "stream": "orders",
            "shard_id": "shardId-000000000000",
            "log": None,
            "clock": clock,
        }
        return Context(**{**defaults, **values}), clock

    def test_what_remains_goes_down_to_zero(self):
        context, clock = self.context()

        clock.advance(timedelta(seconds=4))
        assert context.remaining == timedelta(seconds=6)

        clock.advance(timedelta(seconds=60))
        assert context.remaining == timedelta(0)

    def test_a_key_names_the_place_of_the_record(self, records):
        context, _ = self.context()

        assert context.idempotency_key(records[1]) == "orders/shardId-000000000000/11"

    def test_a_redriven_record_keeps_the_key_of_its_origin(self, make_record):
        header = b'{"origin":{"stream":"orders","shard_id":"shardId-000000000003",'
        header += b'"sequence_number":7}}'
        headers = {"streamfn-dead-letter": header}
        context, _ = self.context()

        redriven = make_record(b"", stream="shop.total.redrive", headers=headers)
        assert context.idempotency_key(redriven) == "orders/shardId-000000000003/7"

        # The header of anybody else is only a header.
        other = make_record(b"", stream="orders", headers=headers)
        assert context.idempotency_key(other) == "orders/shardId-000000000000/0"
