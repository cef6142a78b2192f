"""Tells the observer the progress of all mappings."""

from __future__ import annotations

from collections import Counter, defaultdict

from streamfn._core import LaneStatus
from streamfn.health.lag import records_behind
from streamfn.model.mapping import function_of

from .progress import MappingProgress, Observer
from .readings import calls_in_progress
from .runner_messages import SupervisorParts


class ProgressReporter:
    """Adds up what the runners have counted, and what waits in the lanes."""

    def __init__(self, parts: SupervisorParts, observer: Observer) -> None:
        self._parts, self._observer = parts, observer

    def report(self) -> None:
        """Tell the observer the totals of this worker."""
        parts = self._parts
        calling = calls_in_progress(parts)
        lanes: defaultdict[str, list[LaneStatus]] = defaultdict(list)
        for found in parts.scheduler.found:
            lanes[found.key.mapping].append(found.status)
        behind: Counter[str] = Counter()
        for mapping, of_mapping in lanes.items():
            behind[function_of(mapping)] += records_behind(of_mapping)
        boards = [runner.board for runner in parts.runners]
        progress = []
        for each in parts.registry:
            name, counts = each.mapping.name, parts.tally.total(each.index, boards)
            progress.append(MappingProgress.of(name, counts, calling[name], behind[name]))
        for name, counts, load in parts.by_request.totals():
            told = MappingProgress.of(name, counts, load.running, load.queued, is_by_request=True)
            progress.append(told)
        self._observer.on_progress(progress)
