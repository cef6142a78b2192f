"""Functions that write down what they are called with; read by `conftest.read_seen`.

One file for each process, one line for each call: time, function, shard, numbers of the records.
"""

import os
import time
from datetime import timedelta
from pathlib import Path

from streamfn import App, Backoff, Batch, Record

app = App("seen")
FOLDER = Path(os.environ["SEEN"])
PAUSE = float(os.environ.get("SEEN_PAUSE", "0"))
RETRY = {
    "max_retries": int(os.environ.get("SEEN_RETRIES", "3")),
    "backoff": Backoff(base=timedelta(milliseconds=10), cap=timedelta(milliseconds=50)),
}


def note(function, shard_id, numbers):
    line = f"{time.monotonic_ns()} {function} {shard_id} {','.join(map(str, numbers))}\n"
    descriptor = os.open(FOLDER / str(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode())  # one write: a kill leaves all of it or nothing
    os.close(descriptor)
    time.sleep(PAUSE)


@app.stream("orders", batch_size=500, **RETRY)
def plain(batch: Batch) -> None:
    note("plain", batch[0].shard_id, [record.sequence_number for record in batch])


@app.stream("orders", batch_size=200, parallelization_factor=4, **RETRY)
def lanes(batch: Batch) -> None:
    note("lanes", batch[0].shard_id, [record.sequence_number for record in batch])


@app.stream("orders", input="record", batch_size=50, **RETRY)
def single(record: Record) -> None:
    note("single", record.shard_id, [record.sequence_number])
