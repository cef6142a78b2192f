"""`async` functions: some records wait for ever, one keeps the event loop to itself."""

import asyncio
import time
from datetime import timedelta

from streamfn import App, Backoff, Batch, Record

app = App("looped")
OPTIONS = {"timeout": 0.3, "max_retries": 1, "backoff": Backoff(base=timedelta(milliseconds=10))}


async def suffer(record):
    await asyncio.sleep(0)
    if record.data == b"waits":
        await asyncio.sleep(60)
    if record.data == b"blocks":
        time.sleep(60)  # noqa: ASYNC251 -- the mistake that is tested


@app.stream("orders", **OPTIONS)
async def batches(batch: Batch) -> None:
    await asyncio.gather(*map(suffer, batch))


@app.stream("orders", input="record", **OPTIONS)
async def singles(record: Record) -> None:
    await suffer(record)
