"""The checker is silent about a clean history, and names what is wrong with a falsified one."""

import copy
import dataclasses
import hashlib
from collections.abc import Callable

import pytest
from checker import check
from contents import Contents, Shard, Span
from evidence import Evidence
from history import Call, History, Look, Place, Put, Reading
from journal import digest

PARENT, LEFT, RIGHT = (f"shardId-{n:012}" for n in range(3))
MIDDLE, LAST = 1 << 127, (1 << 128) - 1
CLOSED_AT, JUMP_TO, TRIMMED_TO = 40, 1000, 10
KEYS = [f"k{n}" for n in range(8)]
BATCH = 5


class Clean:
    """A history without a fault, made by hand.

    Two producers put to `kept`, whose one shard is split after 40 records; the right child goes on
    after an unclean stop at 1000. `capped` has lost its first ten records to retention. Readers
    and functions saw all there was.
    """

    def __init__(self) -> None:
        self.time = 0
        self.history = History()
        self.contents = Contents({}, {"kept": {}, "capped": {"bytes": 1}}, set(), 0)
        self.put_all()
        self.read_all()
        self.deliver_all()
        self.contents.looked = self.now()

    def now(self) -> int:
        self.time += 1
        return self.time

    def shard(self, stream: str, shard_id: str, hash_keys: tuple[int, int]) -> Shard:
        return self.contents.shards.setdefault((stream, shard_id), Shard(hash_keys))

    def put_all(self) -> None:
        parent = self.shard("kept", PARENT, (0, LAST))
        left = self.shard("kept", LEFT, (0, MIDDLE - 1))
        right = self.shard("kept", RIGHT, (MIDDLE, LAST))
        capped = self.shard("capped", PARENT, (0, LAST))
        for number in range(CLOSED_AT):
            self.put("kept", PARENT, number)
        parent.spans = [Span(0, CLOSED_AT, None), Span(CLOSED_AT, 1, "CLOSE")]
        numbers = {LEFT: 0, RIGHT: 0}
        for n in range(40):
            shard_id = LEFT if hash_key(KEYS[n % len(KEYS)]) < MIDDLE else RIGHT
            if shard_id == RIGHT and numbers[RIGHT] == 5:
                numbers[RIGHT] = JUMP_TO + 1
            self.put("kept", shard_id, numbers[shard_id], n)
            numbers[shard_id] += 1
        left.spans = [Span(0, numbers[LEFT], None)]
        after = numbers[RIGHT] - JUMP_TO - 1
        right.spans = [Span(0, 5, None), Span(JUMP_TO, 1, "EPOCH"), Span(JUMP_TO + 1, after, None)]
        for number in range(30):
            self.put("capped", PARENT, number)
        capped.spans = [Span(TRIMMED_TO, 20, None)]
        capped.horizon = TRIMMED_TO
        for number in range(TRIMMED_TO):
            del capped.read[number], capped.decoded[number]

    def put(self, stream: str, shard_id: str, number: int, turn: int | None = None) -> None:
        """One call of one record; the producers take turns."""
        n = len(self.history.puts)
        key = KEYS[(number if turn is None else turn) % len(KEYS)]
        found = digest(b"%d" % n, key, {})
        place = Place(stream, shard_id, number)
        put = Put(f"p{n % 2}", n // 2, 0, stream, key, found, self.now(), self.now(), place)
        self.history.puts.append(put)
        shard = self.contents.shards[stream, shard_id]
        shard.read[number] = shard.decoded[number] = found

    def places(self, stream: str, shard_id: str) -> list[Put]:
        return [p for p in self.history.puts if p.place[:2] == (stream, shard_id)]

    def read_all(self) -> None:
        for stream, shard_id in self.contents.shards:
            puts = self.places(stream, shard_id)
            reading = Reading("r0", stream, shard_id, [("open", 0)])
            if stream == "capped":
                reading.steps.append(("trimmed", 0, TRIMMED_TO - 1))
                puts = puts[TRIMMED_TO:]
            reading.steps += [("record", put.place.number, put.digest) for put in puts]
            reading.steps.append(("end", self.now(), puts[-1].place.number + 1))
            self.history.readings.append(reading)

    def deliver_all(self) -> None:
        self.deliver("changing_capped", "capped", PARENT, skip=4)
        for function in ("steady_batches", "changing_kept"):
            for shard_id in (PARENT, LEFT, RIGHT):
                self.deliver(function, "kept", shard_id)
                last = max(self.contents.shards["kept", shard_id].read)
                look = Look(self.now(), function, "kept", shard_id, [last + 1])
                self.history.looks.append(look)

    def deliver(self, function: str, stream: str, shard_id: str, skip: int = 0) -> None:
        puts = self.places(stream, shard_id)[skip:]
        for start in range(0, len(puts), BATCH):
            self.call(function, puts[start : start + BATCH], process=7)

    def call(self, function: str, puts: list[Put], process: int, at: int | None = None) -> None:
        numbers, digests = [p.place.number for p in puts], [p.digest for p in puts]
        began = self.now()
        call = Call(process, 1, began, function, *puts[0].place[:2], numbers, digests, self.now())
        self.history.calls.insert(len(self.history.calls) if at is None else at, call)


def hash_key(key: str) -> int:
    return int.from_bytes(hashlib.md5(key.encode()).digest())


CLEAN = Clean()


@pytest.fixture
def run():
    """A clean history and its log, free to be falsified."""
    return copy.deepcopy(CLEAN)


def names(run: Clean) -> set[str]:
    return {violation.name for violation in check(Evidence(run.history, run.contents))}


def test_a_clean_history_has_no_violation(run):
    assert check(Evidence(run.history, run.contents)) == []


# ---------------------------------------------------------------- falsifications


def shard_of(run: Clean, shard_id: str = PARENT, stream: str = "kept") -> Shard:
    return run.contents.shards[stream, shard_id]


def reading_of(run: Clean, shard_id: str = PARENT, stream: str = "kept") -> Reading:
    return next(r for r in run.history.readings if (r.stream, r.shard_id) == (stream, shard_id))


def calls_of(run: Clean, function: str, shard_id: str = PARENT) -> list[Call]:
    found = [c for c in run.history.calls if (c.function, c.shard_id) == (function, shard_id)]
    assert found
    return found


def lose_a_record(run):
    """The log forgot what it had acknowledged."""
    del shard_of(run).read[7], shard_of(run).decoded[7]


def lose_the_last_record(run):
    """The same at the end, where no gap shows."""
    last = CLOSED_AT - 1
    del shard_of(run).read[last], shard_of(run).decoded[last]


def change_a_payload_on_disk(run):
    """The log has other bytes than were put."""
    shard_of(run).read[7] = shard_of(run).decoded[7] = digest(b"other", "k7", {})


def change_a_payload_in_a_call(run):
    """A function was given other bytes than are in the log."""
    calls_of(run, "changing_kept")[1].digests[0] = digest(b"other", "k5", {})


def change_a_payload_for_a_reader(run):
    """A reader was given other bytes."""
    reading_of(run).steps[3] = ("record", 2, digest(b"other", "k2", {}))


def invent_a_record(run):
    """Nobody put what the log has."""
    shard_of(run, LEFT).read[90] = shard_of(run, LEFT).decoded[90] = digest(b"?", "k0", {})


def write_a_record_twice(run):
    """One acknowledged call, two records."""
    shard = shard_of(run, "shardId-000000000000", "capped")
    shard.read[30] = shard.decoded[30] = shard.read[29]


def acknowledge_a_number_twice(run):
    """Two producers were told the same number."""
    run.history.puts[9].place = run.history.puts[8].place


def reuse_a_number_on_disk(run):
    """A batch begins below the end of the one before it."""
    shard_of(run, LEFT).spans.append(Span(3, 1, None))


def hide_a_record_from_the_reader(run):
    """The bytes are there, but the engine's reader passes over them."""
    del shard_of(run).read[7]


def jump_without_saying_so(run):
    """The numbers jump and no EPOCH is there."""
    spans = shard_of(run, RIGHT).spans
    spans[1] = Span(JUMP_TO, 1, None)


def leave_a_hole(run):
    """A batch in the middle of the segment is gone."""
    shard_of(run).spans[:1] = [Span(0, 20, None), Span(25, CLOSED_AT - 25, None)]


def write_after_close(run):
    """A producer did not notice that the shard had ended."""
    shard_of(run).spans.append(Span(CLOSED_AT + 1, 1, None))


def route_to_the_wrong_child(run):
    """After a split, a key went to the shard of the other half."""
    shard_of(run, LEFT).hash_keys, shard_of(run, RIGHT).hash_keys = (MIDDLE, LAST), (0, MIDDLE - 1)


def swap(run: Clean, one: Put, other: Put) -> None:
    """Have two records the other way round, for everybody who looks."""
    for put in (one, other):
        shard = run.contents.shards[put.place.stream, put.place.shard_id]
        partner = other if put is one else one
        shard.read[put.place.number] = shard.decoded[put.place.number] = partner.digest
    for reading in run.history.readings:
        swapped = {one.place: other.digest, other.place: one.digest}
        for n, step in enumerate(reading.steps):
            place = Place(reading.stream, reading.shard_id, step[1])
            if step[0] == "record" and place in swapped:
                reading.steps[n] = (*step[:2], swapped[place])
    for call in run.history.calls:
        for n, place in enumerate(call.places()):
            if place in (one.place, other.place):
                call.digests[n] = (other if place == one.place else one).digest
    one.place, other.place = other.place, one.place


def swap_two_records_of_a_key(run):
    """The later one of two producers' records of one key stands first."""
    puts = run.places("kept", PARENT)
    one = puts[3]
    other = next(put for put in puts[4:] if put.key == one.key)
    one.producer, other.producer = "p8", "p9"  # the order of no producer tells
    swap(run, one, other)


def swap_a_key_across_the_split(run):
    """What was put after the split stands in the parent, what was put before it in the child."""
    child = run.places("kept", RIGHT)[0]
    parent = next(put for put in run.places("kept", PARENT)[-8:] if put.key == child.key)
    parent.producer, child.producer = "p8", "p9"
    swap(run, parent, child)


def swap_two_records_of_a_producer(run):
    """Of different keys, so that only the producer's order tells."""
    puts = run.places("kept", PARENT)
    swap(run, puts[4], puts[6])


def trim_what_is_kept(run):
    """A stream without retention lost its beginning."""
    shard = shard_of(run)
    shard.horizon = 5
    for number in range(5):
        del shard.read[number], shard.decoded[number]


def trim_what_is_young(run):
    """Retention by age took what was put a moment ago."""
    run.contents.retention["capped"] = {"seconds": 60.0}


def skip_a_record_in_a_reader(run):
    """A reader missed one, without a word."""
    del reading_of(run).steps[5]


def skip_the_trimmed_in_a_reader(run):
    """A reader went on behind what retention took, and nobody told it."""
    reading = reading_of(run, PARENT, "capped")
    reading.steps = [step for step in reading.steps if step[0] != "trimmed"]


def tell_a_reader_of_a_trim_that_was_none(run):
    """A reader was told that records are gone, and they are there."""
    steps = reading_of(run).steps
    steps[3:6] = [("trimmed", 2, 4)]


def turn_a_reader_back(run):
    """A reader got a record again."""
    steps = reading_of(run).steps
    steps.insert(8, steps[5])


def hide_the_end_from_a_reader(run):
    """A reader was told that it is at the end after more had been acknowledged."""
    steps = reading_of(run, LEFT).steps
    del steps[-2]
    steps[-1] = ("end", steps[-1][1], steps[-1][2] - 1)


def drop_a_delivery(run):
    """The last record of a key never came to a function."""
    call = calls_of(run, "steady_batches", LEFT)[-1]
    del call.numbers[-1], call.digests[-1]


def forget_a_dead_letter(run):
    """A function rejected a record, and its dead letter is not there."""
    calls_of(run, "changing_capped")[-1].returned = None


def deliver_the_child_first(run):
    """The lanes of a child opened before those of its parent were through."""
    calls = run.history.calls
    child = calls_of(run, "changing_kept", LEFT)[0]
    calls.remove(child)
    calls.insert(calls.index(calls_of(run, "changing_kept", PARENT)[-1]), child)


def swap_two_calls(run):
    """A function saw the later batch first."""
    calls = run.history.calls
    one, other = calls_of(run, "changing_kept")[:2]
    i, j = calls.index(one), calls.index(other)
    calls[i], calls[j] = other, one


def skip_forward_after_going_back(run):
    """After a redelivery began at an old record, the ones behind it were left out."""
    again = run.places("kept", RIGHT)[:1]
    run.call("changing_kept", again, process=8, at=len(run.history.calls) - 1)


def deliver_again_without_a_death(run):
    """A steady function saw a batch again, though nobody had been killed."""
    at = run.history.calls.index(calls_of(run, "steady_batches")[1])
    run.call("steady_batches", run.places("kept", PARENT)[:BATCH], process=8, at=at)


def deliver_again_what_was_settled(run):
    """A process was killed, and more came again than it had in flight."""
    run.history.killed[7] = [run.time]
    calls = calls_of(run, "steady_batches", PARENT)
    after = run.history.calls.index(calls[-1]) + 1
    for call in calls:
        call.numbers, call.digests = call.numbers * 8, call.digests * 8
    run.call("steady_batches", run.places("kept", PARENT), process=8, at=after)


def move_a_checkpoint_ahead(run):
    """A checkpoint on disk was beyond what had been called."""
    last = calls_of(run, "steady_batches", PARENT)[-1]
    run.history.looks[0] = dataclasses.replace(run.history.looks[0], time=last.returned)


def report_an_error(run):
    """A put failed, though nothing was wrong with the disk."""
    run.history.errors.append("producer-0.3: StoragePoisoned, an earlier sync failed")


FALSIFICATIONS: list[tuple[Callable[[Clean], None], set[str]]] = [
    (lose_a_record, {"lost"}),
    (lose_the_last_record, {"lost"}),
    (change_a_payload_on_disk, {"changed"}),
    (change_a_payload_in_a_call, {"changed"}),
    (change_a_payload_for_a_reader, {"changed"}),
    (invent_a_record, {"nobody put it", "not delivered"}),
    (write_a_record_twice, {"there twice", "not delivered"}),
    (acknowledge_a_number_twice, {"number issued twice"}),
    (reuse_a_number_on_disk, {"number issued twice"}),
    (hide_a_record_from_the_reader, {"lost", "readers differ"}),
    (jump_without_saying_so, {"undeclared jump"}),
    (leave_a_hole, {"undeclared jump"}),
    (write_after_close, {"written after close"}),
    (route_to_the_wrong_child, {"wrong shard"}),
    (swap_two_records_of_a_key, {"order of a key"}),
    (swap_a_key_across_the_split, {"order of a key"}),
    (swap_two_records_of_a_producer, {"order of a producer"}),
    (trim_what_is_kept, {"trimmed too early"}),
    (trim_what_is_young, {"trimmed too early"}),
    (skip_a_record_in_a_reader, {"reader skipped"}),
    (skip_the_trimmed_in_a_reader, {"reader skipped"}),
    (tell_a_reader_of_a_trim_that_was_none, {"undeclared trim"}),
    (turn_a_reader_back, {"reader went back"}),
    (hide_the_end_from_a_reader, {"reader behind"}),
    (drop_a_delivery, {"not delivered", "checkpoint ahead"}),
    (forget_a_dead_letter, {"not delivered"}),
    (deliver_the_child_first, {"delivered out of order"}),
    (swap_two_calls, {"delivered out of order"}),
    (skip_forward_after_going_back, {"delivered out of order"}),
    (deliver_again_without_a_death, {"delivered again"}),
    (deliver_again_what_was_settled, {"delivered again"}),
    (move_a_checkpoint_ahead, {"checkpoint ahead"}),
    (report_an_error, {"error"}),
]


@pytest.mark.parametrize(
    ("falsify", "expected"), FALSIFICATIONS, ids=lambda value: getattr(value, "__name__", "")
)
def test_it_is_caught_under_its_name_and_no_other(run, falsify, expected):
    falsify(run)

    assert expected == names(run)


def test_a_record_put_again_after_an_unknown_outcome_may_be_there_twice(run):
    """The producer died before it was told, and its successor put the record once more."""
    again = copy.copy(run.history.puts[-1])
    again.place = again.acked = None
    run.history.puts.append(again)
    shard = shard_of(run, PARENT, "capped")
    shard.read[30] = shard.decoded[30] = again.digest
    shard.spans.append(Span(30, 1, None))
    run.contents.dead.add(("changing_capped", Place("capped", PARENT, 30)))

    assert names(run) == set()


def test_one_call_may_stand_in_another_order_as_long_as_each_key_does_not(run):
    """A part of it met a shard that had been closed, and went another way."""
    puts = run.places("kept", PARENT)
    one, other = puts[4], puts[6]
    other.call, other.index = one.call, 1
    swap(run, one, other)

    assert names(run) == set()


def test_what_was_in_flight_at_a_kill_may_come_again(run):
    run.history.killed[7] = [run.time]
    again = run.places("kept", RIGHT)[-BATCH:]
    run.call("steady_batches", again, process=8)

    assert names(run) == set()
