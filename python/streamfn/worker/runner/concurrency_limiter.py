"""Which lanes of a runner may be called at once.

`max_concurrency` bounds how many of a function are, and of all exclusive functions together (those
of AWS's making, which keep what they work on in their modules) one is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from streamfn._core import Work
from streamfn.errors import LeaseLost


class ConcurrencyLimiter:
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

    def acquire_or_park(self, work: Work) -> bool:
        """Go in, or leave the work parked: False."""
        with self._lock:
            if self._limit is not None and self._inside >= self._limit:
                # WHY: under the lock. Parked, the work may go on at once, in another thread.
                self._parking(work)
                self._parked.append(work)
                return False
            self._inside += 1
            return True

    def release_or_next(self) -> Work | None:
        """Come out; the thread that is given work stays inside with it."""
        with self._lock:
            if self._parked and (self._limit is None or self._inside <= self._limit):
                return self._parked.popleft()
            self._inside -= 1
            self._tell_if_kept()
            return None

    def unpark(self, lane: int | None = None) -> list[Work]:
        """Take parked work out again, of one lane or of all."""
        return self.unpark_where(lambda work: lane in {None, work.lane})

    def unpark_where(self, is_wanted: Callable[[Work], bool]) -> list[Work]:
        """Take parked work out again."""
        with self._lock:
            taken = [work for work in self._parked if is_wanted(work)]
            self._parked = deque(work for work in self._parked if work not in taken)
            return taken

    def _tell_if_kept(self) -> None:
        kept = self._kept
        if kept is not None and self._limit is not None and self._inside <= self._limit:
            self._kept = None
            kept()


class ConcurrencyLimiters:
    """The limiters of a runner, by function; what is let in has passed all that are in its way.

    An exclusive function has a second limiter behind its own, which is the same for all of them. So
    work that waits there has a permit already, and whoever is in waits for nothing.
    """

    def __init__(
        self,
        exclusive: Mapping[str, bool],
        function_of: Callable[[Work], str],
        parking: Callable[[Work], None] = lambda _: None,
        lost: Callable[[Work], None] = lambda _: None,
    ) -> None:
        """Begin with nobody inside, and without limits.

        Args:
            exclusive: All functions, and of which of them one is called at a time.
            function_of: Whose work it is.
            parking: See `ConcurrencyLimiter`.
            lost: Told of work that was let go because `parking` said that its lane is lost.
        """
        self._exclusive = {name for name, is_exclusive in exclusive.items() if is_exclusive}
        self._function_of, self._lost = function_of, lost
        self._own = {name: ConcurrencyLimiter(parking=parking) for name in exclusive}
        self._turn = ConcurrencyLimiter(1, parking)

    def __contains__(self, function: str) -> bool:
        return function in self._own

    def set_limit(self, function: str, limit: int, kept: Callable[[], None]) -> list[Work]:
        """As `ConcurrencyLimiter.set_limit`; work that waits for its turn comes again, too."""
        taken = self._own[function].set_limit(limit, kept)
        waiting = self._turn.unpark_where(lambda work: self._function_of(work) == function)
        return taken + waiting + self._out(waiting)

    def acquire_or_park(self, work: Work) -> Work | None:
        """Return the work that goes in: this, or what gets its permit because its lane is lost.

        None: it is parked.
        """
        function = self._function_of(work)
        try:
            is_in = self._own[function].acquire_or_park(work)
        except LeaseLost:
            self._lost(work)
            return None
        if not is_in:
            return None
        return self._take_turn(function, work) if function in self._exclusive else work

    def release_or_next(self, function: str) -> Work | None:
        """Come out of a function; the thread that is given work stays inside with it.

        That may be another function's.
        """
        if function not in self._exclusive:
            return self._own[function].release_or_next()
        following = self._turn.release_or_next()
        freed = self._own[function].release_or_next()
        let_in = None if freed is None else self._take_turn(function, freed)
        return let_in if following is None else following

    def unpark(self, lane: int | None = None) -> list[Work]:
        """Take parked work out again, of one lane or of all, and what would go on for it."""
        taken = [work for limiter in self._own.values() for work in limiter.unpark(lane)]
        waiting = self._turn.unpark(lane)
        return taken + waiting + self._out(waiting)

    def _take_turn(self, function: str, work: Work) -> Work | None:
        """Return work if it is its turn; where its lane is lost, that which gets its permit."""
        candidate: Work | None = work
        while candidate is not None:
            try:
                return candidate if self._turn.acquire_or_park(candidate) else None
            except LeaseLost:
                self._lost(candidate)
                candidate = self._own[function].release_or_next()
        return None

    def _out(self, works: Iterable[Work]) -> list[Work]:
        """Give up the permits of work that waited for its turn, and of all that would get them."""
        out = []
        for work in works:
            limiter = self._own[self._function_of(work)]
            while (freed := limiter.release_or_next()) is not None:
                out.append(freed)
        return out
