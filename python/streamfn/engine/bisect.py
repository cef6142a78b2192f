"""Splitting a failed call in two, until the guilty record is alone.

A split waits for nothing and uses no retry: one poison record among n costs at most
2·⌈log2 n⌉ + 1 calls to isolate.
"""

from __future__ import annotations

from streamfn._core import Records

from .worklist import Call, narrowed


def halves(call: Call, records: Records) -> tuple[Call, ...]:
    """Split a call at ⌊n/2⌋ of its n records; one of a single record is returned whole.

    Attempts are carried into the halves.

    Args:
        call: What failed.
        records: Its records, all of them.

    Source: AWS Lambda, BisectBatchOnFunctionError; its split point is not documented.
    """
    middle = len(records) // 2
    if middle == 0:
        return (call,)
    last, first = records[middle - 1].sequence_number, records[middle].sequence_number
    left = [
        entry if entry.last <= last else narrowed(entry, entry.first, last)
        for entry in call.entries
        if entry.first <= last
    ]
    right = [
        entry if entry.first >= first else narrowed(entry, first, entry.last)
        for entry in call.entries
        if entry.last >= first
    ]
    return Call(tuple(left)), Call(tuple(right))
