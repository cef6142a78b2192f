"""Once a second, writes down how each function is: the history of `telemetry.history`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Final, NamedTuple

from streamfn.clock import Clock
from streamfn.errors import StreamfnError
from streamfn.health.lag import records_behind
from streamfn.model.mapping import function_of
from streamfn.telemetry.counters import Counter, Counters, read_counters
from streamfn.telemetry.history import SECONDS, TENS, HistoryWriter, Point, Ring
from streamfn.worker.report import Report

from .mapping_registry import LaneSnapshot, MappingRegistry, fields_of

RETRY_SECONDS: Final = 10
"""Seconds between attempts to write a history that another worker writes, or that failed."""


class Work(NamedTuple):
    """What came for a function, and what waits."""

    appended: int
    """Sequence numbers given in its streams."""
    behind: int
    """Records, or calls, that wait."""


class Sampler:
    """Samples the functions of this worker once a second.

    With several workers of one function, one of them writes its history; when it ends, another
    goes on. A history that cannot be written is reported once and tried again.
    """

    def __init__(
        self, registry: MappingRegistry, folder: Path, clock: Clock, report: Report
    ) -> None:
        self._registry, self._folder, self._clock, self._report = registry, folder, clock, report
        self._writers: dict[str, HistoryWriter | None] = {}
        self._earlier: dict[tuple[str, Ring], Counters] = {}
        self._second = 0
        self._is_told = False

    def sample(
        self, lanes: Iterable[LaneSnapshot], waiting: Mapping[str, int], *, is_last: bool = False
    ) -> None:
        """Write one point for each function, if a second has passed since the last ones.

        Args:
            lanes: The lanes as they were found last.
            waiting: The functions by request, and how many of their calls wait.
            is_last: The worker ends: write in any case, so that a short run is seen whole.
        """
        second = int(self._clock.now().timestamp())
        if not (self._registry or waiting) or (second == self._second and not is_last):
            return
        if second // RETRY_SECONDS != self._second // RETRY_SECONDS:
            self._writers = {name: each for name, each in self._writers.items() if each}
        is_tenth = is_last or second // TENS.seconds != self._second // TENS.seconds
        self._second = second
        of_function: defaultdict[str, list[LaneSnapshot]] = defaultdict(list)
        for lane in lanes:
            of_function[function_of(lane.key.mapping)].append(lane)
        rings = (SECONDS, TENS) if is_tenth else (SECONDS,)
        for each in self._registry:
            name = each.mapping.name
            self._try_to_write(name, _work_of(name, of_function[name]), rings)
        for name, count in waiting.items():
            self._try_to_write(name, Work(0, count), rings)

    def close(self) -> None:
        """Let other workers write the histories."""
        for writer in self._writers.values():
            if writer is not None:
                writer.close()
        self._writers = {}

    def _try_to_write(self, name: str, work: Work, rings: tuple[Ring, ...]) -> None:
        try:
            self._write(name, work, rings)
        except (OSError, StreamfnError) as error:
            self._give_up(name, error)

    def _write(self, name: str, work: Work, rings: tuple[Ring, ...]) -> None:
        if name not in self._writers:
            self._folder.mkdir(exist_ok=True)
            self._writers[name] = HistoryWriter.open(self._folder, name)
        writer = self._writers[name]
        if writer is None:
            return
        counters = read_counters(self._registry.log, name)
        for ring in rings:
            point = self._point(name, ring, counters, work)
            if (name, ring) not in self._earlier:  # where the run begins, also if it is short
                writer.write(ring, replace(point, time=point.time - ring.seconds))
            writer.write(ring, point)
            self._earlier[name, ring] = counters

    def _point(self, name: str, ring: Ring, counters: Counters, work: Work) -> Point:
        recent = (counters - self._earlier.get((name, ring), counters)).durations
        p50, p99 = recent.quantile(0.5), recent.quantile(0.99)
        return Point(
            time=self._second,
            appended=work.appended,
            processed=counters[Counter.RECORDS_DONE],
            calls=counters[Counter.CALLS],
            failed=counters[Counter.FAILED_CALLS],
            retries=counters[Counter.RETRIES],
            discarded=counters[Counter.DEAD_LETTERS] + counters[Counter.DROPPED],
            behind=work.behind,
            p50=nan if p50 is None else p50,
            p99=nan if p99 is None else p99,
        )

    def _give_up(self, name: str, error: Exception) -> None:
        """Close a history that cannot be written; it is tried again later."""
        writer = self._writers.get(name)
        if writer is not None:
            writer.close()
        self._writers[name] = None
        if not self._is_told:
            self._is_told = True
            self._report("history_not_written", mapping=name, **fields_of(error))


def _work_of(name: str, lanes: list[LaneSnapshot]) -> Work:
    ends = {
        (lane.status.stream, lane.status.shard_id): lane.status.end
        for lane in lanes
        if lane.key.mapping == name and "." not in lane.status.stream
    }
    return Work(sum(ends.values()), records_behind(lane.status for lane in lanes))
