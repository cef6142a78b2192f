"""The supervisor's view of a function runner."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Final

from streamfn._core import Board
from streamfn.model.function_config import FunctionConfig
from streamfn.worker.messages import RunnerReport, decode_report

from .child_process import ChildProcess
from .deadlines import DeadlineWatch
from .front_messages import RunnerEnded
from .verdict import Cell

MODULE: Final = "streamfn.worker.function_runner.function_runner"
TOKEN_BYTES: Final = 16


class FunctionProcess(ChildProcess):
    """A process that calls functions by request; the front gives it calls and dismisses it."""

    def __init__(self, number: int, group: str, board: Board) -> None:
        """Start the process.

        Args:
            number: Its number among all runners of this worker.
            group: The functions that it runs, see `FunctionConfig.group`.
            board: Memory shared with it; it stays readable after the exit.
        """
        super().__init__(MODULE, number, (board.fd,))
        self._group, self.board = group, board
        self.token = secrets.token_hex(TOKEN_BYTES)
        """What it shows to the front."""
        self.functions: tuple[FunctionConfig, ...] = ()
        """All functions by request of its code, once it is ready."""
        self.places: dict[str, int] = {}
        """The functions of its group, and their places among all, which its board has, too."""
        self.watch: DeadlineWatch | None = None
        """Watches its calls, once it is ready."""
        self.expired: frozenset[Cell] = frozenset()
        """Calls past their timeout, for which it was killed."""

    @property
    def group(self) -> str:
        """The group of functions that it runs."""
        return self._group

    def take(self, functions: Iterable[FunctionConfig]) -> None:
        """Note which functions by request its code has."""
        self.functions = tuple(functions)
        self.places = {
            each.name: place
            for place, each in enumerate(self.functions)
            if each.group == self._group
        }

    def receive(self) -> list[RunnerReport]:
        """Return the messages received so far; after the exit, the last ones."""
        return [decode_report(line) for line in self.receive_lines()]

    def cells(self) -> tuple[Cell, ...]:
        """Return the calls in progress; after the exit, those that were in progress then."""
        return tuple(Cell(*cell) for cell in self.board.cells())

    def ended_as(self, detail: int) -> RunnerEnded:
        """Return how it ended, for the front.

        Args:
            detail: `exit_detail`.
        """
        number = self.number
        if self.memory_found is not None and self.memory_limit is not None and detail > 0:
            return RunnerEnded(number, "memory", self.memory_limit)
        if self.expired and detail > 0:
            return RunnerEnded(number, "timeout", detail, tuple(each.cell for each in self.expired))
        if detail > 0:
            return RunnerEnded(number, "signal", detail)
        is_drained = detail == 0 and self.state == "draining"
        return RunnerEnded(number, "drain" if is_drained else "exit", -detail)
