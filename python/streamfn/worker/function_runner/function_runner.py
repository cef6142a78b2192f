"""A function runner: a process that imports the app and calls its functions by request.

It is started as a runner of lanes is. Once the supervisor has checked its code, it connects to the
front of the worker, which gives it calls.
"""

from __future__ import annotations

import os
from functools import partial
from typing import NoReturn

from streamfn._core import Board
from streamfn.app import App
from streamfn.clock import SystemClock
from streamfn.engine.function_call import FunctionInvoker
from streamfn.engine.lazy_event_loop import LazyEventLoop
from streamfn.engine.outcome import Failure
from streamfn.engine.sturdy_thread import SturdyThread
from streamfn.invocation.frames import Frame, Kind
from streamfn.log import Log
from streamfn.model.function_context import ContextLog
from streamfn.worker.child.app_import import code_of, import_app
from streamfn.worker.child.description import described
from streamfn.worker.child.process import SupervisedProcess
from streamfn.worker.child.start_child import users_modules_first
from streamfn.worker.child.user_output import UserOutput
from streamfn.worker.counters import MappingCounts
from streamfn.worker.exit_codes import EXIT_BROKEN, EXIT_EXHAUSTED
from streamfn.worker.messages import (
    Drain,
    StartFunctions,
    decode_function_command,
    receive_lines,
)
from streamfn.worker.shared_counts import SharedCounts

from .calls import CalledFunction, FunctionCalls
from .front_link import FrontLink
from .seats import Seats


def run_process(descriptors: list[str], path: list[str]) -> NoReturn:
    """Run until the front or the supervisor ends this runner, then exit.

    Args:
        descriptors: Numbers of the descriptors: control socket, life-line, output, stacks, board.
        path: The original `sys.path`.
    """
    control, lifeline, user_output, stacks, board = map(int, descriptors)
    process = SupervisedProcess(control, lifeline, stacks, user_output, board)
    memory = Board.attach(board)
    os.close(board)

    def work() -> int:
        start = decode_function_command(process.first_line())
        assert isinstance(start, StartFunctions)
        output = UserOutput(user_output)
        users_modules_first(path, start.app)
        app = import_app(start.app, process, factory=start.factory)
        output.catch_logging(start.log_level)
        with Log.open(start.log_dir) as log:
            process.link.send(described(app, code_of(start.app, app)))
            runner = FunctionRunner(start, app, log, process, output, memory)
            runner.run()
        return 0

    process.run(work)


class FunctionRunner:
    """Builds the parts of a function runner and runs it."""

    def __init__(
        self,
        start: StartFunctions,
        app: App,
        log: Log,
        process: SupervisedProcess,
        output: UserOutput,
        board: Board,
    ) -> None:
        self._process, self._app, self._log, self._board = process, app, log, board
        self._loops = LazyEventLoop(is_shielded=True)
        self._functions = self._of_group(start.group)
        invokers = [each.invoker for each in self._functions.values()]
        count = min((each.config.per_process for each in invokers), default=1)
        header = {"runner": start.runner, "token": start.token, "seats": count}
        hello = Frame(Kind.RUNNER, header)
        self._link = FrontLink((start.log_dir, start.worker), hello, self._strayed, self._exhausted)
        calls = FunctionCalls(self._functions, board, process.link.report, output.end_lines)
        self._seats = Seats(count, self._link, calls, self._strayed)

    def run(self) -> None:
        """Wait for the supervisor's word, and make calls until this runner leaves."""
        if not self._may_go():
            return
        SturdyThread(self._obey, "control").start()
        while not self._has_run():
            pass
        if self._seats.is_exhausted:
            self._exhausted()
        self._loops.close()

    def _has_run(self) -> bool:
        try:
            self._seats.run()
        except BaseException as error:  # noqa: BLE001 -- thrown into this thread
            self._strayed(error)
            return False
        return True

    def _of_group(self, group: str) -> dict[str, CalledFunction]:
        """Return the functions of this runner's group, with their counters."""
        context_log, clock = ContextLog(lambda: self._log), SystemClock()
        shared = SharedCounts(self._log.core, self._board, self._process.link.report)
        functions = {}
        for index, config in enumerate(self._app.functions):
            if config.group != group:
                continue
            shared.use(index, config.name)
            handler = self._app.handler(config.name)
            invoker = FunctionInvoker(config, handler, context_log, clock, self._loops)
            counts = MappingCounts(self._board, index)
            functions[config.name] = CalledFunction(index, invoker, counts)
        return functions

    def _may_go(self) -> bool:
        """Wait for `Go`; False: the supervisor drains this runner instead."""
        process = self._process
        received: list[bytes] | None = []
        while not received:
            received = receive_lines(process.connection, process.lines)
            if received is None:
                process.link.hang_up()
        return not any(isinstance(decode_function_command(line), Drain) for line in received)

    def _obey(self) -> None:
        """Carry out the supervisor's commands until it has closed, in a thread of their own."""
        process = self._process
        try:
            while (received := receive_lines(process.connection, process.lines)) is not None:
                for line in received:
                    if isinstance(decode_function_command(line), Drain):
                        SturdyThread(self._seats.drain, "drain").start()
        except BaseException as error:  # noqa: BLE001 -- without commands this runner is useless
            self._report("process_broken", error)
            os._exit(EXIT_BROKEN)
        process.link.hang_up()

    def _strayed(self, error: BaseException) -> None:
        """Report an exception that was thrown into a thread of ours; another may come meanwhile."""
        try:  # noqa: SIM105 -- `suppress` has code of its own, in which another may come
            self._report("exception_ignored", error)
        except BaseException:  # noqa: BLE001, S110 -- as above
            pass

    def _report(self, event: str, error: BaseException) -> None:
        told = Failure.of(error)
        report = partial(self._process.link.report, event)
        report(error_type=told.error_type, error_message=told.error_message)

    def _exhausted(self) -> NoReturn:
        """Exit, because this process is out of descriptors, memory or threads."""
        self._process.link.report("runner_exhausted")
        self._process.leave(EXIT_EXHAUSTED)
