"""Tests for `BatchCalls` and `RecordCalls`: slots, checkpoints and boards around calls."""

import sys
from dataclasses import dataclass, field
from random import Random

import pytest

from streamfn._core import Board, Entry, Record, Records
from streamfn.clock import ManualClock
from streamfn.engine.destination import FailureDestination
from streamfn.engine.disturbance import Disturbance
from streamfn.engine.invoker import Invoker
from streamfn.engine.lazy_event_loop import LazyEventLoop
from streamfn.engine.surroundings import SURROUNDINGS
from streamfn.errors import FunctionTimedOut, LeaseLost, LogFull
from streamfn.model.mapping import EventSourceMapping
from streamfn.model.policy import RetryPolicy
from streamfn.worker.counters import Counter
from streamfn.worker.runner.calls.batch import BatchCalls
from streamfn.worker.runner.calls.record import RecordCalls
from streamfn.worker.runner.lane_job import (
    CallThread,
    InDoubt,
    LaneAddress,
    LaneFunction,
    LaneJob,
    RunnerContext,
)

LANE = 5
AT = LaneAddress("orders", "shardId-000000000000", 0)


@dataclass
class Work:
    """What a lane set hands out."""

    records: Records
    entries: list[Entry]
    lane: int = LANE
    exponent: int = 0
    is_resumed: bool = False
    is_alone: bool = False
    stream: str = "orders"
    shard_id: str = "shardId-000000000000"
    end: int = 0
    window: object = None


@dataclass
class WrittenLanes:
    """A lane set that writes down what it is told; its lanes can be lost."""

    told: list = field(default_factory=list)
    is_lost: bool = False

    def hold(self, lane, entries, exponent):
        self._report_call("hold", entries, exponent)

    def wait(self, lane, entries, exponent, seconds):
        self._report_call("wait", entries, exponent)

    def yield_(self, lane, entries, exponent):
        self._report_call("yield", entries, exponent)

    def settle(self, lane, exponent=0):
        self._report_call("settle", [], exponent)

    def _report_call(self, what, entries, exponent):
        if self.is_lost:
            raise LeaseLost("lane", "somebody")
        self.told.append((what, [(e.first, e.last, e.attempts) for e in entries], exponent))


class FullDestination(FailureDestination):
    """One whose disk is full for some tries."""

    def __init__(self, mapping, full_for):
        self._mapping = mapping
        self.left, self.delivered, self.resolved = full_for, [], []

    def deliver(self, letters):
        if self.left:
            self.left -= 1
            raise LogFull("the log")
        self.delivered += [letter.record.sequence_number for letter in letters]
        return [self._stream_for(letter) for letter in letters]

    def resolve(self, records):
        self.resolved += [record.sequence_number for record in records]


class Stage:
    """A lane in the hands of one thread, with everything around it."""

    def __init__(self, function, input="batch", full_for=0, **fields):
        self.mapping = EventSourceMapping(
            name="shop.total", app="shop", function="total", stream="orders", input=input, **fields
        )
        self.lanes, self.board = WrittenLanes(), Board.create()
        self.events, self.released = [], []
        clock = ManualClock()
        self.destination = FullDestination(self.mapping, full_for)
        self.context = RunnerContext(
            lanes=self.lanes,
            board=self.board,
            clock=clock,
            random=Random(1),
            report=lambda event, **fields: self.events.append((event, fields)),
            released_alone=lambda lane, seconds: self.released.append((lane, seconds)),
        )
        self.job = LaneJob(LANE, 0, LaneFunction(self.mapping, self.destination), AT)
        self.thread = CallThread(
            self.context, 0, Invoker(self.mapping, function, None, clock, LazyEventLoop())
        )

    def proceed(self, work):
        """Run what is suspended, or this work."""
        kind = {"batch": BatchCalls, "record": RecordCalls}[self.mapping.input]
        run = self.job.suspended or kind(work, self.job, self.context)
        run.proceed(self.thread)

    @property
    def told(self):
        return [what for what, _, _ in self.lanes.told]

    def count(self, counter):
        return self.board.counters(0)[counter]


def fresh(keys, stream="orders", **fields):
    records = Records(
        [Record(b"%d" % n, key, sequence_number=n, stream=stream) for n, key in enumerate(keys)]
    )
    return Work(records, [Entry(0, len(keys) - 1)], **fields)


def resumed(work, stage):
    """The same batch, handed out again as the slot has it."""
    _, entries, exponent = stage.lanes.told[-1]
    return Work(work.records, [Entry(*entry) for entry in entries], LANE, exponent, True)


def failing(*bad):
    def function(batch):
        if any(record.sequence_number in bad for record in batch):
            raise ValueError

    return function


def failing_record(*bad):
    def function(record):
        if record.sequence_number in bad:
            raise ValueError

    return function


class TestBatchRun:
    """Tests for `BatchCalls`."""

    def test_a_good_batch_is_one_call_and_one_write(self):
        """The slot was written when the batch was formed."""
        stage = Stage(lambda batch: None)

        stage.proceed(fresh("abc"))

        assert stage.told == ["settle"]
        assert stage.count(Counter.CALLS) == 1
        assert stage.count(Counter.RECORDS_DONE) == 3
        assert stage.board.cells() == []

    def test_the_slot_says_what_runs_before_each_call(self):
        stage = Stage(failing(3))

        stage.proceed(fresh("abcd"))

        assert stage.lanes.told == [
            ("hold", [(0, 1, 0), (2, 3, 0)], 0),
            ("hold", [(2, 3, 0)], 0),
            ("hold", [(2, 2, 0), (3, 3, 0)], 0),
            ("hold", [(3, 3, 0)], 0),
            ("wait", [(3, 3, 1)], 1),
        ]

    def test_the_board_shows_the_call(self):
        seen = []
        stage = Stage(lambda batch: seen.append(stage.board.cells()))

        stage.proceed(fresh("abc"))

        [[(cell, lane, deadline, running)]] = seen
        assert (cell, lane, deadline, running) == (0, LANE, 60.0, None)

    def test_the_exponent_grows_with_each_wait_and_a_success_resets_it(self):
        stage = Stage(failing(1), retry=RetryPolicy(max_retries=2))
        work = fresh("ab")

        stage.proceed(work)
        stage.proceed(resumed(work, stage))
        stage.proceed(resumed(work, stage))

        waits = [(what, exponent) for what, _, exponent in stage.lanes.told if what != "hold"]
        assert waits == [("wait", 1), ("wait", 2), ("settle", 2)]
        assert stage.destination.delivered == [1]
        assert stage.count(Counter.RETRIES) == 2

        stage.proceed(fresh("c"))
        assert stage.lanes.told[-1] == ("settle", [], 0)

    def test_a_verdict_in_the_slot_counts_before_anything_is_called(self):
        calls = []
        stage = Stage(calls.append)
        work = fresh("a", is_resumed=True)
        work.entries = [Entry(0, 0, 0, False, 1, 11)]

        stage.proceed(work)

        assert calls == []
        assert stage.lanes.told == [("wait", [(0, 0, 1)], 1)]

    def test_asked_to_let_go_it_ends_after_the_call(self):
        def function(batch):
            stage.job.interrupt.is_set = True
            raise ValueError

        stage = Stage(function)

        stage.proceed(fresh("abcd"))

        assert stage.lanes.told == [("yield", [(0, 1, 0), (2, 3, 0)], 0)]
        assert stage.job.is_open

    def test_a_lost_lease_ends_it(self):
        stage = Stage(lambda batch: None)
        stage.lanes.is_lost = True

        with pytest.raises(LeaseLost):
            stage.proceed(fresh("a"))

    def test_a_lane_that_runs_alone_tells_how_it_was_let_go(self):
        stage = Stage(failing(1), retry=RetryPolicy(max_retries=1))
        work = fresh("ab", is_alone=True)

        stage.proceed(work)
        again = resumed(work, stage)
        again.is_alone = True
        stage.proceed(again)

        [(_, seconds), (_, settled)] = stage.released
        assert seconds >= 0
        assert settled is None

    def test_retention_may_have_taken_what_waited(self):
        calls = []
        stage = Stage(calls.append)

        stage.proceed(Work(Records([]), [Entry(0, 3, 1)], is_resumed=True))

        assert calls == []
        assert stage.told == ["settle"]


class TestRecordRun:
    """Tests for `RecordCalls`."""

    def test_a_good_batch_is_one_write(self):
        stage = Stage(lambda record: None, input="record")

        stage.proceed(fresh("abc"))

        assert stage.told == ["settle"]
        assert stage.count(Counter.CALLS) == 3
        assert stage.count(Counter.RECORDS_DONE) == 3

    def test_the_board_names_the_running_record(self):
        seen = []
        stage = Stage(lambda record: seen.append(stage.board.cells()[0][3]), input="record")

        stage.proceed(fresh("abc"))

        assert seen == [0, 1, 2]

    def test_what_is_held_is_in_the_slot_before_the_next_record_runs(self):
        stage = Stage(failing_record(0), input="record")

        stage.proceed(fresh("abacd"))

        assert stage.lanes.told == [
            ("hold", [(0, 0, 1), (1, 4, 0)], 0),
            ("hold", [(0, 0, 1), (2, 2, 0), (3, 4, 0)], 0),
            ("wait", [(0, 0, 1), (2, 2, 0)], 1),
        ]

    def test_asked_to_let_go_it_ends_before_the_next_record(self):
        def function(record):
            stage.job.interrupt.is_set = record.sequence_number == 1

        stage = Stage(function, input="record")

        stage.proceed(fresh("abcd"))

        assert stage.lanes.told == [("yield", [(2, 3, 0)], 0)]

    def test_asked_to_let_go_at_the_last_record_the_batch_is_settled(self):
        def function(record):
            stage.job.interrupt.is_set = True

        stage = Stage(function, input="record")

        stage.proceed(fresh("a"))

        assert stage.told == ["settle"]


def disturbed(times, *bad, is_fatal=False):
    """A function that what others do keeps from its records so many times; some are bad besides."""
    left = [times]

    def function(given):
        if left[0]:
            left[0] -= 1
            raise Disturbance(ValueError("torn"), is_fatal=is_fatal)
        records = [given] if isinstance(given, Record) else given
        if any(record.sequence_number in bad for record in records):
            raise ValueError

    return function


class TestDisturbances:
    """Calls that fail for what other calls do."""

    @pytest.mark.parametrize("input", ["batch", "record"])
    def test_they_are_made_again_at_once_and_are_no_attempt(self, input):
        stage = Stage(disturbed(2), input, retry=RetryPolicy(max_retries=0))

        stage.proceed(fresh("abc"))

        assert stage.told[-1] == "settle"
        assert stage.destination.delivered == []
        assert stage.count(Counter.RECORDS_DONE) == 3
        assert stage.count(Counter.FAILED_CALLS) == 0
        told = [fields for event, fields in stage.events if event == "call_disturbed"]
        assert [each["error_message"] for each in told] == ["torn", "torn"]

    @pytest.mark.parametrize("input", ["batch", "record"])
    def test_a_record_that_is_tried_again_keeps_its_attempts(self, input):
        stage = Stage(disturbed(2, 0), input, retry=RetryPolicy(max_retries=3))
        work = fresh("a", is_resumed=True)
        work.entries = [Entry(0, 0, 2)]

        stage.proceed(work)

        assert stage.lanes.told[-1] == ("wait", [(0, 0, 3)], 1)

    @pytest.mark.parametrize("input", ["batch", "record"])
    @pytest.mark.parametrize(("times", "is_fatal"), [(3, False), (1, True)])
    def test_where_they_do_not_end_the_process_has_to(self, input, times, is_fatal):
        """The board then shows the call, so that it runs alone next."""
        stage = Stage(disturbed(99, is_fatal=is_fatal), input, retry=RetryPolicy(max_retries=0))

        with pytest.raises(InDoubt):
            stage.proceed(fresh("ab"))

        assert stage.count(Counter.CALLS) >= times
        assert len([event for event, _ in stage.events if event == "call_disturbed"]) == times
        assert [lane for _, lane, _, _ in stage.board.cells()] == [LANE]
        assert stage.destination.delivered == []

    @pytest.mark.parametrize("input", ["batch", "record"])
    def test_what_may_be_its_own_doing_counts_where_it_runs_alone(self, input):
        """Nobody else is there who could have done it."""

        def function(given):
            sys.stdout = None
            raise ValueError

        stage, before = Stage(function, input, retry=RetryPolicy(max_retries=0)), sys.stdout
        SURROUNDINGS.look()

        stage.proceed(fresh("a", is_alone=True))
        sys.stdout = before

        assert stage.destination.delivered == [0]

    def test_a_call_between_them_that_is_made_counts_them_anew(self):
        calls = []

        def function(batch):
            calls.append(len(batch))
            if len(calls) not in {3, 6}:
                raise Disturbance(ValueError())
            if len(calls) == 3:
                raise ValueError

        stage = Stage(function)

        with pytest.raises(InDoubt):
            stage.proceed(fresh("ab"))

        assert calls == [2, 2, 2, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("input", ["batch", "record"])
def test_a_call_that_was_cancelled_at_its_timeout_is_counted_as_such(input):
    """The supervisor counts the calls whose runner it kills; it does not see these."""

    def function(given):
        raise FunctionTimedOut(5.0)

    stage = Stage(function, input, retry=RetryPolicy(max_retries=0))
    stage.proceed(fresh("a"))

    assert (stage.count(Counter.TIMEOUTS), stage.count(Counter.FAILED_CALLS)) == (1, 1)


class TestDelivery:
    """A destination that does not take what it is given."""

    @pytest.mark.parametrize("input", ["batch", "record"])
    def test_the_lane_keeps_trying_and_calls_nothing_meanwhile(self, input):
        calls = []

        def function(given):
            calls.append(given)
            raise ValueError

        stage = Stage(function, input, full_for=2, retry=RetryPolicy(max_retries=0))
        work = fresh("a")

        stage.proceed(work)
        stage.proceed(resumed(work, stage))
        assert stage.told == ["wait", "wait"]
        assert stage.lanes.told[-1][1] == [(0, 0, 0)]

        stage.proceed(resumed(work, stage))

        assert len(calls) == 1
        assert stage.destination.delivered == [0]
        assert stage.told == ["wait", "wait", "settle"]
        failures = [fields for event, fields in stage.events if event == "delivery_failed"]
        assert [each["error_type"] for each in failures] == ["LogFull"] * 2
        assert failures[0]["seconds"] < failures[1]["seconds"]
        assert stage.count(Counter.DEAD_LETTERS) == 1

    def test_the_rest_of_the_batch_goes_on_afterwards(self):
        stage = Stage(failing(0), full_for=1, retry=RetryPolicy(max_retries=0))
        work = fresh("ab")

        stage.proceed(work)
        assert stage.told == ["hold", "wait"]
        stage.proceed(resumed(work, stage))

        assert stage.count(Counter.RECORDS_DONE) == 1
        assert stage.told[-1] == "settle"

    def test_a_back_off_that_draws_no_wait_is_told_of(self):
        class Late:
            def draw(self, exponent, random):
                return "soon"

        stage = Stage(failing(0), retry=RetryPolicy(backoff=Late()))
        stage.proceed(fresh("a"))

        assert stage.told[-1] == "wait"
        told = dict(stage.events)["backoff_failed"]
        assert told["error_message"] == "`backoff`: `soon` is not a `timedelta`"

    def test_so_is_one_whose_error_cannot_be_printed(self):
        class Bad(Exception):
            def __str__(self):
                raise RuntimeError

        class Broken:
            def draw(self, exponent, random):
                raise Bad

        stage = Stage(failing(0), retry=RetryPolicy(backoff=Broken()))
        stage.proceed(fresh("a"))

        assert stage.told[-1] == "wait"
        told = dict(stage.events)["backoff_failed"]
        assert told["error_message"] == "<RuntimeError in __str__>"

    def test_and_one_that_exits(self):
        """Or the runner would end, and the next, for ever."""

        class Exits:
            def draw(self, exponent, random):
                raise SystemExit

        stage = Stage(failing(0), retry=RetryPolicy(backoff=Exits()))
        stage.proceed(fresh("a"))

        assert stage.told[-1] == "wait"
        assert dict(stage.events)["backoff_failed"]["error_type"] == "SystemExit"

    def test_dropped_records_are_counted_and_told(self):
        stage = Stage(failing(0), on_failure=None, retry=RetryPolicy(max_retries=0))

        stage.proceed(fresh("a"))

        assert stage.count(Counter.DROPPED) == 1
        assert "record_dropped" in [event for event, _ in stage.events]


class TestRedriven:
    """Records of the redrive stream."""

    @pytest.mark.parametrize("input", ["batch", "record"])
    def test_those_that_succeed_are_resolved(self, input):
        handler = failing(1) if input == "batch" else failing_record(1)
        stage = Stage(handler, input, retry=RetryPolicy(max_retries=0))
        work = fresh("abc", stream="shop.total.redrive")

        stage.proceed(work)

        assert sorted(stage.destination.resolved) == [0, 2]
        assert stage.destination.delivered == [1]
        assert stage.count(Counter.REDRIVEN_OK) == 2

    def test_others_are_not(self):
        stage = Stage(lambda batch: None)

        stage.proceed(fresh("abc"))

        assert stage.destination.resolved == []
