"""The app of the chaos run: functions that write down what they are called with.

One journal for each runner process:

    process  its id, its supervisor's
    call     number, time, function, stream, shard, [sequence numbers], [digests]
    return   number, time

`FACTOR` is how many lanes the functions named `changing` want; the others always have one.
"""

import os
import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import count
from pathlib import Path

from journal import Journal, digest
from producer import POISON

from streamfn import App, Backoff, Batch, Record, Reject

app = App("chaos")
FOLDER = Path(os.environ["CHAOS_FOLDER"])
FACTOR = int(os.environ["CHAOS_FACTOR"])
CALL_SECONDS = 0.002
RECORD_SECONDS = 0.0002
"""Calls take this long, so that a kill finds them at work."""
RETRY = {
    "max_retries": -1,  # a death counts as an attempt, and here nobody is guilty of one
    "backoff": Backoff(base=timedelta(milliseconds=10), cap=timedelta(milliseconds=50)),
}
numbers = count()


def open_journal() -> Journal:
    """Begin the journal of this process."""
    journal = Journal(FOLDER / f"runner-{os.getpid()}")
    journal.note("process", os.getpid(), os.getppid())
    return journal


journal = open_journal()


def note_call(function: str, records: Sequence[Record]) -> int:
    """Write down that a call begins; returns its number."""
    number, first = next(numbers), records[0]
    places = [each.sequence_number for each in records]
    digests = [digest(each.data, each.partition_key, each.headers) for each in records]
    now = time.monotonic_ns()
    journal.note("call", number, now, function, first.stream, first.shard_id, places, digests)
    return number


def note_return(number: int) -> None:
    """Write down that a call is about to return."""
    journal.note("return", number, time.monotonic_ns())


def refuse_poison(records: Sequence[Record]) -> None:
    if any(record.data.startswith(POISON.encode()) for record in records):
        raise Reject(POISON)


@app.stream("kept", batch_size=50, **RETRY)
def steady_batches(batch: Batch) -> None:
    number = note_call("steady_batches", batch)
    time.sleep(CALL_SECONDS)
    note_return(number)


@app.stream("consumed", input="record", batch_size=20, **RETRY)
def steady_records(record: Record) -> None:
    number = note_call("steady_records", [record])
    time.sleep(RECORD_SECONDS)
    note_return(number)


def changing(stream: str) -> None:
    """Register a function whose factor changes and that rejects what is poison."""

    name = f"changing_{stream}"

    @app.stream(stream, name=name, batch_size=40, parallelization_factor=FACTOR, **RETRY)
    def function(batch: Batch) -> None:
        number = note_call(name, batch)
        time.sleep(CALL_SECONDS)
        refuse_poison(batch)
        note_return(number)


for stream in ("kept", "consumed", "capped", "aged"):
    changing(stream)
