"""One function that takes its time, fails or hangs as the environment says, and notes its calls.

One line when a call begins and one when it ends: what, time, process, attempt, shard, numbers.
"""

import os
import time
from datetime import timedelta
from pathlib import Path

from streamfn import App, Backoff, Context, Record

app = App("paced")
NOTES = Path(os.environ["NOTES"])


class Always:
    """A back-off that leaves nothing to chance."""

    def __init__(self, seconds):
        self.wait = timedelta(seconds=seconds)

    def draw(self, exponent, random):
        return self.wait


def backoff():
    if "WAIT" in os.environ:
        return Always(float(os.environ["WAIT"]))
    return Backoff(base=timedelta(seconds=float(os.environ.get("BACKOFF", "0.01"))))


def note(what, batch, context):
    numbers = ",".join(str(record.sequence_number) for record in batch)
    words = (what, time.monotonic(), os.getpid(), context.attempt, context.shard_id, numbers)
    descriptor = os.open(NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    os.close(descriptor)


@app.stream(
    "orders",
    input=os.environ.get("INPUT", "batch"),
    batch_size=int(os.environ.get("SIZE", "1")),
    parallelization_factor=int(os.environ.get("FACTOR", "1")),
    max_concurrency=int(os.environ["LIMIT"]) if "LIMIT" in os.environ else None,
    backoff=backoff(),
)
def work(given, context: Context) -> None:
    batch = [given] if isinstance(given, Record) else given
    note("began", batch, context)
    if os.environ.get("HANG"):
        while True:
            pass
    time.sleep(float(os.environ.get("SLOW", "0")))
    if os.environ.get("FAIL"):
        raise ValueError("told to fail")
    note("ended", batch, context)
