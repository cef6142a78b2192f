"""Splits a failed call in two, until the failing record is alone.

A split causes no wait and uses no retry. To isolate one failing record among n takes at most
2·⌈log2 n⌉ + 1 calls.
"""

from __future__ import annotations

from streamfn._core import Records

from .worklist import Call, narrowed


def halves(call: Call, records: Records) -> tuple[Call, ...]:
    """Split a call at ⌊n/2⌋ of its n records; a call of one record is returned whole.

    The halves keep the attempts.

    Args:
        call: The failed call.
        records: All its records.

    Source: AWS Lambda, BisectBatchOnFunctionError; AWS does not document its split point.
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
