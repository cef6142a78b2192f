"""What a supervisor reads of its functions: counters, calls in progress, records behind."""

from __future__ import annotations

from collections import Counter, defaultdict

from streamfn import _core
from streamfn.health.lag import records_behind
from streamfn.model.mapping import function_of

from .health_watch import HealthInput
from .lane_scheduler import LaneScheduler
from .mapping_registry import MappingRegistry
from .progress import MappingProgress
from .runner_pool import RunnerPool
from .tally import Tally


class Readings:
    """Reads the boards of the runners and the last scan of the lanes."""

    def __init__(
        self,
        registry: MappingRegistry,
        scheduler: LaneScheduler,
        runners: RunnerPool,
        tally: Tally,
    ) -> None:
        self._registry, self._scheduler = registry, scheduler
        self._runners, self._tally = runners, tally

    def progress(self) -> list[MappingProgress]:
        """Return the progress of each function; that of a replay counts for its function."""
        counts, calling, behind = self._counts(), self._calling(), self._behind()
        names = [each.mapping.name for each in self._registry]
        return [
            MappingProgress.of(name, counts[name], calling[name], behind[name]) for name in names
        ]

    def health(self, *, is_draining: bool) -> HealthInput:
        """Return what is needed to find the states of the functions."""
        return HealthInput(
            found=self._scheduler.found,
            counts=self._counts(),
            calling=self._calling(),
            runners=[runner.pid for runner in self._runners],
            has_ready_runner=any(runner.state == "ready" for runner in self._runners),
            is_draining=is_draining,
        )

    def _counts(self) -> dict[str, list[int]]:
        boards = [runner.board for runner in self._runners]
        return {each.mapping.name: self._tally.total(each.index, boards) for each in self._registry}

    def _calling(self) -> Counter[str]:
        """Count the calls in progress, by function."""
        cells = [cell for runner in self._runners for cell in runner.cells()]
        key_of = self._scheduler.key_of
        return Counter(function_of(key_of(cell.lane).mapping) for cell in cells)

    def _behind(self) -> Counter[str]:
        """Count the records that wait, by function."""
        lanes: defaultdict[str, list[_core.LaneStatus]] = defaultdict(list)
        for found in self._scheduler.found:
            lanes[found.key.mapping].append(found.status)
        behind: Counter[str] = Counter()
        for mapping, of_mapping in lanes.items():
            behind[function_of(mapping)] += records_behind(of_mapping)
        return behind
