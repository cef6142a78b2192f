"""Tests for records as a loop gets them: an iterator uses the objects again that nobody kept."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from streamfn._core import Board, Records

COUNT = 600


@pytest.fixture
def records(log):
    """Numbers as payloads, in two batches of 300."""
    stream = log.create_stream("numbers")
    for start in (0, 300):
        stream.put_many([b"%d" % number for number in range(start, start + 300)])
    return Records.concat([batch.records for batch in stream.read()])


def iterators(records):
    """Return each way to iterate."""
    return iter(records), records.running(Board.create(), 0)


def test_a_loop_sees_every_record_once(records):
    for iterator in iterators(records):
        assert [int(record.data) for record in iterator] == list(range(COUNT))


def test_those_that_are_kept_stay_what_they_are(records):
    for iterator in iterators(records):
        kept = list(iterator)

        assert [int(record.data) for record in kept] == list(range(COUNT))


def test_one_that_is_kept_for_a_while_is_itself_until_it_is_let_go(records):
    source = random.Random(20130101)
    for iterator in iterators(records):
        kept = {}
        for number, record in enumerate(iterator):
            if source.random() < 0.5:
                kept[number] = record
            if kept and source.random() < 0.4:
                del kept[source.choice(list(kept))]
            assert int(record.data) == number
            assert all(int(record.data) == number for number, record in kept.items())


def test_one_in_a_set_is_found_there(records):
    seen = set()
    for record in records:
        seen.add(record)
        assert record in seen

    assert sorted(record.sequence_number for record in seen) == list(range(COUNT))


def test_one_that_another_thread_has_stays_what_it_is(records):
    with ThreadPoolExecutor(2) as threads:
        read = threads.map(lambda record: int(record.data), records)

        assert list(read) == list(range(COUNT))


def test_the_board_tells_which_is_running(records):
    board = Board.create()
    board.begin(0, lane=1, deadline=None)
    for number, record in enumerate(records.running(board, 0)):
        (_, _, _, running) = board.cells()[0]
        assert running == record.sequence_number == number
