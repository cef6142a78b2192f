"""A call of a lane, as `child.current_call` has it."""

from __future__ import annotations

from typing import Any

from streamfn.engine.invoker import request_id
from streamfn.worker.child.current_call import CurrentCall


def fields_of_lane_call(call: CurrentCall) -> dict[str, Any]:
    """Return function, place, attempt and request id of a call, as fields of a log event.

    Args:
        call: After the first two items of `CurrentCall`: mapping, records, attempt, the board with
            the running record, and the thread's cell on it.
    """
    _, _, mapping, records, attempt, board, cell = call
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
