"""Tumbling windows as functions see them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Window:
    """The period from `start`, inclusive, to `end`, exclusive; aware, UTC."""

    start: datetime
    end: datetime


@dataclass(slots=True, kw_only=True)
class WindowCall:
    """The window of a call, the state that the call gets, and afterwards the one it leaves."""

    window: Window
    state: Any = None
    """A JSON value or bytes; None in the first call of a window."""
    is_final: bool = False
    is_terminated_early: bool = False
