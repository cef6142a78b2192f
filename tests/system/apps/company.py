"""Functions in company: one keeps the interpreter, or the event loop, from its neighbour."""

import asyncio
import re
import time

from streamfn import App, Batch

app = App("company")
SEEN_BY_THE_WATCH = 0.2
"""Seconds in which the neighbour has begun, too."""


@app.stream("threads", timeout=1, max_retries=0)
def sleeps(batch: Batch) -> None:
    time.sleep(0.6)


@app.stream("threads", timeout=2, max_retries=0)
def backtracks(batch: Batch) -> None:
    time.sleep(SEEN_BY_THE_WATCH)
    re.match("(a+)+$", "a" * 60 + "b")  # years, and the interpreter lock is held


@app.stream("loop", timeout=1, max_retries=0)
async def waits(batch: Batch) -> None:
    await asyncio.sleep(0.6)


@app.stream("loop", timeout=1, max_retries=0)
async def blocks_for_a_while(batch: Batch) -> None:
    await asyncio.sleep(SEEN_BY_THE_WATCH)
    time.sleep(1.2)  # noqa: ASYNC251 -- the mistake that is tested


@app.stream("stuck", timeout=1, max_retries=0)
async def waits_beside(batch: Batch) -> None:
    await asyncio.sleep(0.6)


@app.stream("stuck", timeout=1, max_retries=0)
async def blocks_for_ever(batch: Batch) -> None:
    await asyncio.sleep(SEEN_BY_THE_WATCH)
    time.sleep(3600)  # noqa: ASYNC251 -- the mistake that is tested
