"""The function runners of a worker: started when the front needs one, ended by the front."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from streamfn._core import Board
from streamfn.errors import StreamfnError
from streamfn.worker.messages import StartFunctions
from streamfn.worker.report import Report

from .function_process import FunctionProcess
from .restart_backoff import RestartBackoff

FAILED_STARTS_MAX: Final = 3
"""Runners of a group that end before they are ready, one after the other, until waiting calls
fail."""


class FunctionPool:
    """Function runners by number."""

    def __init__(
        self,
        numbers: Iterator[int],
        start: Callable[[int, str, str], StartFunctions],
        monotonic: Callable[[], float],
        report: Report,
    ) -> None:
        """Start without runners.

        Args:
            numbers: The numbers of the next runners.
            start: Returns the first message to a runner, from its number, group and token.
            monotonic: The supervisor's clock.
            report: Gets events about runners.
        """
        self._numbers, self._start = numbers, start
        self._monotonic, self._report = monotonic, report
        self._runners: dict[int, FunctionProcess] = {}
        self._backoff: RestartBackoff[str] = RestartBackoff()
        self._wanted: list[str] = []
        """Groups in which runners wait for their start, once for each."""
        self.on_start: Callable[[FunctionProcess], None] = lambda _: None
        """Called with each new process."""
        self.started = 0
        """Processes started so far."""

    def __iter__(self) -> Iterator[FunctionProcess]:
        return iter(list(self._runners.values()))

    def __len__(self) -> int:
        return len(self._runners)

    def get(self, number: int) -> FunctionProcess | None:
        """Return a runner that has not exited."""
        return self._runners.get(number)

    def want(self, group: str) -> None:
        """Start a runner of a group, now or when the pause after failed starts is over."""
        self._wanted.append(group)
        self.start_wanted()

    def start_wanted(self) -> None:
        """Start the runners that are wanted and may start now."""
        now = self._monotonic()
        wanted, self._wanted = self._wanted, []
        for group in wanted:
            if not (self._backoff.may_start(group, now) and self._spawn(group, now)):
                self._wanted.append(group)

    def forget_wanted(self, group: str | None = None) -> None:
        """Start none of the wanted runners of a group, or of all groups."""
        self._wanted = [each for each in self._wanted if group not in {None, each}]

    def remove(self, runner: FunctionProcess) -> bool:
        """Remove a runner that has exited.

        Returns:
            Whether so many have failed to start that the calls of its group cannot be made.
        """
        del self._runners[runner.number]
        if runner.state != "starting":
            self._backoff.worked(runner.group)
            return False
        if runner.is_blameless:
            return False
        self._backoff.failed(runner.group, self._monotonic())
        return self._backoff[runner.group].failed_starts % FAILED_STARTS_MAX == 0

    def forgive(self) -> None:
        """Start wanted runners at once: the code has changed."""
        self._backoff.forgive()

    def _spawn(self, group: str, now: float) -> bool:
        number = next(self._numbers)
        try:
            runner = FunctionProcess(number, group, Board.create())
        except (OSError, StreamfnError) as error:  # no process, descriptor or memory left now
            self._backoff.failed(group, now)
            self._report("runner_not_started", runner=number, error_message=str(error))
            return False
        self._runners[number] = runner
        self._backoff.started(group, now)
        self.started += 1
        runner.send(self._start(number, group, runner.token))
        self.on_start(runner)
        self._report("runner_started", runner=number, pid=runner.pid, group=group)
        return True
