"""Which workers of a log call which functions by request, as they announce it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import orjson

from streamfn import _core
from streamfn.errors import FunctionNotFound, InvocationRefused, WorkerUnavailable
from streamfn.model.options import closest

NAMES_MAX: Final = 8
"""Most names in a hint."""

Announced = Mapping[str, frozenset[str]]
"""By the UUID of each living worker: the functions that it calls by request."""


def read_announced(log: _core.Log) -> Announced:
    """Return what the living workers announce; nothing for one that is starting or draining."""
    bodies = _core.Membership.living(log)
    return {uuid: _functions(body) for uuid, body in bodies.items()}


def is_living(log: _core.Log, worker: str) -> bool:
    """Whether a worker holds its lock."""
    return worker in _core.Membership.living(log)


def is_announced(log: _core.Log, name: str) -> bool:
    """Whether a living worker announces `<app>.<function>`."""
    return any(name in functions for functions in read_announced(log).values())


def full_name(name: str, announced: Announced) -> str:
    """Return `<app>.<function>` of a function that workers announce, for its short name too.

    Raises:
        FunctionNotFound: Workers announce functions, but not this one, or several of that name.
        WorkerUnavailable: No worker announces a function.
    """
    known = {each for functions in announced.values() for each in functions}
    if name in known:
        return name
    found = sorted(each for each in known if each.partition(".")[2] == name)
    if len(found) == 1:
        return found[0]
    if found:
        raise FunctionNotFound(name, "say which: " + ", ".join(f"`{each}`" for each in found))
    raise not_announced(name, announced)


def not_announced(name: str, announced: Announced) -> InvocationRefused:
    """Return the error for a function that no worker announces."""
    known = {each for functions in announced.values() for each in functions}
    if known:
        return FunctionNotFound(name, advice(name, known))
    if announced:
        return WorkerUnavailable(name, "the log's workers take no calls at the moment")
    return WorkerUnavailable(name, "no worker runs on the log")


def advice(name: str, known: Iterable[str], who: str = "the workers have") -> str:
    """Return the nearest of the known names as a hint, or some of them."""
    names = sorted(known)
    short = {each.partition(".")[2]: each for each in names}
    close = closest(name, names) or short.get(closest(name.rpartition(".")[2], short) or "")
    if close is not None:
        return f"did you mean `{close}`?"
    some = ", ".join(f"`{each}`" for each in names[:NAMES_MAX])
    return f"{who} {some}" + (", …" if len(names) > NAMES_MAX else "")


def _functions(body: bytes) -> frozenset[str]:
    try:
        return frozenset(map(str, orjson.loads(body)["by_request"]))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return frozenset()  # it is starting, runs on streams only, or is of another version
