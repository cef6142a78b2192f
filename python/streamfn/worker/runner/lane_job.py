"""What a runner knows of each lane that it holds, and what its threads share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple, Protocol

from streamfn import _core
from streamfn._core import Board, Filter, LaneSet
from streamfn.clock import Clock
from streamfn.engine.destination import FailureDestination
from streamfn.engine.invoker import Interrupt, Invoker
from streamfn.model.mapping import EventSourceMapping
from streamfn.worker.child.failure_reports import FailureReports
from streamfn.worker.report import Report


class InDoubt(BaseException):
    """The process must exit, because its calls may fail through the code of other calls."""


class Suspended(Protocol):
    """The calls of a batch that were interrupted and continue where they stopped."""

    def proceed(self, thread: CallThread) -> None:
        """Continue."""
        ...


@dataclass(slots=True)
class LaneFunction:
    """A mapping with its destination and compiled filter, as a runner uses it."""

    mapping: EventSourceMapping
    destination: FailureDestination
    filter: Filter | None = None
    """Filter on the records of the source; None: all are delivered."""

    def filter_on(self, stream: str) -> Filter | None:
        """Return the filter on the records of a stream; None: all are delivered."""
        return self.filter if self.mapping.filters_stream(stream) else None


def lane_functions(
    mappings: Iterable[EventSourceMapping], log: _core.Log, clock: Clock, code_version: str = ""
) -> dict[str, LaneFunction]:
    """Return the functions of an app for a runner on this log, by the name of the mapping."""
    return {
        mapping.name: LaneFunction(
            mapping,
            FailureDestination(log, mapping, clock, code_version),
            mapping.compiled_filter(),
        )
        for mapping in mappings
    }


class LaneAddress(NamedTuple):
    """The stream, shard and slot of a lane."""

    stream: str
    shard_id: str
    slot: int


@dataclass(slots=True)
class LaneJob:
    """One lane that this runner holds."""

    lane: int
    """Number of the lane in this process."""
    index: int
    """Index of its mapping on the board."""
    function: LaneFunction
    at: LaneAddress
    replay: str | None = None
    """Name of the replay that the lane belongs to; None: it belongs to the function itself."""
    interrupt: Interrupt = field(default_factory=Interrupt)
    suspended: Suspended | None = None
    """Calls that wait until their dead letters or state can be written."""
    is_open: bool = False
    """Whether its work list was not empty when a thread released it last."""
    is_lost: bool = False
    """Whether another runner has the lease."""
    is_added: bool = False
    """Whether the lane set has the lane."""
    leaves_when_settled: bool = False
    is_leaving: bool = False


@dataclass(slots=True)
class RunnerContext:
    """What the threads of a runner share."""

    lanes: LaneSet
    board: Board
    clock: Clock
    random: Random
    report: Report
    released_alone: Callable[[int, float | None], None]
    """Called when a lane that runs alone is settled (None) or may continue in so many seconds."""
    failures: FailureReports = field(default_factory=lambda: FailureReports(time.monotonic))
    end_lines: Callable[[], None] = lambda: None
    """Called at the end of a call that printed without a line break at the end."""
    can_be_replaced: bool = True
    """Whether another process takes over when this one is exhausted."""
    is_used_up: bool = False
    """Whether this process must be replaced because it is exhausted, see `exhaustion`."""


@dataclass(slots=True)
class CallThread:
    """The thread that has a lane and makes its calls."""

    context: RunnerContext
    cell: int
    """Cell of the thread on the board."""
    invoker: Invoker
    """Invoker of the lane's function, for this thread."""
