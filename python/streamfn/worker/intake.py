"""What runners tell their supervisor, and what their deaths tell."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from signal import Signals
from typing import Any, Final

from streamfn._core import Board
from streamfn.clock import Clock
from streamfn.engine.invoker import CANCEL_GRACE
from streamfn.errors import ConfigError
from streamfn.model.mapping import EventSourceMapping
from streamfn.model.worker import WorkerConfig

from .assignment import LaneKey
from .catalog import Catalog, chosen
from .crew import Crew
from .exit_codes import OWN_EXITS
from .judging import Judging
from .lane_keeper import LaneKeeper
from .lane_run import Report
from .messages import (
    Alone,
    Answering,
    Assigned,
    Event,
    Leaving,
    Limited,
    NotReady,
    Ready,
    Released,
)
from .runner_process import RunnerProcess
from .tally import Tally
from .verdict import Death
from .watch import DeadlineWatch

STUMBLES_MAX: Final = 3
"""Deaths in a row before any runner had a lane, after which the worker gives up."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a supervisor that runners' messages concern."""

    crew: Crew
    catalog: Catalog
    keeper: LaneKeeper
    judging: Judging
    tally: Tally
    clock: Clock
    report: Report


class Intake:
    """Takes in messages and deaths."""

    def __init__(self, config: WorkerConfig, parts: Parts) -> None:
        self._config, self._parts = config, parts
        self.is_registered = False
        """Whether the first runner has come up: the mappings are known."""
        self.has_given_up = False
        """No runner came up and took a lane."""
        self.stopped: set[LaneKey] = set()
        """Lanes that stopped at damage."""
        self.has_news = False
        """Something happened that the lanes have to be looked at for."""

    def read(self, runner: RunnerProcess) -> None:
        """Take in what a runner has said.

        Raises:
            ConfigError: It is the first runner, and the app does not import.
        """
        for message in runner.receive():
            self._take(runner, message)

    def died(self, runner: RunnerProcess) -> None:
        """Judge a death: its last words, its calls, its lanes, its seat."""
        self.read(runner)
        detail, cells = runner.exit_detail(), runner.cells()
        was_drained = runner.state == "draining" and detail == 0
        keeper, parts = self._parts.keeper, self._parts
        lanes = keeper.lanes_of(runner.number)
        keeper.runner_gone(runner.number)
        accompanied = runner.watch.accompanied if runner.watch else frozenset()
        death = Death(
            cells,
            detail,
            runner.expired,
            accompanied,
            is_nobodys=runner.is_nobodys,
            is_broken=runner.is_broken,
            is_in_doubt=runner.is_in_doubt,
            is_solo=runner.seat.is_solo,
        )
        in_flight = parts.judging.runner_died(runner.number, lanes, death)
        parts.tally.bury(runner.board, (each.index for each in parts.catalog))
        was_busy = bool(cells) and not (runner.is_broken or runner.is_exhausted)
        history = parts.crew.remove(runner, was_busy=was_busy)
        self.has_news = True
        was_meant = was_drained or runner.is_nobodys or runner.is_exhausted
        parts.report(
            "runner_stopped" if was_meant else "runner_died",
            runner=runner.number,
            pid=runner.pid,
            reason="drained" if was_drained else reason_of(death),
            in_flight=in_flight,
        )
        if not parts.crew.has_worked and history.stumbles >= STUMBLES_MAX:
            self.has_given_up = True

    def _take(self, runner: RunnerProcess, message: Answering) -> None:
        parts, now = self._parts, self._parts.clock.monotonic()
        match message:
            case Ready():
                self._ready(runner, message)
            case NotReady():
                self._not_ready(runner, message)
            case Assigned():
                parts.keeper.on_assigned(message, now)
                parts.crew.has_worked |= message.answer == "ok"
                self.has_news |= message.answer != "ok"
            case Released():
                parts.keeper.on_released(message.lane)
                self.has_news = True
            case Limited():
                parts.keeper.on_limited(runner.number, message)
                self.has_news = True
            case Alone():
                parts.keeper.on_alone(message, now)
                self.has_news = True
            case Event():
                self._tell(runner, message.fields)
            case Leaving(exit_code):
                runner.leaves(exit_code, now)

    def _tell(self, runner: RunnerProcess, fields: dict[str, Any]) -> None:
        event = fields.pop("event")
        runner.is_broken |= event == "runner_broken"
        runner.is_in_doubt |= event == "runner_in_doubt"
        if event == "runner_exhausted":
            runner.is_exhausted, runner.state = True, "draining"
        if event == "lane_stopped":
            self.stopped.add(self._parts.keeper.key_of(fields.pop("lane")))
        self._parts.report(event, **fields)

    def _ready(self, runner: RunnerProcess, message: Ready) -> None:
        parts = self._parts
        parts.crew.became_ready(runner)
        runner.watch = DeadlineWatch(self._timeout_of, parts.clock.monotonic())
        self.has_news = True
        if self.is_registered:
            return
        mappings = [EventSourceMapping.from_dict(each) for each in message.mappings]
        if not mappings:
            raise ConfigError("APP", "the app has no function, add one with `@app.stream`")
        if len(mappings) > Board.MAPPINGS:
            most = f"an app can have {Board.MAPPINGS}"
            raise ConfigError("APP", f"the app has {len(mappings)} functions, {most}")
        only = chosen(mappings, self._config.only)
        parts.catalog.register(mappings, message.asynchronous, only)
        self.is_registered = True

    def _not_ready(self, runner: RunnerProcess, message: NotReady) -> None:
        runner.is_nobodys = True
        if not self.is_registered:
            sys.stderr.write(message.traceback)
            sys.stderr.flush()
            raise ConfigError(message.field or "APP", message.reason)
        self._parts.report(
            "runner_not_ready",
            runner=runner.number,
            error_message=message.reason,
            traceback=message.traceback,
        )

    def _timeout_of(self, lane: int) -> float:
        each = self._parts.catalog[self._parts.keeper.key_of(lane).mapping]
        grace = CANCEL_GRACE.total_seconds() if each.is_asynchronous else 0.0
        return each.mapping.timeout.total_seconds() + grace


def reason_of(death: Death) -> str:
    """Say how a process ended, for people."""
    if death.expired:
        return "killed, a call passed its timeout"
    if -death.detail in OWN_EXITS:
        return OWN_EXITS[-death.detail]
    if death.detail <= 0:
        return f"exit code {-death.detail}"
    try:
        return Signals(death.detail).name
    except ValueError:
        return f"signal {death.detail}"
