"""What a monitor must hear about: bad states, and limits that are passed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from streamfn.units import format_count, format_duration

from .functions import Health
from .sentences import sentence
from .state import BAD, State


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of `streamfn status`; None: no limit."""

    lag: timedelta | None = None
    """Highest age of the oldest record that is not processed."""
    dead_letters: int | None = None
    """Most open dead letters of one function."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `streamfn status`."""

    kind: str
    """`state`, `lag`, `dead-letters`, or `no-worker`."""
    function: str | None
    message: str

    @property
    def is_no_worker(self) -> bool:
        """Whether a worker is missing, which is a case of its own for a monitor."""
        return self.kind == "no-worker"


def findings(
    health: Health, dead_letters: Mapping[str, int], limits: Limits, now_us: int
) -> list[Finding]:
    """Return what is wrong with a log's functions, and what is over a limit.

    Args:
        health: The functions and workers.
        dead_letters: Open dead letters, by function.
        limits: The limits.
        now_us: Now, in µs since 1970.
    """
    if not health.workers:
        found = [Finding("no-worker", None, "no worker runs on this log")]
    else:
        found = list(_states(health, now_us))
    return [*found, *_over(health, dead_letters, limits)]


def _states(health: Health, now_us: int) -> Iterable[Finding]:
    for each in health.functions:
        line = sentence(each, now_us)
        if each.state in BAD and line:
            yield Finding("state", each.name, line)
        elif each.state is State.NO_WORKER and line:
            yield Finding("no-worker", each.name, line)


def _over(health: Health, letters: Mapping[str, int], limits: Limits) -> Iterable[Finding]:
    for each in health.functions:
        age = each.iterator_age_seconds
        if limits.lag is not None and age is not None and age > limits.lag.total_seconds():
            told, most = format_duration(timedelta(seconds=age)), format_duration(limits.lag)
            message = f"{each.name} is {told} behind, the limit is {most}"
            yield Finding("lag", each.name, message)
        count = letters.get(each.name, 0)
        if limits.dead_letters is not None and count > limits.dead_letters:
            told = format_count(count, "open dead letter")
            message = f"{each.name} has {told}, the limit is {limits.dead_letters:,}"
            yield Finding("dead-letters", each.name, message)
