"""Functions that wait 10 ms a call, as if for a database, and write down what they saw.

The record `BAD` fails for as long as there is no file `MENDED`.
"""

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path

from streamfn import App, Backoff

app = App("sleepy")
FACTOR = int(os.environ["FACTOR"])
NOTES = Path(os.environ["NOTES"])
BAD = os.environ.get("BAD", "").encode()
MENDED = NOTES.with_name("mended")
PAUSE = timedelta(milliseconds=20)
options = {
    "parallelization_factor": FACTOR,
    "batch_size": 20,
    "max_retries": -1,
    "backoff": Backoff(base=PAUSE, cap=PAUSE),
}


def note(batch, began):
    has_failed = bool(BAD) and BAD in batch.values() and not MENDED.exists()
    what, values = "failed" if has_failed else "worked", b",".join(batch.values()).decode()
    with NOTES.open("a") as notes:
        notes.write(f"{what} {began} {time.monotonic()} {values}\n")
    if has_failed:
        raise ValueError(BAD)


if os.environ["KIND"] == "sync":

    @app.stream("orders", **options)
    def work(batch):
        began = time.monotonic()
        time.sleep(0.01)
        note(batch, began)

else:

    @app.stream("orders", **options)
    async def work(batch):
        began = time.monotonic()
        await asyncio.sleep(0.01)
        note(batch, began)
