"""Rules about what readers saw."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

from evidence import Evidence
from history import Reading
from violation import Violation, at


def readers_skip_nothing(evidence: Evidence) -> Iterator[Violation]:
    """From where it began, a reader sees every record, in order, or is told what it lost."""
    for reading in evidence.history.readings:
        yield from _walk(reading, evidence)


def _walk(reading: Reading, evidence: Evidence) -> Iterator[Violation]:
    lane = (reading.stream, reading.shard_id)
    numbers = evidence.numbers[lane]
    position = 0
    for kind, first, *rest in reading.steps:
        match kind:
            case "open":  # again: after records that were trimmed
                position = max(position, first)
            case "trimmed":
                yield from _missed(reading, numbers, position, first)
                if rest[0] >= evidence.contents.shards[lane].horizon:
                    detail = f"{reading.reader} was told that {first} to {rest[0]} are gone"
                    yield Violation("undeclared trim", at(*lane, first), detail)
                position = max(position, rest[0] + 1)
            case "record":
                if first < position:
                    detail = f"{reading.reader} was at {position} already"
                    yield Violation("reader went back", at(*lane, first), detail)
                yield from _missed(reading, numbers, position, first)
                position = max(position, first + 1)


def _missed(reading: Reading, numbers: list[int], position: int, first: int) -> Iterator[Violation]:
    """The records that the reader should have seen between two of its steps."""
    for missed in numbers[bisect_left(numbers, position) : bisect_left(numbers, first)]:
        where = at(reading.stream, reading.shard_id, missed)
        yield Violation("reader skipped", where, reading.reader)


def readers_see_what_is_acknowledged(evidence: Evidence) -> Iterator[Violation]:
    """A reader at the end has seen what had been acknowledged when it asked."""
    acknowledged = defaultdict(list)
    for put in evidence.history.puts:
        if put.place:
            lane = (put.place.stream, put.place.shard_id)
            acknowledged[lane].append((put.acked, put.place.number))
    for puts in acknowledged.values():
        puts.sort()
    highest = {
        lane: list(accumulate((number for _, number in puts), max))
        for lane, puts in acknowledged.items()
    }
    for reading in evidence.history.readings:
        lane = (reading.stream, reading.shard_id)
        for kind, asked, *rest in reading.steps:
            if kind != "end":
                continue
            before = bisect_right(acknowledged[lane], (asked, -1))
            if before and highest[lane][before - 1] >= rest[0]:
                detail = f"{reading.reader} was told that {rest[0]} is the end"
                yield Violation("reader behind", at(*lane, highest[lane][before - 1]), detail)


RULES = (readers_skip_nothing, readers_see_what_is_acknowledged)
