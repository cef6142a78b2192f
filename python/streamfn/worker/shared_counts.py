"""Opening the shared counts of mappings, in a supervisor and in its runners."""

from __future__ import annotations

from typing import Protocol

from streamfn import _core
from streamfn._core import Counts
from streamfn.errors import StreamfnError
from streamfn.worker.report import Report


class CountsTaker(Protocol):
    """Where counts go: a board, or the tally of a supervisor."""

    def count_in(self, mapping: int, counts: Counts) -> None:
        """Count what is added for the mapping with this index in these counts, too."""
        ...


class SharedCounts:
    """Opens the shared counts of each mapping once.

    If they cannot be opened, such as on a full disk, the mapping is called all the same; it is
    tried again the next time a lane comes, and reported once.
    """

    def __init__(self, log: _core.Log, taker: CountsTaker, report: Report) -> None:
        self._log, self._taker, self._report = log, taker, report
        self._open: set[int] = set()
        self._is_told = False

    def use(self, index: int, mapping: str) -> None:
        """Open the counts of the mapping with this index, if that is not done yet."""
        if index in self._open:
            return
        try:
            counts = Counts.open(self._log, mapping)
        except StreamfnError as error:
            if not self._is_told:
                self._is_told = True
                self._report("not_counted", mapping=mapping, error_type=type(error).__name__,
                             error_message=str(error))  # fmt: skip
        else:
            self._open.add(index)
            self._taker.count_in(index, counts)
