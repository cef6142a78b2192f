"""What a supervisor tells whoever started it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .counters import Counter


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingProgress:
    """What this worker did for one mapping so far; the runners that died are included."""

    name: str
    calls: int
    """Calls of the function; under `input="record"` one for each record."""
    records: int
    """Records that it processed."""
    failures: int
    """Calls that failed."""
    retries: int
    """Waits before the same records were called again."""
    bisects: int
    dead_lettered: int
    dropped: int
    """Given up under `on_failure=None`."""
    crashes: int
    timeouts: int
    redriven: int
    """Redriven records that succeeded."""
    matched: int
    """Records that the mapping's filter took, 0 without one; one read again counts again."""
    filtered: int
    """Records that it did not take."""
    not_json: int
    """Records that it did not take, and whose data is not JSON."""
    lost: int
    """Sequence numbers given up under `on_corruption="skip"`."""
    in_flight: int
    """Calls in progress."""
    behind: int
    """Records that wait, in all lanes of the log; an upper bound."""

    @classmethod
    def of(cls, name: str, counts: Sequence[int], in_flight: int, behind: int) -> MappingProgress:
        """Make it from the counters of the boards."""
        return cls(
            name=name,
            calls=counts[Counter.CALLS],
            records=counts[Counter.RECORDS_DONE],
            failures=counts[Counter.FAILED_CALLS],
            retries=counts[Counter.RETRIES],
            bisects=counts[Counter.BISECTS],
            dead_lettered=counts[Counter.DEAD_LETTERS],
            dropped=counts[Counter.DROPPED],
            crashes=counts[Counter.CRASHES],
            timeouts=counts[Counter.TIMEOUTS],
            redriven=counts[Counter.REDRIVEN_OK],
            lost=counts[Counter.LOST],
            matched=counts[Counter.MATCHED],
            filtered=counts[Counter.FILTERED],
            not_json=counts[Counter.NOT_JSON],
            in_flight=in_flight,
            behind=behind,
        )


class Observer(Protocol):
    """Is told what happens, in the supervisor's thread; it must be quick and not raise."""

    def on_event(self, event: dict[str, Any]) -> None:
        """Something happened: `event` is its name, the other fields belong to it."""
        ...

    def on_progress(self, progress: list[MappingProgress]) -> None:
        """So far are the mappings; about every 100 ms, and once at the end."""
        ...


class Unobserved:
    """Nobody looks."""

    def on_event(self, event: dict[str, Any]) -> None:
        """Ignore it."""

    def on_progress(self, progress: list[MappingProgress]) -> None:
        """Ignore it."""
