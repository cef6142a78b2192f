"""Under `input="lambda"` a process makes one call at a time, whatever `--threads` says.

As on AWS: handlers keep what they are working on in their modules.
"""

import json

import pytest

from streamfn.engine.deadletter import DeadLetters

RECORDS = 400
BAD = {n for n in range(RECORDS) if n % 10 == 3}


@pytest.fixture(scope="module", params=["one,again,gathers,waits", "waits"])
def ran(request, tmp_path_factory, workers_in):
    """The functions of `apps/processors.py`, what they noted, and the log."""
    import streamfn

    folder = tmp_path_factory.mktemp("processors")
    with streamfn.Log.open(folder / "log") as log, workers_in(folder, folder / "log") as workers:
        orders = log.create_stream("orders", shards=4)
        values = [b'{"n":%d}' % n for n in range(RECORDS)]
        orders.put_many(values, [f"k{n}" for n in range(RECORDS)])
        options = ("--burst", "--processes", "1", "--threads", "4")
        notes, kinds = folder / "notes", request.param
        assert workers.run("processors", *options, NOTES=notes, KINDS=kinds) == 0
        yield kinds.split(","), [line.split() for line in notes.read_text().splitlines()], log


def test_what_fails_is_set_aside_and_all_else_is_processed(ran):
    """Nothing is taken for done that another call was working on."""
    functions, notes, log = ran
    for function in functions:
        if function == "again":
            continue
        done = {int(note[2]) for note in notes if note[:2] == ["processed", function]}
        dead = DeadLetters(log, f"processors.{function}").entries()

        assert done == set(range(RECORDS)) - BAD
        assert sorted(json.loads(each.data)["n"] for each in dead) == sorted(BAD)


def test_no_call_begins_before_the_one_before_it_has_ended(ran):
    """Of all these functions together: two may share what is in their module."""
    functions, notes, _ = ran
    calls = [note for note in notes if note[0] in {"began", "ended"}]

    assert [note[0] for note in calls] == ["began", "ended"] * (len(calls) // 2)
    assert {note[1] for note in calls} == set(functions)


def test_functions_that_wait_for_their_turn_have_it(ran):
    """No function has two batches while another one that has work gets none."""
    functions, notes, _ = ran
    first = [note[1] for note in notes if note[0] == "began"][: 4 * len(functions)]

    assert set(first) == set(functions)


def test_functions_that_say_so_are_called_side_by_side(log, workers, tmp_path):
    """Each waits for another one: one at a time they would fail."""
    log.create_stream("orders", shards=2).put_many([b"{}"] * 8, ["a", "d"] * 4)
    options = ("--burst", "--processes", "1", "--threads", "2")

    code = workers.run("processors", *options, NOTES=tmp_path / "notes", KINDS="meets")

    assert code == 0
    assert DeadLetters(log, "processors.meets").entries() == []
