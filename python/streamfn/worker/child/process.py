"""The child's half of a supervised process: setup, first message, work, exit.

The socket carries `messages`. The life-line is a pipe that closes when the supervisor exits: a
native thread reads it, and then ends the whole process group.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import NoReturn

from streamfn import _core
from streamfn.engine.outcome import Failure
from streamfn.worker.exit_codes import EXIT_BROKEN, EXIT_ORPHANED
from streamfn.worker.messages import Leaving, Lines, receive_lines

from .process_setup import let_children_be, prepare_process, run_exit_functions
from .supervisor_link import SupervisorLink


class SupervisedProcess:
    """The current process as a supervised child."""

    def __init__(self, control: int, lifeline: int, stacks: int, *shared: int) -> None:
        """Set the process up: signals, limits, the life-line, forked children.

        Args:
            control: Descriptor of the socket to the supervisor.
            lifeline: Descriptor of the pipe that closes when the supervisor exits.
            stacks: Descriptor of the memory that takes stacks on SIGUSR1.
            shared: More inherited descriptors. Programs that user code starts do not inherit any of
                these descriptors.
        """
        for descriptor in (control, lifeline, stacks, *shared):
            os.set_inheritable(descriptor, False)  # noqa: FBT003 -- positional only
        _core.exit_when_closed(lifeline, EXIT_ORPHANED)
        _core.raise_file_limit()
        prepare_process(stacks)
        self.connection, self.lines = socket.socket(fileno=control), Lines()
        self.link = SupervisorLink(self.connection)
        let_children_be(self.connection, lifeline)

    def first_line(self) -> bytes:
        """Wait for the first message; the supervisor sends no other until it is answered."""
        received: list[bytes] = []
        while not received:
            more = receive_lines(self.connection, self.lines)
            if more is None:
                os._exit(EXIT_ORPHANED)
            received = more
        assert len(received) == 1, "the supervisor waits until we are ready"
        return received[0]

    def run(self, work: Callable[[], int]) -> NoReturn:
        """Call `work`, and exit with the code that it returns.

        If `work` raises, the exception is reported and the process exits with `EXIT_BROKEN`.
        """
        code = EXIT_BROKEN
        try:
            code = work()
        except BaseException as error:  # noqa: BLE001 -- user threads must not keep it from ending
            failure = Failure.of(error)
            self.link.report(
                "process_broken",
                error_type=failure.error_type,
                error_message=failure.error_message,
                traceback=failure.traceback,
            )
        self.leave(code)

    def leave(self, code: int) -> NoReturn:
        """Exit as Python would, but without waiting for threads that user code left running.

        The supervisor is told first: it waits some seconds for the exit functions, and no longer.
        """
        try:
            self.link.send(Leaving(code))
            run_exit_functions()
        finally:
            os._exit(code)
