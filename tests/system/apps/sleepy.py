"""Functions that wait 10 ms a call, as if for a database, and write down what they saw."""

import asyncio
import os
import time
from pathlib import Path

from streamfn import App

app = App("sleepy")
FACTOR = int(os.environ["FACTOR"])
NOTES = Path(os.environ["NOTES"])
BAD = os.environ.get("BAD", "").encode()
options = {"parallelization_factor": FACTOR, "batch_size": 20, "max_retries": 1}


def note(name, batch, began):
    values = b",".join(batch.values()).decode()
    with NOTES.open("a") as notes:
        notes.write(f"{name} {began} {time.monotonic()} {values}\n")
    if BAD and BAD in batch.values():
        raise ValueError(BAD)


if os.environ["KIND"] == "sync":

    @app.stream("orders", **options)
    def work(batch):
        began = time.monotonic()
        time.sleep(0.01)
        note("work", batch, began)

else:

    @app.stream("orders", **options)
    async def work(batch):
        began = time.monotonic()
        await asyncio.sleep(0.01)
        note("work", batch, began)
