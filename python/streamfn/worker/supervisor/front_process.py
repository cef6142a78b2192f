"""The supervisor's view of the front: the process that takes calls by request (docs/front.md)."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from streamfn import _core

from .child_process import ChildProcess
from .front_messages import FrontReport, decode_front_report

RUN_FRONT: Final = str(Path(__file__).parents[1] / "front" / "run_front.py")


class FrontProcess(ChildProcess):
    """A front; it runs no code of users."""

    def __init__(self, number: int, listener: socket.socket) -> None:
        """Start the process.

        Args:
            number: How many fronts this worker had before.
            listener: The worker's socket, which stays open here.

        Raises:
            OSError: The system has no process, descriptor or memory left.
        """
        super().__init__(RUN_FRONT, number, (listener.fileno(),))

    def receive(self) -> list[FrontReport]:
        """Return the messages received so far; after the exit, the last ones."""
        return [decode_front_report(line) for line in self.receive_lines()]

    def _arguments(self, module: str, inherited: Sequence[int]) -> list[str]:
        control, lifeline, _output, _stacks, listener = map(str, inherited)
        return ["-I", "-S", module, str(_core.__file__), listener, control, lifeline]
