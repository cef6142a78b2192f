"""Distributes the permits of one function (`max_concurrency`) over the runners of this worker.

Each permit has one owner at a time. A runner that is told a lower limit owns its old permits until
it answers that it keeps the new limit. Until then its calls above the limit continue, and no other
runner gets these permits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Told(NamedTuple):
    """A limit to send to a runner in a `Limit` message."""

    runner: int
    permits: int
    number: int
    """Number of the message, repeated in the answer."""


@dataclass(slots=True)
class Holding:
    """The permits of one runner."""

    told: int = 0
    """The number sent to it last."""
    owned: int = 0
    """The number that it may be using; more than `told` until it has answered."""
    number: int = 0
    """Number of the last message to it; 0: none was sent, and it knows no limit."""


class Permits:
    """Distributes a limit over runners."""

    def __init__(self, most: int) -> None:
        """Start with all permits free.

        Args:
            most: The limit.
        """
        self.most = most
        """The limit; a change counts from the next `share_out`."""
        self._holdings: dict[int, Holding] = {}
        self._number = 0

    def share_out(self, wanted: Mapping[int, int]) -> list[Told]:
        """Move permits towards the wanted distribution, and return the limits to send.

        Args:
            wanted: Permits that each runner should have; runners listed first are served first.
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
        """Note that a runner keeps the limit of a message; answers to older ones are ignored."""
        holding = self._holdings.get(runner)
        if holding is not None and holding.number == number:
            holding.owned = holding.told

    def gone(self, runner: int) -> None:
        """Note that a runner has exited, so that its permits are free."""
        self._holdings.pop(runner, None)

    def _holding(self, runner: int) -> Holding:
        return self._holdings.setdefault(runner, Holding())

    def _free(self) -> int:
        return self.most - sum(holding.owned for holding in self._holdings.values())

    def _tell(self, runner: int, holding: Holding) -> Told:
        self._number += 1
        holding.number = self._number
        return Told(runner, holding.told, holding.number)


def limit_of_seat(most: int, seat: int, seats: int) -> int:
    """Return a seat's part of a limit; the parts of all seats add up to the limit.

    If the division leaves a remainder, the first seats get one more. So when seats are added, the
    part of no other seat grows.
    """
    each, rest = divmod(max(most, 0), seats)
    return each + (seat < rest)
