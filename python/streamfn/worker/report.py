"""How the parts of a worker report what happened: an event of a name, with fields."""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    """Takes note of something that happened."""

    def __call__(self, event: str, /, **fields: object) -> None:
        """Send an event and its fields to the supervisor."""
        ...
