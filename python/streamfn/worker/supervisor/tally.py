"""Counts of all runners of a worker: boards of live runners, sums of exited ones.

What only the supervisor saw is counted here too, and in the mapping's shared counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamfn._core import Board, Counts
from streamfn.telemetry.counters import Counter


class Tally:
    """Adds up the counters of a worker's runners, by mapping."""

    def __init__(self) -> None:
        self._sums: dict[int, list[int]] = {}
        self._shared: dict[int, Counts] = {}

    def count_in(self, mapping: int, counts: Counts) -> None:
        """Count what is added for a mapping in its shared counts, too."""
        self._shared[mapping] = counts

    def add(self, mapping: int, counter: Counter, amount: int = 1) -> None:
        """Count something that only the supervisor saw."""
        self._of(mapping)[counter] += amount
        if mapping in self._shared:
            self._shared[mapping].add(counter, amount)

    def absorb(self, board: Board, mappings: Iterable[int]) -> None:
        """Add the counts of a runner that has exited."""
        for mapping in mappings:
            self.include(mapping, board.counters(mapping))

    def include(self, mapping: int, counted: Iterable[int]) -> None:
        """Add counts that the shared ones have already."""
        sums = self._of(mapping)
        for counter, amount in enumerate(counted):
            sums[counter] += amount

    def total(self, mapping: int, boards: Iterable[Board]) -> list[int]:
        """Return the counts of one mapping, including those on the boards of live runners."""
        total = list(self._of(mapping))
        for board in boards:
            for counter, amount in enumerate(board.counters(mapping)):
                total[counter] += amount
        return total

    def _of(self, mapping: int) -> list[int]:
        return self._sums.setdefault(mapping, [0] * Board.COUNTERS)
