"""AWS Lambda handlers as their authors wrote them, and an input and a back-off of our own."""

import json
import os
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes import KinesisStreamEvent, event_source

from streamfn import App, InputKind, register_input

app = App("handlers")
processor = BatchProcessor(event_type=EventType.KinesisDataStreams)
NOTES = Path(os.environ["NOTES"])


def note(function, **seen):
    with NOTES.open("a") as notes:
        notes.write(json.dumps({"function": function, **seen}) + "\n")


class Hurried:
    """A back-off policy of the user's own."""

    def draw(self, exponent, random):
        note("hurried", exponent=exponent)
        return timedelta(milliseconds=1)


def record_handler(record):
    payload = record.kinesis.data_as_json()
    if payload["n"] % 10 == 3:
        raise ValueError(payload["n"])
    note("processed", n=payload["n"], key=record.kinesis.partition_key)


@app.stream("orders", input="lambda", report_failures=True, max_retries=1, backoff=Hurried())
def lambda_handler(event, context):
    return process_partial_response(
        event=event, record_handler=record_handler, processor=processor, context=context
    )


@app.stream("orders", input="lambda", preset="aws", batch_size=50)
@event_source(data_class=KinesisStreamEvent)
def typed(event, context):
    for record in event.records:
        note(
            "typed",
            n=json.loads(record.kinesis.data_as_text())["n"],
            id=record.event_id,
            source=record.event_source_arn,
            left=context.get_remaining_time_in_millis(),
        )


@app.stream("orders", input="lambda", max_retries=0, batch_size=1000, bisect=False)
def unmarshallable(event, context):
    return {"seen": {len(event["Records"])}}


register_input(InputKind(name="values", event=lambda batch: batch.values()))


@app.stream("orders", input="values", batch_size=30)
def plain(values):
    note("plain", types=sorted({type(value).__name__ for value in values}), count=len(values))


@app.stream("orders", input="arrow", batch_size=40)
def columnar(batch):
    table = pa.record_batch(batch)
    numbers = table["sequence_number"].to_pylist()
    note("columnar", rows=table.num_rows, bytes=sum(map(len, table["data"].to_pylist())))
    assert numbers == sorted(numbers)
