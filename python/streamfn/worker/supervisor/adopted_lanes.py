"""Decides how long a worker keeps adopted lanes, which another worker left unclaimed. Pure.

After each term the lanes are offered again to the worker whose share they are, which may work again
by now. While they are offered, the lanes are idle. So each term is twice as long as the one before.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple

from .planner import LaneKey

TERM: Final = timedelta(seconds=30)
TERM_MAX: Final = timedelta(hours=1)
"""First and longest term of the adopted lanes of a mapping."""


class Term(NamedTuple):
    """A term for which adopted lanes of one mapping are kept; it ends for all of them at once."""

    end: float
    seconds: float


class AdoptedLanes:
    """The adopted lanes, with the ends of their terms on the monotonic clock."""

    def __init__(self) -> None:
        self._terms: dict[str, Term] = {}
        """The last term of each mapping."""
        self._ends: dict[LaneKey, float] = {}

    def __contains__(self, key: LaneKey) -> bool:
        return key in self._ends

    def add(self, key: LaneKey, now: float) -> None:
        """Adopt a lane for the current term of its mapping, or for a new term."""
        last = self._terms.get(key.mapping)
        if last is None:
            self._begin(key.mapping, TERM.total_seconds(), now)
        elif last.end <= now:
            self._begin(key.mapping, min(2 * last.seconds, TERM_MAX.total_seconds()), now)
        self._ends[key] = self._terms[key.mapping].end

    def discard(self, key: LaneKey) -> None:
        """Note that a lane is not adopted: it is within the share."""
        self._ends.pop(key, None)

    def look(self, now: float) -> None:
        """Remove the lanes whose term is over."""
        self._ends = {key: end for key, end in self._ends.items() if end > now}

    def forget(self, mapping: str) -> None:
        """Forget a mapping's terms and lanes, because other workers can run it now."""
        self._terms.pop(mapping, None)
        self._ends = {key: end for key, end in self._ends.items() if key.mapping != mapping}

    def _begin(self, mapping: str, seconds: float, now: float) -> None:
        self._terms[mapping] = Term(now + seconds, seconds)
