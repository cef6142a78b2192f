"""A log in memory, with a clock that is moved by hand."""

from __future__ import annotations

from streamfn import _core
from streamfn.clock import ManualClock
from streamfn.log import Log
from streamfn.units import to_microseconds


class MemoryLog(Log):
    """A log of this process alone: no folder, nothing left behind. `clock` stamps its records."""

    __slots__ = ("clock",)

    def __init__(self, clock: ManualClock | None = None) -> None:
        """Make an empty log.

        Args:
            clock: Default: one of its own, at the beginning of 2026.
        """
        self.clock = clock or ManualClock()
        core = _core.Log.in_memory(to_microseconds(self.clock.now()))
        self.clock.on_advance(lambda: core.set_time(to_microseconds(self.clock.now())))
        super().__init__(core)

    def __repr__(self) -> str:
        return f"<MemoryLog of {len(self.streams())} streams>"
