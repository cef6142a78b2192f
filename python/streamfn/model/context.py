"""`Context`: what a function can learn about its current call."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from streamfn.clock import Clock, SystemClock
from streamfn.model.handles import LogHandle
from streamfn.model.record import Record, origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One call of a function; passed as its second positional parameter and as `batch.context`."""

    request_id: str
    """A UUID; all attempts of the same records have the same one."""
    attempt: int
    """1 for the first call of these records."""
    deadline: datetime
    """When the process is killed if the call has not returned; aware, UTC."""
    function: str
    """Name of the function, without its app."""
    stream: str
    shard_id: str
    log: LogHandle
    """The open log, for putting records from inside the function."""
    memory_limit: int | None = None
    """Bytes of memory that the process may use. None: no limit."""
    clock: Clock = field(default_factory=SystemClock, repr=False)

    @property
    def remaining(self) -> timedelta:
        """Return the time left until the deadline, at least zero."""
        return max(self.deadline - self.clock.now(), timedelta(0))

    def idempotency_key(self, record: Record) -> str:
        """Return a key that is the same each time this record is delivered, redrives included.

        If a stream is removed and created again, its sequence numbers restart at 0 and keys repeat.

        Shapes: `stream/shardId-000000000000/sequence_number`.
        """
        stream, shard_id, sequence_number = origin(record)
        return f"{stream}/{shard_id}/{sequence_number}"
