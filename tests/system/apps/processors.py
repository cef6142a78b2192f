"""AWS Lambda handlers that keep what they work on in their module, as they may on AWS.

`KINDS` says which of them there are.
"""

import asyncio
import base64
import json
import os
import threading
import time
from datetime import timedelta
from pathlib import Path

from aws_lambda_powertools.utilities.batch import (
    AsyncBatchProcessor,
    BatchProcessor,
    EventType,
    async_process_partial_response,
    process_partial_response,
)

from streamfn import App, Backoff

app = App("processors")
NOTES = Path(os.environ["NOTES"])
OPTIONS = {
    "input": "lambda",
    "batch_size": 20,
    "report_failures": True,
    "max_retries": 1,
    "backoff": Backoff(base=timedelta(milliseconds=10), cap=timedelta(milliseconds=10)),
}
processor = BatchProcessor(event_type=EventType.KinesisDataStreams)
async_processor = AsyncBatchProcessor(event_type=EventType.KinesisDataStreams)


def note(*words):
    """Add a line with one write."""
    descriptor = os.open(NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    os.close(descriptor)


class Call:
    """Notes when a call begins and ends, and in which thread."""

    def __init__(self, function):
        self.function = function

    def __enter__(self):
        note("began", self.function, os.getpid(), threading.current_thread().name)

    def __exit__(self, *_):
        note("ended", self.function, os.getpid(), threading.current_thread().name)


def check(number):
    if number % 10 == 3:
        raise ValueError(number)


def record_handler(record):
    number = record.kinesis.data_as_json()["n"]
    time.sleep(0.0002)  # another thread has its turn
    check(number)
    note("processed", "one", number)


def rest(record):
    time.sleep(0.0002)


async def async_record_handler(record):
    number = record.kinesis.data_as_json()["n"]
    await asyncio.sleep(0.0002)
    check(number)
    note("processed", "gathers", number)


def one(event, context):
    with Call("one"):
        return process_partial_response(event, record_handler, processor, context)


def again(event, context):
    """Uses the same processor, and does nothing with it."""
    with Call("again"):
        process_partial_response(event, rest, processor, context)


def gathers(event, context):
    with Call("gathers"):
        return async_process_partial_response(event, async_record_handler, async_processor, context)


failed = []


async def waits(event, context):
    """Keeps what failed in the module, for a while."""
    with Call("waits"):
        failed.clear()
        for record in event["Records"]:
            number = json.loads(base64.b64decode(record["kinesis"]["data"]))["n"]
            await asyncio.sleep(0.0002)
            if number % 10 == 3:
                failed.append(record["kinesis"]["sequenceNumber"])
            else:
                note("processed", "waits", number)
        return {"batchItemFailures": [{"itemIdentifier": each} for each in failed]}


both = threading.Barrier(2, timeout=20)


def meets(event, context):
    """Waits until another call of it is there."""
    with Call("meets"):
        both.wait()


KINDS = {each.__name__: each for each in (one, again, gathers, waits)}
for kind in os.environ["KINDS"].split(","):
    if kind == "meets":
        app.stream("orders", **OPTIONS | {"batch_size": 1000, "concurrent": True})(meets)
    else:
        app.stream("orders", **OPTIONS)(KINDS[kind])
