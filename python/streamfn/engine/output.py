"""Outputs of successful calls: values to `to=`, an invocation record to `on_success=`.

Outputs are appended durably before the checkpoint passes their records. After a crash in between
they are sent again; they are never lost.
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
    """A record to append to a stream."""

    stream: str
    data: bytes
    partition_key: str | None


class Outputs:
    """Makes the outputs of one mapping's successful calls."""

    def __init__(self, mapping: EventSourceMapping, clock: Clock) -> None:
        self._to, self._on_success, self._clock = mapping.to, mapping.on_success, clock
        self.are_wanted = not (mapping.to is None and mapping.on_success is None)
        """Whether the mapping has outputs at all."""

    def of_values(self, returned: object, key: str | None = None) -> list[Output]:
        """Return the outputs for `to`.

        Args:
            returned: What the function returned. None has no items; a list or an iterator, such as
                a generator, has its items; any other value is one item. An item is data, or a
                tuple `(data, key)`.
            key: Partition key of items without their own.

        Raises:
            TypeError: An item is not bytes, text or JSON, or its key is not text.
            RecordTooLarge: An item is over a limit of records.
            Exception: The iterator raised.
        """
        if self._to is None:
            return []
        return [
            as_output(self._to, item, key, place) for place, item in enumerate(_items(returned))
        ]

    def of_call(
        self, returned: object, records: Records, context: Context, window: Window | None = None
    ) -> list[Output]:
        """Return the output for `on_success` after a call whose records are all done.

        Source: the destination record of AWS Lambda's stream mappings, which AWS writes for
        failures only.

        Args:
            returned: What the function returned; if it is not JSON, its `repr` is used.
            records: The records of the call; none in the final call of a window.
            context: The context of the call.
            window: The window of the call.

        Raises:
            RecordTooLarge: The invocation record is over a limit of records.
            Exception: The returned value is not JSON, and its `__repr__` raised.
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
    """Yield each stream with its outputs, in order."""
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
    """Return the fields of a final call, which has a window in place of records."""
    assert window is not None, "no other call is made without records"
    bounds = {"start": _iso(window.start), "end": _iso(window.end)}
    return {"window": bounds, "isFinalInvokeForWindow": True}


def _items(returned: object) -> Iterable[object]:
    if returned is None:
        return ()
    return returned if isinstance(returned, list | Iterator) else (returned,)


def as_output(stream: str, item: object, key: str | None, place: int) -> Output:
    """Convert an item to a record.

    Args:
        stream: The stream that receives it.
        item: Bytes, text, another value (encoded as JSON), or a tuple of one of these and a key.
        key: Key of an item without its own.
        place: Index of the item, for error messages.

    Raises:
        TypeError: The item is none of these.
        RecordTooLarge: The item is over a limit of records.
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
    """Return the returned value as JSON, or its `repr` if it is not JSON."""
    try:
        return orjson.Fragment(orjson.dumps(returned))
    except TypeError:
        return repr(returned)


def _iso(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z"
