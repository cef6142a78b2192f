"""Shuts a worker down: drains it, or kills its runners if that takes too long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from signal import SIGINT, SIGQUIT, SIGTERM
from typing import Final

from streamfn.clock import Clock
from streamfn.units import format_count
from streamfn.worker.messages import Drain
from streamfn.worker.report import Report

from .by_request import ByRequest
from .runner_pool import RunnerPool

KILL_PATIENCE: Final = timedelta(seconds=5)
"""How long killed processes may take to exit."""
FINISH_PART: Final = 0.5
"""Part of the drain timeout in which batches may be finished; after it only running calls are.

With `input="record"` only running calls are finished from the start."""

EXIT_INTERRUPTED: Final = 128 + SIGINT
EXIT_QUIT: Final = 128 + SIGQUIT
EXIT_TERMINATED: Final = 128 + SIGTERM


class Shutdown:
    """The state of a worker's shutdown; while the worker is running there is no exit code."""

    def __init__(
        self,
        runners: RunnerPool,
        by_request: ByRequest,
        drain_timeout: timedelta,
        clock: Clock,
        report: Report,
    ) -> None:
        self._runners, self._by_request = runners, by_request
        self._timeout = drain_timeout.total_seconds()
        self._clock, self._report = clock, report
        self.exit_code: int | None = None
        self._end_by = 0.0
        self._is_killed = False

    @property
    def has_begun(self) -> bool:
        """Whether the worker takes no new work."""
        return self.exit_code is not None

    def is_over(self) -> bool:
        """Kill runners that take too long; return whether all runners have exited."""
        if self.exit_code is None:
            return False
        if len(self._runners) == 0 and self._by_request.is_over:
            return True
        if self._clock.monotonic() < self._end_by:
            return False
        if self._is_killed:
            return True  # they do not exit even when killed, so do not wait for them
        if self._by_request.is_over and all(runner.is_drained for runner in self._runners):
            self._kill()  # only exit functions are left, so no call is lost
        else:
            self.abandon(EXIT_TERMINATED)
        return False

    def drain(self, exit_code: int = 0) -> None:
        """Let the runners finish their batches in flight and release their lanes."""
        if self.has_begun:
            return
        self.exit_code = exit_code
        self._end_by = self._clock.monotonic() + self._timeout
        self._by_request.drain()
        for runner in self._runners:
            if runner.state in {"ready", "standby"}:
                runner.state = "draining"
                runner.send(Drain(self._timeout * FINISH_PART))
            elif runner.state == "starting":
                runner.is_blameless = True
                runner.kill()

    def abandon(self, exit_code: int) -> None:
        """Kill the runners; their records in flight are delivered again, and no attempt counts."""
        self.exit_code = exit_code
        in_flight = self._in_flight()
        lost = [*_given_up(in_flight - self._by_request.in_flight, self._by_request.in_flight)]
        message = " and ".join(lost) or "stopped at once, no calls in flight"
        self._report("worker_abandons", in_flight=in_flight, message=message, exit_code=exit_code)
        self._kill()

    def _in_flight(self) -> int:
        of_lanes = sum(len(runner.cells()) for runner in self._runners)
        return of_lanes + self._by_request.in_flight

    def _kill(self) -> None:
        self._is_killed = True
        self._by_request.kill()
        self._end_by = self._clock.monotonic() + KILL_PATIENCE.total_seconds()
        for runner in self._runners:
            runner.is_blameless = True
            runner.kill()

    def on_signal(self, number: int) -> None:
        """Handle a signal that ends the worker."""
        if number == SIGQUIT:
            self.abandon(EXIT_QUIT)
        elif number == SIGINT and self.has_begun:
            self.abandon(EXIT_INTERRUPTED)
        elif not self.has_begun:
            in_flight = self._in_flight()
            message = "ending, no calls in flight"
            if in_flight:
                message = f"finishing {format_count(in_flight, 'call')} in flight"
            if number == SIGINT:
                message += ", Ctrl+C again stops at once"
            self._report("worker_draining", in_flight=in_flight, message=message)
            self.drain()


def _given_up(of_lanes: int, by_request: int) -> Iterator[str]:
    """Yield what is given up, and what follows from that."""
    if of_lanes:
        again = "its records are" if of_lanes == 1 else "their records are"
        yield f"gave up {format_count(of_lanes, 'call')} in flight, {again} delivered again"
    if by_request:
        whose = "its caller gets" if by_request == 1 else "their callers get"
        yield f"gave up {format_count(by_request, 'call')} by request, {whose} an error"
