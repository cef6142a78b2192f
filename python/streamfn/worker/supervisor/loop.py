"""The main loop of a supervisor: messages and exits of runners, ticks, signals. One thread.

a first runner sends the mappings ──> working ──> draining ──> all runners have exited
                                         ├── a signal ──┘
                                         └── `--burst`, and no work is left
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from signal import SIGCONT, SIGHUP, SIGSTOP, SIGTSTP, SIGUSR1
from typing import Final

from streamfn import _core
from streamfn._core import Membership
from streamfn.clock import Clock
from streamfn.errors import StreamNotFound
from streamfn.health.workers import living_workers
from streamfn.invocation.address import remove_stale_sockets
from streamfn.model.worker import WorkerConfig
from streamfn.telemetry.history import METRICS_FOLDER
from streamfn.units import to_microseconds
from streamfn.worker.messages import Ready, Start
from streamfn.worker.shared_counts import SharedCounts

from .announcement import Announcement
from .app_code import PinnedCode, gives_up
from .by_request import ByRequest, ByRequestParts
from .child_events import ChildEvents
from .deadlines import TICK, kill_if_late
from .health_watch import HealthWatch
from .lane_scheduler import LaneScheduler, PlanContext
from .mapping_registry import MappingRegistry
from .memory_watch import MemoryWatch
from .not_in_code import report_not_in_code
from .pool_sizes import PoolSizes
from .progress import Observer
from .progress_reporter import ProgressReporter
from .quiescence import QuiescenceCheck
from .reload_requests import ReloadRequests
from .rollover import Rollover
from .runner_messages import RunnerMessageHandler, SupervisorParts
from .runner_pool import RunnerPool
from .sampler import Sampler
from .shutdown import Shutdown
from .signals import SignalBox
from .stacks import StackDump
from .tally import Tally
from .verdict_writer import VerdictContext, VerdictWriter

SCAN_EVERY: Final = timedelta(milliseconds=100)
"""Interval between scans of the log's lanes when nothing has happened."""
SCAN_AGAIN: Final = timedelta(milliseconds=10)
"""Shortest interval between scans when something has happened."""
SCAN_COSTS: Final = 10
"""If nothing has happened, the interval is at least the last scan's duration times this."""
PROGRESS_EVERY: Final = timedelta(milliseconds=100)
EXIT_NOT_STARTED: Final = 3
EXIT_CORRUPT: Final = 5


@dataclass(frozen=True, slots=True)
class SupervisorSetup:
    """The settings and services of a supervisor."""

    config: WorkerConfig
    log: _core.Log
    membership: Membership
    observer: Observer
    clock: Clock


class SupervisorLoop:
    """Builds the parts of a supervisor and runs them in turn."""

    def __init__(self, setup: SupervisorSetup) -> None:
        config, log, membership = setup.config, setup.log, setup.membership
        clock = setup.clock
        self._config, self._log, self._membership = config, log, membership
        self._observer, self._clock = setup.observer, clock
        self._events = ChildEvents()
        numbers = count()
        start = Start(
            app=config.app,
            factory=config.factory,
            log_dir=config.log_dir,
            worker=membership.uuid,
            runner=0,
            threads=config.threads,
            is_burst=config.burst,
            log_level=config.log_level,
        )
        self._runners = RunnerPool(start, clock.monotonic, self._report, numbers)
        self._registry = MappingRegistry(log, self._report, is_strict=config.burst)
        self._runners.memory_limit_of = self._registry.memory_limit_of
        self._memory = MemoryWatch(self._report)
        self._memory.watch(self._runners)
        self._tally = Tally()
        context = VerdictContext(self._registry, membership.uuid, clock, self._tally, self._report)
        self._verdicts = VerdictWriter(context)
        self._scheduler = LaneScheduler(self._registry, self._runners, self._verdicts, self._report)
        self._code = PinnedCode(self._report)
        self._by_request = ByRequest(
            ByRequestParts(
                config, log, membership.uuid, numbers, self._events, clock, self._report,
                self._code, self._memory,
            )
        )  # fmt: skip
        self._rollover = Rollover(
            self._runners, self._code, clock, self._report, config.drain_timeout
        )
        self._rollover.register = self._register_again
        self._reloads = ReloadRequests(self._code, self._rollover, is_watching=config.reload)
        parts = SupervisorParts(
            self._runners,
            self._registry,
            self._scheduler,
            self._verdicts,
            self._tally,
            SharedCounts(log, self._tally, self._report),
            clock,
            self._report,
            self._code,
            self._rollover,
            self._memory,
            self._by_request,
        )
        self._handler = RunnerMessageHandler(config, parts)
        self._progress = ProgressReporter(parts, setup.observer)
        folder = Path(config.log_dir) / METRICS_FOLDER
        self._health = HealthWatch(log, membership.uuid, parts)
        self._sampler = Sampler(self._registry, folder, clock, self._report)
        self._runners.on_start = lambda runner: self._events.watch(runner, self._handler)
        self._stacks = StackDump(
            self._runners,
            self._by_request.runners,
            self._scheduler,
            lambda text: self._report("block", text=text.rstrip()),
        )
        self._shutdown = Shutdown(
            self._runners, self._by_request, config.drain_timeout, clock, self._report
        )
        self._quiescence = QuiescenceCheck()
        self._sizes = PoolSizes(config, self._registry, self._scheduler)
        self._was_registered = False
        self._announcement = Announcement(membership)
        self._last_scan = self._scan_seconds = self._last_progress = -1e9

    def run(self, signals: SignalBox) -> int:
        """Run until the worker has shut down, and return the exit code."""
        self._events.watch_signals(signals, self._answer)
        try:
            while not self._shutdown.is_over():
                self._turn()
                if self._handler.has_given_up and not self._shutdown.has_begun:
                    return self._not_started()
                if self._by_request.cannot_start and not self._shutdown.has_begun:
                    sys.stderr.write(f"error: {gives_up(self._by_request.cannot_start)}\n")
                    self._shutdown.drain(EXIT_NOT_STARTED)
                    self._announcement.withdraw()
                self._events.wait(self._pause_seconds())
            self._progress.report()
            self._sampler.sample(self._scheduler.found, self._by_request.waiting, is_last=True)
            self._report("worker_stopped", exit_code=self._shutdown.exit_code)
            return self._shutdown.exit_code or 0
        finally:
            self._clean_up()

    def _turn(self) -> None:
        """Do what is due."""
        now = self._clock.monotonic()
        for runner in self._runners:
            runner.flush()
        self._watch_deadlines(now)
        self._memory.look(now)
        self._by_request.turn(now)
        for runner in self._runners:
            runner.end_if_it_does_not_leave(now)
        self._stacks.write_when_done(now)
        self._verdicts.write_pending()
        if not self._shutdown.has_begun:
            if self._handler.is_registered and self._is_scan_due(now):
                self._look_at_lanes(now)
            self._reloads.turn(now)
            self._runners.start_missing(self._sizes.now)
        if now - self._last_progress >= PROGRESS_EVERY.total_seconds():
            self._last_progress = now
            self._progress.report()
            self._sampler.sample(self._scheduler.found, self._by_request.waiting)
        if self._was_registered:
            self._health.look_if_due(now, is_draining=self._shutdown.has_begun)

    def _pause_seconds(self) -> float:
        """Return how long to sleep if nothing happens."""
        is_soon = self._handler.has_news or self._quiescence.is_near
        return (SCAN_AGAIN if is_soon else TICK).total_seconds()

    def _answer(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number == SIGUSR1:
                self._stacks.begin(self._clock.monotonic())
            elif number == SIGTSTP:
                self._pause()
            elif number != SIGHUP or self._reloads.hang_up():
                self._shutdown.on_signal(number)
                self._announcement.withdraw()

    def _pause(self) -> None:
        """Stop this process and all runners until it is continued (Ctrl-Z, then `fg`)."""
        for runner in self._runners:
            runner.signal_group(SIGSTOP)
        self._by_request.pause()
        os.kill(os.getpid(), SIGSTOP)
        self._by_request.resume()
        for runner in self._runners:
            runner.signal_group(SIGCONT)

    def _watch_deadlines(self, now: float) -> None:
        """Kill the runners in which a call is past its timeout."""
        for runner in self._runners:
            for cell in kill_if_late(runner, now):
                key = self._scheduler.key_of(cell.lane)
                timeout = self._registry[key.mapping].mapping.timeout
                self._report(
                    "call_timed_out",
                    **key._asdict(),
                    runner=runner.number,
                    sequence_number=cell.running,
                    timeout=timeout.total_seconds(),
                )

    def _is_scan_due(self, now: float) -> bool:
        passed = now - self._last_scan
        if self._handler.has_news or self._quiescence.is_near:
            return passed >= max(SCAN_AGAIN.total_seconds(), self._scan_seconds)
        return passed >= max(SCAN_EVERY.total_seconds(), SCAN_COSTS * self._scan_seconds)

    def _look_at_lanes(self, now: float) -> None:
        """Scan the lanes, plan, adjust the runners; in a burst, check whether all is done."""
        is_first = not self._was_registered
        if is_first:
            self._begin()
        self._announcement.repeat()
        self._handler.has_news = False
        self._scheduler.scan()
        if is_first:
            self._sampler.sample(self._scheduler.found, self._by_request.waiting)
        self._sizes.set()
        if not self._registry and not self._rollover.is_active:
            self._runners.drain_all()  # no function reads a stream
        ours = self._announcement.mappings
        context = PlanContext(
            worker=self._membership.uuid,
            living=living_workers(self._log) | {self._membership.uuid: ours},
            pools=self._sizes.shared,
            now=now,
        )
        self._scheduler.judge_orphans(context)
        self._scheduler.arrange(context)
        self._runners.stop_idle(self._scheduler.busy, self._sizes.now)
        if self._config.burst:
            self._end_if_done()
        self._last_scan = self._clock.monotonic()
        self._scan_seconds = self._last_scan - now

    def _end_if_done(self) -> None:
        """End a burst when no work is left, except in lanes that stopped at damage."""
        stopped = self._handler.stopped
        lanes = [
            (found.key.mapping, found.status)
            for found in self._scheduler.found
            if not found.is_paused and found.key not in stopped
        ]
        is_over = self._quiescence.is_over(lanes, to_microseconds(self._clock.now()))
        # WHY: a replay whose lanes are all at their ends is still to be removed.
        replays = {each.name for each in self._registry.replays} - {key.mapping for key in stopped}
        if is_over and not any(name in replays for name, _ in lanes):
            if not self._registry and not self._shutdown.has_begun:
                message = "ending, a burst does not wait for calls by request"
                self._report("worker_draining", in_flight=0, message=message)
            self._shutdown.drain(EXIT_CORRUPT if stopped else 0)

    def _register_again(self, message: Ready) -> None:
        """Register the mappings of reloaded code, and announce them to the other workers."""
        self._handler.register(message)
        self._announce()
        report_not_in_code(self._log, self._registry, self._report)

    def _announce(self) -> list[str]:
        names = [each.mapping.name for each in self._registry]
        self._announcement.in_code = self._registry.in_code
        self._announcement.by_request = tuple(each.name for each in self._by_request.functions)
        self._announcement.announce(names)
        return names

    def _begin(self) -> None:
        """Announce the mappings to the other workers and report that the worker has started."""
        self._was_registered = True
        missing = self._registry.missing_stream()
        if self._config.burst and missing is not None:
            raise StreamNotFound(missing)
        remove_stale_sockets(self._config.log_dir, living_workers(self._log))
        names = self._announce()
        self._report(
            "worker_started",
            worker=self._membership.uuid,
            pid=os.getpid(),
            functions=[*names, *self._announcement.by_request],
            code_version=self._code.version,
            processes=self._config.processes or "auto",
            threads=self._config.threads,
        )
        report_not_in_code(self._log, self._registry, self._report)

    def _not_started(self) -> int:
        sys.stderr.write(f"error: {gives_up(self._code.refusal)}\n")
        self._report("worker_stopped", exit_code=EXIT_NOT_STARTED)
        return EXIT_NOT_STARTED

    def _report(self, event: str, /, **fields: object) -> None:
        self._health.on_event(event, fields)
        self._observer.on_event({"event": event, **fields})

    def _clean_up(self) -> None:
        """Kill all runners that are left, and remove the report."""
        self._health.close()
        self._sampler.close()
        self._by_request.close()
        for runner in self._runners:
            runner.kill()
        for runner in self._runners:
            runner.close()
        self._events.close()
