"""The targets: how far streamfn is from a peer or from what the machine can do, in ratios.

Both sides of a ratio are measured in the same round, one right after the other.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from peers import LIMIT
from report import Rates, Ways

Measure = Callable[[], float]
"""One turn: a rate, or seconds."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a ratio should be."""

    ratio: float | None = None
    """`None`: it is only of interest."""
    is_most: bool = False
    """Whether more is worse."""
    unit: Literal["×", "%", "ms", "MiB"] = "×"
    """How it is said; a figure of the last two is a difference."""

    def say(self, ratio: float) -> str:
        """The figure, for people."""
        if self.unit == "%":
            return f"{ratio:.0%}"
        return f"{ratio:.2f}×" if self.unit == "×" else f"{ratio:.0f} {self.unit}"

    def is_reached(self, ratio: float) -> bool:
        """Whether the ratio will do."""
        if self.ratio is None:
            return True
        return ratio <= self.ratio if self.is_most else ratio >= self.ratio

    def __str__(self) -> str:
        if self.ratio is None:
            return "–"
        return f"{'≤' if self.is_most else '≥'} {self.say(self.ratio)}"


@dataclass(frozen=True, slots=True)
class Target:
    """A row of the table."""

    job: str
    beside: str
    """The peer or the limit."""
    ours: str
    theirs: str
    ratios: Sequence[float]
    """Of each round."""
    goal: Goal
    why: str = ""
    """What is known about a row that falls short."""

    @property
    def ratio(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.ratios)

    def cells(self) -> tuple[str, ...]:
        """The row, for people."""
        spread = ""
        if len(self.ratios) > 1:
            spread = f" ({self.goal.say(min(self.ratios))}–{self.goal.say(max(self.ratios))})"
        verdict = "yes" if self.goal.is_reached(self.ratio) else "**no**"
        if self.goal.ratio is None:
            verdict = "–"
        return (
            self.job, self.beside, self.ours, self.theirs,
            self.goal.say(self.ratio) + spread, str(self.goal), verdict,
        )  # fmt: skip


@dataclass(slots=True)
class Turns:
    """Two sides that take turns, `rounds` times."""

    rounds: int
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def take(self, ours: Measure, theirs: Measure) -> "Turns":
        """Measure; who begins changes from round to round."""
        for turn in range(self.rounds):
            sides = [(self.ours, ours), (self.theirs, theirs)]
            for found, measure in sides if turn % 2 == 0 else reversed(sides):
                found.append(measure())
        return self

    def target(
        self, job: str, beside: str, goal: Goal, say: Callable[[float], str], why: str = ""
    ) -> Target:
        """The row."""
        ratios = [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        return Target(job, beside, say(ours), say(theirs), ratios, goal, why)


def per_second(count: int, run: Callable[[], object]) -> float:
    """Return the rate at which `run` does `count` of something; older dirty pages are flushed."""
    os.sync()
    begun = time.perf_counter()
    run()
    return count / (time.perf_counter() - begun)


def million(rate: float) -> str:
    """A rate, for people."""
    return f"{rate / 1e6:.2f} M/s" if rate >= 1e5 else f"{rate / 1e3:.1f} k/s"


def microseconds(seconds: float) -> str:
    """A time, for people."""
    return f"{seconds * 1e6:,.0f} µs" if seconds < 0.01 else f"{seconds * 1e3:,.0f} ms"


@dataclass(frozen=True, slots=True)
class InTable:
    """A target that the comparison of `test_append_consume.py` measures by the way."""

    scenario: str
    system: str
    goal: Goal
    why: str = ""
    """As `Target.why`."""
    beside: str = ""
    """What `system` is in this scenario, if that is not its name."""


OF_TABLE: Final = (
    InTable("append, 100 B, process", "LMDB", Goal(3.5),
            "its integer keys are a quarter quicker than bytes, beside which it was 3.7×"),
    InTable("append, 1 KiB, process", "LMDB", Goal(1.6),
            "2.5 M/s on a quiet machine, 2.0×; less beside other work"),
    InTable("append, 100 B, process", LIMIT, Goal(0.60, unit="%"),
            "half of its 73 ns a record are the kernel's; the limit takes no `bytes`, and 42",
            "std-only Rust, 1 MiB writes"),
    InTable("append, 1 KiB, process", LIMIT, Goal(0.75, unit="%"),
            beside="std-only Rust, 1 MiB writes"),
    InTable("append, 100 B, group", "LMDB", Goal(1.4)),
    InTable("append, 100 B, group", "SQLite", Goal(4.0)),
    InTable("append, 1 KiB, group", "LMDB", Goal(1.4)),
    InTable("append, 1 KiB, group", "SQLite", Goal(4.0),
            "with pages of 16 KiB SQLite does 0.25 M/s, by default 0.15; streamfn is at the limit"),
    InTable("consume, a call a record, 100 B, process", LIMIT, Goal(0.8, unit="%"),
            "reading (25 ns), a runner around 1,000 records (40), from record to record (17)",
            "the same loop on fresh records"),
    InTable("consume, a call a batch, 100 B, process", LIMIT, Goal(0.8, unit="%"),
            "reading (25 ns), a runner around a call (40), a `bytes` each (19); the loop: 50",
            "the same loop on lists"),
)  # fmt: skip


def of_table(rates: Rates) -> Iterator[Target]:
    """The rows that follow from the comparison, without measuring anything again."""
    for row in OF_TABLE:
        by_system = rates.get(row.scenario, {})
        if "streamfn" not in by_system or row.system not in by_system:
            continue
        both = by_system["streamfn"], by_system[row.system]
        ratios = [ours / theirs for ours, theirs in zip(*both, strict=True)]
        ours, theirs = map(statistics.median, both)
        beside = row.beside or row.system
        yield Target(
            row.scenario, beside, million(ours), million(theirs), ratios, row.goal, row.why
        )


OF_WAYS: Final = (("process", "p50", 0.2), ("process", "p99", 1.0), ("group", "p50", 0.5))
"""The same of `test_latency.py`: durability, our quantile, and what it should be of the best
broker's p50."""
WHY_LONGER: Final = (
    "a pipe takes 13 µs, and in the group row a flush 130 more; a put takes 5, the lane's 8 system "
    "calls 4, the runner's Python 17 before the function; after a millisecond of rest all is cold"
)
"""What is known about those that fall short."""


def of_ways(ways: Ways) -> Iterator[Target]:
    """The rows that follow from the latency of the comparison."""
    for scenario, by_system in ways.items():
        brokers = {k: found for k, found in by_system.items() if k not in ("streamfn", LIMIT)}
        if "streamfn" not in by_system or not brokers:
            continue
        turns = zip(*brokers.values(), strict=True)
        best = [min(way.times.median for way in turn) for turn in turns]
        named = ", ".join(brokers)
        for durability, quantile, goal in OF_WAYS:
            if not scenario.endswith(durability):
                continue
            times = [way.times for way in by_system["streamfn"]]
            ours = [each.median if quantile == "p50" else each.p99 for each in times]
            ratios = [mine / theirs for mine, theirs in zip(ours, best, strict=True)]
            yield Target(
                f"{scenario}, {quantile}", f"the best of {named}, p50",
                microseconds(statistics.median(ours)), microseconds(statistics.median(best)),
                ratios, Goal(goal, is_most=True), WHY_LONGER,
            )  # fmt: skip


TITLES: Final = (
    "job", "beside", "streamfn", "the other", "ratio (of the rounds)", "target", "reached"
)  # fmt: skip
"""Of the columns."""


def target_table(targets: Sequence[Target]) -> Iterator[str]:
    """All rows; why one falls short stands below the table."""
    yield f"| {' | '.join(TITLES)} |"
    yield "|---|---|--:|--:|--:|--:|---|"
    for target in targets:
        yield "| " + " | ".join(target.cells()) + " |"
    with_goal = [target for target in targets if target.goal.ratio is not None]
    short = [target for target in with_goal if not target.goal.is_reached(target.ratio)]
    yield ""
    yield f"{len(with_goal) - len(short)} of {len(with_goal)} targets are reached."
    for target in short:
        why = target.why or "see docs/performance.md"
        yield f"* {target.job}, beside {target.beside}: {why}."
