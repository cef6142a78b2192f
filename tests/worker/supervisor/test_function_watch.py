"""Tests for `FunctionWatch`, `Troubles` and `Rate`: what is wrong, since when, until when."""

from dataclasses import dataclass, field

import pytest

from streamfn import App
from streamfn._core import Entry
from streamfn.errors import LogFull
from streamfn.health.state import State
from streamfn.telemetry.counters import NOTHING, Counter
from streamfn.worker.supervisor.function_watch import FunctionInput, FunctionWatch
from streamfn.worker.supervisor.mapping_registry import RegisteredMapping
from streamfn.worker.supervisor.rates import Rate
from streamfn.worker.supervisor.troubles import Troubles

SHARD = "shardId-000000000000"
PLACE = {"mapping": "shop.f", "stream": "orders", "shard_id": SHARD}
FAILED = {**PLACE, "error_type": "ValueError", "error_message": "no\nand more"}


@dataclass
class Slot:
    """An in-flight slot, as far as it is looked at."""

    entries: list
    not_before: float = 0.0


@dataclass
class Lane:
    """A lane's status, as far as it is looked at."""

    slot: int = 0
    checkpoint: int = 0
    end: int = 10
    in_flight: Slot | None = None
    stream: str = "orders"
    shard_id: str = SHARD

    @property
    def behind(self):
        return self.end - self.checkpoint


@dataclass
class Function:
    """A function that is looked at again and again."""

    log: object
    troubles: Troubles = field(default_factory=Troubles)
    counts: list = field(default_factory=lambda: [0] * 32)
    now: float = 100.0

    def __post_init__(self):
        app = App("shop")
        app.stream("orders", name="f")(lambda batch: None)
        [mapping] = app.mappings
        self.each = RegisteredMapping(mapping, _Record(), 0, False, None)
        self.watch = FunctionWatch("shop.f", "shop.f", self.troubles)

    def look(self, *lanes, after=1.0, **seen):
        self.now += after
        told = {
            "is_calling": False, "is_paused": False, "is_stream_missing": False, "error": None,
            "start_error": None, "code_version": None, "memory_highest": None,
        }  # fmt: skip
        return self.watch.look(
            FunctionInput(
                each=self.each, lanes=lanes, counts=self.counts, shared=NOTHING, now=self.now,
                now_us=round(self.now * 1e6), **told | seen,
            )
        )  # fmt: skip

    def note(self, event, **fields):
        self.troubles.note(event, fields, round(self.now * 1e6))


class _Record:
    name = "shop.f"


@pytest.fixture
def function():
    return Function(None)


def failed_lane(attempts=1, cause=0, detail=0, not_before=0.0, **fields):
    entry = Entry(0, 4, attempts, False, cause, detail, 90_000_000)
    return Lane(in_flight=Slot([entry], not_before), **fields)


class TestFailing:
    """A function whose calls fail."""

    def test_a_lane_that_waits_for_a_retry(self, function):
        function.note("function_failed", **FAILED)

        told = function.look(failed_lane(not_before=113.0), Lane(slot=1))

        [trouble] = told.troubles
        assert (told.state, trouble.reason) == (State.FAILING, "ValueError: no")
        assert (trouble.since_us, trouble.next_try_us) == (90_000_000, 113_000_000)
        assert (trouble.shard_id, trouble.slot) == (SHARD, 0)

    @pytest.mark.parametrize(
        ("cause", "detail", "reason"),
        [
            (1, 9, "FunctionCrashed: the call killed its process (SIGKILL)"),
            (1, -3, "FunctionCrashed: the call ended its process with exit code 3"),
            (
                3,
                128 * 2**10,
                "FunctionOutOfMemory: the call's process exceeded its memory limit of 128 MiB",
            ),
            (2, 0, "FunctionTimedOut: the call took longer than its timeout"),
            (0, 0, "its last call failed"),
        ],
    )
    def test_without_a_message_of_a_runner_the_slot_says_why(self, function, cause, detail, reason):
        [trouble] = function.look(failed_lane(cause=cause, detail=detail)).troubles
        [after] = function.look(failed_lane(attempts=2)).troubles

        assert trouble.reason == after.reason == reason

    def test_a_function_whose_records_are_given_up_at_once(self, function):
        function.look(Lane())
        function.counts[Counter.FAILED_CALLS] += 1
        function.note("function_failed", **FAILED)
        first = function.look(Lane(checkpoint=5))
        function.counts[Counter.FAILED_CALLS] += 1
        second = function.look(Lane(checkpoint=9))

        assert (first.state, second.state) == (State.FAILING, State.FAILING)
        assert second.troubles[0].since_us == first.troubles[0].since_us

        function.counts[Counter.FAILED_CALLS] += 1
        function.counts[Counter.RECORDS_DONE] += 1
        assert function.look(Lane(checkpoint=9)).state is State.RUNNING

    def test_it_is_forgotten_a_minute_after_the_last_failed_call(self, function):
        function.look(Lane())
        function.counts[Counter.FAILED_CALLS] += 1
        function.look(Lane(checkpoint=10))

        assert function.look(Lane(checkpoint=10), after=59.0).state is State.FAILING
        assert function.look(Lane(checkpoint=10), after=1.0).state is State.IDLE


class TestBlocked:
    """A function that cannot go on."""

    def test_damage_until_the_lane_is_past_it(self, function):
        function.note("lane_stopped", **FAILED | {"slot": 0, "last": 6, "error_type": "Corruption"})

        told = function.look(Lane(checkpoint=3))
        assert told.state is State.BLOCKED
        assert told.troubles[0].reason == "stopped at damaged data: no (hint: run `streamfn fsck`)"
        assert function.look(Lane(checkpoint=6)).state is State.BLOCKED
        assert function.look(Lane(checkpoint=7)).state is State.RUNNING

    def test_a_destination_until_the_lane_moves(self, function):
        delivery = FAILED | {"slot": 0, "error_type": "LogFull", "seconds": 2.0}
        function.note("delivery_failed", **delivery)
        lane, other = failed_lane(attempts=0), Lane(slot=1)

        told = function.look(lane, other)
        function.note("delivery_failed", **delivery)
        again = function.look(lane, other)

        assert (told.state, again.state) == (State.BLOCKED, State.BLOCKED)
        assert again.troubles[0].since_us == told.troubles[0].since_us == 100_000_000
        assert again.troubles[0].next_try_us == 103_000_000
        assert "free some space" in told.troubles[0].reason
        assert function.look(Lane(checkpoint=5), other).state is State.RUNNING

    def test_lanes_that_cannot_be_made(self, function):
        first = function.look(error=LogFull("x"))
        second = function.look(error=LogFull("x"))

        assert (first.state, second.state) == (State.BLOCKED, State.BLOCKED)
        assert second.troubles[0].since_us == first.troubles[0].since_us

    def test_runners_that_cannot_start_block_only_work(self, function):
        assert function.look(Lane(), start_error="no app").state is State.BLOCKED
        assert function.look(Lane(checkpoint=10), start_error="no app").state is State.IDLE


class TestOthers:
    """The other states."""

    def test_a_stream_that_does_not_exist(self, function):
        told = function.look(is_stream_missing=True)

        assert (told.state, told.stream) == (State.WAITING, "orders")
        assert told.troubles[0].reason == "stream `orders` does not exist yet"

    def test_a_pause_counts_before_a_failure(self, function):
        told = function.look(failed_lane(), is_paused=True)

        assert told.state is State.PAUSED
        assert [each.state for each in told.troubles] == [State.PAUSED, State.FAILING]

    def test_running_and_idle(self, function):
        assert function.look(Lane()).state is State.RUNNING
        assert function.look(Lane(checkpoint=10)).state is State.IDLE
        assert function.look(Lane(checkpoint=10), is_calling=True).state is State.RUNNING


class TestLogged:
    """Which states the log tells of."""

    def looks(self, function, *states):
        lanes = {"running": Lane(), "idle": Lane(checkpoint=10), "failing": failed_lane()}
        told = []
        for state, after in states:
            function.look(lanes[state], after=after)
            told.append(function.watch.is_to_be_logged(function.now))
        return told

    def test_a_good_first_state_at_once_and_each_once(self, function):
        assert self.looks(function, ("idle", 1), ("idle", 1)) == [True, False]

    def test_a_bad_state_when_it_has_lasted_a_second(self, function):
        states = [("running", 1), ("failing", 1), ("failing", 0.9), ("failing", 0.1)]

        assert self.looks(function, *states) == [True, False, False, True]

    def test_a_state_that_is_over_within_a_second_is_not_told(self, function):
        states = [("running", 1), ("failing", 1), ("running", 0.9), ("running", 5)]

        assert self.looks(function, *states) == [True, False, False, False]

    def test_between_running_and_idle_ten_seconds(self, function):
        states = [("running", 1), ("idle", 1), ("idle", 9.9), ("idle", 0.1)]

        assert self.looks(function, *states) == [True, False, False, True]


class TestRate:
    """Tests for `Rate`."""

    def test_it_is_that_of_the_last_ten_seconds(self):
        rate = Rate()
        assert rate.per_second() is None
        for second in range(30):
            rate.add(float(second), 5 * second if second < 10 else 50 + (second - 10))

        assert rate.per_second() == pytest.approx(1.0)

    def test_after_a_long_pause_it_is_that_of_the_pause(self):
        rate = Rate()
        rate.add(0.0, 0)
        rate.add(1.0, 10)
        rate.add(101.0, 110)

        assert rate.per_second() == pytest.approx(1.0)
