"""`max_concurrency` inside one runner: how many of its threads may call one function at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from streamfn._core import Work


class Gate:
    """Lets so many lanes of a mapping through; the work of the others is parked, in order.

    A thread whose work is parked is free for other mappings; the thread that leaves takes the
    work that was parked first along with it.
    """

    def __init__(
        self, limit: int | None = None, parking: Callable[[Work], None] = lambda _: None
    ) -> None:
        """Begin with nobody inside.

        Args:
            limit: How many may be inside; None: all.
            parking: Called with work before it is parked; what it raises, `enter` raises.
        """
        self._limit, self._parking = limit, parking
        self._inside = 0
        self._parked: deque[Work] = deque()
        self._lock = threading.Lock()
        self._kept: Callable[[], None] | None = None
        """To be told when no more are inside than the limit."""

    def set_limit(self, limit: int, kept: Callable[[], None]) -> list[Work]:
        """Change how many may be inside, and return what was parked: it has to be taken again.

        Args:
            limit: Those inside over it leave by themselves.
            kept: Called once, when no more are inside; not if the limit changes again before.
        """
        with self._lock:
            self._limit, self._kept = limit, kept
            parked, self._parked = list(self._parked), deque()
            self._tell_if_kept()
            return parked

    def enter(self, work: Work) -> bool:
        """Go in, or leave the work parked: False."""
        with self._lock:
            if self._limit is not None and self._inside >= self._limit:
                # WHY: under the lock. Parked, the work may go on at once, in another thread.
                self._parking(work)
                self._parked.append(work)
                return False
            self._inside += 1
            return True

    def leave(self) -> Work | None:
        """Come out; the thread that is given work stays inside with it."""
        with self._lock:
            if self._parked and (self._limit is None or self._inside <= self._limit):
                return self._parked.popleft()
            self._inside -= 1
            self._tell_if_kept()
            return None

    def unpark(self, lane: int | None = None) -> list[Work]:
        """Take parked work out again, of one lane or of all."""
        with self._lock:
            taken = [work for work in self._parked if lane in {None, work.lane}]
            self._parked = deque(work for work in self._parked if work not in taken)
            return taken

    def _tell_if_kept(self) -> None:
        kept = self._kept
        if kept is not None and self._limit is not None and self._inside <= self._limit:
            self._kept = None
            kept()
