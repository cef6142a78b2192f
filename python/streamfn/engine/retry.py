"""Counting attempts, and the back-off of a lane.

Only a repeat of the same records is an attempt; a split is not. The exponent belongs to the lane:
each wait raises it by one, and only a successful call resets it. So an outage costs a lane a few
dead letters, not one for each record that came in meanwhile.
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
    """Whether records that failed in so many calls of their own have no retry left.

    Source: AWS MaximumRetryAttempts: N retries after the first try; -1 is for ever.
    """
    return policy.max_retries >= 0 and attempts > policy.max_retries


def failed_once_more(entry: Entry, now_us: int) -> Entry:
    """Return the entry with one more attempt used, and the time of the first one."""
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
"""Told why a back-off of the user's own was not used."""


class LaneBackoff:
    """How long one lane waits before its next repeat."""

    __slots__ = ("_backoff", "_random", "exponent")

    def __init__(self, backoff: BackoffPolicy, exponent: int, random: Random) -> None:
        self._backoff, self._random = backoff, random
        self.exponent = exponent
        """Waits since the last successful call."""

    def succeeded(self) -> None:
        """Forget the waits: a call of the lane succeeded."""
        self.exponent = 0

    def next_wait(self, complain: Complain) -> float:
        """Return the seconds of the next wait, and count it."""
        try:
            seconds = _checked(self._backoff.draw(self.exponent, self._random))
        except BaseException as error:  # noqa: BLE001 -- the user's own code: the lane goes on
            complain(error)
            seconds = Backoff().draw(self.exponent, self._random).total_seconds()
        self.exponent = min(self.exponent + 1, EXPONENT_MAX)
        return seconds


def _checked(wait: timedelta) -> float:
    check_duration("backoff", wait)
    seconds = timedelta.total_seconds(wait)  # a subclass has one of its own
    if seconds < 0:
        raise ConfigError("backoff", f"{wait} is no wait, it is below zero")
    return seconds
