"""`MemoryLog`: a log in memory with a manual clock."""

from __future__ import annotations

from streamfn import _core
from streamfn.clock import ManualClock
from streamfn.log import Log
from streamfn.units import to_microseconds


class MemoryLog(Log):
    """A log in the memory of this process, without files; `clock` gives its records their times."""

    __slots__ = ("clock",)

    def __init__(self, clock: ManualClock | None = None) -> None:
        """Make an empty log.

        Args:
            clock: Its clock; default: a new one, at the beginning of 2026.
        """
        self.clock = clock or ManualClock()
        core = _core.Log.in_memory(to_microseconds(self.clock.now()))
        self.clock.on_advance(lambda: core.set_time(to_microseconds(self.clock.now())))
        super().__init__(core)

    def __repr__(self) -> str:
        return f"<MemoryLog of {len(self.streams())} streams>"
