"""Registers in a log what an app contains: its declared streams and its functions' mappings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from streamfn import _core
from streamfn.errors import ConfigError
from streamfn.log import Log
from streamfn.log.declared import ensure_declared
from streamfn.model.declaration import StreamDeclaration
from streamfn.model.mapping import EventSourceMapping

from .report import Report


def declare_streams(log: _core.Log, declared: Iterable[StreamDeclaration], report: Report) -> None:
    """Create the declared streams that are missing; report how the others differ.

    Raises:
        StreamfnError: The log cannot be written.
    """
    for wanted in declared:
        found = ensure_declared(Log(log), wanted)
        if found.is_new:
            report("stream_created", stream=wanted.name)
        for each in found.differences:
            report("stream_differs", stream=wanted.name, **each._asdict())


def register_mapping(log: _core.Log, mapping: EventSourceMapping) -> _core.Mapping:
    """Register a mapping in the log, and create the streams that its function writes to.

    Its starting position is resolved and durable when this returns.

    Raises:
        StreamfnError: The log cannot be written.
    """
    record = _core.Mapping.register(
        log,
        mapping.name,
        factor=mapping.parallelization_factor,
        windowed=mapping.tumbling is not None,
        start=mapping.start,
    )
    record.note_on_failure(mapping.on_failure)
    # WHY now: another function of the app may wait for the stream.
    for stream in mapping.targets.values():
        log.create_stream(stream, exist_ok=True)
    return record


class Named(Protocol):
    """A function of an app: a mapping, or a function that is called by request."""

    @property
    def name(self) -> str:
        """`<app>.<function>`."""
        ...

    @property
    def function(self) -> str:
        """Its name without the app."""
        ...


def chosen(functions: Sequence[Named], only: Sequence[str]) -> set[str]:
    """Return the full names of the functions that `--only` names.

    Raises:
        ConfigError: One of them is not in the app.
    """
    names = {name: each.name for each in functions for name in (each.name, each.function)}
    for name in only:
        if name not in names:
            known = ", ".join(f"`{each.function}`" for each in functions)
            raise ConfigError("only", f"the app has no function `{name}`, it has {known}")
    return {names[name] for name in only}
