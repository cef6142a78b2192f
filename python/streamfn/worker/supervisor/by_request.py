"""Functions called by request: what the supervisor does for them.

It starts the front, starts function runners when the front asks, checks their code, watches their
deadlines and memory, and tells the front how they ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from signal import SIGCONT, SIGSTOP
from typing import Any, Final

from streamfn._core import Log
from streamfn.clock import Clock
from streamfn.engine.handling import CANCEL_GRACE
from streamfn.model.function_config import FunctionConfig
from streamfn.model.worker import WorkerConfig
from streamfn.units import format_size
from streamfn.worker.exit_codes import OWN_EXITS
from streamfn.worker.messages import (
    Drain,
    Event,
    Go,
    Leaving,
    Message,
    NotReady,
    Ready,
    StartFunctions,
)
from streamfn.worker.report import Report

from .app_code import HINT, PinnedCode
from .child_events import ChildEvents
from .deadlines import DeadlineWatch, kill_if_late
from .front import Front
from .front_messages import (
    DrainFront,
    FrontFunction,
    Functions,
    Load,
    RunnerEnded,
    RunnerStarted,
    Settings,
    StartFailed,
)
from .function_pool import FunctionPool
from .function_process import FunctionProcess
from .memory_watch import MemoryWatch
from .request_counts import RequestCounts
from .signals import signal_name

SYNTAX_ERRORS: Final = ("SyntaxError", "IndentationError", "TabError")


@dataclass(frozen=True, slots=True)
class ByRequestParts:
    """The parts of a supervisor that functions by request need."""

    config: WorkerConfig
    log: Log
    worker: str
    """UUID of the worker."""
    numbers: Iterator[int]
    """Numbers of the next runners."""
    events: ChildEvents
    clock: Clock
    report: Report
    code: PinnedCode
    memory: MemoryWatch


class ByRequest:
    """The front and the function runners of a worker."""

    def __init__(self, parts: ByRequestParts) -> None:
        """Start without functions."""
        self._parts = parts
        config = parts.config
        settings = Settings(
            worker=parts.worker,
            runners_max=config.runners_max,
            starts_max=len(os.sched_getaffinity(0)),
            idle_seconds=config.idle.total_seconds(),
            supervisor=os.getpid(),
        )
        self.front = Front(config.log_dir, settings, parts.events, parts.clock, parts.report)
        self.runners = FunctionPool(parts.numbers, self._start, parts.clock.monotonic, parts.report)
        self.runners.on_start = self._started
        self.counts = RequestCounts(parts.log, parts.report)
        parts.memory.watch(self.runners)
        self.functions: tuple[FunctionConfig, ...] = ()
        """Those that run here, in the order of the code."""
        self.in_code: tuple[str, ...] = ()
        """Names of all of the code, those that do not run (`--only`) included."""
        self.start_errors: dict[str, str] = {}
        """Why no runner of a group can start, by group, until one is ready."""
        self.cannot_start = ""
        """Why no runner can start though one is needed; then the worker ends."""
        self._is_draining = False

    # ---------------------------------------------------------------- for the main loop

    def register(self, configs: Sequence[FunctionConfig], only: set[str]) -> None:
        """Take over the functions of the app; those before end after their calls.

        Args:
            configs: All functions by request of the app.
            only: Names of the functions to run; empty: all.

        Raises:
            OSError: The worker's socket cannot be made.
        """
        self.in_code = tuple(each.name for each in configs)
        self.functions = tuple(each for each in configs if not only or each.name in only)
        self.start_errors = {}
        self.counts.use(each.name for each in self.functions)
        if self.functions:
            self.front.open()
        self.runners.forgive()
        self.runners.forget_wanted()
        self.front.send(self._functions())
        for runner in self.runners:
            if runner.state == "starting":
                runner.end()  # it may have imported either code
            elif runner.state == "ready":
                self._drain(runner)

    def turn(self, now: float) -> None:
        """Do what is due; `now` is monotonic."""
        self.front.flush()
        if not self._is_draining:
            self.front.keep_running(self)
            self.runners.start_wanted()
        for runner in self.runners:
            if self._is_draining and self.front.process is None and runner.state == "ready":
                self._drain(runner)  # nobody else tells it
            runner.flush()
            self._end_late_calls(runner, now)
            runner.end_if_it_does_not_leave(now)

    @property
    def in_flight(self) -> int:
        """Number of calls in progress."""
        return sum(len(runner.cells()) for runner in self.runners)

    @property
    def is_over(self) -> bool:
        """Whether no process is left."""
        return self.front.process is None and not self.runners

    def load_of(self, name: str) -> Load:
        """Return what runs and waits of a function, and what all fronts have counted."""
        now, before = self.front.load.get(name, Load()), self.front.counted.get(name, Load())
        return Load(
            now.running, now.queued, now.calls + before.calls, now.throttled + before.throttled
        )

    @property
    def waiting(self) -> dict[str, int]:
        """How many calls of each function wait for a process."""
        return {each.name: self.load_of(each.name).queued for each in self.functions}

    def totals(self) -> Iterator[tuple[str, list[int], Load]]:
        """Yield for each function its name, its counts, and what runs and waits."""
        for each in self.functions:
            load = self.load_of(each.name)
            self.counts.throttled(each.name, load.throttled)
            yield each.name, self.counts.total(each.name, self.runners), load

    def drain(self) -> None:
        """Take no more calls, and let the runners end after their calls."""
        if self._is_draining:
            return
        self._is_draining = True
        self.runners.forget_wanted()
        self.front.drain(DrainFront())
        for runner in self.runners:
            if runner.state == "starting":
                runner.end()

    def kill(self) -> None:
        """Kill all processes."""
        self.front.kill()
        for runner in self.runners:
            runner.end()

    def pause(self) -> None:
        """Stop all runners."""
        for runner in self.runners:
            runner.signal_group(SIGSTOP)

    def resume(self) -> None:
        """Continue all runners."""
        for runner in self.runners:
            runner.signal_group(SIGCONT)

    def close(self) -> None:
        """Kill what is left, and remove the socket."""
        for runner in self.runners:
            runner.kill()
            runner.close()
        self.front.close()

    # ---------------------------------------------------------------- for the front

    def introduction(self) -> Iterable[Message]:
        """Return the functions, and the runners that will connect."""
        yield self._functions()
        for runner in self.runners:
            if runner.state in {"starting", "ready"}:
                is_busy = bool(runner.cells())
                yield RunnerStarted(runner.number, runner.group, runner.token, is_busy)

    def start_runner(self, group: str) -> None:
        """Start a function runner, unless its functions are gone."""
        if any(each.group == group for each in self.functions) and not self._is_draining:
            self.runners.want(group)

    def dismissed(self, number: int) -> None:
        """Note that a function runner leaves because the front said so."""
        runner = self.runners.get(number)
        if runner is not None and runner.state == "ready":
            runner.state = "draining"

    # ---------------------------------------------------------------- for function runners

    def printed(self, runner: FunctionProcess, fields: dict[str, Any]) -> None:
        """Log a line that user code printed or logged."""
        self._parts.report("output", runner=runner.number, **fields)

    def read(self, runner: FunctionProcess) -> None:
        """Handle the messages of a runner."""
        for message in runner.receive():
            match message:
                case Ready():
                    self._ready(runner, message)
                case NotReady():
                    self._not_ready(runner, message)
                case Event(fields):
                    self._take_event(runner, dict(fields))
                case Leaving(exit_code):
                    runner.leaves(exit_code, self._parts.clock.monotonic())

    def exited(self, runner: FunctionProcess) -> None:
        """Handle the exit of a runner, and tell the front."""
        self.read(runner)
        detail, cells = runner.exit_detail(), runner.cells()
        ended = runner.ended_as(detail)
        has_given_up = self.runners.remove(runner)
        self.front.send(ended)
        if has_given_up:
            message = f"Runtime exited before it was ready: {_reason(ended, detail)}"
            self._fail(runner.group, "Runtime.ExitError", message)
        was_meant = ended.reason == "drain" or runner.is_blameless or runner.is_exhausted
        self._parts.report(
            "runner_stopped" if was_meant else "runner_died",
            runner=runner.number,
            pid=runner.pid,
            reason=_reason(ended, detail),
            in_flight=len(cells),
            group=runner.group,
        )
        kind = "Runtime.OutOfMemory" if ended.reason == "memory" else "Runtime.ExitError"
        for name in self.counts.ended(runner, ended):
            told = {"error_type": kind, "error_message": _reason(ended, detail)}
            self._parts.report("call_failed", mapping=name, runner=runner.number, **told)

    # ---------------------------------------------------------------- details

    def _start(self, number: int, group: str, token: str) -> StartFunctions:
        config = self._parts.config
        return StartFunctions(
            app=config.app,
            factory=config.factory,
            log_dir=config.log_dir,
            worker=self._parts.worker,
            runner=number,
            group=group,
            token=token,
            log_level=config.log_level,
        )

    def _started(self, runner: FunctionProcess) -> None:
        self._parts.events.watch(runner, self)
        self.front.send(RunnerStarted(runner.number, runner.group, runner.token))

    def _functions(self) -> Functions:
        functions = [
            FrontFunction(
                each.name,
                each.group,
                each.timeout.total_seconds(),
                each.concurrency,
                each.per_process,
            )
            for each in self.functions
        ]
        return Functions(functions)

    def _ready(self, runner: FunctionProcess, message: Ready) -> None:
        parts = self._parts
        if parts.code.is_other(message):
            parts.code.refuse(runner, message)
            self._refused(runner, f"the app has changed: {HINT}")
            return
        limits = [each.memory for each in self.functions if each.group == runner.group]
        runner.memory_limit = limits[0] if limits else None
        runner.take(map(FunctionConfig.from_dict, message.functions))
        runner.watch = DeadlineWatch(partial(_timeout_of, runner), parts.clock.monotonic())
        runner.state = "ready"
        self.start_errors.pop(runner.group, None)
        parts.code.refusal = ""
        runner.send(Go())
        parts.memory.look_at(runner)

    def _refused(self, runner: FunctionProcess, reason: str) -> None:
        """Fail the waiting calls and end the worker if the group has no other runner."""
        of_group = [each for each in self.runners if each.group == runner.group]
        if not any(each.state == "ready" for each in of_group if each is not runner):
            self._fail(runner.group, "ServiceException", reason)
            self.cannot_start = self._parts.code.refusal

    def _not_ready(self, runner: FunctionProcess, message: NotReady) -> None:
        self._parts.code.not_imported(runner, message)
        is_syntax = any(f"({name}" in message.reason for name in SYNTAX_ERRORS)
        kind = "Runtime.UserCodeSyntaxError" if is_syntax else "Runtime.ImportModuleError"
        module = self._parts.config.app.partition(":")[0].removesuffix(".py").rpartition("/")[2]
        text = f"Unable to import module '{module}': {message.reason}"
        self._fail(runner.group, kind, text)

    def _fail(self, group: str, kind: str, message: str) -> None:
        """Fail the calls that wait in a group."""
        self.start_errors[group] = message
        self.runners.forget_wanted(group)
        self.front.send(StartFailed(group, kind, message))

    def _take_event(self, runner: FunctionProcess, fields: dict[str, Any]) -> None:
        event = fields.pop("event")
        runner.is_broken |= event == "process_broken"
        if event == "runner_exhausted":
            runner.retires()
        self._parts.report(event, runner=runner.number, **fields)

    def _end_late_calls(self, runner: FunctionProcess, now: float) -> None:
        for cell in kill_if_late(runner, now):
            config = runner.functions[cell.lane]
            seconds = config.timeout.total_seconds()
            self._parts.report(
                "call_timed_out",
                mapping=config.name,
                runner=runner.number,
                timeout=seconds,
                error_type="Sandbox.Timedout",
                error_message=f"Task timed out after {seconds:.2f} seconds",
            )

    def _drain(self, runner: FunctionProcess) -> None:
        """Let a runner end after its calls; it tells the front itself."""
        runner.state = "draining"
        runner.send(Drain(self._parts.config.drain_timeout.total_seconds()))


def _timeout_of(runner: FunctionProcess, place: int) -> float:
    """Return after how many seconds a call is late, from the place of its function."""
    config = runner.functions[place]
    grace = CANCEL_GRACE.total_seconds() if config.is_async else 0.0
    return config.timeout.total_seconds() + grace


def _reason(ended: RunnerEnded, detail: int) -> str:
    """Return a text that says how a runner ended."""
    match ended.reason:
        case "drain":
            return "drained"
        case "memory":
            return f"killed, it exceeded its memory limit of {format_size(ended.detail)}"
        case "timeout":
            return "killed, a call passed its timeout"
        case "signal":
            return signal_name(detail)
    return OWN_EXITS.get(-detail, f"exit code {-detail}")
