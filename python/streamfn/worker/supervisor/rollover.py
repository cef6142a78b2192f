"""Rolls the runners of a worker over to the code on disk, one after the other.

    begin ──> the first new runner imports ──> its code is pinned, mappings are registered
                │ fails, or takes too long       └─> for each old runner: a new one starts in its
                └─> reload failed, the old           seat and waits; the old one drains and exits;
                    code goes on                     the new one gets lanes

The new runner waits (`standby`) until the old one has exited: one seat has one part of the permits.
A lane goes from old to new code by its lease, so no call of the old code follows one of the new.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from streamfn.clock import Clock
from streamfn.errors import StreamfnError
from streamfn.units import format_count
from streamfn.worker.messages import Drain, NotReady, Ready
from streamfn.worker.report import Report

from .app_code import PinnedCode
from .runner_pool import RunnerPool
from .runner_process import RunnerProcess, Seat
from .shutdown import FINISH_PART

IMPORT_PATIENCE: Final = timedelta(seconds=60)
"""How long a new runner may take to import the new code; after it, the reload has failed."""


class Rollover:
    """The state of a reload. One goes on at a time; one more may be asked for meanwhile."""

    def __init__(
        self,
        runners: RunnerPool,
        code: PinnedCode,
        clock: Clock,
        report: Report,
        drain_timeout: timedelta,
    ) -> None:
        """Start without a reload."""
        self._runners, self._code = runners, code
        self._clock, self._report = clock, report
        self._drain_timeout = drain_timeout.total_seconds()
        self.register: Callable[[Ready], None] = lambda _: None
        """Registers the mappings of new code; if it raises `StreamfnError`, the old ones stay."""
        self.at_fault: list[str] = []
        """Files of the new code that did not import last."""
        self.is_active = False
        self._is_asked = self._is_pinned = False
        self._version_before = ""
        self._old: list[int] = []
        """Numbers of the runners with old code whose replacement has not begun."""
        self._new: RunnerProcess | None = None
        """The new runner, until it gets lanes."""
        self._current: RunnerProcess | None = None
        """The old runner that is being replaced."""
        self._until = 0.0
        """Monotonic time at which the import of `_new`, or else the drain of `_current`, ends."""

    def ask(self) -> None:
        """Ask for a reload; it begins when the current one is over."""
        self._is_asked = True

    def is_new(self, runner: RunnerProcess) -> bool:
        """Whether this is the new runner of the current reload."""
        return self._new is runner

    def turn(self, now: float) -> None:
        """Do what is due; `now` is monotonic."""
        if not self.is_active:
            if self._is_asked and self._code.version:
                self._begin(now)
        elif self._is_pinned:
            self._go_on(now)
        elif now > self._until and self._new is not None:
            self._new.end()
            limit = f"{IMPORT_PATIENCE.total_seconds():g} s"
            self._failed(f"the new code was not imported within {limit}")

    def ready(self, runner: RunnerProcess, message: Ready) -> None:
        """Handle that the new runner has imported the app."""
        if not self._is_pinned:
            try:
                self.register(message)
            except StreamfnError as error:
                runner.end()
                self._failed(str(error))
                return
            self._take_over(message)
        elif self._code.is_other(message):  # the files have changed again
            self._code.refuse(runner, message)
            return
        runner.state = "standby"

    def not_ready(self, runner: RunnerProcess, message: NotReady) -> None:
        """Handle that the new runner could not import the app."""
        runner.is_blameless = True
        if self._is_pinned:
            self._code.not_imported(runner, message)
        else:
            self.at_fault = message.files
            self._failed(message.cause, message.traceback)

    def exited(self, runner: RunnerProcess) -> None:
        """Handle the exit of any runner."""
        if self._new is not runner:
            return
        self._new = None
        if not self._is_pinned:
            self._failed("the new runner ended before it had imported the app")

    def _begin(self, now: float) -> None:
        self._is_asked, self._is_pinned, self.is_active = False, False, True
        self._version_before = self._code.version
        self._report("reload_started", code_version=self._code.version)
        seats = [each.seat for each in self._runners if not each.seat.is_solo]
        self._start_new(min(seats, key=_order, default=Seat(0)), now)
        if self._new is None:
            self._failed("the system has no process, descriptor or memory left")

    def _start_new(self, seat: Seat, now: float) -> None:
        self._new = self._runners.start_replacement(seat)
        self._until = now + IMPORT_PATIENCE.total_seconds()

    def _take_over(self, message: Ready) -> None:
        """Pin the new code: from now on runners with the old code get no more lanes."""
        self._code.pin(message)
        self._runners.forgive()
        self._is_pinned, self.at_fault = True, []
        others = [each for each in self._runners if each is not self._new]
        for each in others:
            each.is_outdated = True
            if each.state == "starting":  # it may have imported either code
                each.end()
        old = [each for each in others if each.state == "ready"]
        self._old = [each.number for each in sorted(old, key=lambda each: _order(each.seat))]

    def _go_on(self, now: float) -> None:
        """Go on with the runner that is being replaced, or else with the next one."""
        new, old = self._new, self._current
        if new is not None and new.state == "starting":
            if now > self._until:
                new.end()
            return
        if old is not None and self._runners.get(old.number) is not None:
            self._wait_for(old, now)
            return
        self._current = None
        if new is not None:
            self._fill_seat(new, now)
        else:
            self._replace_next(now)

    def _fill_seat(self, new: RunnerProcess, now: float) -> None:
        """Give the new runner lanes if its seat is free, else drain the old one that has it."""
        in_seat = [each for each in self._runners if each.seat == new.seat and each is not new]
        if in_seat:
            self._drain(in_seat[0], now)
        else:
            self._new = None
            self._runners.became_ready(new)

    def _replace_next(self, now: float) -> None:
        if not self._old:
            self.is_active = False
            before, version = self._version_before, self._code.version
            self._report("reloaded", code_version=version, version_before=before)
            return
        old = self._runners.get(self._old.pop(0))
        if old is None or old.state != "ready":
            return
        self._current = old
        if old.seat.is_solo:  # the pool starts another one if lanes need it
            self._drain(old, now)
        else:
            self._start_new(old.seat, now)

    def _wait_for(self, old: RunnerProcess, now: float) -> None:
        """Drain the old runner; if that takes too long, kill it."""
        if old.state == "ready":
            self._drain(old, now)
        elif now > self._until and not old.is_blameless:
            calls = len(old.cells())
            message = f"gave up {format_count(calls, 'call')} in flight, delivered again"
            self._report("runner_abandoned", runner=old.number, in_flight=calls, message=message)
            old.end()

    def _drain(self, old: RunnerProcess, now: float) -> None:
        self._current, self._until = old, now + self._drain_timeout
        if old.state == "ready":
            old.state = "draining"
            old.send(Drain(self._drain_timeout * FINISH_PART))

    def _failed(self, reason: str, traceback: str = "") -> None:
        """End the reload; the old code goes on."""
        self.is_active, self._new = False, None
        self._report(
            "reload_failed",
            error_message=reason,
            traceback=traceback,
            code_version=self._code.version,
            hint="the old code goes on; correct the new code; without --reload, SIGHUP again",
        )


def _order(seat: Seat) -> tuple[bool, str, int]:
    return seat.is_solo, seat.group, seat.number
