"""kill -9, thirty times: nothing is lost, order is kept, only what was in flight repeats."""

import functools
import random
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

RECORDS = 50_000
KEYS = 500
ROUNDS = 30
PRODUCER_SECONDS = 18.0
BATCHES = {"plain": 500, "lanes": 200, "single": 50}
"""Batch sizes of the functions of `apps/seen.py`."""


FLAKY = ("raises", "fails_some", "reports", "one_by_one")
"""Functions of `apps/flaky.py`."""


@pytest.fixture
def run_killed(log, workers, seen_dir, read_seen, kill_tree):
    """Runs an app while records are put and processes are killed; returns what was delivered."""

    def run(app, *arguments, **environment):
        log.create_stream("orders", shards=4)
        script = Path(__file__).parent / "producer.py"
        numbers = map(str, (RECORDS, KEYS, PRODUCER_SECONDS))
        producer = subprocess.Popen([sys.executable, script, log.path, "orders", *numbers])
        start = functools.partial(workers.start, app, *arguments, SEEN=seen_dir, **environment)

        killed = kill_rounds(start, kill_tree, random.Random(app))
        assert producer.wait(240) == 0
        assert start("--burst").wait(100) == 0

        places = {}
        for batch in log.stream("orders").read():
            for record in batch:
                places[record.shard_id, record.sequence_number] = record.partition_key
        assert len(places) == RECORDS
        return read_seen(seen_dir), places, killed

    return run


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_is_lost_and_only_what_was_in_flight_repeats(run_killed):
    """A random runner is killed in even rounds, the whole worker in odd ones."""
    environment = {"SEEN_RETRIES": -1, "SEEN_PAUSE": 0.0003}

    calls, places, killed = run_killed("seen", "--processes", 2, **environment)

    for function in BATCHES:
        check_nothing_lost_in_order([c for c in calls if c.function == function], places)
    check_repeats(calls, killed, places)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_is_lost_when_functions_fail_as_well(run_killed):
    """Raises, failed records, reports and held keys between the kills; three threads a runner."""
    calls, places, _ = run_killed("flaky", "--processes", 2, "--threads", 3)

    for function in FLAKY:
        check_nothing_lost_in_order([c for c in calls if c.function == function], places)


def kill_rounds(start, kill_tree, chance):
    """Kill a runner, or a worker with all its runners, and return the processes killed."""
    killed = set()
    worker = start()
    for number in range(ROUNDS):
        time.sleep(chance.uniform(0.1, 1.0))
        if number % 2:
            killed |= kill_tree.worker(worker)
            worker.wait(240)
            worker = start()
        else:
            killed |= kill_tree.runner(worker, chance)
    killed |= kill_tree.worker(worker)
    worker.wait(240)
    return killed


def check_nothing_lost_in_order(calls, places):
    """Every record was delivered, and never one before an earlier one of its key."""
    order = defaultdict(list)
    for place in sorted(places):
        order[places[place]].append(place)
    rank = {place: n for numbers in order.values() for n, place in enumerate(numbers)}
    reached = defaultdict(int)
    for call in calls:
        for number in call.numbers:
            key = places[call.shard_id, number]
            mine = rank[call.shard_id, number]
            assert mine <= reached[key], f"{key} jumped to {mine}, from {reached[key]}"
            reached[key] = max(reached[key], mine + 1)
    assert sum(reached.values()) == len(places)


def check_repeats(calls, killed, places):
    """A record that comes again was in the batch that its process had in flight when killed."""
    last_delivery = {}
    for place, call in enumerate(calls):
        for number in call.numbers:
            last_delivery[call.function, call.shard_id, number] = place
    by_process = defaultdict(list)
    for place, call in enumerate(calls):
        by_process[call.process].append((place, call))
    repeats = 0
    for process, own in by_process.items():
        for n, (place, call) in enumerate(own):
            repeated = [
                number
                for number in call.numbers
                if last_delivery[call.function, call.shard_id, number] > place
            ]
            if repeated:
                repeats += len(repeated)
                assert process in killed
                since = [after for _, after in own[n:]]
                assert {(each.function, each.shard_id) for each in since} == {
                    (call.function, call.shard_id)
                }
                assert sum(len(each.numbers) for each in since) <= BATCHES[call.function]
    print(f"{repeats} of {len(places) * len(BATCHES)} deliveries came again")
