"""A runner, seen from its supervisor: a child process with a seat, a board and deadlines."""

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
    """A place that a runner fills; after its exit the next runner takes the same place."""

    number: int
    is_solo: bool = False
    """For lanes that have to run with nothing beside them."""
    group: str = APP_GROUP
    """The runner calls functions of this group only, see `runner_group`."""


class RunnerProcess(ChildProcess):
    """A runner process; it says `Ready` or `NotReady` when it has imported the app."""

    def __init__(self, number: int, seat: Seat, board: Board) -> None:
        """Start the process.

        Args:
            number: Its number in this worker, never used again.
            seat: The place that it fills.
            board: Memory to share with it; readable after its exit, too.
        """
        super().__init__(MODULE, number, (board.fd,))
        self.seat, self.board = seat, board
        self.watch: DeadlineWatch | None = None
        """Watches its calls, once it is ready."""
        self.expired: frozenset[Cell] = frozenset()
        """Calls past their timeout, for which it was killed."""
        self.is_in_doubt = False
        """It ended itself because calls failed in it for what other calls had done."""

    def receive(self) -> list[RunnerReport]:
        """Return the messages that have come; after its exit, the last of them."""
        return [decode_report(line) for line in self.receive_lines()]

    def cells(self) -> tuple[Cell, ...]:
        """Return the calls in progress; after its exit, those that it was in."""
        return tuple(Cell(*cell) for cell in self.board.cells())

    def kill_if_a_call_is_late(self, now: float) -> frozenset[Cell]:
        """Kill it when calls are past their timeout, and return them; once in its life."""
        if self.watch is None or self.expired:
            return frozenset()
        self.expired = self.watch.look(self.cells(), now)
        if self.expired:
            self.kill()
        return self.expired
