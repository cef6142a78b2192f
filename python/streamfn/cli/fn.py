"""`streamfn fn`: the functions that have run on a log: list, pause, resume, seek, remove."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click

from streamfn import _core
from streamfn.errors import LockTimeout
from streamfn.log import Log
from streamfn.units import format_count

from .console import output, write_json, write_listing
from .exits import CommandError, Exit
from .functions import mapping_name, other_destination, replays_of
from .params import (
    CommandGroup,
    Duration,
    confirm,
    json_option,
    log_dir_option,
    open_log,
    output_options,
)
from .positions import PositionType, StreamPosition
from .times import iso_microseconds

_Command = TypeVar("_Command", bound=Callable[..., Any])
SEEK_POSITION = PositionType("beginning", "end", "@TIME", "SEQ")


def _timeout_option(command: _Command) -> _Command:
    return click.option(
        "--timeout",
        type=Duration(),
        default="60s",
        show_default=True,
        metavar="DURATION",
        help="Longest wait for running calls to finish.",
    )(command)


@click.group("fn", cls=CommandGroup)
def command() -> None:
    """List, show, pause, resume, seek and remove functions."""


@command.command("ls")
@json_option
@log_dir_option
@output_options
def ls(*, as_json: bool, log_dir: str) -> None:
    """List the functions of this log, and how far each is behind.

    A function is in the list once a worker has run it on this log.

    STATE: paused; running (a worker holds one of its lanes); or stopped.

    LANES: unfinished lanes of its streams. A lane is a part of a shard's records that one function
    processes in order, comparable to one consumer's share of a partition.

    IN FLIGHT: lanes with a batch that a worker has begun and not finished; it may wait for a retry.

    BEHIND: records that are not processed yet, those in flight included. It adds up, for each
    lane, the distance from its checkpoint to the end of its shard, divided by the number of lanes
    of that shard, which share its records. With several lanes per shard it is an estimate; it is 0
    only when all lanes are at the end.

    DEAD LETTERS: open ones. QUEUED: redriven ones that a worker has not retried yet.
    """
    with open_log(log_dir) as log:
        rows = [_row(log, name) for name in sorted(_core.Mapping.names(log.core))]
    columns = {
        "name": "FUNCTION~", "streams": "STREAM~", "state": "STATE", "lanes": "LANES>",
        "in_flight": "IN FLIGHT>", "records_behind": "BEHIND>", "dead_letters": "DEAD LETTERS>",
        "queued_dead_letters": "QUEUED>",
    }  # fmt: skip
    none = "no functions yet (hint: `streamfn worker APP` registers the functions of an app)"
    write_listing(rows, columns, as_json=as_json, none=none)


def _row(log: Log, name: str) -> dict[str, Any]:
    from streamfn.engine.deadletter import DeadLetters
    from streamfn.health.lag import records_behind

    mapping = _core.Mapping.open(log.core, name)
    lanes = mapping.lanes() if mapping else []
    is_running = any(lane.is_leased for lane in lanes)
    letters = DeadLetters(log, name)
    return {
        "name": name,
        "streams": sorted({lane.stream for lane in lanes if "." not in lane.stream}),
        "state": "paused" if mapping and mapping.is_paused else
                 "running" if is_running else "stopped",
        "parallelization_factor": mapping.wanted_factor if mapping else None,
        "lanes": sum("." not in lane.stream and not lane.is_finished for lane in lanes),
        # WHY leased: without a lease, the batch in flight is one that will be called again later.
        "in_flight": sum(lane.is_leased and lane.in_flight is not None for lane in lanes),
        "records_behind": records_behind(lanes),
        "dead_letters": len(letters.entries()),
        "on_failure": mapping.on_failure if mapping else None,
        "queued_dead_letters": len(letters.entries("queued")),
    }  # fmt: skip


@command.command("info")
@click.argument("function", metavar="FN")
@json_option
@log_dir_option
@output_options
def info(*, function: str, as_json: bool, log_dir: str) -> None:
    """Show the state of FN and of each of its lanes."""
    with open_log(log_dir) as log:
        name = mapping_name(log, function)
        summary, lanes = _row(log, name), [_lane(lane) for lane in _open_mapping(log, name).lanes()]
        replays, goes = replays_of(log, name), other_destination(log, name)
    if as_json:
        write_json({**summary, "lane_list": lanes, "replays": replays})
        return
    output.note(
        f"{name}: {summary['state']}, {format_count(summary['records_behind'], 'record')} behind, "
        f"{format_count(summary['dead_letters'], 'open dead letter')}"
    )
    if queued := summary["queued_dead_letters"]:
        output.note(f"waiting for a worker: {format_count(queued, 'redriven dead letter')}")
    if goes:
        output.note(goes)
    for replay in replays:
        output.note(f"unfinished replay: {replay} (hint: `streamfn fn info {replay}` shows it)")
    columns = {
        "stream": "STREAM~", "shard_id": "SHARD", "slot": "LANE>", "checkpoint": "CHECKPOINT>",
        "end": "END>", "open": "IN FLIGHT~", "is_leased": "LEASED", "written": "WRITTEN@",
    }  # fmt: skip
    write_listing(lanes, columns, as_json=False, none="no lanes yet: its stream does not exist")


@command.command("pause")
@click.argument("function", metavar="FN")
@_timeout_option
@json_option
@log_dir_option
@output_options
def pause(*, function: str, timeout: timedelta, as_json: bool, log_dir: str) -> None:
    """Pause FN: running calls finish, no new ones start.

    FN stays paused until `fn resume`, even after a restart. The command waits until no worker
    holds a lane of FN.
    """
    with open_log(log_dir) as log:
        name = mapping_name(log, function)
        mapping = _open_mapping(log, name)
        mapping.set_paused(True)
        _wait_drained(mapping, timeout)
    output.note(f"`{name}` is paused (hint: `streamfn fn resume {function}`)")
    if as_json:
        write_json({"name": name, "paused": True})


@command.command("resume")
@click.argument("function", metavar="FN")
@json_option
@log_dir_option
@output_options
def resume(*, function: str, as_json: bool, log_dir: str) -> None:
    """Resume FN where it was paused."""
    with open_log(log_dir) as log:
        name = mapping_name(log, function)
        _open_mapping(log, name).set_paused(False)
    output.note(f"`{name}` is resumed")
    if as_json:
        write_json({"name": name, "paused": False})


@command.command("seek")
@click.argument("function", metavar="FN")
@click.argument("position", type=SEEK_POSITION, metavar="POSITION")
@click.option("--shard", metavar="SHARD", help="Move it in this shard only.")
@_timeout_option
@json_option
@log_dir_option
@output_options
def seek(
    *,
    function: str,
    position: StreamPosition,
    shard: str | None,
    timeout: timedelta,
    as_json: bool,
    log_dir: str,
) -> None:
    """Move FN to another position in its stream.

    POSITION is beginning (or trim_horizon), end (or latest), @TIME or SEQ. @TIME is ISO 8601
    (local time, unless it ends in a zone such as Z or +01:00), Unix seconds, or an age such as
    @-5m; it must be in the past. SEQ is a sequence number; it needs --shard, or a stream with one
    shard.

    FN is paused during the move. Its batches in flight are forgotten, its dead letters stay.
    """
    position.check_past()
    with open_log(log_dir) as log:
        name = mapping_name(log, function)
        mapping = _open_mapping(log, name)
        streams = source_streams(mapping)
        if not streams:
            raise CommandError(f"`{name}` has no lanes yet: its stream does not exist")
        shards = sum(len(log.stream(each).info().shards) for each in streams)
        position.check_shards(shards if shard is None else 1, name)
        try:
            begins = {
                each: mapping.seek(
                    each, position.start, shard_id=shard, timeout=timeout.total_seconds()
                )
                for each in streams
            }
        except LockTimeout as error:
            raise _lane_not_released(error, timeout) from None
    rows = [
        {"stream": stream, "shard_id": shard_id, "sequence_number": number}
        for stream, shards in begins.items()
        for shard_id, number in shards.items()
    ]
    output.note(f"`{name}` continues from {position}")
    columns = {"stream": "STREAM~", "shard_id": "SHARD", "sequence_number": "FROM>"}
    write_listing(rows, columns, as_json=as_json, none="")


@command.command("rm")
@click.argument("function", metavar="FN")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@log_dir_option
@output_options
def rm(*, function: str, yes: bool, as_json: bool, log_dir: str) -> None:
    """Remove FN: its checkpoints and its batches in flight.

    Retention no longer keeps records for it. Its dead letters stay. Stop the workers that run FN
    first, or pause FN. A later worker with FN in its app registers it as a new function.
    """
    with open_log(log_dir) as log:
        name = mapping_name(log, function)
        confirm(f"Remove {name} and its checkpoints?", yes=yes)
        try:
            _core.Mapping.remove(log.core, name)
        except LockTimeout as error:
            message = f"`{name}` is running: {error}"
            hint = f"stop its workers, or `streamfn fn pause {function}`"
            raise CommandError(message, hint, Exit.TRY_AGAIN) from None
    output.note(f"removed `{name}`")
    if as_json:
        write_json({"removed": name})


def source_streams(mapping: _core.Mapping) -> list[str]:
    """Return the streams that a mapping reads, without its redrive stream."""
    return sorted({lane.stream for lane in mapping.lanes() if "." not in lane.stream})


def _open_mapping(log: Log, name: str) -> _core.Mapping:
    mapping = _core.Mapping.open(log.core, name)
    assert mapping is not None, "its name was found"
    return mapping


def _wait_drained(mapping: _core.Mapping, timeout: timedelta) -> None:
    try:
        mapping.wait_drained(timeout.total_seconds())
    except LockTimeout as error:
        raise _lane_not_released(error, timeout) from None


def _lane_not_released(error: LockTimeout, timeout: timedelta) -> CommandError:
    seconds = f"{timeout.total_seconds():g} s"
    message = f"a worker did not release a lane within {seconds}: {error}"
    return CommandError(
        message, "running calls finish first; --timeout sets the longest wait", Exit.TRY_AGAIN
    )


def _lane(lane: _core.LaneStatus) -> dict[str, Any]:
    in_flight = lane.in_flight
    open_records = None if in_flight is None else [
        [entry.first, entry.last, entry.attempts] for entry in in_flight.entries
    ]  # fmt: skip
    shown = None if open_records is None else [f"{first}–{last}" for first, last, _ in open_records]
    return {
        "stream": lane.stream,
        "shard_id": lane.shard_id,
        "slot": lane.slot,
        "factor": lane.factor,
        "checkpoint": lane.checkpoint,
        "end": lane.end,
        "in_flight": open_records,
        "open": shown,
        "is_leased": lane.is_leased,
        "written": iso_microseconds(lane.checkpoint_us),
    }
