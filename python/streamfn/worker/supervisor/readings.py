"""What a supervisor reads of its runners and lanes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from streamfn.model.mapping import function_of

from .mapping_registry import LaneSnapshot
from .runner_messages import SupervisorParts


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthInput:
    """What a look at the functions needs from the other parts of a supervisor."""

    found: Sequence[LaneSnapshot]
    """The result of the last scan."""
    counts: Mapping[str, Sequence[int]]
    """What this worker has counted for each function, see `Counter`."""
    requests: Mapping[str, Sequence[int]]
    """The same for functions by request."""
    calling: Mapping[str, int]
    """Calls in progress of each function on a stream."""
    runners: Sequence[int]
    """Process ids of the runners."""
    has_ready_runner: bool
    is_draining: bool


def calls_in_progress(parts: SupervisorParts) -> Counter[str]:
    """Count the calls in progress, by function; those of a replay count for its function."""
    cells = [cell for runner in parts.runners for cell in runner.cells()]
    key_of = parts.scheduler.key_of
    return Counter(function_of(key_of(cell.lane).mapping) for cell in cells)


def health_input(parts: SupervisorParts, *, is_draining: bool) -> HealthInput:
    """Return what is needed to find the states of the functions."""
    runners, requests = list(parts.runners), parts.by_request
    boards = [runner.board for runner in runners]
    return HealthInput(
        found=parts.scheduler.found,
        counts={
            each.mapping.name: parts.tally.total(each.index, boards) for each in parts.registry
        },
        requests={
            each.name: requests.counts.total(each.name, requests.runners)
            for each in requests.functions
        },
        calling=calls_in_progress(parts),
        runners=[runner.pid for runner in chain(runners, requests.runners)],
        has_ready_runner=any(runner.state == "ready" for runner in runners),
        is_draining=is_draining,
    )
