"""Each function sees every record, in order per key."""

from collections import defaultdict

import pytest

from streamfn.model.batch import Batch

RECORDS = 100_000
SHARDS = 8
KEYS = 1_000


def keys_by_place(log):
    """Shard and sequence number of each record, with its key."""
    places = {}
    for batch in log.stream("orders").read():
        assert isinstance(batch, Batch)
        for record in batch:
            places[record.shard_id, record.sequence_number] = record.partition_key
    return places


@pytest.mark.slow
def test_three_functions_in_two_processes_see_all_of_it(log, workers, seen_dir, read_seen):
    """100,000 records, 8 shards, one function with a factor of 4, `--burst`."""
    stream = log.create_stream("orders", shards=SHARDS)
    for start in range(0, RECORDS, 10_000):
        numbers = range(start, start + 10_000)
        stream.put_many([b"%d" % n for n in numbers], [f"k{n % KEYS}" for n in numbers])

    assert workers.run("seen", "--processes", 2, "--burst", SEEN=seen_dir) == 0

    places = keys_by_place(log)
    assert len(places) == RECORDS
    calls = read_seen(seen_dir)
    assert len({call.process for call in calls}) == 2
    for function in ("plain", "lanes", "single"):
        seen = [
            (call.shard_id, number)
            for call in calls
            if call.function == function
            for number in call.numbers
        ]
        assert len(seen) == RECORDS
        assert set(seen) == set(places)
        by_key = defaultdict(list)
        for place in seen:
            by_key[places[place]].append(place)
        assert len(by_key) == KEYS
        assert all(numbers == sorted(numbers) for numbers in by_key.values())
