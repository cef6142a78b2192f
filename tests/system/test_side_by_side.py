"""Lanes of one shard in one runner: side by side, with threads or on the event loop."""

from collections import defaultdict
from itertools import pairwise

import pytest

KEYS = 64
RECORDS = 4_000
KINDS = {"sync": ["--threads", 8], "async": []}


@pytest.fixture
def orders(log):
    """One shard of records `key:turn`, each key's turns in order."""
    orders = log.create_stream("orders")
    keys = [f"k{n % KEYS}" for n in range(RECORDS)]
    orders.put_many([b"%s:%d" % (key.encode(), n) for n, key in enumerate(keys)], keys)
    return orders


def read_notes(path):
    """Begin, end and values of each call, in the order in which they ended."""
    calls = []
    for line in path.read_text().splitlines():
        _, began, ended, values = line.split(" ")
        calls.append((float(began), float(ended), values.split(",")))
    return calls


def most_at_once(calls):
    steps = sorted([(began, 1) for began, *_ in calls] + [(ended, -1) for _, ended, _ in calls])
    running, most = 0, 0
    for _, step in steps:
        running += step
        most = max(most, running)
    return most


def turns_by_key(calls):
    by_key = defaultdict(list)
    for _, _, values in calls:
        for value in values:
            key, turn = value.split(":")
            by_key[key].append(int(turn))
    return by_key


@pytest.mark.parametrize("kind", KINDS)
def test_eight_lanes_run_at_once_and_keep_the_order_of_keys(tmp_path, orders, workers, kind):
    notes = tmp_path / "notes"
    environment = {"FACTOR": 8, "KIND": kind, "NOTES": notes}

    assert workers.run("sleepy", "--burst", "--processes", 1, *KINDS[kind], **environment) == 0

    calls = read_notes(notes)
    assert most_at_once(calls) == 8
    by_key = turns_by_key(calls)
    assert sum(map(len, by_key.values())) == RECORDS
    assert all(a < b for turns in by_key.values() for a, b in pairwise(turns))


@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_key_holds_up_its_own_lane_only(tmp_path, orders, workers, kind):
    """The first record of one key fails and waits; the seven other lanes end without it."""
    notes = tmp_path / "notes"
    environment = {"FACTOR": 8, "KIND": kind, "NOTES": notes, "BAD": "k0:0"}

    assert workers.run("sleepy", "--burst", "--processes", 1, *KINDS[kind], **environment) == 0

    calls = read_notes(notes)
    tries = [(began, ended) for began, ended, values in calls if "k0:0" in values]
    first_try, last_try = tries[0][1], tries[-1][1]
    meanwhile = [began for began, _, values in calls if first_try < began < last_try]
    assert len(meanwhile) > len(tries), "other lanes went on"
    same_key = [call for call in calls if any(v.startswith("k0:") for v in call[2])]
    assert all(began >= last_try for began, _, values in same_key if "k0:0" not in values)
    assert set(turns_by_key(calls)["k0"]) == {n for n in range(RECORDS) if n % KEYS == 0}
