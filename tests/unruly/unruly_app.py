"""The functions of a burst: unruly ones, and calm ones beside them.

A calm one notes each record that it has done. So does an unruly one, but for the marked record.
"""

import asyncio
import base64
import inspect
import json
import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from random import Random

sys.path.append(str(Path(__file__).parent))

from unruly_plan import Burst
from unruly_tricks import TRICKS, Leave

from streamfn import App, Backoff

app = App("unruly")
JOURNAL = os.environ["JOURNAL"]
tempfile.tempdir = os.environ["TMPDIR"]  # or it tries with a file, which a kill would leave behind
BURST = Burst.read(Path(os.environ["PLAN"]))
QUICK = Backoff(base=timedelta(milliseconds=10), cap=timedelta(milliseconds=50))
UNRULY = {"timeout": "1s", "max_retries": 1, "backoff": QUICK, "report_failures": False}
CALM = {"timeout": "30s", "max_retries": 1, "backoff": QUICK}
MARK = b"marked"


def note(function, values):
    """Add a line with one write; what is left of the process does not matter."""
    line = f"{function} {' '.join(value.decode() for value in values)}\n"
    descriptor = os.open(JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def values_of(given, form):
    """The data of the records that a call got."""
    if form == "record":
        return [given.data]
    if form == "lambda":
        return [base64.b64decode(each["kinesis"]["data"]) for each in given["Records"]]
    return given.values()


async def steps_of(handler, chance):
    for name in handler.steps:
        done = TRICKS[name](chance)
        if inspect.isawaitable(done):
            await done


def act(handler):
    """Do what the handler does at its marked record, without a loop."""
    chance = Random(f"{BURST.seed}/{handler.number}")
    for name in handler.steps:
        TRICKS[name](chance)


def sync_handler(handler):
    def function(given):
        values = values_of(given, handler.form)
        note(handler.name, [value for value in values if value != MARK])
        if MARK in values:
            try:
                act(handler)
            except Leave:
                return

    return function


def async_handler(handler):
    async def function(given):
        values = values_of(given, handler.form)
        note(handler.name, [value for value in values if value != MARK])
        if MARK in values:
            try:
                await steps_of(handler, Random(f"{BURST.seed}/{handler.number}"))
            except Leave:
                return

    return function


def yielding_handler(handler):
    plain = sync_handler(handler)

    def function(batch):
        yield b"first"
        yield plain(batch)

    return function


def async_yielding_handler(handler):
    plain = async_handler(handler)

    async def function(batch):
        yield b"first"
        yield await plain(batch)

    return function


def register(handler):
    makers = {
        (False, False): sync_handler, (True, False): async_handler,
        (False, True): yielding_handler, (True, True): async_yielding_handler,
    }  # fmt: skip
    yields = handler.form == "yields"
    function = makers[handler.is_async, yields](handler)
    options = {"to": "values"} if yields else {"input": handler.form}
    app.stream(handler.name, name=handler.name, batch_size=4, **UNRULY, **options)(function)


for each in BURST.handlers:
    register(each)


def chat():
    """What many functions do, and some cannot any more."""
    print("calm", flush=True)
    json.dumps({"deep": [[[[[[[[]]]]]]]]})


@app.stream("calm", batch_size=5, **CALM)
def calm_batch(batch):
    note("calm_batch", batch.values())
    chat()


@app.stream("calm", input="record", **CALM)
def calm_record(record):
    note("calm_record", [record.data])
    chat()


@app.stream("calm", input="lambda", batch_size=5, **CALM)
def calm_lambda(event, context):
    note("calm_lambda", values_of(event, "lambda"))
    chat()


@app.stream("calm", input="record", **CALM)
async def calm_async(record):
    await asyncio.sleep(0.001)
    await asyncio.create_task(asyncio.sleep(0.001))
    assert await asyncio.to_thread(int, "7") == 7
    note("calm_async", [record.data])
    chat()
