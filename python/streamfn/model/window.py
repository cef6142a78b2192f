"""Tumbling windows as a function sees them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Window:
    """Time from `start` until just before `end`; aware, UTC."""

    start: datetime
    end: datetime


@dataclass(slots=True, kw_only=True)
class WindowCall:
    """What a call in a window is given, and the state that it leaves."""

    window: Window
    state: Any = None
    """A JSON value or bytes; None in the first call of a window."""
    is_final: bool = False
    is_terminated_early: bool = False
