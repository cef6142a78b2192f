"""How long a caller waits for a sign of life of a worker. Source: docs/front.md."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from streamfn.errors import StreamfnError

SILENCE_SECONDS: Final = 0.2
"""Longest wait for HELLO or PONG before a call, and how often a silent worker is checked in one."""
IDLE_SECONDS: Final = 0.1
"""A connection that was not used for longer is pinged before it carries a call."""
ENDED_SECONDS: Final = 1.0
"""How long the answer of a worker that has ended may be on its way."""
ASK_SECONDS: Final = 1.0
"""During a call, a silent front is pinged this often."""
RETRY_SECONDS: Final = 0.005
"""Pause before connecting again to a front that was busy or has just ended."""
DEAF_SECONDS: Final = 30.0
"""A front that says nothing for so long during a call, not even to pings, is given up."""


class NotCalled(StreamfnError):
    """Nothing was called: the front did not answer, or did not take the whole frame."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FrontEnded(NotCalled):
    """The front ended before the call; the next one may listen in a moment."""


class AnswerLost(StreamfnError):
    """The call was sent, and its answer will not come."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Watch:
    """Decides how long a silent front is waited for, while calls run there."""

    def __init__(self, ask: Callable[[], None]) -> None:
        """Begin; the front has just been heard.

        Args:
            ask: Sends a ping, without waiting.
        """
        self._ask = ask
        self._ended: float | None = None
        self._heard = self._asked = time.monotonic()

    def heard(self, at: float) -> None:
        """The front said something, at this time of `time.monotonic`."""
        self._heard = at

    def silent(self, *, is_living: bool) -> None:
        """Ping the front, or give it up.

        Args:
            is_living: Whether its worker holds its lock.

        Raises:
            AnswerLost: No answer is to be expected any more.
        """
        now = time.monotonic()
        if is_living:
            self._ended = None
        elif self._ended is None:
            self._ended = now
        elif now - self._ended >= ENDED_SECONDS:
            raise AnswerLost("the worker ended")
        if now - self._heard >= DEAF_SECONDS:
            raise AnswerLost(f"the worker did not answer for {DEAF_SECONDS:g} s")
        if now - self._asked >= ASK_SECONDS:
            self._asked = now
            self._ask()
