"""The call that the current code belongs to, for what it prints and logs."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final, TypeAlias

from .tail import Tail

CurrentCall: TypeAlias = tuple[Any, ...]
"""A function that returns the fields of the call for a log event, given this tuple; the `Tail` of
the call, or None; and more that the function needs.

WHY a tuple: one is made for each call, and hardly ever looked at.
"""

CURRENT_CALL: Final[ContextVar[CurrentCall | None]] = ContextVar(
    "streamfn_current_call", default=None
)
"""None: the code belongs to no call, such as a thread that the app started.

Code that a call starts (tasks, `copy_context`) has the same.
"""

PARTIAL_LINES: Final[dict[tuple[str, int], str]] = {}
"""What was written without a line break yet, by the stream and the `id` of the call or thread."""


def fields_of_current() -> dict[str, Any]:
    """Return function, place, attempt and request id of the current call; empty outside calls."""
    call = CURRENT_CALL.get()
    if call is None:
        return {}
    fields: dict[str, Any] = call[0](call)
    return fields


def tail_of_current() -> Tail | None:
    """Return where the end of what the current call prints is kept, if its caller asked for it."""
    call = CURRENT_CALL.get()
    if call is None:
        return None
    tail: Tail | None = call[1]
    return tail
