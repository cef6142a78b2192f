"""The call that the current code belongs to, for what it prints and logs."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final, TypeAlias

from streamfn._core import Board, Records
from streamfn.engine.invoker import request_id

CurrentCall: TypeAlias = tuple[str, Records, int, Board, int]
"""Mapping, records, attempt, the board with the running record, the thread's cell on it.

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


def fields_of(call: CurrentCall) -> dict[str, Any]:
    """Return function, place, attempt and request id of a call, as fields of a log event."""
    mapping, records, attempt, board, cell = call
    fields: dict[str, Any] = {"mapping": mapping}
    if records:
        running = {found: seq for found, _, _, seq in board.cells()}.get(cell)
        if running is not None:
            records = records.between(running, running) or records
        fields |= {
            "stream": records.stream,
            "shard_id": records.shard_id,
            "sequence_number": records.first,
            "request_id": request_id(mapping, records),
        }
    return {**fields, "attempt": attempt}
