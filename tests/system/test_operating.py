"""Pause, resume, seek and remove while a worker runs."""

import time

import pytest


def put(orders, count):
    orders.put_many([b"x"] * count, [f"k{n % 5}" for n in range(count)])


def handled(notes):
    return [number for note in notes("ended") for number in note.numbers]


@pytest.mark.fact("G-10")
def test_a_pause_ends_what_runs_and_a_resume_goes_on(log, workers, notes, until, run_streamfn):
    put(log.create_stream("orders"), 400)
    options = ["--processes", 1, "--threads", 2]
    workers.start("paced", *options, NOTES=notes.path, SIZE=5, SLOW=0.02, FACTOR=2)
    until(lambda: len(notes("ended")) > 5)

    paused = run_streamfn("fn", "pause", "work", "--log-dir", log.path)

    assert paused.returncode == 0, paused.stderr
    began, ended = notes("began"), notes("ended")
    assert len(began) == len(ended), "a call that ran was ended"
    time.sleep(0.3)
    assert len(notes("began")) == len(began), "none began after it"

    assert run_streamfn("fn", "resume", "work", "--log-dir", log.path).returncode == 0
    until(lambda: len(handled(notes)) >= 400)
    assert sorted(handled(notes)) == list(range(400)), "nothing came twice"


def test_a_pause_outlives_the_worker(log, workers, notes, until, run_streamfn):
    put(log.create_stream("orders"), 20)
    assert workers.run("paced", "--burst", NOTES=notes.path, SIZE=5) == 0
    assert run_streamfn("fn", "pause", "work", "--log-dir", log.path).returncode == 0
    put(log.stream("orders"), 20)

    assert workers.run("paced", "--burst", NOTES=notes.path, SIZE=5) == 0

    assert sorted(handled(notes)) == list(range(20)), "a burst passes over what is paused"


def test_a_seek_moves_a_running_function(log, workers, notes, until, run_streamfn):
    put(log.create_stream("orders"), 50)
    workers.start("paced", "--processes", 1, NOTES=notes.path, SIZE=5, FACTOR=2)
    until(lambda: len(handled(notes)) == 50)

    sought = run_streamfn("fn", "seek", "work", "30", "--log-dir", log.path)

    assert sought.returncode == 0, sought.stderr
    until(lambda: len(handled(notes)) >= 70)
    time.sleep(0.2)
    assert sorted(handled(notes)[50:]) == list(range(30, 50))


def test_a_function_is_removed_when_no_worker_runs_it(log, workers, notes, until, run_streamfn):
    """A worker that knew it does not bring it back, the next one does."""
    remove = ("fn", "rm", "work", "--yes", "--log-dir", log.path)
    put(log.create_stream("orders"), 20)
    worker = workers.start("paced", "--processes", 1, NOTES=notes.path, SIZE=5)
    until(lambda: len(handled(notes)) == 20)
    refused = run_streamfn(*remove)
    assert (refused.returncode, "is running" in refused.stderr) == (75, True)
    assert run_streamfn("fn", "pause", "work", "--log-dir", log.path).returncode == 0

    assert run_streamfn(*remove).returncode == 0

    until(lambda: "was removed" in workers.errors_of(worker))
    put(log.stream("orders"), 20)
    time.sleep(0.3)
    assert len(handled(notes)) == 20
    worker.terminate()
    assert worker.wait(240) == 0
    assert workers.run("paced", "--burst", NOTES=notes.path, SIZE=5) == 0
    assert sorted(handled(notes)[20:]) == list(range(40)), "from the beginning"
