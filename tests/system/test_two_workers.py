"""Several workers on one log: they share the lanes, and take over from the dead."""

import time

import pytest

SHARDS = 8


@pytest.fixture
def orders(log):
    return log.create_stream("orders", shards=SHARDS)


@pytest.fixture
def start(workers, notes, orders):
    """Starts a worker with two runners."""
    return lambda **environment: workers.start(
        "paced", "--processes", 2, NOTES=notes.path, SIZE=10, **environment
    )


def put(orders, count):
    """Put records on all shards; return where they are."""
    results = orders.put_many([b"x"] * count, [f"k{n}" for n in range(count)])
    return {(each.shard_id, each.sequence_number) for each in results}


def delivered(notes):
    return [(note.shard_id, number) for note in notes("ended") for number in note.numbers]


def processes_of(notes, since):
    return {note.process for note in notes("began") if note.time >= since}


def test_a_second_worker_gets_its_share_and_nothing_comes_twice(
    orders, start, notes, until, children_of
):
    """Lanes are handed over while records come in."""
    first = start(SLOW=0.005)
    places = put(orders, 500)
    until(lambda: len(delivered(notes)) > 100)

    second = start(SLOW=0.005)

    def both_work():
        places.update(put(orders, 100))
        time.sleep(0.2)
        seen = processes_of(notes, time.monotonic() - 0.3)
        return all(seen & set(children_of(each.pid)) for each in (first, second))

    until(both_work)
    until(lambda: len(delivered(notes)) >= len(places))
    assert sorted(delivered(notes)) == sorted(places)


def test_the_lanes_of_a_dead_worker_are_taken_over(
    orders, start, notes, until, children_of, kill_tree
):
    first, second = start(), start()
    places = put(orders, 200)

    def both_work():
        places.update(put(orders, 40))
        time.sleep(0.1)
        return all(lanes_of(notes, children_of(each.pid)) for each in (first, second))

    until(both_work)  # one that starts late finds nothing left of what was there
    until(lambda: set(delivered(notes)) == places)

    kill_tree.worker(first)
    killed = time.monotonic()
    first.wait(10)
    places |= put(orders, 200)

    until(lambda: set(delivered(notes)) == places)
    later = [note for note in notes("began") if note.time > killed]
    assert {note.process for note in later} <= set(children_of(second.pid))
    print(f"all shards were called again {max(first_calls(later)) - killed:.3f} s after the kill")


def lanes_of(notes, processes):
    return {note.shard_id for note in notes("began") if note.process in processes}


def first_calls(found):
    """When each shard was called first."""
    return {note.shard_id: note.time for note in reversed(found)}.values()


def test_a_call_in_flight_at_a_workers_death_is_no_attempt(
    orders, start, notes, until, kill_tree, workers
):
    first = start(SLOW=60)
    places = put(orders, 1)
    until(lambda: notes("began"))

    kill_tree.worker(first)
    first.wait(10)
    workers.run("paced", "--burst", NOTES=notes.path)

    assert set(delivered(notes)) == places
    assert {note.attempt for note in notes()} == {1}
