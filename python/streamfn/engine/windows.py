"""Calls in a tumbling window: their state as bytes, and what a failed call means for its batch.

A new state is kept only if the position moves past all records that it was made of:

outcome                       state      next
───────────────────────────   ────────   ─────────────────────────────────────────────────
Success                       the new    the next call
Reported, with progress       the new    from the lowest reported on
Reported, without progress    the old    as without windows
Failed, Rejected              the old    as without windows
Partial                       the old    all again: each failed record alone, the others between
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from streamfn._core import STATE_BYTES_MAX, Entry, Records, Work
from streamfn.errors import InvalidResponse
from streamfn.model.window import Window, WindowCall
from streamfn.units import from_microseconds

from .outcome import Outcome, Partial, Reported, Success
from .settle import Decision, SettleContext
from .worklist import Call, Worklist, narrowed

NONE, JSON, BYTES = range(3)
"""Kinds of a state on disk."""


class State(NamedTuple):
    """A state as the window file holds it."""

    kind: int
    data: bytes

    @classmethod
    def of(cls, value: object) -> State:
        """Encode a state that a function left.

        Raises:
            InvalidResponse: It is neither a JSON value nor bytes, or is over `STATE_BYTES_MAX`.
        """
        if value is None:
            return cls(NONE, b"")
        if isinstance(value, bytes | bytearray | memoryview):
            state = cls(BYTES, bytes(value))
        else:
            try:
                state = cls(JSON, json.dumps(value, separators=(",", ":")).encode())
            except (TypeError, ValueError) as error:
                message = f"the state of a window is a JSON value or bytes: {error}"
                raise InvalidResponse(message) from None
        if len(state.data) > STATE_BYTES_MAX:
            message = f"the state has {len(state.data):,} bytes, at most {STATE_BYTES_MAX:,} fit"
            raise InvalidResponse(message)
        return state

    def value(self) -> Any:  # noqa: ANN401 -- whatever the function left
        """Return a new copy of the state, without the changes of a failed call."""
        if self.kind == NONE:
            return None
        return self.data if self.kind == BYTES else json.loads(self.data)


@dataclass(frozen=True, slots=True)
class WindowTurn:
    """The window of a lane's calls."""

    stream: str
    shard_id: str
    position: int
    """In a final call: the next sequence number to read."""
    start_us: int
    end_us: int
    state: State
    is_final: bool
    is_terminated_early: bool

    @classmethod
    def of(cls, work: Work) -> WindowTurn:
        """Return the window of `work`, which is of a lane with windows."""
        found = work.window
        assert found is not None, "a lane with windows is always in one"
        return cls(
            work.stream,
            work.shard_id,
            work.end,
            found.start_us,
            found.end_us,
            State(found.state_kind, found.state),
            found.is_final,
            found.is_ended_early,
        )

    @property
    def window(self) -> Window:
        """Its bounds."""
        return Window(from_microseconds(self.start_us), from_microseconds(self.end_us))

    def call(self, state: State) -> WindowCall:
        """Return the window of a call, with a copy of the state."""
        return WindowCall(
            window=self.window,
            state=state.value(),
            is_final=self.is_final,
            is_terminated_early=self.is_terminated_early,
        )

    def request_id(self, mapping_name: str, namespace: UUID) -> str:
        """Return the UUID of this window's final call; it is the same after a crash."""
        from uuid import uuid5  # noqa: PLC0415

        bounds = f"window {self.start_us}-{self.end_us} at {self.position}"
        place = f"{mapping_name}/{self.stream}/{self.shard_id}/{bounds}"
        return str(uuid5(namespace, place))


def keeps_state(outcome: Outcome, records: Records) -> bool:
    """Whether the state that a call left is kept: whether the position moves with it."""
    if isinstance(outcome, Reported):
        return outcome.lowest > records.first
    return isinstance(outcome, Success)


def around(worklist: Worklist, outcome: Partial, context: SettleContext) -> Decision | None:
    """Split a batch at its failed records; return None if it has only one record."""
    head = worklist.head
    if len(head.records(context.batch)) <= 1:
        return None
    calls = [Call((piece,)) for entry in head.entries for piece in _pieces(entry, outcome.failures)]
    return Decision(worklist.replaced(calls), is_split=True)


def _pieces(entry: Entry, failed: Collection[int]) -> Iterator[Entry]:
    first = entry.first
    for number in sorted(number for number in failed if entry.first <= number <= entry.last):
        if first < number:
            yield _fresh(narrowed(entry, first, number - 1))
        yield _fresh(narrowed(entry, number, number))
        first = number + 1
    if first <= entry.last:
        yield _fresh(narrowed(entry, first, entry.last))


def _fresh(entry: Entry) -> Entry:
    return Entry(entry.first, entry.last, 0, False, 0, 0, entry.first_failed_us)  # noqa: FBT003
