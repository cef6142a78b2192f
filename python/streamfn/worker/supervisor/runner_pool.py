"""The runner processes of a worker: which there should be, and when the next one may start.

A seat whose runner died is filled again at once if that runner had work, and after a growing pause
if it died at its import or soon after: something is wrong that a restart does not cure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, count, islice
from typing import Final

from streamfn._core import Board
from streamfn.errors import StreamfnError
from streamfn.worker.messages import Drain, Start
from streamfn.worker.report import Report

from .runner_process import RunnerProcess, Seat

PAUSE: Final = timedelta(milliseconds=100)
PAUSE_MAX: Final = timedelta(seconds=30)
"""Between the starts of a runner that does not come up: doubled each time, up to this."""
YOUNG: Final = timedelta(seconds=1)
"""A runner that dies idle before this age counts as one that did not come up."""
GRACE: Final = timedelta(seconds=5)
"""How long lanes are kept for a runner that starts for the first time."""
IDLE_MAX: Final = timedelta(seconds=10)
"""How long a solo runner without a lane is kept for the next one."""


@dataclass(slots=True)
class SeatHistory:
    """What is known of a seat."""

    failed_starts: int = 0
    """Runners in a row that did not come up."""
    not_before: float = 0.0
    """When the next may start, on the monotonic clock."""
    first_started: float = 0.0
    was_ready: bool = False


class RunnerPool:
    """Runner processes by number."""

    def __init__(self, start: Start, monotonic: Callable[[], float], report: Report) -> None:
        self._start, self._monotonic, self._report = start, monotonic, report
        self._runners: dict[int, RunnerProcess] = {}
        self._history: dict[Seat, SeatHistory] = {}
        self._started: dict[int, float] = {}
        self._idle_since: dict[int, float] = {}
        self._next_number = 0
        self.on_start: Callable[[RunnerProcess], None] = lambda _: None
        """Told of each new process."""
        self.has_worked = False
        """Whether a runner ever took a lane."""

    def __iter__(self) -> Iterator[RunnerProcess]:
        return iter(list(self._runners.values()))

    def __len__(self) -> int:
        return len(self._runners)

    def get(self, number: int) -> RunnerProcess | None:
        """Return a living runner."""
        return self._runners.get(number)

    def start_missing(self, pool: int, solos: int) -> None:
        """Start what is missing of so many runners in the pool and so many solo ones."""
        now = self._monotonic()
        taken = {runner.seat for runner in self}
        # WHY counted: who is left of the solo runners need not be in the first seats.
        missing = solos - sum(seat.is_solo for seat in taken)
        empty = (seat for n in count() if (seat := Seat(n, is_solo=True)) not in taken)
        wanted = [seat for n in range(pool) if (seat := Seat(n)) not in taken]
        for seat in chain(wanted, islice(empty, max(missing, 0))):
            if self._of(seat).not_before <= now:
                self._spawn(seat, now)

    def expected(self, pool: int) -> int:
        """Return how many of the pool are still on their way for the first time."""
        now = self._monotonic()
        return sum(
            1
            for history in map(self._of, map(Seat, range(pool)))
            if not history.was_ready
            and now - (history.first_started or now) < GRACE.total_seconds()
        )

    def became_ready(self, runner: RunnerProcess) -> None:
        """Note that a runner came up."""
        runner.state = "ready"
        history = self._of(runner.seat)
        history.was_ready = True

    def remove(self, runner: RunnerProcess, *, was_busy: bool) -> SeatHistory:
        """Take a dead runner out, and return what is known of its seat now."""
        now = self._monotonic()
        del self._runners[runner.number]
        self._idle_since.pop(runner.number, None)
        age = now - self._started.pop(runner.number)
        history = self._of(runner.seat)
        if runner.state == "draining" and not runner.is_exhausted:
            return history
        is_old = runner.state != "starting" and age >= YOUNG.total_seconds()
        if was_busy or (is_old and not runner.is_broken):
            history.failed_starts = 0
            return history
        self._note_failed_start(history, now)
        return history

    def stop_idle(self, busy: set[int], solos: int) -> None:
        """End solo runners that are not wanted and have had nothing to do for a while.

        Args:
            busy: Numbers of the runners that have a lane.
            solos: How many solo runners there should be, those that have a lane included.
        """
        now = self._monotonic()
        idle = [
            runner
            for runner in self
            if runner.seat.is_solo and runner.state == "ready" and runner.number not in busy
        ]
        over = sum(runner.seat.is_solo for runner in self) - solos
        since = {runner.number: self._idle_since.get(runner.number, now) for runner in idle}
        self._idle_since = since
        for runner in idle[: max(over, 0)]:
            if now - since[runner.number] > IDLE_MAX.total_seconds():
                runner.state = "draining"
                runner.send(Drain(0.0))

    def _note_failed_start(self, history: SeatHistory, now: float) -> None:
        pause = min(PAUSE * 2**history.failed_starts, PAUSE_MAX)
        history.failed_starts = min(history.failed_starts + 1, 16)
        history.not_before = now + pause.total_seconds()

    def _of(self, seat: Seat) -> SeatHistory:
        return self._history.setdefault(seat, SeatHistory())

    def _spawn(self, seat: Seat, now: float) -> None:
        number = self._next_number
        self._next_number += 1
        try:
            runner = RunnerProcess(number, seat, Board.create())
        except (OSError, StreamfnError) as error:  # no process, descriptor or memory to be had now
            self._note_failed_start(self._of(seat), now)
            self._report("runner_not_started", runner=number, error_message=str(error))
            return
        self._runners[number] = runner
        self._started[number] = now
        history = self._of(seat)
        history.first_started = history.first_started or now
        self.on_start(runner)
        start = self._start
        runner.send(
            Start(
                app=start.app,
                factory=start.factory,
                log_dir=start.log_dir,
                worker=start.worker,
                runner=number,
                threads=1 if seat.is_solo else start.threads,
                is_burst=start.is_burst,
            )
        )
        self._report("runner_started", runner=number, pid=runner.pid, is_solo=seat.is_solo)
