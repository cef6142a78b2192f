"""`streamfn fn`: the functions that ran on a log, and how far they are."""

from __future__ import annotations

from typing import Any

import click

from streamfn import _core
from streamfn.log import Log

from .console import write_listing
from .params import json_option, log_dir_option, open_log, voice_options


@click.group("fn")
def command() -> None:
    """List functions."""


@command.command("ls")
@json_option
@log_dir_option
@voice_options
def ls(*, as_json: bool, log_dir: str) -> None:
    """List the functions that ran on this log, and how far each is behind."""
    with open_log(log_dir) as log:
        rows = [_row(log, name) for name in sorted(_core.Mapping.names(log.core))]
    columns = {
        "name": "FUNCTION", "streams": "STREAM", "state": "STATE", "lanes": "LANES>",
        "in_flight": "IN FLIGHT>", "records_behind": "BEHIND>", "dead_letters": "DEAD LETTERS>",
    }  # fmt: skip
    none = "no functions yet (hint: `streamfn worker APP` registers those of an app)"
    write_listing(rows, columns, as_json=as_json, none=none)


def _row(log: Log, name: str) -> dict[str, Any]:
    from streamfn.engine.deadletter import DeadLetters

    mapping = _core.Mapping.open(log.core, name)
    lanes = mapping.lanes() if mapping else []
    behind: dict[tuple[str, str], int] = {}
    for lane in lanes:
        # WHY: the lanes of a shard each know only their own place, and the last one counts.
        place = lane.stream, lane.shard_id
        behind[place] = max(behind.get(place, 0), lane.end - lane.checkpoint)
    is_running = any(lane.is_leased for lane in lanes)
    return {
        "name": name,
        "streams": sorted({lane.stream for lane in lanes if "." not in lane.stream}),
        "state": "paused" if mapping and mapping.is_paused else
                 "running" if is_running else "stopped",
        "parallelization_factor": mapping.wanted_factor if mapping else None,
        "lanes": len(lanes),
        "in_flight": sum(lane.in_flight is not None for lane in lanes),
        "records_behind": sum(behind.values()),
        "dead_letters": len(DeadLetters(log, name).entries()),
    }  # fmt: skip
