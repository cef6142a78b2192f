"""How long a worker keeps lanes beyond its share, which nobody took: longer each time. Pure.

Now and then they are offered to the one whose share they are, which may have come to itself. Until
it is clear that it has not, they stand still; so each term is twice as long as the one before.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple

from .planner import LaneKey

TERM: Final = timedelta(seconds=30)
TERM_MAX: Final = timedelta(hours=1)
"""How long adopted lanes of a mapping are kept at first, and at most."""


class Term(NamedTuple):
    """A time for which lanes of one mapping are kept; all end together."""

    end: float
    seconds: float


class AdoptedLanes:
    """Adopted lanes, and until when they are, on the monotonic clock."""

    def __init__(self) -> None:
        self._terms: dict[str, Term] = {}
        """The last of each mapping."""
        self._ends: dict[LaneKey, float] = {}

    def __contains__(self, key: LaneKey) -> bool:
        return key in self._ends

    def add(self, key: LaneKey, now: float) -> None:
        """Adopt a lane, for the term of its mapping that runs or else for a new one."""
        last = self._terms.get(key.mapping)
        if last is None:
            self._begin(key.mapping, TERM.total_seconds(), now)
        elif last.end <= now:
            self._begin(key.mapping, min(2 * last.seconds, TERM_MAX.total_seconds()), now)
        self._ends[key] = self._terms[key.mapping].end

    def discard(self, key: LaneKey) -> None:
        """Note that a lane is within the share, if it was not."""
        self._ends.pop(key, None)

    def look(self, now: float) -> None:
        """Let go of the lanes whose term is over."""
        self._ends = {key: end for key, end in self._ends.items() if end > now}

    def forget(self, mapping: str) -> None:
        """Begin anew with a mapping: others than before can run it, and shares are new."""
        self._terms.pop(mapping, None)
        self._ends = {key: end for key, end in self._ends.items() if key.mapping != mapping}

    def _begin(self, mapping: str, seconds: float, now: float) -> None:
        self._terms[mapping] = Term(now + seconds, seconds)
