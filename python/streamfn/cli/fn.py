"""`streamfn fn`: the functions that ran on a log, how far they are, and where they go on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click

from streamfn import _core
from streamfn.errors import LockTimeout
from streamfn.log import Log
from streamfn.units import format_count

from .console import voice, write_json, write_listing
from .exits import CommandError, Exit
from .functions import elsewhere, mapping_name, replays_of
from .params import (
    CommandGroup,
    Duration,
    confirm,
    json_option,
    log_dir_option,
    open_log,
    voice_options,
)
from .positions import check_one_shard, parse_position
from .times import iso, understood

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _timeout_option(command: _Command) -> _Command:
    return click.option(
        "--timeout",
        type=Duration(),
        default="60s",
        show_default=True,
        metavar="DURATION",
        help="Longest wait for calls that run.",
    )(command)


@click.group("fn", cls=CommandGroup)
def command() -> None:
    """List, pause, move and remove functions."""


@command.command("ls")
@json_option
@log_dir_option
@voice_options
def ls(*, as_json: bool, log_dir: str) -> None:
    """List the functions that ran on this log, and how far each is behind.

    BEHIND is how many records wait, those in flight included: each lane's distance from its
    checkpoint to the end of its shard, divided by the lanes of that shard, which share its
    records. An estimate with several lanes; 0 only when all of them are at the end. LANES are
    those of its streams that are not done for good, IN FLIGHT those that a worker calls now.
    """
    with open_log(log_dir) as log:
        rows = [_row(log, name) for name in sorted(_core.Mapping.names(log.core))]
    columns = {
        "name": "FUNCTION~", "streams": "STREAM~", "state": "STATE", "lanes": "LANES>",
        "in_flight": "IN FLIGHT>", "records_behind": "BEHIND>", "dead_letters": "DEAD LETTERS>",
        "queued_dead_letters": "QUEUED>",
    }  # fmt: skip
    none = "no functions yet (hint: `streamfn worker APP` registers those of an app)"
    write_listing(rows, columns, as_json=as_json, none=none)


def _row(log: Log, name: str) -> dict[str, Any]:
    from streamfn.engine.deadletter import DeadLetters
    from streamfn.worker.supervisor.progress import records_behind

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
        # WHY leased: what nobody holds is begun and to be called again, and nobody calls it now.
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
@voice_options
def info(*, function: str, as_json: bool, log_dir: str) -> None:
    """Show how FN stands, lane by lane."""
    with open_log(log_dir) as log:
        name = mapping_name(log, function)
        summary, lanes = _row(log, name), [_lane(lane) for lane in _opened(log, name).lanes()]
        replays, goes = replays_of(log, name), elsewhere(log, name)
    if as_json:
        write_json({**summary, "lane_list": lanes, "replays": replays})
        return
    voice.note(
        f"{name}: {summary['state']}, {format_count(summary['records_behind'], 'record')} behind, "
        f"{format_count(summary['dead_letters'], 'open dead letter')}"
    )
    if queued := summary["queued_dead_letters"]:
        voice.note(f"waiting for a worker: {format_count(queued, 'redriven dead letter')}")
    if goes:
        voice.note(goes)
    for replay in replays:
        voice.note(f"being replayed: {replay} (hint: `streamfn fn info {replay}`)")
    columns = {
        "stream": "STREAM~", "shard_id": "SHARD", "slot": "LANE>", "checkpoint": "CHECKPOINT>",
        "end": "END>", "open": "BEGUN~", "is_leased": "HELD", "written": "WRITTEN@",
    }  # fmt: skip
    write_listing(lanes, columns, as_json=False, none="no lanes yet: its stream is not there")


@command.command("pause")
@click.argument("function", metavar="FN")
@_timeout_option
@log_dir_option
@voice_options
def pause(*, function: str, timeout: timedelta, log_dir: str) -> None:
    """Have FN rest: calls that run end, and no further one begins, until `resume`.

    Durable: it rests after a restart too. Waits until no worker has a lane of it.
    """
    with open_log(log_dir) as log:
        name = mapping_name(log, function)
        mapping = _opened(log, name)
        mapping.set_paused(True)
        _drained(mapping, timeout)
    voice.note(f"`{name}` is paused (hint: `streamfn fn resume {function}`)")


@command.command("resume")
@click.argument("function", metavar="FN")
@log_dir_option
@voice_options
def resume(*, function: str, log_dir: str) -> None:
    """Have FN go on where it was paused."""
    with open_log(log_dir) as log:
        name = mapping_name(log, function)
        _opened(log, name).set_paused(False)
    voice.note(f"`{name}` goes on")


@command.command("seek")
@click.argument("function", metavar="FN")
@click.argument("position", metavar="beginning|end|@TIME|SEQ")
@_timeout_option
@json_option
@log_dir_option
@voice_options
def seek(*, function: str, position: str, timeout: timedelta, as_json: bool, log_dir: str) -> None:
    """Have FN read on from another place of its stream.

    @TIME is ISO 8601 (local time, unless it ends in a zone such as Z or +01:00), Unix seconds, or
    an age such as @-5m; SEQ needs a stream of one shard. Batches in flight are forgotten, its dead
    letters stay. It is paused meanwhile.
    """
    with open_log(log_dir) as log:
        name = mapping_name(log, function)
        mapping = _opened(log, name)
        streams = sources(mapping)
        if not streams:
            raise CommandError(f"`{name}` has no lanes yet: its stream is not there")
        start = parse_position(position)
        shards = sum(len(log.stream(each).info().shards) for each in streams)
        check_one_shard(start, streams[0], shards, fix="name a time")
        try:
            begins = {
                each: mapping.seek(each, start, timeout=timeout.total_seconds()) for each in streams
            }
        except LockTimeout as error:
            raise _still_held(error, timeout) from None
    rows = [
        {"stream": stream, "shard_id": shard_id, "sequence_number": number}
        for stream, shards in begins.items()
        for shard_id, number in shards.items()
    ]
    voice.note(f"`{name}` reads on from {understood(position, start)}")
    columns = {"stream": "STREAM~", "shard_id": "SHARD", "sequence_number": "FROM>"}
    write_listing(rows, columns, as_json=as_json, none="")


@command.command("rm")
@click.argument("function", metavar="FN")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@log_dir_option
@voice_options
def rm(*, function: str, yes: bool, as_json: bool, log_dir: str) -> None:
    """Forget FN: where it was, and what it had in flight. It holds back no record any more.

    Its dead letters stay. A worker that runs it must be stopped first, or FN paused; the next
    worker that has FN begins anew.
    """
    with open_log(log_dir) as log:
        name = mapping_name(log, function)
        confirm(f"Forget {name} and how far it is?", yes=yes)
        try:
            _core.Mapping.remove(log.core, name)
        except LockTimeout as error:
            message = f"`{name}` is running: {error}"
            hint = f"stop its workers, or `streamfn fn pause {function}`"
            raise CommandError(message, hint, Exit.TRY_AGAIN) from None
    voice.note(f"forgot `{name}`")
    if as_json:
        write_json({"removed": name})


def sources(mapping: _core.Mapping) -> list[str]:
    """Return the streams that a mapping reads, without its redrives."""
    return sorted({lane.stream for lane in mapping.lanes() if "." not in lane.stream})


def _opened(log: Log, name: str) -> _core.Mapping:
    mapping = _core.Mapping.open(log.core, name)
    assert mapping is not None, "its name was found"
    return mapping


def _drained(mapping: _core.Mapping, timeout: timedelta) -> None:
    try:
        mapping.wait_drained(timeout.total_seconds())
    except LockTimeout as error:
        raise _still_held(error, timeout) from None


def _still_held(error: LockTimeout, timeout: timedelta) -> CommandError:
    seconds = f"{timeout.total_seconds():g} s"
    message = f"a lane was not given back within {seconds}: {error}"
    return CommandError(message, "a call that runs ends first; see --timeout", Exit.TRY_AGAIN)


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
        "written": iso(lane.checkpoint_us),
    }
