"""Tests for `streamfn.engine.deadletter` and `.destination`, on a real log."""

import threading
import tracemalloc
from datetime import timedelta

import pytest

from streamfn._core import RECORD_BYTES_MAX, Record
from streamfn.clock import SystemClock
from streamfn.engine import destination as destination_of
from streamfn.engine.deadletter import DeadLetters
from streamfn.engine.destination import FailureDestination
from streamfn.engine.outcome import Failure
from streamfn.engine.output import Output
from streamfn.engine.settle import DiscardedRecord
from streamfn.error_text import TRACEBACK_BYTES_MAX
from streamfn.errors import StreamfnError
from streamfn.model.mapping import EventSourceMapping
from streamfn.model.record import DEAD_LETTER_HEADER

NAME = "shop.total"
HEADERS_BYTES_MAX = 64 * 1024  # of a record that is no dead letter: docs/limits.md
LEAST_HEADER = 2 + 6 + len("h")
"""Bytes of a header `h` as stored, without its value and with what all headers share."""
FIELDS = {"name": NAME, "app": "shop", "function": "total", "stream": "orders", "version": "v1"}


@pytest.fixture
def destination(log):
    return FailureDestination(log.core, EventSourceMapping(**FIELDS), SystemClock())


@pytest.fixture
def letters(log):
    return DeadLetters(log, NAME)


def letter(number=7, stream="orders", data=b"payload", headers=None, attempts=4, put_us=0):
    record = Record(
        data,
        f"k{number}",
        sequence_number=number,
        stream=stream,
        headers=headers or {},
        timestamp_us=put_us,
    )
    failure = Failure("ValueError", "no", "Traceback")
    return DiscardedRecord(record, "RetryAttemptsExhausted", failure, attempts, 5_000_000)


def records_of(log, name):
    """All records of a stream."""
    stream = log.core.stream(name)
    reader = stream.reader(stream.shards()[0].shard_id)
    found = []
    while polled := list(reader.poll(100)):
        found += polled
    return found


def redriven(log):
    """What the function reads from its redrive stream."""
    return records_of(log, f"{NAME}.redrive")


class TestView:
    """Tests for `DeadLetters.entries` and `.get`."""

    def test_nothing_has_failed_yet(self, letters):
        assert letters.entries() == []

    def test_a_dead_letter_has_payload_key_headers_and_error(self, letters, destination):
        destination.deliver([letter(headers={"h": b"1"})])

        [found] = letters.entries()

        assert found.id == "shardId-000000000000:7"
        assert (found.data, found.partition_key, found.headers) == (b"payload", "k7", {"h": b"1"})
        assert (found.error_type, found.traceback) == ("ValueError", "Traceback")
        assert (found.attempts, found.round, found.status) == (4, 0, "open")
        assert found.first_failed.timestamp() == 5
        assert letters.get(found.id) == found

    def test_one_that_was_written_twice_shows_once(self, letters, destination):
        """A crash between the letter and the checkpoint."""
        destination.deliver([letter()])
        destination.deliver([letter()])

        assert len(letters.entries()) == 1

    def test_ids_name_the_stream_where_two_are_alike(self, letters, destination):
        destination.deliver([letter(7), letter(7, stream="returns"), letter(8)])

        assert [each.id for each in letters.entries()] == [
            "shardId-000000000000:7@orders",
            "shardId-000000000000:7@returns",
            "shardId-000000000000:8",
        ]
        assert letters.get("shardId-000000000000:7@returns").stream == "returns"

    def test_a_stream_that_was_made_again_hides_nothing_of_its_former_life(
        self, letters, destination
    ):
        """It gives out the same numbers once more, for other records."""
        destination.deliver([letter(7, data=b"former", put_us=1_000_000), letter(8)])
        destination.deliver([letter(7, data=b"new", put_us=2_000_001)])

        former, other, new = letters.entries()

        assert [former.data, other.data, new.data] == [b"former", b"payload", b"new"]
        assert former.id == "shardId-000000000000:7@orders@1970-01-01T00:00:01.000000Z"
        assert new.id == "shardId-000000000000:7@orders@1970-01-01T00:00:02.000001Z"
        assert (letters.get(former.id), letters.get(new.id)) == (former, new)
        with pytest.raises(KeyError):
            letters.get("shardId-000000000000:7@orders")

    def test_what_becomes_of_one_does_not_become_of_its_namesake(self, log, letters, destination):
        destination.deliver([letter(7, put_us=1_000_000)])
        destination.deliver([letter(7, put_us=2_000_000)])
        former, new = letters.entries()

        letters.redrive([former.id])
        destination.resolve(redriven(log))

        assert [each.put_at for each in letters.entries()] == [new.put_at]
        assert [each.put_at for each in letters.entries("resolved")] == [former.put_at]

    def test_an_unknown_id_is_an_error(self, letters):
        with pytest.raises(KeyError):
            letters.get("shardId-000000000000:7")

    def test_a_later_look_sees_what_came_meanwhile(self, letters, destination):
        destination.deliver([letter(1)])
        assert len(letters.entries()) == 1

        destination.deliver([letter(2)])

        assert len(letters.entries()) == 2


class TestRedrive:
    """Tests for `DeadLetters.redrive`, `.drop` and `.wait`."""

    def test_copies_are_queued_with_their_origin(self, log, letters, destination):
        destination.deliver([letter(7, headers={"h": b"1"}), letter(8)])

        assert letters.redrive() == 2

        copies = redriven(log)
        assert [copy.data for copy in copies] == [b"payload"] * 2
        assert [copy.partition_key for copy in copies] == ["k7", "k8"]
        assert copies[0].headers["h"] == b"1"
        assert letters.entries() == []
        assert len(letters.entries("queued")) == 2

    def test_a_success_resolves(self, log, letters, destination):
        destination.deliver([letter(7), letter(8)])
        letters.redrive()

        destination.resolve(redriven(log)[:1])

        assert [each.sequence_number for each in letters.entries("resolved")] == [7]
        assert [each.sequence_number for each in letters.entries("queued")] == [8]

    def test_a_failure_opens_it_again_in_the_next_round(self, log, letters, destination):
        destination.deliver([letter(7)])
        letters.redrive()

        [copy] = redriven(log)
        again = DiscardedRecord(
            copy, "RetryAttemptsExhausted", Failure("KeyError", "'x'"), 2, 6_000_000
        )
        destination.deliver([again])

        [found] = letters.entries()
        assert (found.round, found.attempts, found.error_type) == (1, 6, "KeyError")
        assert (found.stream, found.sequence_number) == ("orders", 7)
        assert found.first_failed.timestamp() == 5
        assert letters.redrive() == 1

    def test_only_those_asked_for_are_queued(self, letters, destination):
        destination.deliver([letter(7), letter(8)])

        assert letters.redrive(["shardId-000000000000:8"]) == 1

        assert [each.sequence_number for each in letters.entries()] == [7]

    def test_what_is_queued_is_not_queued_twice(self, letters, destination):
        destination.deliver([letter(7)])
        letters.redrive()

        assert letters.redrive() == 0
        assert letters.redrive(["shardId-000000000000:7"]) == 0

    def test_an_unknown_id_queues_nothing(self, letters, destination):
        destination.deliver([letter(7)])

        with pytest.raises(KeyError):
            letters.redrive(["shardId-000000000000:7", "shardId-000000000000:9"])

        assert len(letters.entries()) == 1

    def test_a_quick_worker_may_resolve_before_the_letter_is_marked(
        self, log, letters, destination, monkeypatch
    ):
        destination.deliver([letter(7)])
        mark = DeadLetters._mark

        def late(self, chosen, kind):
            destination.resolve(redriven(log))
            mark(self, chosen, kind)

        monkeypatch.setattr(DeadLetters, "_mark", late)
        letters.redrive()

        assert len(letters.entries("resolved")) == 1

    def test_a_letter_written_twice_stays_queued(self, letters, destination):
        destination.deliver([letter(7)])
        letters.redrive()

        destination.deliver([letter(7)])

        assert letters.entries() == []

    def test_dropped_ones_are_gone_from_the_list_for_good(self, log, letters, destination):
        destination.deliver([letter(7), letter(8)])

        assert letters.drop(["shardId-000000000000:7"]) == 1

        assert [each.sequence_number for each in DeadLetters(log, NAME).entries()] == [8]
        assert letters.redrive(["shardId-000000000000:7"]) == 0

    def test_waiting_ends_when_all_are_tried(self, log, letters, destination):
        destination.deliver([letter(7)])
        letters.redrive()
        worker = threading.Timer(0.2, lambda: destination.resolve(redriven(log)))
        worker.start()

        assert letters.wait(timedelta(seconds=30))
        worker.join()

    def test_waiting_ends_at_its_timeout(self, letters, destination):
        destination.deliver([letter(7)])
        letters.redrive()

        assert not letters.wait(timedelta(milliseconds=50))


class TestDestination:
    """Tests for `FailureDestination`."""

    def test_another_stream_is_made_when_it_is_needed(self, log):
        mapping = EventSourceMapping(**FIELDS, on_failure="broken-orders")

        FailureDestination(log.core, mapping, SystemClock()).deliver([letter(7)])

        assert "broken-orders" in log.streams()

    def test_a_stream_that_was_removed_is_made_again(self, log):
        """Whoever removes it does not have to know that a worker has it open."""
        mapping = EventSourceMapping(**FIELDS, on_failure="broken", to="lines")
        destination = FailureDestination(log.core, mapping, SystemClock())
        for number in (7, 8):
            destination.deliver([letter(number)])
            destination.send_on([Output("lines", b"%d" % number, None)])
            assert [put.partition_key for put in records_of(log, "broken")] == [f"k{number}"]
            assert [put.data for put in records_of(log, "lines")] == [b"%d" % number]
            for name in ("broken", "lines"):
                log.core.remove_stream(name)

    def test_none_drops(self, log):
        mapping = EventSourceMapping(**FIELDS, on_failure=None)

        FailureDestination(log.core, mapping, SystemClock()).deliver([letter(7)])

        assert log.core.streams(internal=True) == []

    def test_what_was_redriven_goes_back_to_its_dead_letters(self, log, letters, destination):
        """Whatever `on_failure` says by then."""
        destination.deliver([letter(7)])
        letters.redrive()
        mapping = EventSourceMapping(**FIELDS, on_failure=None)

        [copy] = redriven(log)
        again = DiscardedRecord(copy, "Rejected", Failure("Reject", "no"), 1, 6)
        FailureDestination(log.core, mapping, SystemClock()).deliver([again])

        assert [each.condition for each in letters.entries()] == ["Rejected"]

    @pytest.mark.parametrize("headers", [{}, {"h": bytes(HEADERS_BYTES_MAX - LEAST_HEADER)}])
    @pytest.mark.parametrize("room", [0, 1])
    def test_the_largest_record_fits(self, log, letters, destination, headers, room):
        """A dead letter may be 64 KiB larger than any record, and so may its headers."""
        data = bytes(RECORD_BYTES_MAX - len("k7") - bool(headers) * HEADERS_BYTES_MAX - room)
        record = letter(7, data=data, headers=headers).record
        worst = Failure("E" * 10**5 + "\ud800", "\0" * 10**6, "\0" * 10**6)
        log.create_stream("orders").put(data, "k7", headers)  # so such a record can be

        destination.deliver([DiscardedRecord(record, "Rejected", worst, 1, 0)])

        [found] = letters.entries()
        assert (found.data, found.headers) == (data, headers)
        assert found.error_type.startswith("EEEE")

    def test_a_letter_that_its_stream_has_no_room_for_goes_to_the_functions_own(self, log, letters):
        """The others of the call are where they should be, once."""
        mapping = EventSourceMapping(**FIELDS, on_failure="broken")
        destination = FailureDestination(log.core, mapping, SystemClock())
        large = [letter(n, data=bytes(RECORD_BYTES_MAX - len("k7"))) for n in (2, 5)]
        small = [letter(n) for n in (1, 3, 4)]

        places = destination.deliver([small[0], large[0], *small[1:], large[1]])

        own = "shop.total.dlq"
        assert places == ["broken", own, "broken", "broken", own]
        assert [record.partition_key for record in records_of(log, "broken")] == ["k1", "k3", "k4"]
        assert [each.sequence_number for each in letters.entries()] == [2, 5]
        assert [each.data for each in letters.entries()] == [each.record.data for each in large]
        assert letters.entries()[0].traceback == "Traceback"

    def test_the_room_of_another_stream_is_used_to_its_last_byte(self, log):
        """A traceback is left out before a letter goes elsewhere."""
        mapping = EventSourceMapping(**FIELDS, on_failure="broken")
        destination = FailureDestination(log.core, mapping, SystemClock())
        destination.deliver([letter(10)])
        [put] = records_of(log, "broken")
        bare = len(put.headers[DEAD_LETTER_HEADER]) - len("Traceback")
        room = RECORD_BYTES_MAX - len("k10") - bare - LEAST_HEADER + 1 - len(DEAD_LETTER_HEADER)

        fits, does_not = (letter(10, data=bytes(room + more)) for more in (0, 1))

        assert destination.deliver([fits]) == ["broken"]
        assert destination.deliver([does_not]) == ["shop.total.dlq"]

    def test_many_letters_are_made_a_portion_at_a_time(self, log, destination, monkeypatch):
        """Each has a copy of the traceback: together they may be more than there is memory."""
        monkeypatch.setattr(destination_of, "PUT_BYTES", 2**18)
        failure = Failure("ValueError", "no", "x" * TRACEBACK_BYTES_MAX)

        def peak(count):
            given_up = [
                DiscardedRecord(letter(n).record, "Rejected", failure, 1, 0) for n in range(count)
            ]
            tracemalloc.start()
            destination.deliver(given_up)
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            return most

        assert peak(200) < 2 * peak(20)

    @pytest.mark.parametrize(("size", "records"), [(0, 1), (2**16, 2), (RECORD_BYTES_MAX + 1, 3)])
    def test_the_state_of_a_window_may_be_larger_than_a_record(
        self, log, letters, destination, size, records
    ):
        """It is put in parts, and is one dead letter all the same."""
        state = bytes(range(256)) * (RECORD_BYTES_MAX // 256) + bytes(size)
        record = Record(state, None, sequence_number=9, stream="orders")
        failure = Failure("E", "m", "x" * 10**6)

        places = destination.deliver(
            [DiscardedRecord(record, "Rejected", failure, 1, 0, window=(0, 60))]
        )

        assert places == ["shop.total.dlq"]
        assert len(records_of(log, "shop.total.dlq")) == records
        [found] = letters.entries()
        assert found.data == state
        letters.drop([found.id])
        assert letters.entries() == []

    def test_parts_without_their_end_are_no_dead_letter(self, log, letters, destination):
        """As a crash leaves them; the state is delivered again, and these parts are not in it."""
        whole = Record(b"a" * (RECORD_BYTES_MAX + 1), None, sequence_number=9, stream="orders")
        again = DiscardedRecord(whole, "Rejected", Failure("E", "m"), 1, 0, window=(0, 60))
        data, key, headers = destination._in_parts(again)[0]
        log.core.create_stream("shop.total.dlq", internal=True).put(b"b" * len(data), key, headers)
        assert letters.entries() == []

        destination.deliver([again])

        [found] = letters.entries()
        assert found.data == whole.data

    def test_a_closed_log_is_an_error_that_can_be_told(self, log, destination):
        log.close()

        with pytest.raises(StreamfnError):
            destination.deliver([letter(7)])
