"""A runner process: imports the app and calls its functions on the lanes assigned to it.

`child.start_child` starts it with descriptors from the supervisor: the socket of `messages`, a pipe
that is closed when the supervisor exits, and the memory of the board. The main thread is the first
of the threads that run lanes; another thread carries out the supervisor's commands.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random
from typing import NoReturn

from streamfn._core import Board, LaneSet
from streamfn.app import App
from streamfn.app.fingerprint import AppCode
from streamfn.clock import SystemClock
from streamfn.engine.invoker import Invoker
from streamfn.engine.lazy_event_loop import LazyEventLoop
from streamfn.log import Log
from streamfn.worker.child.app_import import code_of, import_app
from streamfn.worker.child.description import described
from streamfn.worker.child.process import SupervisedProcess
from streamfn.worker.child.start_child import users_modules_first
from streamfn.worker.child.supervisor_link import SupervisorLink
from streamfn.worker.child.user_output import UserOutput
from streamfn.worker.exit_codes import EXIT_EXHAUSTED
from streamfn.worker.messages import Alone, Start, decode_command

from .commands import CommandHandler
from .lane_job import LaneFunction, RunnerContext, lane_functions
from .lane_threads import LaneThreads


def run_process(descriptors: list[str], path: list[str]) -> NoReturn:
    """Run until drained, then exit.

    Args:
        descriptors: Numbers of the descriptors: control socket, life-line, output, stacks, board.
        path: The original `sys.path`.
    """
    control, lifeline, user_output, stacks, board = map(int, descriptors)
    process = SupervisedProcess(control, lifeline, stacks, user_output, board)
    memory = Board.attach(board)
    os.close(board)

    def work() -> int:
        start = decode_command(process.first_line())
        assert isinstance(start, Start)
        output = UserOutput(user_output)
        users_modules_first(path, start.app)
        app = import_app(start.app, process, factory=start.factory)
        output.catch_logging(start.log_level)
        with Log.open(start.log_dir) as log:
            code = code_of(start.app, app)
            runner = Runner(start, app, log, process.link, code)
            runner.end_lines = output.end_lines
            process.link.send(described(app, code))
            if not runner.run(memory, process):
                process.leave(EXIT_EXHAUSTED)
        return 0

    process.run(work)


class Runner:
    """Builds the parts of a runner and runs it."""

    def __init__(
        self, start: Start, app: App, log: Log, link: SupervisorLink, code: AppCode
    ) -> None:
        self._start, self._app, self._log, self._link = start, app, log, link
        self._clock = SystemClock()
        self._loops = LazyEventLoop(is_shielded=True)
        self._lanes = LaneSet(log.core, worker=start.worker, runner=start.runner)
        self._lanes.set_burst(start.is_burst)
        self._functions = lane_functions(app.mappings, log.core, self._clock, code.version)
        self.end_lines: Callable[[], None] = lambda: None
        """Sends what a call printed without a line break at the end."""

    def run(self, board: Board, process: SupervisedProcess) -> bool:
        """Carry out commands and run lanes until drained; then release all lanes.

        Args:
            board: The board of this runner.
            process: Has the connection to the supervisor.

        Returns:
            False: the process is out of descriptors, memory or threads. Then lanes are not
            released: the slot of a lane that failed for it says that a call was running, and the
            supervisor decides about it.
        """
        threads = LaneThreads(self._context(board), self._functions, self._invoker)
        CommandHandler(self._log.core, threads, self._link).listen(
            process.connection, process.lines
        )
        threads.start(self._start.threads)
        threads.run()
        threads.join()
        if threads.is_exhausted:
            return False
        self._loops.close()
        self._lanes.close()
        return True

    def _context(self, board: Board) -> RunnerContext:
        return RunnerContext(
            lanes=self._lanes,
            board=board,
            clock=self._clock,
            random=Random(),  # noqa: S311 -- spreads waits, keeps no secret
            report=self._link.report,
            released_alone=lambda lane, seconds: self._link.send(Alone(lane, seconds)),
            end_lines=self.end_lines,
        )

    def _invoker(self, function: LaneFunction) -> Invoker:
        handler = self._app.handler(function.mapping.name)
        return Invoker(function.mapping, handler, self._log, self._clock, self._loops)
