"""The loop of a supervisor: runners that speak or die, ticks, signals. One thread.

a first runner tells the mappings ──> working ──> draining ──> all runners have ended
                                         ├── a signal ──┘
                                         └── `--burst`, and nothing is left to do
"""

from __future__ import annotations

import os
import selectors
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from signal import SIGCONT, SIGSTOP, SIGTSTP, SIGUSR1
from typing import Final

import orjson

from streamfn import _core
from streamfn._core import Membership
from streamfn.clock import Clock
from streamfn.errors import LogFull, StreamNotFound
from streamfn.model.mapping import function_of
from streamfn.model.worker import WorkerConfig
from streamfn.units import to_microseconds
from streamfn.worker.messages import Start

from .deadlines import TICK
from .lane_scheduler import LaneScheduler, PlanContext
from .mapping_registry import MappingRegistry
from .progress import MappingProgress, Observer, records_behind
from .quiescence import QuiescenceCheck
from .runner_messages import RunnerMessageHandler, SupervisorParts
from .runner_pool import RunnerPool
from .runner_process import RunnerProcess
from .shutdown import Shutdown
from .signals import SignalBox
from .stacks import write_stacks
from .tally import Tally
from .verdict_writer import VerdictContext, VerdictWriter

SCAN_EVERY: Final = timedelta(milliseconds=100)
"""How often the lanes of the log are looked at when nothing has happened."""
SCAN_AGAIN: Final = timedelta(milliseconds=10)
"""Least time between two looks when something has."""
SCAN_COSTS: Final = 10
"""At least so many times what a look took passes before the next, if nothing has happened."""
PROGRESS_EVERY: Final = timedelta(milliseconds=100)
EXIT_NOT_STARTED: Final = 3
EXIT_CORRUPT: Final = 5


@dataclass(frozen=True, slots=True)
class SupervisorSetup:
    """What a supervisor works with."""

    config: WorkerConfig
    log: _core.Log
    membership: Membership
    observer: Observer
    clock: Clock


class SupervisorLoop:
    """A working supervisor: its parts, and when each has its turn."""

    def __init__(self, setup: SupervisorSetup) -> None:
        config, log, membership = setup.config, setup.log, setup.membership
        clock = setup.clock
        self._config, self._log, self._membership = config, log, membership
        self._observer, self._clock = setup.observer, clock
        self._selector = selectors.DefaultSelector()
        start = Start(
            app=config.app,
            factory=config.factory,
            log_dir=config.log_dir,
            worker=membership.uuid,
            runner=0,
            threads=config.threads,
            is_burst=config.burst,
        )
        self._runners = RunnerPool(start, clock.monotonic, self._report)
        self._runners.on_start = self._listen_to
        self._registry = MappingRegistry(log, self._report, is_strict=config.burst)
        self._tally = Tally()
        context = VerdictContext(self._registry, membership.uuid, clock, self._tally, self._report)
        self._verdicts = VerdictWriter(context)
        self._scheduler = LaneScheduler(self._registry, self._runners, self._verdicts, self._report)
        parts = SupervisorParts(
            self._runners,
            self._registry,
            self._scheduler,
            self._verdicts,
            self._tally,
            clock,
            self._report,
        )
        self._handler = RunnerMessageHandler(config, parts)
        self._shutdown = Shutdown(self._runners, config.drain_timeout, clock, self._report)
        self._quiescence = QuiescenceCheck()
        self._pool = 1
        self._was_registered = False
        self._runs: frozenset[str] = frozenset()
        self._is_untold = False
        self._last_scan = self._scan_seconds = self._last_progress = -1e9

    def run(self, signals: SignalBox) -> int:
        """Work until the end, and return the exit code."""
        self._selector.register(signals, selectors.EVENT_READ, signals)
        try:
            while not self._shutdown.is_over():
                self._turn()
                if self._handler.has_given_up:
                    return self._not_started()
                self._wait(signals)
            self._show_progress()
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
        self._end_what_does_not_leave(now)
        self._verdicts.go_on()
        if not self._shutdown.has_begun:
            if self._handler.is_registered and self._is_scan_due(now):
                self._look_at_lanes(now)
            self._runners.start_missing(self._pool, self._scheduler.solos)
        if now - self._last_progress >= PROGRESS_EVERY.total_seconds():
            self._last_progress = now
            self._show_progress()

    def _wait(self, signals: SignalBox) -> None:
        """Sleep until something happens or a tick is due, and take it in."""
        pause = SCAN_AGAIN if self._handler.has_news or self._quiescence.is_near else TICK
        ready = [key for key, _ in self._selector.select(pause.total_seconds())]
        for key in ready:
            if key.data is signals:
                self._answer(signals.take())
            elif key.fileobj is key.data.connection:
                self._read(key.data)
        for key in ready:  # what a dead runner said last is read by now
            if key.data is not signals and key.fileobj == key.data.ended:
                self._reap(key.data)

    def _read(self, runner: RunnerProcess) -> None:
        self._handler.read(runner)
        if runner.is_silent:
            self._selector.unregister(runner.connection)  # it would be readable for ever

    def _answer(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number == SIGUSR1:
                write_stacks(self._runners, self._scheduler)
            elif number == SIGTSTP:
                self._pause()
            else:
                self._shutdown.on_signal(number)
                self._tell(())

    def _pause(self) -> None:
        """Stop with all runners until somebody has us go on (Ctrl-Z, then `fg`)."""
        for runner in self._runners:
            runner.signal_group(SIGSTOP)
        os.kill(os.getpid(), SIGSTOP)
        for runner in self._runners:
            runner.signal_group(SIGCONT)

    def _watch_deadlines(self, now: float) -> None:
        """Kill the runners in which a call is past its time."""
        for runner in self._runners:
            if runner.watch is None or runner.expired:
                continue
            expired = runner.watch.look(runner.cells(), now)
            for cell in expired:
                key = self._scheduler.key_of(cell.lane)
                timeout = self._registry[key.mapping].mapping.timeout
                self._report(
                    "call_timed_out",
                    **key._asdict(),
                    runner=runner.number,
                    sequence_number=cell.running,
                    timeout=timeout.total_seconds(),
                )
            if expired:
                runner.expired = expired
                runner.kill()

    def _end_what_does_not_leave(self, now: float) -> None:
        for runner in self._runners:
            runner.end_if_it_does_not_leave(now)

    def _is_scan_due(self, now: float) -> bool:
        passed = now - self._last_scan
        if self._handler.has_news or self._quiescence.is_near:
            return passed >= max(SCAN_AGAIN.total_seconds(), self._scan_seconds)
        return passed >= max(SCAN_EVERY.total_seconds(), SCAN_COSTS * self._scan_seconds)

    def _look_at_lanes(self, now: float) -> None:
        """Scan, plan, staff; in a burst, find out whether that was all."""
        if not self._was_registered:
            self._begin()
        if self._is_untold:
            self._tell(self._runs)
        self._handler.has_news = False
        self._scheduler.scan()
        self._set_pool()
        context = PlanContext(
            worker=self._membership.uuid,
            living={**_living(self._log), self._membership.uuid: self._runs},
            pool=self._pool,
            now=now,
        )
        self._scheduler.judge_orphans(context)
        self._scheduler.arrange(context)
        self._runners.stop_idle(self._scheduler.busy, self._scheduler.solos)
        if self._config.burst:
            self._end_if_done()
        self._last_scan = self._clock.monotonic()
        self._scan_seconds = self._last_scan - now

    def _end_if_done(self) -> None:
        """End a burst when there is nothing left to do but what damage keeps from being done."""
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
            self._shutdown.drain(EXIT_CORRUPT if stopped else 0)

    def _begin(self) -> None:
        """The mappings are known: tell the other workers, and ours."""
        self._was_registered = True
        missing = self._registry.missing_stream()
        if self._config.burst and missing is not None:
            raise StreamNotFound(missing)
        names = [each.mapping.name for each in self._registry]
        self._tell(names)
        self._report(
            "worker_started",
            worker=self._membership.uuid,
            pid=os.getpid(),
            functions=names,
            processes=self._config.processes or "auto",
            threads=self._config.threads,
        )

    def _tell(self, mappings: Iterable[str]) -> None:
        """Tell the other workers what this one can run; on a full disk, at the next scan again."""
        self._runs = frozenset(mappings)
        body = membership_body(self._runs)
        try:
            self._membership.update(body)
        except LogFull:
            self._is_untold = True
        else:
            self._is_untold = False

    def _set_pool(self) -> None:
        """Decide how many pool runners there are; `auto` grows with the lanes that have work."""
        if self._config.processes is not None:
            self._pool = self._config.processes
            return
        with_work = sum(
            found.status.in_flight is not None or found.status.checkpoint < found.status.end
            for found in self._scheduler.found
        )
        self._pool = max(self._pool, min(len(os.sched_getaffinity(0)), with_work))

    def _show_progress(self) -> None:
        """Tell the observer how far the mappings are."""
        cells = [cell for runner in self._runners for cell in runner.cells()]
        calling = Counter(function_of(self._scheduler.key_of(cell.lane).mapping) for cell in cells)
        lanes: defaultdict[str, list[_core.LaneStatus]] = defaultdict(list)
        for found in self._scheduler.found:
            lanes[found.key.mapping].append(found.status)
        behind: Counter[str] = Counter()
        for mapping, of_mapping in lanes.items():
            behind[function_of(mapping)] += records_behind(of_mapping)
        boards = [runner.board for runner in self._runners]
        progress = [
            MappingProgress.of(
                name, self._tally.total(each.index, boards), calling[name], behind[name]
            )
            for each in self._registry
            for name in (each.mapping.name,)
        ]
        self._observer.on_progress(progress)

    def _not_started(self) -> int:
        sys.stderr.write(
            "error: runner processes end before they have imported the app "
            "(hint: import it with `python -X faulthandler` to see where)\n"
        )
        return EXIT_NOT_STARTED

    def _listen_to(self, runner: RunnerProcess) -> None:
        self._selector.register(runner.connection, selectors.EVENT_READ, runner)
        self._selector.register(runner.ended, selectors.EVENT_READ, runner)

    def _reap(self, runner: RunnerProcess) -> None:
        self._handler.died(runner)
        self._selector.unregister(runner.ended)
        if runner.connection in self._selector.get_map():
            self._selector.unregister(runner.connection)
        runner.close()

    def _report(self, event: str, /, **fields: object) -> None:
        self._observer.on_event({"event": event, **fields})

    def _clean_up(self) -> None:
        """Leave no process behind, whatever happened."""
        for runner in self._runners:
            runner.kill()
        for runner in self._runners:
            runner.close()
        self._selector.close()


def membership_body(mappings: Iterable[str]) -> bytes:
    """Return what other workers read: the mappings that this one can run."""
    return orjson.dumps({"pid": os.getpid(), "mappings": list(mappings)})


def _living(log: _core.Log) -> dict[str, frozenset[str]]:
    """Return the mappings that each living worker can run; one that is just starting, none."""
    living = {}
    for uuid, body in Membership.living(log).items():
        try:
            living[uuid] = frozenset(orjson.loads(body)["mappings"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            living[uuid] = frozenset()
    return living
