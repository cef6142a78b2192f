"""What a successful call sends on: its values to `to=`, its invocation record to `on_success=`.

Appended durably before the checkpoint passes the records it came from: a crash in between sends it
again, and never loses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

import orjson

from streamfn._core import PARTITION_KEY_CHARS_MAX, RECORD_BYTES_MAX, Records
from streamfn.clock import Clock
from streamfn.errors import RecordTooLarge
from streamfn.model.context import Context
from streamfn.model.lambda_input import function_arn, stream_arn
from streamfn.model.mapping import EventSourceMapping
from streamfn.model.window import Window


class Output(NamedTuple):
    """A record on its way to a stream."""

    stream: str
    data: bytes
    partition_key: str | None


class Outputs:
    """Makes the records of one mapping's successful calls."""

    def __init__(self, mapping: EventSourceMapping, clock: Clock) -> None:
        self._to, self._on_success, self._clock = mapping.to, mapping.on_success, clock
        self.are_wanted = not (mapping.to is None and mapping.on_success is None)
        """Whether there is anything to make."""

    def of_values(self, returned: object, key: str | None = None) -> list[Output]:
        """Return what goes to `to`.

        Args:
            returned: None is nothing; a list or an iterator, such as a generator, is its items;
                anything else is one item. An item is data, or a tuple `(data, key)`. A report of
                failures is no value.
            key: Partition key of items that bring none.

        Raises:
            TypeError: An item is neither bytes nor text nor JSON, or its key no text.
            RecordTooLarge: An item is over the limits of a record.
            Exception: What the iterator raised.
        """
        if self._to is None:
            return []
        return [
            as_output(self._to, item, key, place) for place, item in enumerate(_items(returned))
        ]

    def of_call(
        self, returned: object, records: Records, context: Context, window: Window | None = None
    ) -> list[Output]:
        """Return what goes to `on_success` after a call whose records are all done.

        Source: the destination record of AWS Lambda's stream mappings, which are of failures only.

        Args:
            returned: What the function returned; what is no JSON, as Python prints it.
            records: What it was called with; none in the final call of a window.
            context: Of the call.
            window: The one that it was made in.

        Raises:
            RecordTooLarge: With what was returned it is over the limits of a record.
            Exception: What was returned is no JSON, and its `__repr__` raised.
        """
        if self._on_success is None:
            return []
        record = {
            "version": "1.0",
            "timestamp": _iso(self._clock.now()),
            "requestContext": {
                "requestId": context.request_id,
                "functionArn": function_arn(context.function),
                "condition": "Success",
                "approximateInvokeCount": context.attempt,
            },
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
            "responsePayload": _payload(returned),
            "KinesisBatchInfo": {
                "shardId": context.shard_id,
                **(_range(records) if records else _final(window)),
                "batchSize": len(records),
                "streamArn": stream_arn(context.stream),
            },
        }
        key = records[0].partition_key if len(records) == 1 else None
        return [as_output(self._on_success, orjson.dumps(record), key, 0)]


def by_stream(outputs: Iterable[Output]) -> Iterator[tuple[str, list[Output]]]:
    """Return the outputs of each stream, in order."""
    streams: dict[str, list[Output]] = {}
    for output in outputs:
        streams.setdefault(output.stream, []).append(output)
    yield from streams.items()


def _range(records: Records) -> dict[str, str]:
    return {
        "startSequenceNumber": str(records.first),
        "endSequenceNumber": str(records.last),
        "approximateArrivalOfFirstRecord": _iso(records[0].timestamp),
        "approximateArrivalOfLastRecord": _iso(records[-1].timestamp),
    }


def _final(window: Window | None) -> dict[str, object]:
    """Return what stands for the records of a final call, which has none: its window."""
    assert window is not None, "no other call is made without records"
    bounds = {"start": _iso(window.start), "end": _iso(window.end)}
    return {"window": bounds, "isFinalInvokeForWindow": True}


def _items(returned: object) -> Iterable[object]:
    if returned is None:
        return ()
    return returned if isinstance(returned, list | Iterator) else (returned,)


def as_output(stream: str, item: object, key: str | None, place: int) -> Output:
    """Return an item as a record.

    Args:
        stream: Where it goes.
        item: Bytes, text, anything else as JSON, or a tuple of that and a key.
        key: Its key, if it brings none.
        place: Its place among others, for messages.

    Raises:
        TypeError: It is nothing of these.
        RecordTooLarge: It is over the limits of a record.
    """
    if isinstance(item, tuple):
        if len(item) != 2:  # noqa: PLR2004 -- data and key
            raise TypeError(f"item {place} is a tuple of {len(item)}, not (data, key)")
        item, key = item
        if not (key is None or isinstance(key, str)):
            raise TypeError(f"the key of item {place} is a {type(key).__name__}, not text")
    data = _bytes(item)
    size = len(data) + len((key or "").encode())
    if size > RECORD_BYTES_MAX:
        raise RecordTooLarge(size, RECORD_BYTES_MAX, "record bytes", place)
    if key is not None and len(key) > PARTITION_KEY_CHARS_MAX:
        what = "partition key characters"
        raise RecordTooLarge(len(key), PARTITION_KEY_CHARS_MAX, what, place)
    return Output(stream, data, key or None)


def _bytes(item: object) -> bytes:
    match item:
        case bytes():
            return item
        case bytearray() | memoryview():
            return bytes(item)
        case str():
            return item.encode()
    return orjson.dumps(item)


def _payload(returned: object) -> object:
    """Return what a function returned as JSON, or as Python would print it."""
    try:
        return orjson.Fragment(orjson.dumps(returned))
    except TypeError:
        return repr(returned)


def _iso(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z"
