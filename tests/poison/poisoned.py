"""A function that some records are too much for, in the way that `KIND` says.

What it is called with it writes to a file before it looks at any record: so a call counts, whatever
is left of its process.
"""

import ctypes
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

from streamfn import App, Backoff, Batch

app = App("poisoned")
CALLS = Path(os.environ["CALLS"])
KIND = os.environ["KIND"]
OPTIONS = {"timeout": "100ms"} if KIND == "hang" else {}
if os.environ.get("HURRY"):
    OPTIONS["backoff"] = Backoff(base=timedelta(milliseconds=10), cap=timedelta(milliseconds=10))


def note(what, batch):
    """Add a line to the file, with one write: a death leaves all of it or nothing."""
    line = f"{what} {time.monotonic()} {batch[0].sequence_number} {batch[-1].sequence_number}\n"
    descriptor = os.open(CALLS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def suffer():
    match KIND:
        case "raise":
            raise ValueError("this record is poison")
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(1)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            while True:
                pass


@app.stream("orders", batch_size=1_000, max_retries=1, **OPTIONS)
def work(batch: Batch) -> None:
    note("began", batch)
    if b"poison" in batch.values():
        suffer()
    note("ended", batch)
