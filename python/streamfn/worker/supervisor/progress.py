"""What a supervisor tells whoever started it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from streamfn._core import LaneStatus
from streamfn.worker.counters import Counter


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
    """Records that wait, in all lanes of the log; see `records_behind`."""

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


def records_behind(lanes: Iterable[LaneStatus]) -> int:
    """Return how many records wait for a mapping, those in flight included, given all its lanes.

    A lane knows its own place in a shard, and not which of the records after it are its own. So
    each counts for its share of them: an estimate unless it is the only one of its shard. Rounded
    up: 0 only when no lane has a record before it.
    """
    shards = defaultdict(list)
    for lane in lanes:
        shards[lane.stream, lane.shard_id].append(lane.behind)
    return sum(-(-sum(behind) // len(behind)) for behind in shards.values())


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
