"""What this worker has counted for functions by request: boards of runners, and its own."""

from __future__ import annotations

from collections.abc import Iterable

from streamfn._core import Log
from streamfn.telemetry.counters import Counter
from streamfn.worker.report import Report
from streamfn.worker.shared_counts import SharedCounts

from .front_messages import RunnerEnded
from .function_process import FunctionProcess
from .tally import Tally


class RequestCounts:
    """Adds up the counters of function runners, by the names of the functions.

    A runner counts by the place of a function in its own code, and a reload may change the places.
    """

    def __init__(self, log: Log, report: Report) -> None:
        """Start without counts; `report` is told if the shared ones cannot be opened."""
        self._tally = Tally()
        self._shared = SharedCounts(log, self._tally, report)
        self._indexes: dict[str, int] = {}
        self._throttled: dict[str, int] = {}
        """Refused calls that are counted already."""

    def use(self, names: Iterable[str]) -> None:
        """Count for these functions, in their shared counts too."""
        for name in names:
            self._shared.use(self._index(name), name)

    def total(self, name: str, runners: Iterable[FunctionProcess]) -> list[int]:
        """Return the counts of a function, including those on the boards of live runners."""
        total = self._tally.total(self._index(name), ())
        for runner in runners:
            if name in runner.places:
                counted = runner.board.counters(runner.places[name])
                total = [a + b for a, b in zip(total, counted, strict=True)]
        return total

    def ended(self, runner: FunctionProcess, ended: RunnerEnded) -> list[str]:
        """Take over the counts of a runner that has exited, and count the calls that it ended.

        Returns:
            The functions of these calls, without those that were past their timeout.
        """
        for name, place in runner.places.items():
            self._tally.include(self._index(name), runner.board.counters(place))
        if runner.is_blameless:
            return []
        names = {place: name for name, place in runner.places.items()}
        died = []
        for cell in runner.cells():
            name, is_late = names[cell.lane], cell.cell in ended.late
            index = self._index(name)
            self._tally.add(index, Counter.FAILED_CALLS)
            self._tally.add(index, Counter.TIMEOUTS if is_late else Counter.CRASHES)
            if not is_late:
                died.append(name)
        return died

    def throttled(self, name: str, total: int) -> None:
        """Count the calls that the fronts of this worker have refused so far, in total."""
        more = total - self._throttled.get(name, 0)
        if more > 0:
            self._throttled[name] = total
            self._tally.add(self._index(name), Counter.THROTTLED, more)

    def _index(self, name: str) -> int:
        return self._indexes.setdefault(name, len(self._indexes))
