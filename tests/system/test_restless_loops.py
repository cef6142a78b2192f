"""What a function does to the event loop that it shares with others is its own."""

import json

import pytest

from streamfn.engine.deadletter import DeadLetters

CALM = 120
ACTS = [
    "exit in a task!",
    "exit in a callback",
    "exit in a task left behind",
    "stop",
    "cancel all!",
    "cancel the others",
    "cancel all from a thread!",
    "cancelled!",
    "shut the threads",
    "threads that are shut",
    "no tasks",
    "end the selector!",
]
"""What records of the stream `acts` do; those that end in `!` fail each time."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory, workers_in):
    """A log that the functions of `apps/restless.py` have worked on, and what the worker said."""
    import streamfn

    folder = tmp_path_factory.mktemp("restless")
    with streamfn.Log.open(folder / "log") as log, workers_in(folder, folder / "log") as workers:
        acts = log.create_stream("acts", shards=2)
        for what in ACTS:
            acts.put_many([b"quiet", what.encode(), b"quiet"])
        log.create_stream("calm", shards=4).put_many([b"%d" % n for n in range(CALM)])
        worker = workers.start("restless", "--burst", "--processes", "1")
        assert worker.wait(100) == 0
        lines = [json.loads(line) for line in workers.errors_of(worker).splitlines()
                 if line.startswith("{")]  # fmt: skip
        yield log, lines


def letters(log, function):
    return [each.data.decode() for each in DeadLetters(log, f"restless.{function}").entries()]


def test_exactly_the_records_that_fail_are_set_aside(ran):
    log, _ = ran

    assert sorted(letters(log, "acts")) == sorted(act for act in ACTS if act.endswith("!"))


@pytest.mark.parametrize("function", ["records", "batches"])
def test_no_neighbour_is_blamed(ran, function):
    """Though none of them may fail even once."""
    log, lines = ran

    assert letters(log, function) == []
    assert not [each for each in lines if each.get("function") == f"restless.{function}"
                and each.get("event") == "function_failed"]  # fmt: skip


@pytest.mark.parametrize("function", ["records", "batches"])
def test_every_record_of_theirs_is_done(ran, function):
    """Some more than once: those whose call had ended when the runner was replaced."""
    _, lines = ran

    totals = {each["function"]: each["message"] for each in lines if each.get("event") == "totals"}
    assert int(totals[f"restless.{function}"].split(" records in ")[0]) >= CALM
