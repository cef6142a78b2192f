"""Workers that die as a whole, runners that never come up, loops that hang, limits."""

import time

import pytest

from streamfn import _core
from streamfn.engine.deadletter import DeadLetters
from streamfn.model.worker import WorkerConfig
from streamfn.worker.supervisor.supervisor import Supervisor


def most_at_once(notes, killed=None):
    """How many calls ran at once; those of a process that was killed ended then."""
    places = [(note.process, note.shard_id, note.numbers) for note in notes if note.what == "ended"]
    changes = []
    for note in notes:
        changes.append((note.time, 1 if note.what == "began" else -1))
        has_ended = (note.process, note.shard_id, note.numbers) in places
        if killed and note.process in killed and not has_ended:
            changes.append((killed[note.process], -1))
    running = most = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


def test_a_runner_that_never_comes_up_ends_the_worker(log, workers):
    log.create_stream("orders")
    worker = workers.start("fatal", "--burst", AT_IMPORT=1)

    assert worker.wait(240) == 3
    assert "error: " in workers.errors_of(worker)


def test_a_record_that_takes_the_whole_worker_along_is_found(log, workers):
    """Two deaths count for nothing; then the batch has the worker for itself, and they count."""
    stream = log.create_stream("orders", shards=1)
    stream.put_many([b"poison" if n == 11 else b"%d" % n for n in range(24)])
    deaths = 0

    while (code := workers.run("fatal", "--burst", "--processes", 2)) != 0:
        assert code == -9
        deaths += 1
        assert deaths < 20

    [letter] = DeadLetters(log, "fatal.all_of_it").entries()
    assert letter.data == b"poison"
    assert letter.attempts == 4
    assert letter.error_type == "FunctionCrashed"
    assert deaths <= 2 + 4 + 3  # two free, one each split of 8, then four calls


@pytest.mark.parametrize("name", ["batches", "singles"])
def test_an_async_call_is_cancelled_and_one_that_blocks_is_killed(log, apps, name):
    data = [b"fine", b"waits", b"fine", b"blocks", b"fine"]
    log.create_stream("orders").put_many(data, list("abcde"))
    config = WorkerConfig(
        app=str(apps / "looped.py"), log_dir=log.path, processes=1, burst=True, only=(name,)
    )

    assert Supervisor(config).run() == 0

    letters = {each.data: each for each in DeadLetters(log, f"looped.{name}").entries()}
    assert set(letters) == {b"waits", b"blocks"}
    assert {each.error_type for each in letters.values()} == {"FunctionTimedOut"}
    assert {each.attempts for each in letters.values()} == {2}
    assert "await asyncio.sleep(60)" in letters[b"waits"].traceback
    assert letters[b"blocks"].traceback == ""


@pytest.mark.parametrize(
    ("limit", "processes", "threads"), [(1, 2, 1), (2, 2, 4), (3, 2, 4), (1, 1, 8)]
)
def test_no_more_lanes_are_called_at_once_than_max_concurrency(
    log, workers, notes, limit, processes, threads
):
    stream = log.create_stream("orders", shards=2)
    stream.put_many([b"x"] * 120, [f"k{n}" for n in range(120)])

    code = workers.run(
        "paced", "--burst", "--processes", processes, "--threads", threads,
        NOTES=notes.path, LIMIT=limit, FACTOR=4, SLOW=0.005,
    )  # fmt: skip

    assert code == 0
    assert len(notes("ended")) == 120
    assert most_at_once(notes()) <= limit  # a loaded machine may run fewer at once


def test_max_concurrency_is_kept_while_the_pool_grows(log, workers, notes, until):
    """The second runner comes while the first is in its call, and is given the other shard."""
    stream = log.create_stream("orders", shards=2)
    workers.start("paced", NOTES=notes.path, LIMIT=1, SLOW=1)
    stream.put(b"x", "k0")
    until(lambda: notes("began"))

    more = stream.put_many([b"x"] * 3, [f"k{n}" for n in range(1, 4)])

    assert len({each.shard_id for each in more}) == 2
    until(lambda: len(notes("ended")) == 4)
    assert most_at_once(notes()) == 1


def test_max_concurrency_is_kept_while_lanes_run_alone(log, workers, notes, until, kill):
    """Each death sends the calls that were in progress to a runner of their own."""
    stream = log.create_stream("orders", shards=2)
    stream.put_many([b"x"] * 60, [f"k{n}" for n in range(60)])
    workers.start(
        "paced", "--processes", 2, "--threads", 2,
        NOTES=notes.path, LIMIT=2, FACTOR=2, SLOW=0.1,
    )  # fmt: skip
    killed = {}
    for least in (4, 12, 24):
        until(lambda least=least: len(notes("ended")) >= least)
        process = notes()[-1].process
        killed[process] = time.monotonic()
        kill(process)

    until(lambda: len({(note.shard_id, *note.numbers) for note in notes("ended")}) == 60)
    assert most_at_once(notes(), killed) <= 2


def test_what_waits_for_a_permit_has_no_part_in_a_workers_death(
    log, workers, notes, until, kill_tree
):
    """Only who was called was in flight: the others must not run with the worker for themselves."""
    log.create_stream("orders").put_many([b"x"] * 200, [f"k{n}" for n in range(200)])

    def lanes():
        mapping = _core.Mapping.open(log.core, "paced.work")
        return [lane.in_flight for lane in mapping.lanes() if lane.in_flight]

    def start():
        """A worker, until all its lanes have a batch and one of them is called."""
        began = len(notes("began"))
        worker = workers.start(
            "paced", "--processes", 1, "--threads", 4,
            NOTES=notes.path, LIMIT=1, FACTOR=8, SLOW=60, SIZE=10,
        )  # fmt: skip
        until(lambda: len(notes("began")) > began)
        until(lambda: len(lanes()) == 8 and sum(lane.is_calling for lane in lanes()) == 1)
        return worker

    for _ in range(2):
        worker = start()
        kill_tree.worker(worker)
        worker.wait(240)
    start()

    assert sum(lane.worker_deaths for lane in lanes()) <= 2, "one for each death"


def test_a_worker_waits_for_its_stream(log, workers, notes, until):
    workers.start("paced", "--processes", 1, NOTES=notes.path)
    until(lambda: "waiting" in workers.errors_of(workers.started[0]))

    log.create_stream("orders", shards=2).put_many([b"x"] * 10, [f"k{n}" for n in range(10)])

    until(lambda: len(notes("ended")) == 10)


def test_code_that_broke_meanwhile_is_no_attempt(log, workers, notes, until, children_of, kill):
    """A runner dies, and the app does not import any more; until it is mended, lanes wait."""
    app = workers.folder / "mended.py"
    good = (workers.apps / "paced.py").read_text()
    app.write_text(good)
    stream = log.create_stream("orders")
    worker = workers.start("mended", "--processes", 1, NOTES=notes.path)
    stream.put(b"first")
    until(lambda: len(notes("ended")) == 1)
    # Noted before it returned: a kill in between would count as an attempt.
    mapping = _core.Mapping.open(log.core, "paced.work")
    until(lambda: not any(lane.in_flight for lane in mapping.lanes()))

    app.write_text("import nothing_of_that_name")
    for runner in children_of(worker.pid):
        kill(runner)
    stream.put(b"second")
    until(lambda: workers.errors_of(worker).count("nothing_of_that_name") >= 2)
    app.write_text(good)

    until(lambda: len(notes("ended")) == 2)
    assert {note.attempt for note in notes()} == {1}
    assert worker.poll() is None
