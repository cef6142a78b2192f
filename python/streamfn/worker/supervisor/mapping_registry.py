"""Knows the mappings of this worker's app: their streams, lanes and factors in force."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from streamfn import _core
from streamfn._core import Board, LaneStatus, Log
from streamfn.errors import ConfigError, StreamfnError, StreamNotFound
from streamfn.model.declaration import StreamDeclaration
from streamfn.model.mapping import EventSourceMapping, function_of
from streamfn.worker.registration import declare_streams, register_mapping
from streamfn.worker.report import Report

from .planner import LaneKey
from .runner_group import APP_GROUP, group_of


@dataclass(frozen=True, slots=True)
class RegisteredMapping:
    """A mapping and its record in the log; for a replay, the function's mapping and its record."""

    mapping: EventSourceMapping
    record: _core.Mapping
    index: int
    """Index on the boards."""
    is_asynchronous: bool
    filter: _core.Filter | None
    """Filter on the records of its stream; None: all are delivered."""
    group: str = APP_GROUP
    """The group of runners, see `runner_group`."""

    @property
    def name(self) -> str:
        """Name of the record: the mapping's, or that of a replay."""
        return self.record.name

    @property
    def is_replay(self) -> bool:
        """Whether the record is that of a replay."""
        return self.name != self.mapping.name

    def filter_on(self, stream: str) -> _core.Filter | None:
        """Return the filter on the records of a stream; None: all are delivered."""
        return self.filter if self.mapping.filters_stream(stream) else None


class LaneLayout(NamedTuple):
    """The number of lanes of a shard, and whether they have windows."""

    factor: int
    is_windowed: bool


@dataclass(frozen=True, slots=True)
class LaneSnapshot:
    """The state of a lane at a scan."""

    key: LaneKey
    status: LaneStatus
    is_paused: bool
    is_changing: bool
    """Whether the wanted factor or windows are not in force in its shard yet."""


class MappingRegistry:
    """Knows every lane of the mappings that this worker runs."""

    def __init__(self, log: Log, report: Report, *, is_strict: bool = False) -> None:
        """Start without mappings.

        Args:
            log: The log.
            report: Gets events about missing streams and lanes that cannot be read.
            is_strict: Raise errors when lanes are read, instead of continuing without them.
        """
        self.log, self._report, self._is_strict = log, report, is_strict
        self._trouble: dict[str, str] = {}
        self._mappings: dict[str, RegisteredMapping] = {}
        self.new: tuple[str, ...] = ()
        """Names of those that were not in the log before they were registered last."""
        self._gone: dict[str, RegisteredMapping] = {}
        """Mappings that a reload removed; their last calls may still be looked up."""
        self._indexes: dict[str, int] = {}
        """Index of each mapping on the boards, which never changes."""
        self._replays: dict[str, RegisteredMapping] = {}
        """All replays seen, including finished ones, which may still be looked up."""
        self._running: set[str] = set()
        """Names of the replays that are not finished."""
        self._missing: set[str] = set()
        self.in_code: tuple[str, ...] = ()
        """Names of all functions of the app, those that do not run (`--only`) included."""
        self.troubles: dict[str, StreamfnError] = {}
        """Errors of the last scan, by the name of the mapping or replay."""

    def __bool__(self) -> bool:
        """Whether there are mappings."""
        return bool(self._mappings)

    def __iter__(self) -> Iterator[RegisteredMapping]:
        """Iterate over the app's mappings, without replays."""
        return iter(self._mappings.values())

    def __getitem__(self, name: str) -> RegisteredMapping:
        """Return a mapping, or a replay, by its name."""
        return self._mappings.get(name) or self._replays.get(name) or self._gone[name]

    def __contains__(self, name: str) -> bool:
        return name in self._mappings or name in self._replays

    @property
    def groups(self) -> set[str]:
        """The groups of runners that the functions need; at least one."""
        return {each.group for each in self} or {APP_GROUP}

    def memory_limit_of(self, group: str) -> int | None:
        """Return how many bytes of memory a runner of a group may use; None: there is no limit."""
        return next((each.mapping.memory for each in self if each.group == group), None)

    @property
    def replays(self) -> list[RegisteredMapping]:
        """The replays that are not finished."""
        return [self._replays[name] for name in sorted(self._running)]

    @property
    def missing(self) -> frozenset[str]:
        """Names of the source streams that do not exist."""
        return frozenset(self._missing)

    def register(
        self, mappings: Sequence[EventSourceMapping], asynchronous: Iterable[str], only: set[str]
    ) -> None:
        """Register the app's mappings in the log; starts are resolved and durable on return.

        After a reload the new mappings take the place of the old ones.

        Args:
            mappings: All mappings of the app.
            asynchronous: Names of the mappings with an `async` function.
            only: Names of the mappings to run; empty: all.

        Raises:
            ConfigError: There are more mappings than a board has room for, those of the code before
                included.
            StreamfnError: The log cannot be written. The mappings are as before.
        """
        loops, known = set(asynchronous), set(_core.Mapping.names(self.log))
        indexes = self._indexes_with(mappings)
        new = {
            mapping.name: RegisteredMapping(
                mapping,
                register_mapping(self.log, mapping),
                indexes[mapping.name],
                mapping.name in loops,
                mapping.compiled_filter(),
                group_of(mapping),
            )
            for mapping in mappings
            if not only or mapping.name in only
        }
        self.in_code = tuple(each.name for each in mappings)
        self.new = tuple(sorted(new.keys() - known))
        self._gone |= self._mappings
        self._indexes, self._mappings = indexes, new
        self._renew_replays()
        self.prepare()

    def declare(self, declared: Iterable[StreamDeclaration]) -> None:
        """Create the app's declared streams that are missing; report how the others differ."""
        declare_streams(self.log, declared, self._report)

    def _indexes_with(self, mappings: Sequence[EventSourceMapping]) -> dict[str, int]:
        names = dict.fromkeys([*self._indexes, *(each.name for each in mappings)])
        if len(names) > Board.MAPPINGS:
            before = f", {len(self._indexes)} of them before the reload" if self._indexes else ""
            reason = f"the app has {len(names)} functions{before}; it can have {Board.MAPPINGS}"
            raise ConfigError("APP", reason)
        return {name: index for index, name in enumerate(names)}

    def _renew_replays(self) -> None:
        """Run the replays that are not finished with the new mappings of their functions."""
        self._running = {name for name in self._running if function_of(name) in self._mappings}
        for name in self._running:
            each = self._mappings[function_of(name)]
            self._replays[name] = replace(each, record=self._replays[name].record)

    def missing_stream(self) -> str | None:
        """Return the name of a source stream that does not exist, if there is one."""
        return min(self._missing, default=None)

    def prepare(self) -> None:
        """Create lanes for new shards of the source and redrive streams."""
        for each in self:
            self._prepare(each, each.mapping.stream, is_awaited=True)
            self._prepare(each, each.mapping.redrive_stream, is_awaited=False)

    def scan(self) -> list[LaneSnapshot]:
        """Return the current state of all lanes, after applying wanted factors where possible."""
        self.troubles = {}
        self.prepare()
        self._look_for_replays()
        found = [found for each in self for found in self._readable(each)]
        return found + [found for each in self.replays for found in self._of_replay(each)]

    def _prepare(self, each: RegisteredMapping, stream: str, *, is_awaited: bool) -> None:
        try:
            each.record.prepare(stream)
        except StreamNotFound:
            if is_awaited and stream not in self._missing:
                self._missing.add(stream)
                self._report("waiting_for_stream", mapping=each.mapping.name, stream=stream)
        except StreamfnError as error:
            self._report_trouble(each.mapping.name, error)
        else:
            self._missing.discard(stream)

    def _readable(self, each: RegisteredMapping) -> list[LaneSnapshot]:
        """Return a mapping's lanes; if they cannot be read, report it and return none."""
        try:
            found = list(self._lanes(each))
        except StreamfnError as error:
            self._report_trouble(each.name, error)
            return []
        return found

    def _look_for_replays(self) -> None:
        """Find new replays of our functions."""
        for name in _core.Mapping.names(self.log):
            each = self._mappings.get(function_of(name))
            if each is None or name in self._mappings or name in self._running:
                continue
            try:
                record = _core.Mapping.open(self.log, name)
                if record is not None:
                    mapping = each.mapping
                    factor, windowed = mapping.parallelization_factor, mapping.tumbling is not None
                    record.set_wanted(factor=factor, windowed=windowed)
                    self._replays[name] = replace(each, record=record)
                    self._running.add(name)
                    self._report("replay_started", mapping=name)
            except StreamfnError as error:
                self._report_trouble(name, error)

    def _of_replay(self, each: RegisteredMapping) -> list[LaneSnapshot]:
        """Return the lanes of a replay; if it is finished, remove it and return none."""
        try:
            found = list(self._lanes(each))
            is_over = all(lane.status.is_finished and not lane.status.is_leased for lane in found)
            if not (is_over and each.record.finish_replay()):
                return found
            self._report("replay_finished", mapping=each.name)
        except StreamfnError as error:
            if not was_removed(error):
                self._report_trouble(each.name, error)
                return []
            # Another worker removed it at its end, or a user removed it.
        self._running.discard(each.name)
        return []

    def _report_trouble(self, mapping: str, error: StreamfnError) -> None:
        """Report why a mapping's lanes cannot be read, once for each reason."""
        if self._is_strict:
            raise error
        self.troubles[mapping] = error
        if self._trouble.get(mapping) != str(error):
            self._trouble[mapping] = str(error)
            self._report("lane_trouble", mapping=mapping, **fields_of(error))

    def _lanes(self, each: RegisteredMapping) -> Iterator[LaneSnapshot]:
        wanted = LaneLayout(each.record.wanted_factor, each.record.wants_windows)
        is_paused = each.record.is_paused
        lanes = each.record.lanes()
        if any(_layout(lane) != wanted for lane in lanes):
            self._change_layouts(each, lanes, wanted)
            lanes = each.record.lanes()
        for lane in lanes:
            key = LaneKey(each.name, lane.stream, lane.shard_id, lane.slot)
            yield LaneSnapshot(key, lane, is_paused, _layout(lane) != wanted)

    def _change_layouts(
        self, each: RegisteredMapping, lanes: Sequence[LaneStatus], wanted: LaneLayout
    ) -> None:
        """Apply the wanted layout to shards without leased lanes and without batches in flight."""
        before = {(lane.stream, lane.shard_id): lane for lane in lanes}
        shards = {(lane.stream, lane.shard_id) for lane in lanes if _layout(lane) != wanted}
        busy = {
            (lane.stream, lane.shard_id)
            for lane in lanes
            if lane.is_leased or lane.in_flight is not None
        }
        for stream, shard_id in sorted(shards - busy):
            if each.record.change_factor(stream, shard_id):
                self._report_change(each.name, before[stream, shard_id], wanted)

    def _report_change(self, mapping: str, lane: LaneStatus, wanted: LaneLayout) -> None:
        place = {"mapping": mapping, "stream": lane.stream, "shard_id": lane.shard_id}
        if lane.factor != wanted.factor:
            self._report("factor_changed", **place, factor=wanted.factor)
        if lane.is_windowed != wanted.is_windowed:
            self._report("windows_changed", **place, windows=wanted.is_windowed)
        if lane.window_us is not None:
            start_us, end_us = lane.window_us
            self._report("window_dropped", **place, start_us=start_us, end_us=end_us)


def _layout(lane: LaneStatus) -> LaneLayout:
    return LaneLayout(lane.factor, lane.is_windowed)


def was_removed(error: StreamfnError) -> bool:
    """Whether an error means that the mapping was removed."""
    return isinstance(error, ConfigError) and error.field == "mapping"


def fields_of(error: BaseException) -> dict[str, str]:
    """Return the fields of an event that describe an error."""
    return {"error_type": type(error).__name__, "error_message": str(error)}
