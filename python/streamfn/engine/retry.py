"""The arithmetic of attempts, and the back-off of a lane; `settle` and its kin decide what counts.

Only a retry of the same records counts as an attempt; a split does not. The exponent belongs to the
lane: each wait increases it by one, and only a successful call resets it. So an outage costs a lane
a few dead letters, not one for each record that arrives meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from random import Random

from streamfn._core import Entry
from streamfn.errors import ConfigError
from streamfn.model.policy import (
    EXPONENT_MAX,
    Backoff,
    BackoffPolicy,
    RetryPolicy,
    check_duration,
)

from .worklist import amended


def is_exhausted(attempts: int, policy: RetryPolicy) -> bool:
    """Whether records with so many failed calls have no retry left.

    Source: AWS MaximumRetryAttempts: N retries after the first call; -1: no limit.
    """
    return policy.max_retries >= 0 and attempts > policy.max_retries


def failed_once_more(entry: Entry, now_us: int) -> Entry:
    """Return the entry with one more attempt, and the time of its first failure."""
    return amended(
        entry,
        attempts=entry.attempts + 1,
        cause=0,
        first_failed_us=entry.first_failed_us or now_us,
    )


def afresh(entry: Entry) -> Entry:
    """Return the entry without its history."""
    return Entry(entry.first, entry.last)


Complain = Callable[[BaseException], None]
"""Called with the reason why the user's own back-off was not used."""


class LaneBackoff:
    """Computes how long one lane waits before its next retry."""

    __slots__ = ("_backoff", "_random", "exponent")

    def __init__(self, backoff: BackoffPolicy, exponent: int, random: Random) -> None:
        self._backoff, self._random = backoff, random
        self.exponent = exponent
        """Number of waits since the last successful call."""

    def succeeded(self) -> None:
        """Reset the exponent after a successful call of the lane."""
        self.exponent = 0

    def next_wait(self, complain: Complain) -> float:
        """Return the next wait in seconds, and increase the exponent."""
        try:
            seconds = _checked(self._backoff.draw(self.exponent, self._random))
        except BaseException as error:  # noqa: BLE001 -- the user's code must not stop the lane
            complain(error)
            seconds = Backoff().draw(self.exponent, self._random).total_seconds()
        self.exponent = min(self.exponent + 1, EXPONENT_MAX)
        return seconds


def _checked(wait: timedelta) -> float:
    check_duration("backoff", wait)
    seconds = timedelta.total_seconds(wait)  # a subclass may override it
    if seconds < 0:
        raise ConfigError("backoff", f"the wait {wait} is below zero")
    return seconds
