"""Tumbling windows, by the facts W-1 to W-6 of AWS Lambda, on a log in memory.

Each test puts records at chosen times and runs the engine until no work is left.
"""

from copy import copy
from datetime import timedelta
from itertools import chain

import pytest

from streamfn import App, Backoff, Batch, Reject
from streamfn._core import RECORD_BYTES_MAX
from streamfn.errors import ConfigError
from streamfn.model.mapping import EventSourceMapping
from streamfn.testing import Crash, Driver

SECOND = timedelta(seconds=1)
QUICK = {"backoff": Backoff(base=timedelta(milliseconds=1), cap=timedelta(milliseconds=1))}


class Windowed:
    """An app with one function over windows of a minute, and what it is called with."""

    def __init__(self, function, **options):
        self.app = App("shop")
        fields = {"tumbling_window": "1m", "name": "total", **QUICK, **options}
        self.app.stream("orders", **fields)(function)
        self.driver = Driver(self.app)
        clock = self.driver.clock
        clock.advance(timedelta(seconds=60 - clock.now().timestamp() % 60))
        self.minute = clock.now()

    def put(self, *values, at=0):
        """Put records so many seconds after the full minute, and run."""
        ahead = self.minute + at * SECOND - self.driver.clock.now()
        if ahead > timedelta(0):
            self.driver.clock.advance(ahead)
        if values:
            self.driver.log.stream("orders").put_many([str(value).encode() for value in values])
        self.driver.run()
        return self

    @property
    def letters(self):
        return self.driver.dead_letters("total")


def summing(finals, bad=(), fail=()):
    """A function that adds numbers up and notes the result of each window."""

    def total(batch: Batch) -> None:
        if batch.is_final:
            finals.append((batch.window.start.second, batch.state))
            return
        batch.state = batch.state or 0
        for record in batch:
            number = int(record.data)
            if number in bad:
                raise ValueError(number)
            if number in fail:
                batch.fail(record)
                continue
            batch.state += number

    return total


class TestState:
    """What a call leaves, and what the next one gets."""

    @pytest.mark.fact("W-2")
    @pytest.mark.fact("W-3")
    @pytest.mark.fact("W-4")
    def test_a_window_adds_up_and_has_one_final_call(self):
        """Windows come from append times; the final call has no records and the state."""
        finals = []
        stage = Windowed(summing(finals), batch_size=2).put(1, 2, 3, at=5).put(4, at=59)
        assert finals == []

        stage.put(5, at=60)
        assert finals == [(0, 10)]
        stage.put(at=120)
        assert finals == [(0, 10), (0, 5)], "the clock closes what no record does"

    def test_it_may_be_bytes_and_may_be_changed_in_place(self):
        seen = []

        def total(batch: Batch) -> None:
            seen.append(copy(batch.state))
            if batch.state is None:
                batch.state = {"n": 0}
            if not batch.is_final:
                batch.state["n"] += len(batch)

        Windowed(total, batch_size=1).put(1, 2).put(at=60)
        assert seen == [None, {"n": 1}, {"n": 2}]

        def raw(batch: Batch) -> None:
            seen.append(batch.state)
            batch.state = (batch.state or b"") + b"\xff"

        Windowed(raw, batch_size=1).put(1, 2).put(at=60)
        assert seen[3:] == [None, b"\xff", b"\xff\xff"]

    def test_a_state_that_is_neither_json_nor_bytes_fails_the_call(self):
        def total(batch: Batch) -> None:
            batch.state = object()

        stage = Windowed(total, max_retries=0).put(1)
        assert [each.error_type for each in stage.letters] == ["InvalidResponse"]

    def test_a_batch_without_a_window_keeps_none(self):
        batch = Batch.of([])

        assert (batch.window, batch.state, batch.is_final) == (None, None, False)
        with pytest.raises(RuntimeError, match="tumbling_window"):
            batch.state = 1


class TestFailures:
    """The state is that of the last call that succeeded, whatever failed since."""

    @pytest.mark.fact("W-6")
    def test_a_batch_that_fails_is_bisected_and_only_the_bad_record_is_missing(self):
        finals = []
        stage = Windowed(summing(finals, bad={4}), max_retries=1).put(1, 2, 4, 8, 16).put(at=60)

        assert finals == [(0, 27)]
        assert [each.data for each in stage.letters] == [b"4"]
        assert list(dict.fromkeys(chain(*stage.driver.calls("total")))) == [0, 1, 2, 3, 4]

    def test_records_that_were_failed_one_by_one_count_once_if_at_all(self):
        """`batch.fail` takes the batch apart: what the call left in the state is dropped."""
        finals = []
        function = summing(finals, fail={2, 16})
        stage = Windowed(function, max_retries=1, bisect=False).put(1, 2, 4, 8, 16).put(at=60)

        assert finals == [(0, 13)]
        assert [each.data for each in stage.letters] == [b"2", b"16"]
        calls = stage.driver.calls("total")
        assert calls == [[0, 1, 2, 3, 4], [0], [1], [1], [2, 3], [4], [4], []]

    @pytest.mark.fact("W-1")
    def test_a_report_moves_the_state_with_the_position(self):
        """`state` and `batchItemFailures` in one answer: the state is of the records before."""
        seen = []

        def total(event, context):
            seen.append((event["state"], len(event["Records"])))
            count, reported = event["state"].get("n", 0), []
            for record in event["Records"]:
                if len(seen) == 1 and count == 2:
                    reported = [{"itemIdentifier": record["kinesis"]["sequenceNumber"]}]
                    break
                count += 1
            return {"state": {"n": count}, "batchItemFailures": reported}

        Windowed(total, input="lambda").put(1, 2, 3, 4, 5).put(at=60)
        assert seen == [({}, 5), ({"n": 2}, 3), ({"n": 5}, 0)]

    @pytest.mark.fact("W-1")
    def test_an_answer_without_state_is_a_failed_call(self):
        def total(event, context):
            return {"batchItemFailures": []}

        stage = Windowed(total, input="lambda", max_retries=0).put(1)
        [letter] = stage.letters
        assert (letter.error_type, "`state`" in letter.error_message) == ("InvalidResponse", True)

    def test_a_crash_in_a_call_repeats_it_with_the_same_state(self):
        seen, finals = [], []
        add = summing(finals)

        def total(batch: Batch) -> None:
            seen.append((batch.state, len(batch)))
            add(batch)
            if len(seen) in {2, 4}:
                raise Crash

        Windowed(total, batch_size=1, max_retries=5).put(1, 2).put(at=60)
        assert seen == [(None, 1), (1, 1), (1, 1), (3, 0), (3, 0)]
        assert finals == [(0, 3), (0, 3)]


class TestFinalCall:
    """W-4: it is repeated until it succeeds or is given up; then its state is a dead letter."""

    @pytest.mark.fact("W-4")
    def test_it_is_retried_with_one_request_id_and_the_lane_waits(self):
        seen = []

        def total(batch: Batch) -> None:
            if not batch.is_final:
                batch.state = (batch.state or 0) + len(batch)
                seen.append("batch")
                return
            seen.append((batch.context.request_id, batch.state))
            if batch.context.attempt < 3:
                raise ValueError

        Windowed(total).put(1, at=0).put(2, at=60)
        assert seen[0] == "batch"
        assert seen[-1] == "batch", "what comes after the window waits for it"
        assert len(seen) == 5
        assert len(set(seen[1:4])) == 1

    @pytest.mark.parametrize("error", [ValueError, Reject])
    @pytest.mark.fact("W-4")
    def test_when_it_is_given_up_the_state_is_a_dead_letter(self, error):
        def total(batch: Batch) -> None:
            batch.state = {"n": 7}
            if batch.is_final:
                raise error("no")

        stage = Windowed(total, max_retries=1).put(1).put(at=60)
        [letter] = stage.letters
        assert (letter.data, letter.window) == (
            b'{"n":7}',
            (stage.minute, stage.minute + 60 * SECOND),
        )
        assert letter.id == "shardId-000000000000:1:window"
        assert stage.driver.redrive("total") == 0, "there is no record to call it with"

    @pytest.mark.fact("W-4")
    def test_its_age_is_that_of_the_window(self):
        def total(batch: Batch) -> None:
            if batch.is_final:
                raise ValueError

        stage = Windowed(total, max_retries=-1, max_record_age="10s").put(1, at=59)
        stage.driver.clock.advance(60 * SECOND)
        stage.driver.run()
        assert [each.condition for each in stage.letters] == ["RecordAgeExceeded"]

    def test_what_it_returns_goes_to_the_stream_of_results(self):
        def total(batch: Batch) -> object:
            if batch.is_final:
                return ({"sum": batch.state}, "all")
            batch.state = sum(map(int, batch.values())) + (batch.state or 0)
            return None

        stage = Windowed(total, to="sums").put(1, 2).put(at=60)
        [result] = stage.driver.records("sums")
        assert (result.json(), result.partition_key) == ({"sum": 3}, "all")

    def test_its_success_is_told_as_that_of_any_call(self):
        """`on_success` gets one record a call; the final one has a window in place of records."""

        def total(batch: Batch) -> dict:
            batch.state = (batch.state or 0) + len(batch)
            return {"state": batch.state}

        stage = Windowed(total, on_success="audit").put(1, 2).put(at=60)

        call, final = [record.json() for record in stage.driver.records("audit")]
        assert call["KinesisBatchInfo"]["endSequenceNumber"] == "1"
        minute = f"{stage.minute:%Y-%m-%dT%H:%M}", f"{stage.minute + 60 * SECOND:%Y-%m-%dT%H:%M}"
        assert final["KinesisBatchInfo"] == {
            "shardId": "shardId-000000000000",
            "window": {"start": f"{minute[0]}:00.000Z", "end": f"{minute[1]}:00.000Z"},
            "isFinalInvokeForWindow": True,
            "batchSize": 0,
            "streamArn": "arn:aws:kinesis:us-east-1:000000000000:stream/orders",
        }
        assert final["responsePayload"] == {"state": 2}
        assert final["requestContext"]["condition"] == "Success"

    def test_a_final_call_that_fails_tells_of_no_success(self):
        def total(batch: Batch) -> None:
            if batch.is_final:
                raise ValueError

        stage = Windowed(total, on_success="audit", max_retries=1).put(1).put(at=60)

        assert len(stage.driver.records("audit")) == 1
        assert len(stage.letters) == 1

    def test_a_success_that_cannot_be_told_leaves_no_state(self):
        """A call whose record is too large has failed, with what it did to the state."""
        seen = []

        def total(batch: Batch) -> str:
            seen.append(batch.state)
            batch.state = (batch.state or 0) + len(batch)
            return "x" * (RECORD_BYTES_MAX if batch.state == 2 else 0)

        stage = Windowed(total, on_success="audit", batch_size=1, max_retries=1).put(1, 2)

        assert seen == [None, 1, 1]
        assert [letter.error_type for letter in stage.letters] == ["RecordTooLarge"]


class Unshown:
    """A value that cannot be shown."""

    def __repr__(self):
        raise SystemExit("no session")


class TestWhatItReturned:
    """A value that raises as it is shown is a failure of its call, not of the runner."""

    def test_a_batch_leaves_no_state(self):
        def total(batch: Batch) -> object:
            batch.state = len(batch)
            return None if batch.is_final else Unshown()

        world = Windowed(total, max_retries=0, bisect=False, on_success="audit")
        world.put(1, 2).put(3, at=60)

        assert {letter.error_type for letter in world.letters} == {"SystemExit"}
        assert [letter.data for letter in world.letters] == [b"1", b"2", b"3"]

    def test_a_final_call_is_given_up(self):
        def total(batch: Batch) -> object:
            return Unshown() if batch.is_final else None

        world = Windowed(total, max_retries=0, on_success="audit")
        world.put(1).put(at=60)

        [letter] = world.letters
        assert letter.error_type == "SystemExit"
        assert letter.window is not None


class TestLambdaEvent:
    """`input="lambda"`: AWS's fields."""

    @pytest.mark.fact("W-2")
    def test_a_state_above_the_limit_ends_the_window_early(self):
        """Inside the preset; the state is in the final call, and the rest begins afresh."""
        seen = []

        def total(event, context):
            ends = event["isFinalInvokeForWindow"], event["isWindowTerminatedEarly"]
            seen.append((len(event["state"].get("x", "")), len(event["Records"]), *ends))
            return {"state": {"x": event["state"].get("x", "") + "x" * 600_000}}

        options = {"input": "lambda", "preset": "aws", "batch_size": 1}
        Windowed(total, **options).put(1, 2, 3)
        assert seen == [
            (0, 1, False, False),
            (600_000, 1, False, False),
            (1_200_000, 0, True, True),
            (0, 1, False, False),
        ]

    def test_outside_the_preset_a_state_has_no_such_limit(self):
        finals = []

        def total(batch: Batch) -> None:
            finals.append((batch.is_final, len(batch.state or b"")))
            batch.state = b"x" * 3_000_000

        Windowed(total).put(1).put(at=60)
        assert finals == [(False, 0), (True, 3_000_000)]

    def test_the_event_has_the_fields_of_aws(self):
        events = []

        def total(event, context):
            events.append(event)
            return {"state": {"n": 1}}

        stage = Windowed(total, input="lambda").put(1).put(at=60)
        first, final = events
        minute = stage.minute.isoformat().replace("+00:00", "Z")
        assert first["window"]["start"] == minute
        assert (first["state"], first["shardId"]) == ({}, "shardId-000000000000")
        assert first["eventSourceARN"].endswith(":stream/orders")
        assert not first["isFinalInvokeForWindow"]
        assert (final["Records"], final["state"]) == ([], {"n": 1})
        assert final["isFinalInvokeForWindow"]


class TestShards:
    """W-5: the end of a shard closes its window, and its children begin afresh."""

    @pytest.mark.fact("W-5")
    def test_a_split_closes_the_window_and_children_start_afresh(self):
        finals = []
        stage = Windowed(summing(finals)).put(1, 2, at=5)
        stream = stage.driver.log.stream("orders")
        stream.split("shardId-000000000000")
        stage.put(4, at=10)

        assert finals == [(0, 3)], "before the time of the window is over"
        stage.put(at=60)
        assert finals == [(0, 3), (0, 4)]

    def test_a_redriven_record_counts_in_the_window_of_its_new_time(self):
        finals, bad = [], {2}
        stage = Windowed(summing(finals, bad=bad), max_retries=0).put(1, 2, at=5).put(at=60)
        bad.clear()
        stage.driver.redrive("total")
        stage.put(at=61).put(at=120)

        assert finals == [(0, 1), (0, 2)]


class TestRefusals:
    """What cannot be is refused, and the argument is named."""

    @pytest.mark.parametrize(
        "options",
        [
            {"parallelization_factor": 2},
            {"input": "record"},
            {"input": "arrow"},
            {"tumbling_window": "-1s"},
            {"tumbling_window": "soon"},
            {"preset": "aws", "tumbling_window": "16m"},
            {"preset": "aws", "tumbling_window": "1500ms"},
        ],
    )
    def test_it_names_the_argument(self, options):
        with pytest.raises(ConfigError) as caught:
            App("shop").stream("orders", **{"tumbling_window": "1m", **options})(lambda_free)

        assert caught.value.field == "tumbling_window"

    def test_zero_switches_it_off(self):
        app = App("shop")
        app.stream("orders", preset="aws", tumbling_window=0)(lambda_free)

        assert app.mappings[0].tumbling is None

    def test_it_travels_as_json(self):
        app = App("shop")
        app.stream("orders", preset="aws", tumbling_window="1m")(lambda_free)
        [mapping] = app.mappings

        assert mapping == EventSourceMapping.from_dict(mapping.to_dict())
        assert mapping.tumbling.state_bytes_max == 2**20


def lambda_free(batch):
    """A function with a name."""
