"""Replays under workers: what is called, where the function is meanwhile, and who is killed."""

import random
import time
from collections import Counter

import pytest

from streamfn import _core
from streamfn.engine.deadletter import DeadLetters

REPLAY = "paced.work@replay-1"


def put(orders, count):
    orders.put_many([b"x"] * count, [f"k{n % 5}" for n in range(count)])


def handled(notes):
    return [number for note in notes("ended") for number in note.numbers]


@pytest.fixture
def replay(run_streamfn, log):
    """Asks for a replay of `orders` to `work`."""

    def replay(*options):
        ended = run_streamfn("replay", "orders", "--fn", "work", "--log-dir", log.path, *options)
        assert ended.returncode == 0, ended.stderr

    return replay


@pytest.fixture
def is_over(log):
    """Whether there is no replay any more."""
    return lambda: _core.Mapping.names(log.core) == ["paced.work"]


def checkpoints(log):
    return [lane.checkpoint for lane in _core.Mapping.open(log.core, "paced.work").lanes()]


def test_a_running_worker_takes_it(log, workers, notes, until, replay, is_over):
    put(log.create_stream("orders"), 50)
    worker = workers.start("paced", "--processes", 1, NOTES=notes.path, SIZE=5, FACTOR=2)
    until(lambda: len(handled(notes)) == 50)

    replay("--from", 12, "--to", 40)

    until(is_over)
    assert sorted(handled(notes)[50:]) == list(range(12, 40))
    until(lambda: "replay_finished" in workers.errors_of(worker))
    put(log.stream("orders"), 5)
    until(lambda: len(handled(notes)) == 83)
    assert sorted(handled(notes)[78:]) == list(range(50, 55)), "the function goes on where it was"


def test_a_worker_that_starts_later_takes_it(log, workers, notes, replay, is_over):
    put(log.create_stream("orders"), 20)
    assert workers.run("paced", "--burst", NOTES=notes.path, SIZE=5) == 0
    replay("--from", 5)
    put(log.stream("orders"), 10)

    assert workers.run("paced", "--burst", NOTES=notes.path, SIZE=5) == 0

    assert is_over(), "a burst ends it"
    assert Counter(handled(notes)) == Counter([*range(30), *range(5, 20)])


def test_one_that_is_paused_waits(log, workers, notes, run_streamfn, replay, is_over):
    put(log.create_stream("orders"), 20)
    assert workers.run("paced", "--burst", NOTES=notes.path, SIZE=5) == 0
    replay()
    run_streamfn("fn", "pause", REPLAY, "--log-dir", log.path)

    assert workers.run("paced", "--burst", NOTES=notes.path, SIZE=5) == 0

    assert (is_over(), len(handled(notes))) == (False, 20)


def test_one_that_is_cancelled_stops(log, workers, notes, until, run_streamfn, replay, is_over):
    put(log.create_stream("orders"), 300)
    worker = workers.start("paced", "--processes", 1, NOTES=notes.path, SIZE=3, SLOW=0.03)
    until(lambda: len(handled(notes)) == 300)
    replay()
    until(lambda: len(handled(notes)) > 310)

    for command in (["pause", REPLAY], ["rm", REPLAY, "--yes"]):
        ended = run_streamfn("fn", *command, "--log-dir", log.path)
        assert ended.returncode == 0, ended.stderr

    count = len(handled(notes))
    replay("--to", 5)
    until(is_over)
    time.sleep(0.2)
    assert handled(notes)[count:] == list(range(5)), "the next one of its name is another"
    assert "lane_trouble" not in workers.errors_of(worker)


def test_dead_letters_are_the_functions_own(log, workers, notes, replay, is_over):
    """They say where the records were put first, and `fn` itself is not held up."""
    put(log.create_stream("orders"), 10)
    assert workers.run("paced", "--burst", NOTES=notes.path, SIZE=5) == 0
    replay("--from", 7)

    assert workers.run("paced", "--burst", NOTES=notes.path, SIZE=5, FAIL=1) == 0

    letters = DeadLetters(log, "paced.work").entries()
    assert [letter.sequence_number for letter in letters] == [7, 8, 9]
    assert {(letter.stream, letter.function) for letter in letters} == {("orders", "paced.work")}
    assert is_over()
    assert checkpoints(log) == [10]


def test_workers_share_one(log, workers, notes, until, replay, is_over):
    log.create_stream("orders", shards=4)
    put(log.stream("orders"), 200)
    for _ in range(2):
        workers.start("paced", "--processes", 1, NOTES=notes.path, SIZE=5, SLOW=0.01)
    until(lambda: len(handled(notes)) == 200)

    replay()

    until(is_over)
    seen = Counter((note.shard_id, number) for note in notes("ended") for number in note.numbers)
    assert set(seen.values()) == {2}
    assert len({note.process for note in notes("ended")[-100:]}) == 2


def test_kills_in_the_middle_lose_nothing(log, workers, notes, until, replay, is_over, kill_tree):
    """Runners and whole workers are killed; all of the range comes, the function stays put."""
    chance = random.Random(7)
    put(log.create_stream("orders"), 300)
    options = {"NOTES": notes.path, "SIZE": 4, "FACTOR": 2}
    assert workers.run("paced", "--burst", **options) == 0
    before = checkpoints(log)
    replay("--from", 50, "--to", 250)
    options |= {"SLOW": 0.02}

    worker = workers.start("paced", "--processes", 2, **options)
    for round_ in range(6):
        count = len(handled(notes))
        until(lambda: len(handled(notes)) > count + 12)  # noqa: B023 -- called in this round
        if round_ % 2:
            kill_tree.worker(worker)
            worker.wait()
            worker = workers.start("paced", "--processes", 2, **options)
        else:
            kill_tree.runner(worker, chance)
        assert not is_over()
    until(is_over)

    seen = Counter(handled(notes)[300:])
    assert set(seen) == set(range(50, 250)), "nothing is missing, and nothing else came"
    again = sum(count - 1 for count in seen.values())
    assert again <= 6 * 2 * 4, "only what was in flight comes again"
    assert checkpoints(log) == before
    put(log.stream("orders"), 3)
    until(lambda: sorted(handled(notes)[-3:]) == [300, 301, 302])


def test_a_split_in_its_stretch_is_read_in_order(log, workers, notes, until, replay, is_over):
    orders = log.create_stream("orders")
    put(orders, 40)
    [first] = orders.info().shards
    children = orders.split(first.shard_id)
    put(orders, 40)
    assert workers.run("paced", "--burst", NOTES=notes.path, SIZE=5) == 0
    began = len(notes("ended"))
    replay()

    workers.start("paced", "--processes", 2, NOTES=notes.path, SIZE=5, SLOW=0.01)
    until(is_over)

    replayed = [note.shard_id for note in notes("ended")[began:] for _ in note.numbers]
    assert replayed[:40] == [first.shard_id] * 40
    assert set(replayed[40:]) == set(children)
    assert len(replayed) == 80
