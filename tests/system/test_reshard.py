"""Shards are split and merged under running workers: nothing is lost, every key keeps its order."""

import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

RECORDS = 6_000
KEYS = 60
PRODUCER_SECONDS = 5.0


def put(stream, start, count):
    """Put numbers, each under one of the keys in turn."""
    numbers = range(start, start + count)
    stream.put_many([b"%d" % n for n in numbers], [f"k{n % KEYS}" for n in numbers])


def open_shards(stream):
    """Ids of the open shards, by their hash keys."""
    shards = [shard for shard in stream.info().shards if shard.is_open]
    return [shard.shard_id for shard in sorted(shards, key=lambda shard: shard.hash_keys)]


def reshard(stream, chance):
    """Split a shard, or merge two."""
    shards = open_shards(stream)
    if len(shards) < 3 or (len(shards) < 5 and chance.random() < 0.5):
        stream.split(chance.choice(shards))
    else:
        at = chance.randrange(len(shards) - 1)
        stream.merge(shards[at], shards[at + 1])


def check_all_came_in_order(stream, notes, count):
    """Each record was processed, and none before an earlier one of its key was."""
    places, ranks = {}, defaultdict(int)
    for batch in stream.read():
        for record in batch:
            key = record.partition_key
            places[record.shard_id, record.sequence_number] = (key, ranks[key])
            ranks[key] += 1
    assert len(places) == count
    reached = defaultdict(int)
    for note in notes("ended"):
        for number in note.numbers:
            key, rank = places[note.shard_id, number]
            assert rank <= reached[key], f"{key}: {rank} came when {reached[key]} was next"
            reached[key] = max(reached[key], rank + 1)
    assert sum(reached.values()) == count


@pytest.mark.parametrize("factor", [1, 3])
def test_a_burst_ends_when_the_children_are_done_too(log, workers, notes, factor):
    orders = log.create_stream("orders", shards=2)
    put(orders, 0, 300)
    low, high = orders.split(open_shards(orders)[0])
    put(orders, 300, 300)
    orders.merge(high, open_shards(orders)[-1])
    put(orders, 600, 300)
    orders.split(low)

    assert workers.run("paced", "--burst", NOTES=notes.path, FACTOR=factor, SIZE=20) == 0

    check_all_came_in_order(orders, notes, 900)


def test_a_running_worker_goes_on_with_the_children_at_once(log, workers, notes, until):
    orders = log.create_stream("orders")
    put(orders, 0, 20)
    workers.start("paced", "--processes", 1, NOTES=notes.path, FACTOR=2, SIZE=10)
    until(lambda: sum(len(note.numbers) for note in notes("ended")) == 20)

    orders.split(open_shards(orders)[0])
    began = time.monotonic()
    put(orders, 20, 20)
    until(lambda: sum(len(note.numbers) for note in notes("ended")) == 40, seconds=10)

    print(f"the children's first records were processed after {time.monotonic() - began:.2f} s")
    check_all_came_in_order(orders, notes, 40)


def test_finished_lanes_are_given_back_until_a_seek_needs_them(
    log, workers, notes, until, run_streamfn
):
    orders = log.create_stream("orders")
    put(orders, 0, 20)
    workers.start("paced", "--processes", 2, NOTES=notes.path, FACTOR=2, SIZE=10)
    orders.split(open_shards(orders)[0])
    put(orders, 20, 20)

    def held():
        """The shards whose lanes are held."""
        listed = run_streamfn("fn", "info", "work", "--json", "--log-dir", log.path)
        if listed.returncode:
            return []  # the worker is not there yet
        lanes = json.loads(listed.stdout)["lane_list"]
        return sorted({lane["shard_id"] for lane in lanes if lane["is_leased"]})

    until(lambda: sum(len(note.numbers) for note in notes("ended")) == 40)
    until(lambda: held() == open_shards(orders))
    check_all_came_in_order(orders, notes, 40)

    sought = run_streamfn("fn", "seek", "work", "beginning", "--log-dir", log.path)
    assert sought.returncode == 0, sought.stderr
    until(lambda: sum(len(note.numbers) for note in notes("ended")) >= 80)
    until(lambda: held() == open_shards(orders))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_nothing_is_lost_while_shards_change_and_workers_are_killed(log, workers, notes, kill_tree):
    """Eight changes beside a producer; a runner is killed after each, the whole worker at times."""
    orders = log.create_stream("orders", shards=2)
    script = Path(__file__).parent / "producer.py"
    numbers = map(str, (RECORDS, KEYS, PRODUCER_SECONDS))
    producer = subprocess.Popen([sys.executable, script, log.path, "orders", *numbers])
    environment = {"NOTES": notes.path, "FACTOR": 3, "SIZE": 20}
    chance = random.Random(7)

    worker = workers.start("paced", "--processes", 2, **environment)
    for number in range(8):
        time.sleep(chance.uniform(0.2, 0.9))
        reshard(orders, chance)
        kill_tree.runner(worker, chance)
        if number % 3 == 2:
            kill_tree.worker(worker)
            worker.wait(240)
            worker = workers.start("paced", "--processes", 2, **environment)
    assert producer.wait(240) == 0
    kill_tree.worker(worker)
    worker.wait(240)
    assert workers.run("paced", "--burst", **environment) == 0

    check_all_came_in_order(orders, notes, RECORDS)
