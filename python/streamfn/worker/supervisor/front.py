"""Keeps the front of a worker running: one after the other, all with the same socket."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any, Final, Protocol

from streamfn.clock import Clock
from streamfn.invocation.address import listen, remove_socket
from streamfn.worker.messages import Message
from streamfn.worker.report import Report

from .child_events import ChildEvents
from .front_messages import (
    FrontLoad,
    FrontReady,
    Load,
    RunnerDismissed,
    Settings,
    StartRunner,
)
from .front_process import FrontProcess
from .restart_backoff import RestartBackoff
from .signals import signal_name

SEAT: Final = "front"


class FrontOwner(Protocol):
    """What a front asks its supervisor for."""

    def introduction(self) -> Iterable[Message]:
        """Return what a new front is told after its settings: functions, and living runners."""
        ...

    def start_runner(self, group: str) -> None:
        """Start a function runner."""
        ...

    def dismissed(self, number: int) -> None:
        """Note that the front has told a function runner to leave."""
        ...


class Front:
    """The front, and the worker's socket that outlives it."""

    def __init__(
        self, log_dir: str, settings: Settings, events: ChildEvents, clock: Clock, report: Report
    ) -> None:
        """Start without a socket and without a process.

        Args:
            log_dir: The log directory.
            settings: The first message to each front.
            events: Watches the processes.
            clock: Clock of the supervisor.
            report: Gets events about the front.
        """
        self._log_dir, self._settings, self._events = log_dir, settings, events
        self._clock, self._report = clock, report
        self._listener: socket.socket | None = None
        self._process: FrontProcess | None = None
        self._backoff: RestartBackoff[str] = RestartBackoff()
        self._started = 0
        self._is_draining = False
        self.load: dict[str, Load] = {}
        """What runs and waits, by function."""
        self.counted: dict[str, Load] = {}
        """What the fronts before have counted: `calls` and `throttled`."""

    @property
    def is_listening(self) -> bool:
        """Whether callers can connect."""
        return self._listener is not None

    @property
    def process(self) -> FrontProcess | None:
        """The process, if one is running."""
        return self._process

    def open(self) -> None:
        """Begin to listen; calls wait until a front runs.

        Raises:
            OSError: The file system of the log has no sockets, or is full.
        """
        if self._listener is None:
            self._listener = listen(self._log_dir, self._settings.worker)

    def keep_running(self, owner: FrontOwner) -> None:
        """Start a front if there is none and it is time."""
        now = self._clock.monotonic()
        if self._listener is None or self._process is not None or self._is_draining:
            return
        if not self._backoff.may_start(SEAT, now):
            return
        try:
            process = FrontProcess(self._started, self._listener)
        except OSError as error:  # no process, descriptor or memory left now
            self._backoff.failed(SEAT, now)
            self._report("front_not_started", error_message=str(error))
            return
        self._started += 1
        self._process = process
        self._backoff.started(SEAT, now)
        self._events.watch(process, FrontHandler(self, owner, self._report))
        process.send(self._settings)
        for message in owner.introduction():
            process.send(message)
        self._report("front_started", pid=process.pid)

    def send(self, message: Message) -> None:
        """Send a message; a front that comes later is told all by its introduction."""
        if self._process is not None:
            self._process.send(message)

    def flush(self) -> None:
        """Send waiting messages, as far as the socket accepts them."""
        if self._process is not None:
            self._process.flush()

    def drain(self, message: Message) -> None:
        """Take no more calls; the front exits once all runners have ended."""
        self._is_draining = True
        self.send(message)

    def came_up(self) -> None:
        """Note that the front takes calls."""
        self._backoff.worked(SEAT)
        if self._process is not None:
            self._process.state = "ready"

    def exited(self, process: FrontProcess) -> None:
        """Note the exit of the front."""
        was_killed, detail = process.is_killed, process.exit_detail()
        self._process = None
        for name, load in self.load.items():
            before = self.counted.get(name, Load())
            calls, throttled = before.calls + load.calls, before.throttled + load.throttled
            self.counted[name] = Load(calls=calls, throttled=throttled)
        self.load = {}
        if was_killed or (self._is_draining and detail == 0):
            return
        if process.state == "starting":
            self._backoff.failed(SEAT, self._clock.monotonic())
        reason = signal_name(detail) if detail > 0 else f"exit code {-detail}"
        self._report("front_died", pid=process.pid, reason=reason)

    def kill(self) -> None:
        """Kill the front; its callers see their connections end."""
        self._is_draining = True
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Kill the front, and remove the socket."""
        if self._process is not None:
            self._process.kill()
            self._process.close()
            self._process = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            remove_socket(self._log_dir, self._settings.worker)


class FrontHandler:
    """Handles the messages and the exit of a front."""

    def __init__(self, front: Front, owner: FrontOwner, report: Report) -> None:
        self._front, self._owner, self._report = front, owner, report

    def printed(self, process: FrontProcess, fields: dict[str, Any]) -> None:
        """Log what the front printed: it prints only if something is wrong with it."""
        self._report("output", front=process.number, **fields)

    def read(self, process: FrontProcess) -> None:
        """Handle the messages that have been received."""
        for message in process.receive():
            match message:
                case FrontReady():
                    self._front.came_up()
                case StartRunner(group):
                    self._owner.start_runner(group)
                case RunnerDismissed(number):
                    self._owner.dismissed(number)
                case FrontLoad(functions):
                    self._front.load = functions

    def exited(self, process: FrontProcess) -> None:
        """Handle the last messages of a front that has exited."""
        self.read(process)
        self._front.exited(process)
