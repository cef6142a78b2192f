"""Several workers on one log: they share the lanes, and take over from the dead."""

import signal
import time
from collections import defaultdict

import pytest

from streamfn import _core

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


def test_functions_of_one_lane_each_are_shared_too(tmp_path, log, workers, until):
    """The one that comes second gets the half, and nothing comes twice."""
    orders, notes = log.create_stream("orders"), tmp_path / "notes"

    def calls():
        text = notes.read_text() if notes.exists() else ""
        return [line.split(" ") for line in text.split("\n")[:-1]]

    def callers(since):
        """Functions by the worker that called them."""
        found = defaultdict(set)
        for time_, name, worker, _ in calls():
            if float(time_) >= since:
                found[int(worker)].add(name)
        return found

    first = workers.start("several", "--processes", 1, NOTES=notes)
    until(lambda: orders.put(b"x") and len(callers(0)[first.pid]) == 4)
    second = workers.start("several", "--processes", 1, NOTES=notes)

    def is_shared():
        since = time.monotonic()
        orders.put_many([b"x"] * 5)
        time.sleep(0.3)
        found = callers(since)
        return len(found[first.pid]) == len(found[second.pid]) == 2

    until(is_shared)
    until(lambda: len(calls()) >= 4 * orders.info().shards[0].end)
    seen = [(name, number) for _, name, _, number in calls()]
    assert len(seen) == len(set(seen))


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
    first.wait(240)
    places |= put(orders, 200)

    until(lambda: set(delivered(notes)) == places)
    later = [note for note in notes("began") if note.time > killed]
    assert {note.process for note in later} <= set(children_of(second.pid))
    print(f"all shards were called again {max(first_calls(later)) - killed:.3f} s after the kill")


def test_lanes_that_a_stopped_worker_cannot_take_are_adopted(
    log, orders, start, notes, until, children_of, kill
):
    """Its runners are gone and it starts no others; the first takes its share of the lanes."""
    first, second = start(), start()
    places = put(orders, 40)

    def both_work():
        places.update(put(orders, 40))
        time.sleep(0.1)
        return all(lanes_of(notes, children_of(each.pid)) for each in (first, second))

    def is_settled():
        """A call that was in progress would wait for its supervisor to judge."""
        return not any(
            lane.in_flight for lane in _core.Mapping.open(log.core, "paced.work").lanes()
        )

    until(both_work)
    until(lambda: set(delivered(notes)) == places and is_settled())
    kill(second.pid, signal.SIGSTOP)
    for runner in children_of(second.pid):
        kill(runner)
    stopped = time.monotonic()

    places |= put(orders, 200)
    until(lambda: set(delivered(notes)) == places)

    assert processes_of(notes, stopped) <= set(children_of(first.pid))


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
    first.wait(240)
    workers.run("paced", "--burst", NOTES=notes.path)

    assert set(delivered(notes)) == places
    assert {note.attempt for note in notes()} == {1}


def test_a_lane_that_left_its_seat_to_wait_is_called_by_no_other_worker(
    log, workers, notes, until, children_of, kill
):
    """Two lanes run alone, in one seat: the first waits outside while the second is called."""
    log.create_stream("orders", shards=2).put_many([b"x"] * 20, [f"k{n}" for n in range(20)])

    def start():
        return workers.start(
            "paced", "--processes", 1, "--threads", 2, NOTES=notes.path, SLOW=1, FAIL=1, WAIT=30
        )

    def waits():
        lanes = _core.Mapping.open(log.core, "paced.work").lanes()
        return all(lane.in_flight and lane.in_flight.exponent == 1 for lane in lanes)

    first = start()
    until(lambda: len(notes("began")) == 2)
    for runner in children_of(first.pid):
        kill(runner)
    until(waits)

    second = start()
    until(lambda: "worker started" in workers.errors_of(second))
    time.sleep(2)

    assert len(notes("began")) == 4
