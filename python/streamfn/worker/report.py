"""The interface through which the parts of a worker report events."""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    """Reports a named event with fields."""

    def __call__(self, event: str, /, **fields: object) -> None:
        """Send an event and its fields to the supervisor."""
        ...
