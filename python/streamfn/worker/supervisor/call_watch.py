"""What is remembered of a function's calls between two looks, whatever calls it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from streamfn.health.state import HEALTHY, State, by_weight, worst
from streamfn.health.worker_report import Trouble
from streamfn.telemetry.counters import Counter, Counters

from .rates import SPAN_SECONDS, Rate
from .troubles import Troubles, failing

LASTS: Final = timedelta(seconds=1)
"""How long a state must have lasted before it is in the log."""
HEALTHY_LASTS: Final = timedelta(seconds=10)
"""The same for changes between `running` and `idle`."""
REMEMBERED: Final = timedelta(seconds=60)
"""How long after its last failed call a function without open records is called failing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallInput:
    """What a look at the calls of a function needs."""

    counts: Sequence[int]
    """What this worker has counted, see `Counter`."""
    shared: Counters
    """What all workers have counted."""
    is_calling: bool
    start_error: str | None
    """Why no runner can start."""
    code_version: str | None
    memory_highest: int | None
    """The most bytes of memory that a runner of its own was seen to use."""
    now_us: int
    now: float
    """Now, on the monotonic clock."""


class CallWatch:
    """What is remembered of the calls of one function."""

    def __init__(self, name: str, function: str, troubles: Troubles) -> None:
        """Watch a function, or a replay of it, with this name."""
        self.name, self._function, self._troubles = name, function, troubles
        self.state: State | None = None
        self.since_us = 0
        self._changed = 0.0
        self._logged: State | None = None
        self._since: dict[str, int] = {}
        """When each kind of trouble of the function as a whole began."""
        self._is_failing = False
        """Whether calls have failed since the last one that succeeded."""
        self._failed_at = 0.0
        self._succeeded = self._failed = 0
        self._rate_out = Rate()
        self._durations: list[tuple[float, Counters]] = []
        self._quantiles: tuple[float | None, float | None] = (None, None)

    def is_to_be_logged(self, now: float) -> bool:
        """Whether the log must tell of the state now; True once for each change.

        The first state is told at once if it is good, others when they have lasted.
        """
        state, logged = self.state, self._logged
        if state is None or state == logged:
            return False
        is_small = state in HEALTHY and logged in HEALTHY
        lasts = HEALTHY_LASTS if is_small else LASTS
        is_first = logged is None and state in HEALTHY
        if not is_first and now - self._changed < lasts.total_seconds():
            return False
        self._logged = state
        return True

    def _note(self, seen: CallInput, done: Counter) -> None:
        """Note what has succeeded and failed, and the rate at which `done` rises."""
        succeeded = seen.counts[Counter.RECORDS_DONE] + seen.counts[Counter.SUCCEEDED]
        failed = seen.counts[Counter.FAILED_CALLS]
        if failed > self._failed:
            self._is_failing, self._failed_at = True, seen.now
        if succeeded > self._succeeded:
            self._is_failing = False
        self._succeeded, self._failed = succeeded, failed
        self._rate_out.add(seen.now, seen.counts[done])
        kept = self._durations
        kept.append((seen.now, seen.shared))
        while len(kept) > 1 and seen.now - kept[1][0] >= SPAN_SECONDS:
            kept.pop(0)
        recent = (seen.shared - kept[0][1]).durations
        if recent.count:  # otherwise those of the last calls stay
            self._quantiles = (recent.quantile(0.5), recent.quantile(0.99))

    def _decide(
        self, seen: CallInput, troubles: Iterable[Trouble], *, is_running: bool
    ) -> tuple[State, list[Trouble]]:
        """Return the state of the function, and what is wrong with it, worst first."""
        told = sorted(troubles, key=lambda trouble: by_weight(trouble.state))
        own = State.RUNNING if is_running else State.IDLE
        state = worst([own, *(trouble.state for trouble in told)])
        if state != self.state:
            self.state, self._changed, self.since_us = state, seen.now, seen.now_us
        return state, told

    def _failing(self, seen: CallInput, *, is_told: bool = False) -> Trouble | None:
        """Return the trouble of a function whose last calls failed, unless a lane tells of it."""
        is_recent = seen.is_calling or seen.now - self._failed_at < REMEMBERED.total_seconds()
        if self._began("failing", seen, self._is_failing and is_recent) and not is_told:
            return failing(self._troubles.last_error(self._function), self._since["failing"])
        return None

    def _began(self, kind: str, seen: CallInput, is_so: bool) -> bool:  # noqa: FBT001
        """Note when a trouble began, and return whether there is one."""
        if is_so:
            self._since.setdefault(kind, seen.now_us)
        else:
            self._since.pop(kind, None)
        return is_so
