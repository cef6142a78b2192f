"""Calls of functions that may crash their simulated process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from streamfn._core import Record, Records
from streamfn.clock import Clock
from streamfn.engine.invoker import Interrupt, Invoker, SweepResult
from streamfn.engine.lazy_event_loop import LazyEventLoop
from streamfn.engine.outcome import Disturbed, Outcome
from streamfn.engine.output import Output
from streamfn.engine.windows import State, WindowTurn
from streamfn.model.function import Handler
from streamfn.model.handles import LogHandle
from streamfn.model.mapping import EventSourceMapping


class Crash(BaseException):
    """Raise this in a function to simulate that a signal kills its process at that point."""

    def __init__(self, signal_number: int = signal.SIGKILL) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


@dataclass(frozen=True, slots=True)
class Death:
    """How the simulated process of a call ended."""

    signal_number: int
    running: int | None = None
    """The record that was running, with `input="record"`."""
    is_timeout: bool = False
    is_in_doubt: bool = False
    """The process exited by itself: earlier calls had broken it for the calls after them."""


class Died(BaseException):
    """Ends a lane's run at the point where its process would have ended."""

    def __init__(self, death: Death) -> None:
        super().__init__(death)
        self.death = death


Told = Callable[[str, str, list[int], int], None]
"""Called when a call begins, with its stream, shard, sequence numbers and attempt."""


class CrashableInvoker(Invoker):
    """An `Invoker` whose calls may crash, or exceed their timeout by the given clock."""

    def __init__(
        self,
        mapping: EventSourceMapping,
        handler: Handler,
        log: LogHandle,
        clock: Clock,
        loops: LazyEventLoop,
        told: Told,
    ) -> None:
        super().__init__(mapping, handler, log, clock, loops)
        self._told, self._timeout = told, mapping.timeout.total_seconds()
        self._next: tuple[str, str, list[int], int] | None = None
        self._crash: Crash | None = None
        self._handler = self._watched(self._handler)

    def call_batch(self, records: Records, attempt: int) -> Outcome | Disturbed:
        """As `Invoker`.

        Raises:
            Died: The call killed the simulated process.
        """
        self._next, began = _call_of(records, attempt), self._clock.monotonic()
        outcome = super().call_batch(records, attempt)
        self._die_if_dead(None, began)
        return outcome

    def call_window(
        self, turn: WindowTurn, state: State, records: Records, attempt: int
    ) -> tuple[Outcome | Disturbed, State]:
        """As `Invoker`.

        Raises:
            Died: As `call_batch`.
        """
        numbers = records.sequence_numbers()
        self._next = (turn.stream, turn.shard_id, numbers, attempt)
        began = self._clock.monotonic()
        outcome, left = super().call_window(turn, state, records, attempt)
        self._die_if_dead(None, began)
        return outcome, left

    def call_records(
        self, records: Records, running: Iterable[Record], attempt: int, interrupt: Interrupt
    ) -> SweepResult:
        """As `Invoker`.

        Raises:
            Died: As `call_batch`.
        """
        done, outputs = 0, list[Output]()
        for record in running:
            place = records.index(record.sequence_number)
            alone = records[place : place + 1]
            self._next, began = _call_of(alone, attempt), self._clock.monotonic()
            swept = super().call_records(alone, iter(alone), attempt, interrupt)
            self._die_if_dead(record.sequence_number, began)
            outputs += swept.outputs
            if not swept.done:
                return SweepResult(done, swept.outcome, outputs)
            done += 1
        return SweepResult(done, None, outputs)

    def _die_if_dead(self, running: int | None, began: float) -> None:
        crash, self._crash = self._crash, None
        if crash is not None:
            raise Died(Death(crash.signal_number, running))
        if self._clock.monotonic() - began > self._timeout:
            raise Died(Death(signal.SIGKILL, running, is_timeout=True))

    def _watched(self, handler: Handler) -> Handler:
        """Note a crash when it is raised, because the invoker treats it like other errors."""

        def call(*arguments: Any) -> Any:  # noqa: ANN401 -- the function's own
            assert self._next is not None
            self._told(*self._next)
            with self._noting_crashes():
                return handler(*arguments)

        return call

    def _finish(self, returned: object) -> object:
        with self._noting_crashes():
            return super()._finish(returned)

    def _listed(self, items: Iterator[object]) -> list[object]:
        with self._noting_crashes():
            return super()._listed(items)

    @contextmanager
    def _noting_crashes(self) -> Iterator[None]:
        try:
            yield
        except Crash as crash:
            self._crash = crash
            raise


def _call_of(records: Records, attempt: int) -> tuple[str, str, list[int], int]:
    return records.stream, records.shard_id, records.sequence_numbers(), attempt
