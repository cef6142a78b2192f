"""The supervisor's view of a runner: a child process with a seat, a board and deadlines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from streamfn._core import Board
from streamfn.worker.messages import RunnerReport, decode_report

from .child_process import ChildProcess
from .deadlines import DeadlineWatch
from .runner_group import APP_GROUP
from .verdict import Cell

MODULE: Final = "streamfn.worker.runner.runner"


@dataclass(frozen=True, slots=True)
class Seat:
    """A place for a runner; when the runner exits, the next one takes the same seat."""

    number: int
    is_solo: bool = False
    """Whether it is for lanes that must run alone."""
    group: str = APP_GROUP
    """Its runner calls functions of this group only, see `runner_group`."""


class RunnerProcess(ChildProcess):
    """A runner process; it sends `Ready` or `NotReady` after importing the app."""

    def __init__(self, number: int, seat: Seat, board: Board) -> None:
        """Start the process.

        Args:
            number: Its number in this worker, never used again.
            seat: Its seat.
            board: Memory shared with it; it stays readable after the exit.
        """
        super().__init__(MODULE, number, (board.fd,))
        self.seat, self.board = seat, board
        self.watch: DeadlineWatch | None = None
        """Watches its calls, once it is ready."""
        self.expired: frozenset[Cell] = frozenset()
        """Calls past their timeout, for which it was killed."""
        self.is_in_doubt = False
        """Whether it exited by itself because calls failed in it because of other calls."""
        self.is_replacement = False
        """Whether another runner still has its seat, or had it until its import failed."""
        self.is_outdated = False
        """Whether it has code from before a reload: it gets no more lanes."""

    @property
    def group(self) -> str:
        """The group of functions that it runs."""
        return self.seat.group

    def receive(self) -> list[RunnerReport]:
        """Return the messages received so far; after the exit, the last ones."""
        return [decode_report(line) for line in self.receive_lines()]

    def cells(self) -> tuple[Cell, ...]:
        """Return the calls in progress; after the exit, those that were in progress then."""
        return tuple(Cell(*cell) for cell in self.board.cells())
