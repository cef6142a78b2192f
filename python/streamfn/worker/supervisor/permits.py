"""`max_concurrency` of one function in this worker: who has how many permits to call it.

A permit has one owner at a time. A runner that is told to do with fewer owns what it had until it
has answered that it does: the calls over it go on meanwhile, and nobody else gets their permits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Told(NamedTuple):
    """What a runner is to be told."""

    runner: int
    permits: int
    number: int
    """Of the message, for the answer."""


@dataclass(slots=True)
class Holding:
    """The permits of one runner."""

    told: int = 0
    """How many it was told last that it has."""
    owned: int = 0
    """How many it may be using; more than `told` until it has answered."""
    number: int = 0
    """Of the message that told it; 0: it was told nothing, and knows of no limit."""


class Permits:
    """Shares a limit out over runners."""

    def __init__(self, most: int) -> None:
        """Begin with all permits free.

        Args:
            most: The limit.
        """
        self._most = most
        self._holdings: dict[int, Holding] = {}
        self._number = 0

    def share_out(self, wanted: Mapping[int, int]) -> list[Told]:
        """Bring the runners nearer to what each should have, and return what to tell them.

        Args:
            wanted: How many permits each runner should have; who comes first is served first.
        """
        before = {runner: self._holding(runner).told for runner in wanted}
        for runner, part in wanted.items():
            holding = self._holding(runner)
            holding.told = min(holding.told, part)
        for runner, part in wanted.items():
            holding = self._holding(runner)
            holding.told = min(part, holding.owned + self._free())
            holding.owned = max(holding.owned, holding.told)
        return [
            self._tell(runner, holding)
            for runner, told in before.items()
            if (holding := self._holding(runner)).told != told or holding.number == 0
        ]

    def answered(self, runner: int, number: int) -> None:
        """Note that a runner does with what a message told it; an older answer says nothing."""
        holding = self._holdings.get(runner)
        if holding is not None and holding.number == number:
            holding.owned = holding.told

    def gone(self, runner: int) -> None:
        """Note that a runner has ended, and its calls with it."""
        self._holdings.pop(runner, None)

    def _holding(self, runner: int) -> Holding:
        return self._holdings.setdefault(runner, Holding())

    def _free(self) -> int:
        return self._most - sum(holding.owned for holding in self._holdings.values())

    def _tell(self, runner: int, holding: Holding) -> Told:
        self._number += 1
        holding.number = self._number
        return Told(runner, holding.told, holding.number)


def limit_of_seat(most: int, seat: int, seats: int) -> int:
    """Return a seat's part of a limit; the parts of all seats add up to it.

    The first seats have one more if it does not come out even: when seats are added, no part of
    the others grows.
    """
    each, rest = divmod(max(most, 0), seats)
    return each + (seat < rest)
