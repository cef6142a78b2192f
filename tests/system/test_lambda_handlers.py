"""Handlers written for AWS run unchanged, AWS Lambda Powertools' batch processor included."""

import json

import pytest

RECORDS = 100


@pytest.fixture(scope="module")
def ran(tmp_path_factory, workers_in):
    """What the functions of `apps/handlers.py` noted of 100 records, and the log."""
    import streamfn

    folder = tmp_path_factory.mktemp("handlers")
    with streamfn.Log.open(folder / "log") as log, workers_in(folder, folder / "log") as workers:
        orders = log.create_stream("orders", shards=2)
        values = [b'{"n":%d}' % n for n in range(RECORDS)]
        orders.put_many(values, [f"k{n % 7}" for n in range(RECORDS)])
        notes = folder / "notes"
        assert workers.run("handlers", "--burst", NOTES=notes) == 0
        yield log, [json.loads(line) for line in notes.read_text().splitlines()]


def of(notes, function):
    return [note for note in notes if note["function"] == function]


def letters(log, function):
    batches = log.stream(f"handlers.{function}.dlq").read()
    return [record for batch in batches for record in batch]


def test_the_batch_processor_is_believed(ran):
    """Its partial failures: each record it named is tried again, then set aside, no other."""
    log, notes = ran
    bad = {n for n in range(RECORDS) if n % 10 == 3}

    assert {note["n"] for note in of(notes, "processed")} == set(range(RECORDS)) - bad
    assert {letter.json()["n"] for letter in letters(log, "lambda_handler")} == bad


def test_the_data_classes_read_our_events(ran):
    _, notes = ran

    seen = of(notes, "typed")
    assert sorted(note["n"] for note in seen) == list(range(RECORDS))
    assert {note["source"].rpartition("/")[2] for note in seen} == {"orders"}
    assert len({note["id"] for note in seen}) == RECORDS
    assert all(0 < note["left"] <= 3000 for note in seen), "AWS gives 3 s"


def test_a_result_that_is_no_json_fails_the_call(ran):
    """As `Runtime.MarshalError` does."""
    log, _ = ran

    dead = letters(log, "unmarshallable")
    assert len(dead) == RECORDS
    error = json.loads(dead[0].headers["streamfn-dead-letter"])
    assert error["error_type"] == "TypeError"
    assert "Unable to marshal response" in error["error_message"]


def test_an_input_and_a_backoff_of_the_users_own_need_no_change_of_the_engine(ran):
    """They come in through `register_input` and `backoff=` (ARCHITECTURE.md, "Where to add")."""
    _, notes = ran

    assert {tuple(note["types"]) for note in of(notes, "plain")} == {("bytes",)}
    assert sum(note["count"] for note in of(notes, "plain")) == RECORDS
    assert of(notes, "hurried"), "the waits were drawn by the app's own policy"


def test_an_arrow_function_gets_record_batches(ran):
    _, notes = ran

    assert sum(note["rows"] for note in of(notes, "columnar")) == RECORDS
    assert sum(note["bytes"] for note in of(notes, "columnar")) == sum(
        len(b'{"n":%d}' % n) for n in range(RECORDS)
    )
