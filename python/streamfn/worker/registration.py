"""Registers a function's mapping in a log; all callers use this one function."""

from __future__ import annotations

from streamfn import _core
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
