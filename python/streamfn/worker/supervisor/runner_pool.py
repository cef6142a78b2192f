"""The runner processes of a worker: starts missing runners and stops idle ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import chain, count, islice
from typing import Final

import msgspec

from streamfn._core import Board
from streamfn.errors import StreamfnError
from streamfn.worker.messages import Drain, Start
from streamfn.worker.report import Report

from .restart_backoff import RestartBackoff, SeatHistory
from .runner_process import RunnerProcess, Seat

YOUNG: Final = timedelta(seconds=1)
"""If a runner exits idle before this age, its start counts as failed."""
GRACE: Final = timedelta(seconds=5)
"""How long lanes are kept for a runner that starts for the first time."""
IDLE_MAX: Final = timedelta(seconds=10)
"""How long a solo runner without a lane is kept for the next lane."""


@dataclass(frozen=True, slots=True)
class PoolSize:
    """The number of runners that a group should have."""

    shared: int
    """Runners in which lanes run side by side."""
    solos: int = 0
    """Runners for lanes that must run alone."""


class RunnerPool:
    """Runner processes by number."""

    def __init__(
        self,
        start: Start,
        monotonic: Callable[[], float],
        report: Report,
        numbers: Iterator[int] | None = None,
    ) -> None:
        """Start without runners; `numbers` are those that the next runners get."""
        self._start, self._monotonic, self._report = start, monotonic, report
        self._numbers = count() if numbers is None else numbers
        self._runners: dict[int, RunnerProcess] = {}
        self._backoff: RestartBackoff[Seat] = RestartBackoff()
        self._started: dict[int, float] = {}
        self._idle_since: dict[int, float] = {}
        self.on_start: Callable[[RunnerProcess], None] = lambda _: None
        """Called with each new process."""
        self.memory_limit_of: Callable[[str], int | None] = lambda _: None
        """Returns the memory limit of the runners of a group."""
        self.has_worked = False
        """Whether a runner ever took a lane."""

    def __iter__(self) -> Iterator[RunnerProcess]:
        return iter(list(self._runners.values()))

    def __len__(self) -> int:
        return len(self._runners)

    def get(self, number: int) -> RunnerProcess | None:
        """Return a runner that has not exited."""
        return self._runners.get(number)

    def start_missing(self, sizes: Mapping[str, PoolSize]) -> None:
        """Start the runners that are missing, group by group."""
        now = self._monotonic()
        for seat in chain.from_iterable(map(self._missing, sizes, sizes.values())):
            if self._backoff.may_start(seat, now):
                self._spawn(seat, now)

    def expected(self, group: str, shared: int) -> int:
        """Return how many of a group's shared runners are starting for the first time."""
        now = self._monotonic()
        histories = [self._backoff[Seat(n, group=group)] for n in range(shared)]
        return sum(
            not each.was_ready and now - (each.first_started or now) < GRACE.total_seconds()
            for each in histories
        )

    def start_replacement(self, seat: Seat) -> RunnerProcess | None:
        """Start a runner in a seat that another one has; None: the system has no room for it."""
        runner = self._spawn(seat, self._monotonic())
        if runner is not None:
            runner.is_replacement = True
        return runner

    def became_ready(self, runner: RunnerProcess) -> None:
        """Note that a runner is ready, and that the seat is its own."""
        runner.state, runner.is_replacement = "ready", False
        self._backoff.came_up(runner.seat)

    def forgive(self) -> None:
        """Start missing runners at once: the code has changed."""
        self._backoff.forgive()

    def remove(self, runner: RunnerProcess, *, was_busy: bool) -> SeatHistory:
        """Remove a runner that has exited, and return the history of its seat."""
        now = self._monotonic()
        del self._runners[runner.number]
        self._idle_since.pop(runner.number, None)
        age = now - self._started.pop(runner.number)
        is_drained = runner.state == "draining" and not runner.is_exhausted
        if is_drained or runner.is_replacement:
            return self._backoff[runner.seat]
        is_old = runner.state != "starting" and age >= YOUNG.total_seconds()
        is_good = not runner.is_broken and runner.memory_found is None
        if was_busy or (is_old and is_good):
            self._backoff.worked(runner.seat)
        else:
            self._backoff.failed(runner.seat, now)
        return self._backoff[runner.seat]

    def stop_idle(self, busy: set[int], sizes: Mapping[str, PoolSize]) -> None:
        """Stop solo runners that are not needed and have been idle for `IDLE_MAX`.

        Runners of groups that no function belongs to any more are stopped at once.

        Args:
            busy: Numbers of the runners that have a lane.
            sizes: Number of runners that each group should have, including busy ones.
        """
        for runner in self:
            is_needed = runner.seat.group in sizes or runner.number in busy
            if runner.state == "ready" and not is_needed:
                self._stop(runner)
        now = self._monotonic()
        idle = [
            runner
            for runner in self
            if runner.seat.is_solo and runner.state == "ready" and runner.number not in busy
        ]
        since = {runner.number: self._idle_since.get(runner.number, now) for runner in idle}
        self._idle_since = since
        for group, size in sizes.items():
            seats = [runner.seat for runner in self if runner.seat.group == group]
            over = sum(seat.is_solo for seat in seats) - size.solos
            of_group = [runner for runner in idle if runner.seat.group == group]
            for runner in of_group[: max(over, 0)]:
                if now - since[runner.number] > IDLE_MAX.total_seconds():
                    self._stop(runner)

    def _stop(self, runner: RunnerProcess) -> None:
        """Make an idle runner exit."""
        runner.state = "draining"
        runner.send(Drain(0.0))

    def drain_all(self) -> None:
        """Let all ready runners exit: there are no lanes for them."""
        for runner in self:
            if runner.state == "ready":
                runner.state = "draining"
                runner.send(Drain(0.0))

    def _missing(self, group: str, size: PoolSize) -> Iterable[Seat]:
        """Return the empty seats of a group in which runners must start."""
        taken = {runner.seat for runner in self if runner.seat.group == group}
        first = Seat(0, group=group)
        shared = [replace(first, number=n) for n in range(size.shared)]
        # WHY counted: the solo runners that are left may be in any seats.
        missing = size.solos - sum(seat.is_solo for seat in taken)
        solos = (replace(first, number=n, is_solo=True) for n in count())
        empty = (seat for seat in solos if seat not in taken)
        return [seat for seat in shared if seat not in taken] + list(islice(empty, max(missing, 0)))

    def _spawn(self, seat: Seat, now: float) -> RunnerProcess | None:
        number = next(self._numbers)
        try:
            runner = RunnerProcess(number, seat, Board.create())
        except (OSError, StreamfnError) as error:  # no process, descriptor or memory left now
            self._backoff.failed(seat, now)
            self._report("runner_not_started", runner=number, error_message=str(error))
            return None
        runner.memory_limit = self.memory_limit_of(seat.group)
        self._runners[number] = runner
        self._started[number] = now
        self._backoff.started(seat, now)
        self.on_start(runner)
        threads = 1 if seat.is_solo else self._start.threads
        runner.send(msgspec.structs.replace(self._start, runner=number, threads=threads))
        self._report("runner_started", runner=number, pid=runner.pid, is_solo=seat.is_solo)
        return runner
