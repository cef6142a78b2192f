"""Tests for `streamfn dlq`: what is asked before a drop, and ids that are none."""

from types import SimpleNamespace

import pytest

from streamfn import Log, Record, _core
from streamfn.cli import dlq, params
from streamfn.cli.exits import Exit
from streamfn.clock import SystemClock
from streamfn.engine.deadletter import DeadLetters
from streamfn.engine.destination import FailureDestination
from streamfn.engine.outcome import Failure
from streamfn.engine.settle import DiscardedRecord
from streamfn.model.mapping import EventSourceMapping

MAPPING = EventSourceMapping(name="shop.total", app="shop", function="total", stream="orders")


@pytest.fixture
def log(log_dir):
    """A log with `shop.total`, which has two open dead letters."""
    with Log.open(log_dir) as log:
        log.create_stream("orders")
        _core.Mapping.register(log.core, MAPPING.name, factor=1)
        fail(log, 1, 2)
        yield log


@pytest.fixture
def at_a_terminal(monkeypatch):
    """Standard input is a terminal."""
    stdin = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(params, "sys", SimpleNamespace(stdin=stdin))


def fail(log, *numbers):
    """Dead-letter records with these sequence numbers."""
    records = [Record(b"x", sequence_number=number, stream="orders") for number in numbers]
    failure = Failure("ValueError", "no")
    letters = [DiscardedRecord(record, "Rejected", failure, 1, 0) for record in records]
    FailureDestination(log.core, MAPPING, SystemClock()).deliver(letters)


def open_letters(log):
    """Sequence numbers of those that are open."""
    return [each.sequence_number for each in DeadLetters(log, MAPPING.name).entries()]


def test_it_asks_and_takes_no_for_an_answer(log, run, at_a_terminal):
    ended = run("dlq", "drop", "total", input=b"n\n")

    assert "Drop 2 dead letters of `total`? [y/N]" in ended.stderr
    assert (ended.code != 0, open_letters(log)) == (True, [1, 2])


def test_it_asks_and_drops_all(log, run, at_a_terminal):
    ended = run("dlq", "drop", "total", "--json", input=b"y\n")

    assert (ended.code, ended.json, open_letters(log)) == (0, {"dropped": 2}, [])


def test_what_fails_while_the_question_is_open_is_not_dropped(log, run, monkeypatch):
    monkeypatch.setattr(dlq, "confirm", lambda question, *, yes: fail(log, 3))

    assert run("dlq", "drop", "total", "--json").json == {"dropped": 2}
    assert open_letters(log) == [3]


@pytest.mark.parametrize("command", [("drop", "--yes"), ("redrive",), ("show",)])
@pytest.mark.parametrize("ids", [("",), ("shardId-000000000000:1", "")])
def test_an_empty_id_is_not_taken_for_all(log, run, command, ids):
    """It is a variable of a script that was not set."""
    name, *options = command
    if name == "show":
        ids = ids[-1:]

    ended = run("dlq", name, "total", *ids, *options)

    assert "an id is empty" in ended.stderr
    assert (ended.code, open_letters(log)) == (Exit.USAGE, [1, 2])


def test_queued_ones_are_told_where_none_is_open(log, run):
    """They are not done: a worker has yet to try them."""
    said = "no open dead letters of `total`; 2 are queued and wait for a worker\n"

    run("dlq", "redrive", "total")

    assert run("dlq", "ls", "total").stderr == said
    assert run("dlq", "redrive", "total").stderr == said
    shown = run("dlq", "show", "total")
    assert (shown.code, shown.stderr) == (1, f"error: {said}")


def test_the_first_one_says_that_there_are_others(log, run):
    others = "the first of 2 open dead letters; `streamfn dlq ls total` lists them\n"

    assert run("dlq", "show", "total").stderr == others
    assert run("dlq", "show", "total", "--json").stderr == ""
    assert run("dlq", "show", "total", "shardId-000000000000:2").stderr == ""


def test_queued_ones_are_counted_with_their_function(log, run):
    run("dlq", "redrive", "total")

    [row] = run("fn", "ls", "--json").json
    assert (row["dead_letters"], row["queued_dead_letters"]) == (0, 2)
    waiting = "shop.total: 2 redriven dead letters wait for a worker\n"
    assert waiting in run("fn", "ls").stderr
    assert waiting in run("fn", "info", "total").stderr


@pytest.mark.parametrize("arguments", [("ls",), ("show",), ("redrive",), ("drop", "--yes")])
def test_it_says_which_stream_failures_go_to(arguments, log, run):
    _core.Mapping.open(log.core, MAPPING.name).note_on_failure("badones")

    said = run("dlq", arguments[0], "total", *arguments[1:]).stderr

    assert "failures of `shop.total` go to the stream `badones`: `streamfn tail badones" in said


def test_it_says_that_failures_are_dropped(log, run):
    _core.Mapping.open(log.core, MAPPING.name).note_on_failure(None)

    assert (
        "failures of `shop.total` are dropped (`on_failure=None`)"
        in run("dlq", "ls", "total").stderr
    )


def test_of_its_own_dead_letters_it_says_nothing_of_the_kind(log, run):
    assert run("dlq", "ls", "total").stderr == ""
