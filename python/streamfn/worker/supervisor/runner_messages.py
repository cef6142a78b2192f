"""Handles the messages and exits of runners."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from signal import SIGKILL
from typing import Any, Final

from streamfn._core import Board
from streamfn.clock import Clock
from streamfn.engine.handling import CANCEL_GRACE
from streamfn.errors import ConfigError
from streamfn.model.declaration import StreamDeclaration
from streamfn.model.function_config import FunctionConfig
from streamfn.model.mapping import EventSourceMapping
from streamfn.model.worker import WorkerConfig
from streamfn.telemetry.counters import Counter
from streamfn.units import format_size
from streamfn.worker.exit_codes import OWN_EXITS
from streamfn.worker.messages import (
    Alone,
    Assigned,
    Event,
    Leaving,
    Limited,
    NotReady,
    Ready,
    Released,
    RunnerReport,
)
from streamfn.worker.registration import chosen
from streamfn.worker.report import Report
from streamfn.worker.shared_counts import SharedCounts

from .app_code import PinnedCode
from .by_request import ByRequest
from .deadlines import DeadlineWatch
from .lane_scheduler import LaneScheduler
from .mapping_registry import MappingRegistry
from .memory_watch import MemoryWatch
from .planner import LaneKey
from .rollover import Rollover
from .runner_pool import RunnerPool
from .runner_process import RunnerProcess
from .signals import signal_name
from .tally import Tally
from .verdict import RunnerExit
from .verdict_writer import VerdictWriter

FAILED_STARTS_MAX: Final = 3
"""Failed starts in a row after which the worker gives up: if no runner ever had a lane, or if none
is left and the last ones did not import the app."""


@dataclass(frozen=True, slots=True)
class SupervisorParts:
    """The parts of a supervisor that runners' messages concern."""

    runners: RunnerPool
    registry: MappingRegistry
    scheduler: LaneScheduler
    verdicts: VerdictWriter
    tally: Tally
    counts: SharedCounts
    clock: Clock
    report: Report
    code: PinnedCode
    rollover: Rollover
    memory: MemoryWatch
    by_request: ByRequest


class RunnerMessageHandler:
    """Handles the messages and exits of runners."""

    def __init__(self, config: WorkerConfig, parts: SupervisorParts) -> None:
        self._config, self._parts = config, parts
        self.is_registered = False
        """Whether the first runner is ready, so that the mappings are known."""
        self.has_given_up = False
        """Whether the worker gives up because no runner starts."""
        self.stopped: set[LaneKey] = set()
        """Lanes that stopped at damage."""
        self.has_news = False
        """Whether something happened that requires a scan of the lanes."""

    def read(self, runner: RunnerProcess) -> None:
        """Handle the messages of a runner.

        Raises:
            ConfigError: It is the first runner, and the app does not import.
        """
        for message in runner.receive():
            self._handle(runner, message)

    def printed(self, runner: RunnerProcess, fields: dict[str, Any]) -> None:
        """Log a line that user code printed or logged."""
        self._parts.report("output", **fields | {"runner": runner.number})

    def exited(self, runner: RunnerProcess) -> None:
        """Handle the exit of a runner: its last messages, its calls, its lanes and its seat."""
        self.read(runner)
        detail, cells = runner.exit_detail(), runner.cells()
        was_drained = runner.state == "draining" and detail == 0
        scheduler, parts = self._parts.scheduler, self._parts
        lanes = scheduler.lanes_of(runner.number)
        scheduler.runner_exited(runner.number)
        accompanied = runner.watch.accompanied if runner.watch else frozenset()
        # A process that had ended before it was killed has another reason.
        is_too_large = runner.memory_found is not None and detail == SIGKILL
        indexes = [each.index for each in parts.registry]
        calls = sum(runner.board.counters(index)[Counter.CALLS] for index in indexes)
        exit_ = RunnerExit(
            cells,
            detail,
            runner.expired,
            accompanied,
            is_blameless=runner.is_blameless,
            is_broken=runner.is_broken,
            is_in_doubt=runner.is_in_doubt,
            is_solo=runner.seat.is_solo,
            memory_limit=runner.memory_limit if is_too_large else None,
            calls=calls,
        )
        in_flight = parts.verdicts.runner_exited(runner.number, lanes, exit_)
        parts.tally.absorb(runner.board, indexes)
        was_busy = bool(cells) and not (runner.is_broken or runner.is_exhausted)
        was_busy |= is_too_large and calls > 0
        history = parts.runners.remove(runner, was_busy=was_busy)
        self.has_news = True
        was_meant = was_drained or runner.is_blameless or runner.is_exhausted
        parts.report(
            "runner_stopped" if was_meant else "runner_died",
            runner=runner.number,
            pid=runner.pid,
            reason="drained" if was_drained else reason_of(exit_),
            in_flight=in_flight,
        )
        parts.rollover.exited(runner)
        # A new runner of a reload may still save the worker.
        others = [each for each in parts.runners if each.is_replacement or each.state != "starting"]
        is_last = runner.state == "starting" and not others
        # A function with a memory limit that is too small must not end the worker of the others.
        is_only_group = all(each.group == runner.group for each in others)
        may_give_up = is_last or not (parts.runners.has_worked or not is_only_group)
        if may_give_up and history.failed_starts >= FAILED_STARTS_MAX:
            self.has_given_up = True

    def _handle(self, runner: RunnerProcess, message: RunnerReport) -> None:
        parts, now = self._parts, self._parts.clock.monotonic()
        match message:
            case Ready():
                self._ready(runner, message)
            case NotReady():
                self._not_ready(runner, message)
            case Assigned():
                parts.scheduler.on_assigned(message, now)
                parts.runners.has_worked |= message.answer == "ok"
                self.has_news |= message.answer != "ok"
            case Released():
                parts.scheduler.on_released(message.lane)
                self.has_news = True
            case Limited():
                parts.scheduler.on_limited(runner.number, message)
                self.has_news = True
            case Alone():
                parts.scheduler.on_alone(message, now)
                self.has_news = True
            case Event():
                self._take_event(runner, message.fields)
            case Leaving(exit_code):
                runner.leaves(exit_code, now)

    def _take_event(self, runner: RunnerProcess, fields: dict[str, Any]) -> None:
        event = fields.pop("event")
        runner.is_broken |= event == "process_broken"
        runner.is_in_doubt |= event == "runner_in_doubt"
        if event == "runner_exhausted":
            runner.retires()
        if event == "lane_stopped":
            self.stopped.add(self._parts.scheduler.key_of(fields.pop("lane")))
        self._parts.report(event, **fields)

    def _ready(self, runner: RunnerProcess, message: Ready) -> None:
        parts = self._parts
        runner.watch = DeadlineWatch(self._timeout_of, parts.clock.monotonic())
        self.has_news = True
        if parts.rollover.is_new(runner):
            parts.rollover.ready(runner, message)
        elif parts.code.is_other(message):
            parts.code.refuse(runner, message)
        else:
            parts.runners.became_ready(runner)
            parts.code.refusal = ""
            if not self.is_registered:
                self.register(message)
                parts.code.pin(message)
        runner.memory_limit = parts.registry.memory_limit_of(runner.group)  # of its own code
        parts.memory.look_at(runner)

    def register(self, message: Ready) -> None:
        """Register the mappings of an app that a runner has imported.

        Raises:
            ConfigError: The app has no function, too many, or not those of `--only`.
            StreamfnError: The log cannot be written.
        """
        mappings = [EventSourceMapping.from_dict(each) for each in message.mappings]
        functions = [FunctionConfig.from_dict(each) for each in message.functions]
        if not (mappings or functions):
            hint = "add one with `@app.stream` or `@app.function`"
            raise ConfigError("APP", f"the app has no function, {hint}")
        if len(functions) > Board.MAPPINGS:
            reason = f"the app has {len(functions)} functions by request; it can have"
            raise ConfigError("APP", f"{reason} {Board.MAPPINGS}")
        only = chosen([*mappings, *functions], self._config.only)
        registry = self._parts.registry
        registry.declare(map(StreamDeclaration.from_dict, message.streams))
        registry.register(mappings, message.asynchronous, only)
        for each in registry:
            self._parts.counts.use(each.index, each.mapping.name)
        self._parts.by_request.register(functions, only)
        self.is_registered = True

    def _not_ready(self, runner: RunnerProcess, message: NotReady) -> None:
        if not self.is_registered:
            runner.is_blameless = True
            sys.stderr.write(message.traceback)
            sys.stderr.flush()
            raise ConfigError(message.field or "APP", message.reason)
        if self._parts.rollover.is_new(runner):
            self._parts.rollover.not_ready(runner, message)
        else:
            self._parts.code.not_imported(runner, message)

    def _timeout_of(self, lane: int) -> float:
        each = self._parts.registry[self._parts.scheduler.key_of(lane).mapping]
        grace = CANCEL_GRACE.total_seconds() if each.is_asynchronous else 0.0
        return each.mapping.timeout.total_seconds() + grace


def reason_of(ended: RunnerExit) -> str:
    """Return a text that says how a process ended."""
    if ended.memory_limit is not None:
        return f"killed, it exceeded its memory limit of {format_size(ended.memory_limit)}"
    if ended.expired:
        return "killed, a call passed its timeout"
    if -ended.detail in OWN_EXITS:
        return OWN_EXITS[-ended.detail]
    return signal_name(ended.detail) if ended.detail > 0 else f"exit code {-ended.detail}"
