"""`streamfn fn`: the functions that have run on a log: list, pause, resume, seek, remove."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

import click

from streamfn import _core
from streamfn.errors import LockTimeout
from streamfn.health.state import State
from streamfn.log import Log

from .console import output, write_json, write_listing
from .exits import CommandError, Exit
from .functions import function_name, mapping_name, other_destination, replays_of
from .health_rows import (
    function_row,
    health_of,
    lane_rows,
    write_functions,
    write_info,
    write_queued,
    write_reasons,
)
from .history import history
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
from .rename import command as rename

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
    """List, show, pause, resume, seek, rename and remove functions."""


command.add_command(rename)


command.add_command(history)


LS_HELP: Final = """List the functions of this log: state, how far behind, how fast.

    A function is in the list once a worker has run it on this log.

    STATE is the first of these that applies:

    \b
    {states}

    BEHIND: records that are not processed yet, those in flight included. It adds up, for each
    lane, the distance from its checkpoint to the end of its shard, divided by the number of lanes
    of that shard, which share its records. With several lanes per shard it is an estimate; it is 0
    only when all lanes are at the end. A lane is a part of a shard's records that one function
    processes in order, comparable to one consumer's share of a partition.

    AGE: how long ago the oldest of these records was put.

    RATE, P99: records per second that its workers processed, and the duration of 99 of 100 calls,
    in the last ten seconds. RETRIES: waits before the same records were called again.

    DEAD: open dead letters.

    A function by request has no stream, no AGE, RETRIES and DEAD. BEHIND: calls that wait for a
    process, RATE: calls per second.
    """
STATES: Final = "\n    ".join(f"{each:<12}{each.meaning}" for each in State)


@command.command("ls", help=LS_HELP.format(states=STATES))
@json_option
@log_dir_option
@output_options
def ls(*, as_json: bool, log_dir: str) -> None:
    """List the functions."""
    with open_log(log_dir) as log:
        health, now_us = health_of(log)
        rows = [function_row(log, each) for each in health.functions]
    if as_json:
        write_json(rows)
        return
    none = "no functions yet (hint: `streamfn worker APP` registers the functions of an app)"
    write_functions(rows, none=none)
    write_reasons(health.functions, now_us)
    write_queued(rows)


@command.command("info")
@click.argument("function", metavar="FN")
@json_option
@log_dir_option
@output_options
def info(*, function: str, as_json: bool, log_dir: str) -> None:
    """Show what is known of FN, and the state of each of its lanes."""
    with open_log(log_dir) as log:
        name = function_name(log, function)
        health, now_us = health_of(log, name)
        [shown] = health.functions
        summary, lanes = function_row(log, shown), lane_rows(shown)
        replays, goes = replays_of(log, name), other_destination(log, name)
    if as_json:
        write_json({**summary, "lane_list": lanes, "replays": replays})
        return
    write_info(summary)
    write_reasons([shown], now_us)
    if shown.request is not None:
        return
    write_queued([summary])
    if goes:
        output.note(goes)
    for replay in replays:
        output.note(f"unfinished replay: {replay} (hint: `streamfn fn info {replay}` shows it)")
    columns = {
        "stream": "STREAM~", "shard_id": "SHARD", "slot": "LANE>", "state": "STATE",
        "checkpoint": "CHECKPOINT>", "end": "END>", "open": "IN FLIGHT~", "is_leased": "LEASED",
        "written": "WRITTEN@",
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
        name = mapping_name(log, function, "`concurrency=0` in its code refuses all calls")
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
        name = mapping_name(log, function, "it cannot be paused")
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

    Of a function by request, FN's counts and history are removed.
    """
    with open_log(log_dir) as log:
        name = function_name(log, function)
        if name in _core.Mapping.names(log.core):
            confirm(f"Remove {name} and its checkpoints?", yes=yes)
            _remove_mapping(log, name)
        else:
            confirm(f"Remove the counts and the history of {name}?", yes=yes)
            _remove_counts(log, name)
    output.note(f"removed `{name}`")
    if as_json:
        write_json({"removed": name})


def _remove_mapping(log: Log, name: str) -> None:
    try:
        _core.Mapping.remove(log.core, name)
    except LockTimeout as error:
        message = f"`{name}` is running: {error}"
        hint = f"stop its workers, or `streamfn fn pause {name}`"
        raise CommandError(message, hint, Exit.TRY_AGAIN) from None


def _remove_counts(log: Log, name: str) -> None:
    """Remove what is kept of a function by request."""
    from streamfn.health.by_request import called_by, forget
    from streamfn.health.workers import read_workers

    if name in called_by(read_workers(log.core)):
        hint = "stop the worker, or take the function out of its code"
        raise CommandError(f"a worker takes calls of `{name}`", hint, Exit.TRY_AGAIN)
    try:
        forget(log.core, name)
    except OSError as error:
        raise CommandError(f"`{name}` cannot be removed: {error}") from None


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
