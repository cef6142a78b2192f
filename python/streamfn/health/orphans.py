"""Functions in the log that are not in the code: renamed or removed, and still keeping records."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from streamfn import _core
from streamfn.errors import StreamfnError, StreamNotFound
from streamfn.model.options import closest

from .in_code import app_of, not_in_code
from .lag import records_behind


@dataclass(frozen=True, slots=True)
class Orphan:
    """A function in the log that is not in the code of its app."""

    name: str
    """`<app>.<function>`."""
    records_behind: int
    holds_back: tuple[str, ...]
    """Streams with `retention=consumed` from which no record that it has not read is deleted."""


def orphans(log: _core.Log, app: str, code: Collection[str]) -> list[Orphan]:
    """Return the functions of an app in the log that are not in `code`, by name."""
    names = [name for name in not_in_code(_core.Mapping.names(log), code) if app_of(name) == app]
    return [found for name in names if (found := _orphan(log, name)) is not None]


def new_name_of(orphan: Orphan, new: Sequence[str]) -> str | None:
    """Return the function that an orphan was probably renamed to; None: none is likely.

    Args:
        orphan: A function that is not in the code.
        new: Functions that are in the code, and were not in the log before.
    """
    if len(new) == 1:
        return new[0]
    return closest(orphan.name, new)


def _orphan(log: _core.Log, name: str) -> Orphan | None:
    """Return what is known of a function; None if it was removed meanwhile or is unreadable."""
    try:
        mapping = _core.Mapping.open(log, name)
        lanes = mapping.lanes() if mapping else []
    except StreamfnError:
        return None
    streams = sorted({lane.stream for lane in lanes if "." not in lane.stream})
    held = tuple(stream for stream in streams if _retention(log, stream).get("consumed"))
    return Orphan(name, records_behind(lanes), held)


def _retention(log: _core.Log, stream: str) -> dict[str, Any]:
    try:
        return log.stream(stream).retention
    except StreamNotFound:
        return {}
