"""What a runner tells of a failed call: the traceback only now and then.

100,000 failing calls would send as many equal tracebacks to the supervisor, which logs one a
minute.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from streamfn.engine.outcome import Failure

TRACEBACK_EVERY: Final = 60.0
"""Seconds before the traceback of the same failure is sent again."""
KNOWN_MAX: Final = 1_000
"""Distinct failures whose tracebacks are remembered as sent."""
_FRAME: Final = re.compile(r'^ *File "(.+)", line (\d+)', re.MULTILINE)


class FailureReports:
    """Turns failures into fields of events."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._sent: dict[tuple[str, str, str], float] = {}

    def fields(self, mapping: str, failure: Failure, *, is_told: bool = True) -> dict[str, Any]:
        """Return type, message and place of a failure, and its traceback if it is due.

        The place, `/shop/app.py:12`, is the innermost frame of the traceback.

        Args:
            mapping: Name of the mapping.
            failure: The failure.
            is_told: Whether the event may have the traceback at all.
        """
        frames = _FRAME.findall(failure.traceback or "")
        location = ":".join(frames[-1]) if frames else ""
        key, now = (mapping, failure.error_type or "", location), self._monotonic()
        is_due = is_told and now - self._sent.get(key, -TRACEBACK_EVERY) >= TRACEBACK_EVERY
        if is_due:
            if len(self._sent) >= KNOWN_MAX:
                self._sent.clear()
            self._sent[key] = now
        return {
            "error_type": failure.error_type,
            "error_message": failure.error_message,
            "location": location or None,
            "traceback": failure.traceback if is_due else None,
        }
