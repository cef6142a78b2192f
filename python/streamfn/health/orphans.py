"""Functions in the log that are not in the code: renamed or removed, and still keeping records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from streamfn import _core
from streamfn._core import Membership
from streamfn.errors import StreamfnError, StreamNotFound
from streamfn.model.mapping import function_of
from streamfn.model.options import closest

from .lag import records_behind


@dataclass(frozen=True, slots=True)
class Orphan:
    """A function in the log that is not in the code of its app."""

    name: str
    """`<app>.<function>`."""
    records_behind: int
    holds_back: tuple[str, ...]
    """Streams with `retention=consumed` from which no record that it has not read is deleted."""


def code_of_living_workers(log: _core.Log) -> dict[str, frozenset[str]]:
    """Return the names of all functions in the code of each living worker, by UUID.

    Those that `--only` leaves out are among them. A worker that is starting is left out.
    """
    found = {}
    for uuid, body in Membership.living(log).items():
        try:
            functions = frozenset(orjson.loads(body)["functions"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
        if functions:
            found[uuid] = functions
    return found


def not_in_code(log: _core.Log) -> set[str]:
    """Return the functions that no living worker of their app has in its code.

    Functions of an app without a living worker are left out: nobody knows its code.
    """
    code = frozenset[str]().union(*code_of_living_workers(log).values())
    apps = {app_of(name) for name in code}
    return {name for app in apps for name in names_not_in(_core.Mapping.names(log), app, code)}


def orphans(log: _core.Log, app: str, code: Collection[str]) -> list[Orphan]:
    """Return the functions of an app in the log that are not in `code`, by name."""
    names = names_not_in(_core.Mapping.names(log), app, code)
    return [found for name in sorted(names) if (found := _orphan(log, name)) is not None]


def names_not_in(names: Iterable[str], app: str, code: Collection[str]) -> set[str]:
    """Return the names of an app's functions that are not in `code`; replays are left out."""
    return {
        name
        for name in names
        if app_of(name) == app and name not in code and function_of(name) == name
    }


def app_of(name: str) -> str:
    """Return the app of `<app>.<function>`."""
    return name.partition(".")[0]


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
