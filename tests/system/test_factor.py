"""The parallelization factor may change from start to start; order per key stays."""

from collections import defaultdict

import pytest

from streamfn import _core

KEYS = 20


def put(orders, start, count):
    numbers = range(start, start + count)
    orders.put_many([b"%d" % n for n in numbers], [f"k{n % KEYS}" for n in numbers])


def test_each_factor_takes_over_where_the_one_before_ended(log, workers, notes):
    orders = log.create_stream("orders", shards=2)
    environment = {"NOTES": notes.path, "SIZE": 10}

    for turn, factor in enumerate([1, 4, 2, 8]):
        put(orders, turn * 1_000, 1_000)
        assert workers.run("paced", "--burst", FACTOR=factor, **environment) == 0
        mapping = _core.Mapping.open(log.core, "paced.work")
        assert {lane.factor for lane in mapping.lanes()} == {factor}

    check_order(log, notes, 4_000)


def test_a_worker_with_another_factor_has_the_first_one_follow(log, workers, notes, until):
    """The one that started last decides; lanes are drained, then changed."""
    orders = log.create_stream("orders", shards=2)
    put(orders, 0, 1_000)
    environment = {"NOTES": notes.path, "SIZE": 10, "SLOW": 0.001}
    workers.start("paced", "--processes", 1, FACTOR=2, **environment)
    until(lambda: len(notes("ended")) > 20)

    workers.start("paced", "--processes", 1, FACTOR=3, **environment)
    put(orders, 1_000, 1_000)

    mapping = _core.Mapping.open(log.core, "paced.work")
    until(lambda: {lane.factor for lane in mapping.lanes()} == {3})
    until(lambda: sum(len(note.numbers) for note in notes("ended")) >= 2_000)
    check_order(log, notes, 2_000, may_repeat=True)


def check_order(log, notes, count, may_repeat=False):
    """All was delivered in order per key; a change may repeat what lay above the lowest lane."""
    keys = {}
    for batch in log.stream("orders").read():
        for record in batch:
            keys[record.shard_id, record.sequence_number] = record.partition_key
    by_key = defaultdict(list)
    for note in notes("ended"):
        for number in note.numbers:
            by_key[keys[note.shard_id, number]].append(number)
    assert sum(len(set(numbers)) for numbers in by_key.values()) == count
    for numbers in by_key.values():
        firsts = list(dict.fromkeys(numbers))
        assert firsts == sorted(firsts)
        assert may_repeat or firsts == numbers


@pytest.mark.parametrize("factor", [1, 3])
def test_lanes_are_as_many_as_the_factor(log, workers, notes, factor):
    put(log.create_stream("orders"), 0, 100)

    workers.run("paced", "--burst", FACTOR=factor, NOTES=notes.path)

    mapping = _core.Mapping.open(log.core, "paced.work")
    assert [lane.slot for lane in mapping.lanes()] == list(range(factor))
