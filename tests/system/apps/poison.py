"""Functions that one record is too much for, in the way that `POISON` says."""

import ctypes
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

from streamfn import App, Backoff, Batch, Record

app = App("poison")
CALLS = Path(os.environ["CALLS"])
KIND = os.environ["POISON"]
OPTIONS = {
    "timeout": "1s",
    "backoff": Backoff(base=timedelta(milliseconds=10), cap=timedelta(milliseconds=50)),
    "parallelization_factor": int(os.environ.get("FACTOR", "1")),
}


def suffer(record):
    if record.data != b"poison":
        return
    match KIND:
        case "raise":
            raise ValueError("this record is poison")
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(1)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "loop":
            while True:
                pass


def note(records):
    line = f"{records[0].sequence_number} {records[-1].sequence_number} {len(records)}\n"
    descriptor = os.open(CALLS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)
    time.sleep(float(os.environ.get("SLOW", "0")))


@app.stream("batches", **OPTIONS)
def batches(batch: Batch) -> None:
    note(batch)
    for record in batch:
        suffer(record)


@app.stream("singles", input="record", **OPTIONS)
def singles(record: Record) -> None:
    note([record])
    suffer(record)
