"""Runs the functions of an app on a log in memory, one call at a time, until no work is left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any, Final, cast

from streamfn import _core
from streamfn._core import Board, Entry, LaneSet, Work
from streamfn.app import App
from streamfn.engine.deadletter import DeadLetter, DeadLetters
from streamfn.engine.destination import FailureDestination
from streamfn.engine.lazy_event_loop import LazyEventLoop
from streamfn.engine.output import as_output
from streamfn.errors import ConfigError, StreamfnError, StreamNotFound
from streamfn.model.mapping import EventSourceMapping
from streamfn.model.options import nearest
from streamfn.model.record import Record
from streamfn.units import format_count, to_microseconds
from streamfn.worker.registration import declare_streams, register_mapping
from streamfn.worker.runner.calls.kinds import calls_of
from streamfn.worker.runner.lane_job import (
    CallThread,
    InDoubt,
    LaneAddress,
    LaneFunction,
    LaneJob,
    RunnerContext,
)
from streamfn.worker.runner.lane_request import add_lane
from streamfn.worker.supervisor.verdict import Cell, RunnerExit, after_runner_death, verdicts

from .invoker import CrashableInvoker, Death, Died
from .memory import MemoryLog

WORKER: Final = "0" * 32
"""UUID of the only worker of a log in memory."""
CALLS_MAX: Final = 100_000
IDLE_ROUNDS: Final = 2
"""Rounds without work after which `run` returns. In one round a lane may pass the end of its shard;
in the next the lanes of the child shards open."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function, noted when it began."""

    function: str
    """Name of the function, without its app."""
    stream: str
    shard_id: str
    sequence_numbers: list[int]
    """Those of its records; empty in the final call of a window."""
    attempt: int
    """1 for the first call of these records."""


@dataclass(slots=True)
class _Lane:
    """A lane of the app: held, or waiting until `rests_until`."""

    record: _core.Mapping
    job: LaneJob
    rests_until: float = 0.0
    is_held: bool = False

    @property
    def mapping(self) -> EventSourceMapping:
        """The mapping that the lane belongs to."""
        return self.job.function.mapping


class _Lanes:
    """The lane set of the current runner. A wait releases the lane until the wait is over."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.inner: LaneSet

    def hold(self, lane: int, entries: Sequence[Entry], exponent: int) -> None:
        self.inner.hold(lane, entries, exponent)

    def keep_state(self, lane: int, kind: int, data: bytes, *, ended_early: bool) -> None:
        self.inner.keep_state(lane, kind, data, ended_early=ended_early)

    def settle(self, lane: int, exponent: int = 0) -> None:
        self.inner.settle(lane, exponent)

    def wait(self, lane: int, entries: Sequence[Entry], exponent: int, seconds: float) -> None:
        self.inner.wait(lane, entries, exponent, 0.0)
        self._driver.rest(lane, seconds)

    def yield_(self, lane: int, entries: Sequence[Entry], exponent: int) -> None:
        self.inner.yield_(lane, entries, exponent)


class Driver:
    """Runs an app on a log in memory; call `run` again after putting new records.

    Everything runs in the calling thread, in an order that depends only on `seed`. Waits advance
    the log's clock. A function that raises `Crash`, or advances the clock past its timeout, kills
    its simulated process: the batch in flight is then handled as a worker's supervisor would.
    """

    def __init__(
        self, app: App, log: MemoryLog | None = None, *, seed: int = 0, calls_max: int = CALLS_MAX
    ) -> None:
        """Register the app's functions in the log, and create the streams that are missing.

        Args:
            app: The app whose functions run.
            log: The log; default: a new, empty one.
            seed: Seed of the jitter of waits.
            calls_max: Most calls of one `run`.
        """
        self.log = log or MemoryLog()
        self.clock = self.log.clock
        self.all_calls: list[Call] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        """The events that a worker would log: name and fields."""
        self._app, self._calls_left, self._calls_max = app, calls_max, calls_max
        self._board, self._loops, self._runner = Board.create(), LazyEventLoop(), 0
        self._lanes = _Lanes(self)
        self._context = RunnerContext(
            lanes=cast("LaneSet", self._lanes),
            board=self._board,
            clock=self.clock,
            random=Random(seed),  # noqa: S311 -- a test repeats it
            report=self._note_event,
            released_alone=lambda _lane, _seconds: None,
            can_be_replaced=False,
        )
        self._known: dict[tuple[str, LaneAddress], _Lane] = {}
        self._by_number: list[_Lane] = []
        self._functions: dict[str, tuple[LaneFunction, CrashableInvoker, _core.Mapping, int]] = {}
        declare_streams(self.log.core, app.declared_streams, self._note_event)
        for index, mapping in enumerate(app.mappings):
            self._enter(mapping, index)
        self._start_runner()

    def __repr__(self) -> str:
        each = [self._figures(mapping.function) for mapping in self._app.mappings]
        return f"<Driver {self._app.name}: {'; '.join(each)}>"

    def run(self) -> Driver:
        """Call functions until no lane has work left; return this driver.

        Raises:
            RuntimeError: There is work left after `calls_max` calls, as with unlimited retries.
        """
        self._calls_left = self._calls_max
        idle_rounds = 0
        while idle_rounds < IDLE_ROUNDS:
            idle_rounds = 0 if self._take_lanes() else idle_rounds + 1
            work = self._lanes.inner.next(0.0)
            if work is not None and self._calls_left <= 0:
                self._lanes.yield_(work.lane, work.entries, work.exponent)
                message = f"the functions have not finished after {self._calls_max:,} calls"
                raise RuntimeError(message)
            if work is not None:
                self._run(work)
            if work is not None or self._rest_is_over():
                idle_rounds = 0
        return self

    def calls(self, function: str) -> list[list[int]]:
        """Return the sequence numbers of each call of a function, in order of the calls.

        Raises:
            ConfigError: The app has no such function.
        """
        self._name_of(function)
        return [call.sequence_numbers for call in self.all_calls if call.function == function]

    def dead_letters(self, function: str) -> list[DeadLetter]:
        """Return the open dead letters of a function.

        Raises:
            ConfigError: The app has no such function.
        """
        return self._letters(function).entries()

    def redrive(self, function: str) -> int:
        """Redrive a function's open dead letters, as `dlq redrive` does, and return how many.

        The next `run` calls the function with them.

        Raises:
            ConfigError: The app has no such function.
        """
        return self._letters(function).redrive()

    def records(self, stream: str) -> list[Record]:
        """Return all records of a stream, one shard after the other."""
        return [record for batch in self.log.stream(stream).read() for record in batch]

    def rest(self, lane: int, seconds: float) -> None:
        """Release a lane for `seconds`; `run` calls this when a lane backs off."""
        self._lanes.inner.remove(lane)
        resting = self._by_number[lane]
        resting.is_held, resting.rests_until = False, self.clock.monotonic() + seconds

    def restart(self) -> None:
        """Kill the simulated process between two calls, and start another one."""
        self._start_runner()

    def stop(self) -> None:
        """Release all lanes, so that another driver can take them; the log stays open."""
        self._lanes.inner.close()
        self._loops.close()

    def close(self) -> None:
        """Stop, and close the log."""
        self.stop()
        self.log.close()

    def _enter(self, mapping: EventSourceMapping, index: int) -> None:
        core = self.log.core
        core.create_stream(mapping.stream, exist_ok=True)
        record = register_mapping(core, mapping)
        record.prepare(mapping.stream)  # as a worker does at start: it sets the meaning of `latest`
        destination = FailureDestination(core, mapping, self.clock)
        function = LaneFunction(mapping, destination, mapping.compiled_filter())
        invoker = CrashableInvoker(
            mapping,
            self._app.handler(mapping.name),
            self.log,
            self.clock,
            self._loops,
            lambda *call: self._note_call(Call(mapping.function, *call)),
        )
        self._functions[mapping.name] = function, invoker, record, index

    def _note_event(self, event: str, /, **fields: object) -> None:
        self.events.append((event, fields))

    def _note_call(self, call: Call) -> None:
        self._calls_left -= 1
        self.all_calls.append(call)

    def _start_runner(self) -> None:
        self._runner += 1
        self._lanes.inner = LaneSet(self.log.core, worker=WORKER, runner=self._runner)
        self._lanes.inner.set_burst(True)
        for lane in self._by_number:
            lane.is_held, lane.job.suspended = False, None

    def _take_lanes(self) -> bool:
        """Take every free lane that does not wait; return whether there was one."""
        has_new = False
        for lane in self._all_lanes():
            if lane.is_held or lane.rests_until > self.clock.monotonic():
                continue
            lane.is_held = self._take(lane)
            has_new |= lane.is_held
        return has_new

    def _all_lanes(self) -> Iterator[_Lane]:
        """Yield all lanes, including those of new shards."""
        for function, _, record, index in self._functions.values():
            mapping = function.mapping
            for stream in (mapping.stream, mapping.redrive_stream):
                try:
                    shards = record.prepare(stream)
                except StreamNotFound:
                    continue
                for shard_id in shards:
                    record.change_factor(stream, shard_id)
                    for slot in range(record.factor(stream, shard_id)):
                        at = LaneAddress(stream, shard_id, slot)
                        yield self._lane(function, record, index, at)

    def _lane(
        self, function: LaneFunction, record: _core.Mapping, index: int, at: LaneAddress
    ) -> _Lane:
        key = (function.mapping.name, at)
        if key not in self._known:
            lane = _Lane(record, LaneJob(len(self._by_number), index, function, at))
            self._known[key] = lane
            self._by_number.append(lane)
        return self._known[key]

    def _take(self, lane: _Lane) -> bool:
        answer = add_lane(self._lanes.inner, lane.record, lane.job, self._board)
        return answer == "ok"

    def _rest_is_over(self) -> bool:
        """Advance the clock to the end of the shortest wait; False: no lane waits."""
        now = self.clock.monotonic()
        rests = [lane.rests_until for lane in self._by_number if lane.rests_until > now]
        if not rests:
            return False
        # WHY one more microsecond: `timedelta` rounds to microseconds, and the wait must be over.
        self.clock.advance(timedelta(seconds=min(rests) - now, microseconds=1))
        return True

    def _run(self, work: Work) -> None:
        lane = self._by_number[work.lane]
        death = self._proceed(lane, work)
        if death is not None:
            self._replace_runner(lane, death)

    def _proceed(self, lane: _Lane, work: Work) -> Death | None:
        _, invoker, _, _ = self._functions[lane.mapping.name]
        try:
            calls_of(work, lane.job, self._context).proceed(CallThread(self._context, 0, invoker))
        except Died as died:
            return died.death
        except InDoubt:
            self._loops.close()
            return Death(0, is_in_doubt=True)
        return None

    def _replace_runner(self, lane: _Lane, death: Death) -> None:
        """Start another runner, and write the verdict on the call, as a supervisor would."""
        self._start_runner()
        cell = Cell(0, lane.job.lane, None, death.running)
        expired = frozenset({cell} if death.is_timeout else ())
        doubt = death.is_in_doubt
        found = verdicts(RunnerExit((cell,), death.signal_number, expired, is_in_doubt=doubt))
        at = lane.job.at
        judge = lane.record.judge(*at, lane.job.function.filter_on(at.stream))
        assert judge is not None, "nobody else is there to have it"
        slot = judge.in_flight()
        assert slot is not None, "it was being called"
        rewrite = after_runner_death(
            slot,
            found[lane.job.lane],
            to_microseconds(self.clock.now()),
            writes_on_success=lane.mapping.writes_on_success(at.stream),
        )
        judge.write(
            rewrite.entries,
            worker=WORKER,
            is_calling=False,
            worker_deaths=0,
            is_alone=rewrite.is_alone,
            is_exclusive=False,
        )
        judge.release()

    def _figures(self, function: str) -> str:
        """Return a short text with the numbers of calls and dead letters of a function."""
        words = f"{function} {format_count(len(self.calls(function)), 'call')}"
        with suppress(StreamfnError):  # the log may be closed, and a `repr` does not fail
            if letters := self.dead_letters(function):
                words += f", {format_count(len(letters), 'dead letter')}"
        return words

    def _letters(self, function: str) -> DeadLetters:
        return DeadLetters(self.log, self._name_of(function), clock=self.clock)

    def _name_of(self, function: str) -> str:
        names = {each.function: each.name for each in self._app.mappings}
        if function not in names:
            reason = f"the app has no function `{function}`, {nearest(function, names)}"
            raise ConfigError("function", reason)
        return names[function]


def run_once(
    app: App,
    streams: Mapping[str, Iterable[object]],
    *,
    log: MemoryLog | None = None,
    seed: int = 0,
) -> Driver:
    """Put records into streams of a log in memory, and run the app until no work is left.

    Args:
        app: The app whose functions run.
        streams: Records by stream. A record is bytes, text, another value (encoded as JSON), or a
            tuple of one of these and a partition key.
        log: The log; default: a new, empty one. Missing streams that the functions read or write
            are created with one shard.
        seed: Seed of the jitter of waits. Waits take no time.

    Raises:
        ConfigError: No function of the app reads or writes a stream, and the log does not have it.
        RuntimeError: There is work left after 100,000 calls.
    """
    driver = Driver(app, log, seed=seed)
    for name in streams:
        if name not in driver.log.streams():
            reason = f"no function of the app reads or writes `{name}`"
            raise ConfigError("streams", f"{reason}, {nearest(name, driver.log.streams())}")
    for name, items in streams.items():
        outputs = [as_output(name, item, None, place) for place, item in enumerate(items)]
        driver.log.stream(name).put_many(
            [each.data for each in outputs], [each.partition_key for each in outputs]
        )
    return driver.run()
