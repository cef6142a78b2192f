"""Reads the return value of a function.

With `report_failures`, `{"batchItemFailures": [{"itemIdentifier": "7"}, …]}` names failed records.
A coroutine or a generator means that the function's body did not run. Every other value means
success.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Coroutine, Generator
from typing import Final, TypeGuard

from streamfn._core import Records
from streamfn.errors import InvalidResponse
from streamfn.texts import shown

from .outcome import Failed, Failure, Reported, Success, malformed

KEY: Final = "batchItemFailures"
ITEM: Final = "itemIdentifier"


def read(response: object, records: Records) -> Success | Failed | Reported:
    """Return the outcome that a return value stands for.

    Source: complete success K-27 (`""`, `[]`, `null`, `{}`, and an empty or null list). An item
    that is malformed or names no record of the call fails the whole call, K-28.
    """
    if not is_report(response):
        return Success()
    items = response[KEY]
    if items is None or items == []:
        return Success()
    if not isinstance(items, list):
        return malformed(f"`{KEY}` is a {type(items).__name__}, not a list")
    numbers = []
    for place, item in enumerate(items):
        number = _number(item)
        if number is None:
            return malformed(f"`{KEY}[{place}]` is {shown(item)}, not {{{ITEM!r}: '<number>'}}")
        if not is_among(number, records):
            return malformed(f"`{KEY}[{place}]` names {shown(number)}, which is not in the batch")
        numbers.append(number)
    message = f"{len(numbers)} of {len(records)} records were reported in `{KEY}`"
    return Reported(min(numbers), Failure("BatchItemFailures", message))


def check_ran(returned: object) -> None:
    """Refuse a return value that means that the function's body did not run.

    Raises:
        InvalidResponse: The value is a generator, a coroutine or another awaitable.
    """
    if isinstance(returned, Generator):
        advice = "`yield`: name a stream with `to=`, or use the generator up there"
    elif isinstance(returned, Awaitable | AsyncGenerator):
        advice = "`async def`: use `functools.wraps` there"
    else:
        return
    if isinstance(returned, Coroutine | Generator):
        returned.close()  # or Python warns that it was never awaited
    what = type(returned).__name__.replace("_", " ")
    raise InvalidResponse(
        f"the function returned a {what}, of which nothing ran; "
        f"probably a decorator hides its {advice}"
    )


def is_report(response: object) -> TypeGuard[dict[str, object]]:
    """Whether a returned value is a report of failures."""
    return isinstance(response, dict) and KEY in response


def is_among(sequence_number: int, records: Records) -> bool:
    """Whether one of the records has this number."""
    try:
        records.index(sequence_number)
    except (ValueError, OverflowError):
        return False
    return True


def _number(item: object) -> int | None:
    """Return the sequence number of an item, as digits or an int; None if it is malformed."""
    identifier = item.get(ITEM) if isinstance(item, dict) else None
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        number = int.__add__(identifier, 0)  # WHY: a subclass of int may run the user's code later
        return number if number >= 0 else None
    if isinstance(identifier, str) and identifier.isascii() and identifier.isdigit():
        try:
            return int(identifier)
        except ValueError:  # more digits than Python converts
            return None
    return None
