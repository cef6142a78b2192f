"""Histograms: how many values fell into which range, and what follows from that."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values fell into each bucket.

    Shapes: `buckets` has one number more than `bounds`; the last is for values above all bounds. A
    value that equals a bound is in the bucket below it.
    """

    bounds: tuple[float, ...]
    """Upper bounds of the buckets, rising."""
    buckets: tuple[int, ...]
    """Number of values in each bucket, not added up."""
    sum: float
    """Sum of all values."""

    @property
    def count(self) -> int:
        """Number of values."""
        return sum(self.buckets)

    def __sub__(self, earlier: Histogram) -> Histogram:
        """Return the values that were added since an earlier reading."""
        buckets = zip(self.buckets, earlier.buckets, strict=True)
        return Histogram(
            self.bounds,
            tuple(max(0, now - before) for now, before in buckets),
            max(0.0, self.sum - earlier.sum),
        )

    def quantile(self, share: float) -> float | None:
        """Return the value that `share` of all values do not exceed; None without values.

        It is interpolated within its bucket, as Prometheus' `histogram_quantile` does. In the last
        bucket, which has no upper bound, it is the highest bound.
        """
        wanted = share * self.count
        if not self.count:
            return None
        for place, reached in enumerate(accumulate(self.buckets)):
            if reached >= wanted and self.buckets[place]:
                break
        if place == len(self.bounds):
            return self.bounds[-1]
        below = self.bounds[place - 1] if place else 0.0
        part = 1 - (reached - wanted) / self.buckets[place]
        return below + (self.bounds[place] - below) * part
