"""The call that the current code belongs to, for what it prints and logs."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from streamfn._core import Board, Records
from streamfn.engine.invoker import request_id


class CurrentCall:
    """A call in progress. Code that it starts (tasks, `copy_context`) knows it too."""

    __slots__ = ("_attempt", "_board", "_cell", "_mapping", "_records", "partial")

    def __init__(
        self, mapping: str, records: Records, attempt: int, board: Board, cell: int
    ) -> None:
        """Note a call; nothing is computed before somebody asks.

        Args:
            mapping: Name of the mapping.
            records: The records of the call, or of calls one after the other.
            attempt: 1 for the first call of these records.
            board: Has the record that is running, if there is one call per record.
            cell: The cell of the thread on the board.
        """
        self._mapping, self._records, self._attempt = mapping, records, attempt
        self._board, self._cell = board, cell
        self.partial: dict[str, str] = {}
        """What it wrote without a line break yet, by the name of the stream."""

    def fields(self) -> dict[str, Any]:
        """Return function, place, attempt and request id, as fields of a log event."""
        records = self._records
        fields: dict[str, Any] = {"mapping": self._mapping}
        if records:
            running = {cell: seq for cell, _, _, seq in self._board.cells()}.get(self._cell)
            if running is not None:
                records = records.between(running, running) or records
            fields |= {
                "stream": records.stream,
                "shard_id": records.shard_id,
                "sequence_number": records.first,
                "request_id": request_id(self._mapping, records),
            }
        return {**fields, "attempt": self._attempt}


CURRENT_CALL: ContextVar[CurrentCall | None] = ContextVar("streamfn_current_call", default=None)
"""None: the code belongs to no call, such as a thread that the app started."""
