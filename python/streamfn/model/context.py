"""What a function may know about the call it is in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from streamfn.clock import Clock, SystemClock
from streamfn.model.handles import LogHandle
from streamfn.model.record import Record, origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One call of a function; given as its second positional parameter and as `batch.context`."""

    request_id: str
    """A UUID, the same for all attempts of the same records."""
    attempt: int
    """1 for the first call of these records."""
    deadline: datetime
    """When the process is killed if the call has not returned; aware, UTC."""
    function: str
    """Name of the function, without its app."""
    stream: str
    shard_id: str
    log: LogHandle
    """The open log, to put from inside a function."""
    clock: Clock = field(default_factory=SystemClock, repr=False)

    @property
    def remaining(self) -> timedelta:
        """Return the time left until the deadline, at least zero."""
        return max(self.deadline - self.clock.now(), timedelta(0))

    def idempotency_key(self, record: Record) -> str:
        """Return a key that is the same each time this record is delivered, redrives included.

        Shapes: `stream/shardId-000000000000/sequence_number`. A stream that is removed and made
        anew begins at number 0 again: then keys repeat.
        """
        stream, shard_id, sequence_number = origin(record)
        return f"{stream}/{shard_id}/{sequence_number}"
