"""Rates of the last seconds, from totals that are read once a second."""

from __future__ import annotations

from collections import deque
from typing import Final

SPAN_SECONDS: Final = 10.0
"""Rates are those of about so many seconds."""


class Rate:
    """The rate at which one total rises."""

    __slots__ = ("_first", "_last", "_later")

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None
        self._later: deque[tuple[float, int]] = deque()
        """Samples between the first and the last one."""

    def add(self, now: float, total: int) -> None:
        """Note the total; `now` is on the monotonic clock."""
        if self._first is None:
            self._first = (now, total)
            return
        self._last = (now, total)
        self._later.append(self._last)
        while now - self._later[0][0] >= SPAN_SECONDS:
            self._first = self._later.popleft()

    def per_second(self) -> float | None:
        """Return the rate; None: it is not known yet."""
        if self._first is None or self._last is None:
            return None
        (first, low), (last, high) = self._first, self._last
        return max(high - low, 0) / (last - first) if last > first else None
