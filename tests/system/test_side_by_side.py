"""Lanes of one shard in one runner: side by side, with threads or on the event loop."""

from collections import defaultdict
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import pytest

from streamfn._core import slot_of

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


class Call(NamedTuple):
    """A call of the function, as it wrote it down when it ended."""

    what: str
    """`worked` or `failed`."""
    began: float
    ended: float
    values: list[str]


def read_notes(path):
    """All calls in the order in which they ended."""
    if not path.exists():
        return []
    calls = []
    for line in path.read_text().split("\n")[:-1]:  # the last may be on its way
        what, began, ended, values = line.split(" ")
        calls.append(Call(what, float(began), float(ended), values.split(",")))
    return calls


def most_at_once(calls):
    steps = sorted([(call.began, 1) for call in calls] + [(call.ended, -1) for call in calls])
    running, most = 0, 0
    for _, step in steps:
        running += step
        most = max(most, running)
    return most


def turns_by_key(calls):
    by_key = defaultdict(list)
    for call in calls:
        for value in call.values:
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
def test_a_lane_goes_on_as_soon_as_its_call_has_ended(tmp_path, orders, workers, kind):
    """Even if all threads that could take it are asleep: the calls are one after another."""
    notes = tmp_path / "notes"
    environment = {"FACTOR": 1, "KIND": kind, "NOTES": notes}

    assert workers.run("sleepy", "--burst", "--processes", 1, *KINDS[kind], **environment) == 0

    calls = read_notes(notes)
    assert len(calls) == RECORDS / 20
    assert median(after.began - call.ended for call, after in pairwise(calls)) < 0.03


@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_key_holds_up_its_own_lane_only(tmp_path, orders, workers, until, kind):
    """The first record of one key fails until all seven other lanes have ended without it."""
    notes = tmp_path / "notes"
    environment = {"FACTOR": 8, "KIND": kind, "NOTES": notes, "BAD": "k0:0"}
    every = {f"k{n % KEYS}:{n}" for n in range(RECORDS)}
    its_lane = {value for value in every if lane_of(value) == lane_of("k0:0")}

    def worked():
        return {v for call in read_notes(notes) if call.what == "worked" for v in call.values}

    worker = workers.start("sleepy", "--burst", "--processes", 1, *KINDS[kind], **environment)
    until(lambda: worked() >= every - its_lane)
    assert worked() == every - its_lane
    (tmp_path / "mended").touch()
    assert worker.wait(240) == 0

    done = [call for call in read_notes(notes) if call.what == "worked"]
    turns = turns_by_key(done)
    assert sum(map(len, turns.values())) == RECORDS
    assert all(a < b for each in turns.values() for a, b in pairwise(each))


def lane_of(value):
    return slot_of(value.partition(":")[0], 0, 8)
