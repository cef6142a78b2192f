"""A function with tumbling windows that adds up the sequence numbers of each window.

Of every final call it writes one line: shard, start and end of the window in µs, and the state.
Some calls fail by chance.
"""

import json
import os
import random
from datetime import timedelta
from pathlib import Path

from streamfn import App, Backoff, Batch
from streamfn.units import to_microseconds

app = App("windowed")
FOLDER = Path(os.environ["FINALS"])
CHANCE = random.Random()
QUICK = Backoff(base=timedelta(milliseconds=5), cap=timedelta(milliseconds=20))


def note(batch):
    window = batch.window
    fields = [batch.context.shard_id, to_microseconds(window.start), to_microseconds(window.end)]
    line = json.dumps([*fields, batch.state]) + "\n"
    descriptor = os.open(FOLDER / str(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode())  # one write: a kill leaves all of it or nothing
    os.close(descriptor)


@app.stream("orders", tumbling_window="250ms", batch_size=20, max_retries=-1, backoff=QUICK)
def total(batch: Batch) -> None:
    if batch.is_final:
        note(batch)
    else:
        numbers = [record.sequence_number for record in batch]
        count, sum_before = batch.state or (0, 0)
        batch.state = [count + len(numbers), sum_before + sum(numbers)]
    if CHANCE.random() < (0.2 if batch.is_final else 0.03):
        raise ValueError("by chance")
