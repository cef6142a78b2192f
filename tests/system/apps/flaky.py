"""Functions that fail by chance, each in its own way, and write down what they have done.

The lines are those of `seen.py`, but written at the end of a call, for the records that succeeded.
"""

import os
import random
import time
from datetime import timedelta
from pathlib import Path

from streamfn import App, Backoff, Batch, Record

app = App("flaky")
FOLDER = Path(os.environ["SEEN"])
RETRY = {
    "max_retries": -1,
    "backoff": Backoff(base=timedelta(milliseconds=2), cap=timedelta(milliseconds=10)),
}


def is_unlucky(percent):
    return random.random() < percent / 100


def note(function, batch, numbers):
    if not numbers:
        return
    shard_id = batch[0].shard_id
    line = f"{time.monotonic_ns()} {function} {shard_id} {','.join(map(str, numbers))}\n"
    descriptor = os.open(FOLDER / str(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)


@app.stream("orders", batch_size=100, **RETRY)
def raises(batch: Batch) -> None:
    if is_unlucky(10):
        raise ValueError("bad luck")
    note("raises", batch, [record.sequence_number for record in batch])


@app.stream("orders", batch_size=100, parallelization_factor=4, **RETRY)
def fails_some(batch: Batch) -> None:
    failed_keys, done = set(), []
    for record in batch:
        if record.partition_key in failed_keys:
            continue
        if is_unlucky(2):
            batch.fail(record, "bad luck")
            failed_keys.add(record.partition_key)
        else:
            done.append(record.sequence_number)
    note("fails_some", batch, done)


@app.stream("orders", batch_size=100, **RETRY)
def reports(batch: Batch) -> dict:
    done = []
    for record in batch:
        if is_unlucky(1):
            note("reports", batch, done)
            return {"batchItemFailures": [{"itemIdentifier": str(record.sequence_number)}]}
        done.append(record.sequence_number)
    note("reports", batch, done)
    return {}


@app.stream("orders", input="record", batch_size=50, parallelization_factor=2, **RETRY)
def one_by_one(record: Record) -> None:
    if is_unlucky(2):
        raise ValueError("bad luck")
    note("one_by_one", [record], [record.sequence_number])
