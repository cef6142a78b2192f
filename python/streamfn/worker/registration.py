"""Registers mappings in a log: which of an app's, and how; all callers use these functions."""

from __future__ import annotations

from collections.abc import Sequence

from streamfn import _core
from streamfn.errors import ConfigError
from streamfn.model.mapping import EventSourceMapping


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


def chosen(mappings: Sequence[EventSourceMapping], only: Sequence[str]) -> set[str]:
    """Return the full names of the functions that `--only` names.

    Raises:
        ConfigError: One of them is not in the app.
    """
    names = {name: each.name for each in mappings for name in (each.name, each.function)}
    for name in only:
        if name not in names:
            known = ", ".join(f"`{each.function}`" for each in mappings)
            raise ConfigError("only", f"the app has no function `{name}`, it has {known}")
    return {names[name] for name in only}
