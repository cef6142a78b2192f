"""Limits how many lanes of a runner are called at once.

`max_concurrency` limits the lanes of one function. Of all exclusive functions together, one lane is
called at a time: they are functions written for AWS, which keep the state of a call in their
modules.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from streamfn._core import Work
from streamfn.errors import LeaseLost


class ConcurrencyLimiter:
    """Admits a limited number of lanes of a mapping; the work of the others is parked, in order.

    A thread whose work was parked is free for other mappings. A thread that releases its place
    continues with the work that was parked first.
    """

    def __init__(
        self, limit: int | None = None, parking: Callable[[Work], None] = lambda _: None
    ) -> None:
        """Start with no lane admitted.

        Args:
            limit: How many lanes may be admitted; None: all.
            parking: Called with work before it is parked; `acquire_or_park` raises its exceptions.
        """
        self._limit, self._parking = limit, parking
        self._inside = 0
        self._parked: deque[Work] = deque()
        self._lock = threading.Lock()
        self._kept: Callable[[], None] | None = None
        """Called when no more lanes are admitted than the limit allows."""

    def set_limit(self, limit: int, kept: Callable[[], None]) -> list[Work]:
        """Change the limit, and return the parked work, which has to be taken again.

        Args:
            limit: The new limit. Lanes admitted above it finish normally.
            kept: Called once, when the limit is kept; not if the limit changes again before.
        """
        with self._lock:
            self._limit, self._kept = limit, kept
            parked, self._parked = list(self._parked), deque()
            self._tell_if_kept()
            return parked

    def acquire_or_park(self, work: Work) -> bool:
        """Admit the work, or park it and return False."""
        with self._lock:
            if self._limit is not None and self._inside >= self._limit:
                # WHY under the lock: another thread may continue with parked work at once.
                self._parking(work)
                self._parked.append(work)
                return False
            self._inside += 1
            return True

    def release_or_next(self) -> Work | None:
        """Release a place, or keep it for the parked work that is returned."""
        with self._lock:
            if self._parked and (self._limit is None or self._inside <= self._limit):
                return self._parked.popleft()
            self._inside -= 1
            self._tell_if_kept()
            return None

    def unpark(self, lane: int | None = None) -> list[Work]:
        """Remove and return the parked work of one lane, or of all lanes."""
        return self.unpark_where(lambda work: lane in {None, work.lane})

    def unpark_where(self, is_wanted: Callable[[Work], bool]) -> list[Work]:
        """Remove and return the parked work for which `is_wanted` is true."""
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
    """The limiters of a runner, by function.

    Work of an exclusive function passes two limiters: first its own, then one that all exclusive
    functions share. So work that is parked at the shared one holds a place in its own limiter, and
    admitted work waits for nothing.
    """

    def __init__(
        self,
        exclusive: Mapping[str, bool],
        function_of: Callable[[Work], str],
        parking: Callable[[Work], None] = lambda _: None,
        lost: Callable[[Work], None] = lambda _: None,
    ) -> None:
        """Start with no lane admitted, and without limits.

        Args:
            exclusive: All functions, with whether each is exclusive.
            function_of: Returns the function that some work belongs to.
            parking: See `ConcurrencyLimiter`.
            lost: Called with work that is discarded because `parking` raised `LeaseLost`.
        """
        self._exclusive = {name for name, is_exclusive in exclusive.items() if is_exclusive}
        self._function_of, self._lost = function_of, lost
        self._own = {name: ConcurrencyLimiter(parking=parking) for name in exclusive}
        self._turn = ConcurrencyLimiter(1, parking)

    def __contains__(self, function: str) -> bool:
        return function in self._own

    def set_limit(self, function: str, limit: int, kept: Callable[[], None]) -> list[Work]:
        """As `ConcurrencyLimiter.set_limit`; also returns work parked at the shared limiter."""
        taken = self._own[function].set_limit(limit, kept)
        waiting = self._turn.unpark_where(lambda work: self._function_of(work) == function)
        return taken + waiting + self._out(waiting)

    def acquire_or_park(self, work: Work) -> Work | None:
        """Return the admitted work: this, or the next if the lane of this work is lost.

        Return None if the work is parked.
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
        """Release a place of a function, or return parked work that is admitted now.

        That work may belong to another function.
        """
        if function not in self._exclusive:
            return self._own[function].release_or_next()
        following = self._turn.release_or_next()
        freed = self._own[function].release_or_next()
        let_in = None if freed is None else self._take_turn(function, freed)
        return let_in if following is None else following

    def unpark(self, lane: int | None = None) -> list[Work]:
        """Remove and return the parked work of one lane, or of all, and the work after it."""
        taken = [work for limiter in self._own.values() for work in limiter.unpark(lane)]
        waiting = self._turn.unpark(lane)
        return taken + waiting + self._out(waiting)

    def _take_turn(self, function: str, work: Work) -> Work | None:
        """Return the work if the shared limiter admits it; if its lane is lost, try the next."""
        candidate: Work | None = work
        while candidate is not None:
            try:
                return candidate if self._turn.acquire_or_park(candidate) else None
            except LeaseLost:
                self._lost(candidate)
                candidate = self._own[function].release_or_next()
        return None

    def _out(self, works: Iterable[Work]) -> list[Work]:
        """Release the places of work parked at the shared limiter, and of the work after it."""
        out = []
        for work in works:
            limiter = self._own[self._function_of(work)]
            while (freed := limiter.release_or_next()) is not None:
                out.append(freed)
        return out
