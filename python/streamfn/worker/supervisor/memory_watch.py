"""Memory limits: measures the memory of child processes, and kills those that exceed their limit.

A watch, not a wall: a process may exceed its limit for the time between two looks. What a process
uses is its resident memory that no file and no other process shares. So libraries, mapped files and
shared memory do not count, and neither do processes that the child has started.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Final, Protocol

from streamfn.worker.report import Report

LOOK_EVERY: Final = timedelta(milliseconds=100)
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
STATM_BYTES_MAX: Final = 256
"""Longer than seven numbers can be."""


class MemoryReader:
    """The memory of one process, read from its `/proc/<pid>/statm`."""

    def __init__(self, process: int, proc: str = "/proc") -> None:
        """Open the file.

        Args:
            process: A process that has not been reaped.
            proc: Where the kernel's files are.

        Raises:
            OSError: The system has no descriptor left.
        """
        # INVARIANT: it stays the file of this process, even if another one gets the same id.
        self._fd = os.open(f"{proc}/{process}/statm", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> int:
        """Return the bytes that the process has for itself; 0 if it has exited."""
        try:
            return private_bytes(os.pread(self._fd, STATM_BYTES_MAX, 0))
        except ProcessLookupError:
            return 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def private_bytes(statm: bytes) -> int:
    """Return what a process has for itself, from the text of `statm`; 0 if the text is empty.

    Shapes: `size resident shared text lib data dt`, in pages.
    """
    if not statm:
        return 0
    _, resident, shared, _ = statm.split(b" ", 3)
    return max(int(resident) - int(shared), 0) * PAGE


class WatchedChild(Protocol):
    """A child process with or without a memory limit."""

    number: int
    memory_limit: int | None
    """Bytes; None: no limit."""
    memory_found: int | None
    """What it used when it was killed for exceeding its limit."""
    is_killed: bool

    @property
    def group(self) -> str:
        """The group of functions that it runs."""
        ...

    def memory(self) -> int:
        """Return the bytes of memory that it uses."""
        ...

    def kill(self) -> None:
        """Kill it and its process group."""
        ...


class MemoryWatch:
    """Looks at the memory of children, of any kind, every `LOOK_EVERY`."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._pools: list[Iterable[WatchedChild]] = []
        self._due = -1e9
        self.highest: dict[str, int] = {}
        """The most bytes that a child of each group was seen to use, of groups with a limit."""

    def watch(self, pool: Iterable[WatchedChild]) -> None:
        """Look at the children of a pool from now on; each look iterates over it again."""
        self._pools.append(pool)

    def look(self, now: float) -> None:
        """Kill the children that exceed their limits, and report them.

        Args:
            now: Monotonic time; before the next look is due, nothing happens.
        """
        if now < self._due:
            return
        # WHY not from now: the loop turns a little late each time, and looks would become rarer.
        every = LOOK_EVERY.total_seconds()
        self._due = max(self._due + every, now + every / 2)
        for pool in self._pools:
            for child in pool:
                self.look_at(child)

    def look_at(self, child: WatchedChild) -> None:
        """Kill one child if it exceeds its limit, and report it.

        Call this for a child that is ready, before it gets calls: none of them is to blame for what
        its process has used at its start.
        """
        limit = child.memory_limit
        if limit is None or child.is_killed:
            return
        found = child.memory()
        if found > self.highest.get(child.group, 0):
            self.highest[child.group] = found
        if found > limit:
            child.memory_found = found
            child.kill()
            self._report(
                "memory_exceeded",
                mapping=child.group,
                runner=child.number,
                memory_limit=limit,
                memory_found=found,
            )


def reader_of(process: int) -> MemoryReader | None:
    """Return the reader of a process; None if the system has no descriptor left now."""
    with contextlib.suppress(OSError):
        return MemoryReader(process)
    return None
