"""What a runner keeps of each lane that it holds, and what its threads share."""

from __future__ import annotations

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
from streamfn.worker.report import Report


class InDoubt(BaseException):
    """The process has to end: in it, calls may fail for what others did. The board says which."""


class Suspended(Protocol):
    """The calls of a batch that could not go on, and will from where they stopped."""

    def proceed(self, thread: CallThread) -> None:
        """Go on."""
        ...


@dataclass(slots=True)
class LaneFunction:
    """A mapping as one runner process runs it."""

    mapping: EventSourceMapping
    destination: FailureDestination
    filter: Filter | None = None
    """Which records of the source it sees; None: all."""

    def filter_on(self, stream: str) -> Filter | None:
        """Return which records of a stream the function sees; None: all."""
        # WHY: what is redriven was delivered before. A filter that has changed since must not
        # swallow it.
        return None if stream == self.mapping.redrive_stream else self.filter


def lane_functions(
    mappings: Iterable[EventSourceMapping], log: _core.Log, clock: Clock
) -> dict[str, LaneFunction]:
    """Return the functions of an app, by name of the mapping, as a runner on this log runs them."""
    return {
        mapping.name: LaneFunction(
            mapping, FailureDestination(log, mapping, clock), mapping.compiled_filter()
        )
        for mapping in mappings
    }


class LaneAddress(NamedTuple):
    """Where a lane reads."""

    stream: str
    shard_id: str
    slot: int


@dataclass(slots=True)
class LaneJob:
    """One lane that this runner holds."""

    lane: int
    """Its number in this process."""
    index: int
    """Place of its mapping on the board."""
    function: LaneFunction
    at: LaneAddress
    replay: str | None = None
    """Name of the replay that it is a lane of; None: it is one of the function's own."""
    interrupt: Interrupt = field(default_factory=Interrupt)
    suspended: Suspended | None = None
    """A run whose dead letters could not be delivered yet; it goes on from there."""
    is_open: bool = False
    """Its work list was not empty when the lane was let go last."""
    is_lost: bool = False
    """Another runner has the lease."""
    is_added: bool = False
    """The lane set has it."""
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
    """Told of a lane that must run alone: settled (None), or open again in so many seconds."""
    can_be_replaced: bool = True
    """Whether another process takes over when this one has run out of something."""
    is_used_up: bool = False
    """This process is to be replaced: it has run out of something, see `exhaustion`."""


@dataclass(slots=True)
class CallThread:
    """The thread that a lane is in the hands of."""

    context: RunnerContext
    cell: int
    """Its cell on the board."""
    invoker: Invoker
    """Of the lane's function, in this thread."""
