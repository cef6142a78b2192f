"""`streamfn stream`: the streams of a log: list, create, inspect, change, remove."""

from __future__ import annotations

from typing import Any

import click

from streamfn.model.retention import RetentionLimits
from streamfn.model.stream import ShardInfo, StreamInfo
from streamfn.units import format_count, format_size

from .console import output, write_json, write_listing
from .functions import replays_from
from .params import (
    CommandGroup,
    StreamName,
    confirm,
    json_option,
    log_dir_option,
    open_log,
    output_options,
)
from .stream_settings import add, set_
from .stream_trim import trim
from .times import iso_time, table_time


@click.group("stream", cls=CommandGroup)
def command() -> None:
    """List, create, inspect, change and remove streams."""


for each in (add, set_, trim):
    command.add_command(each)


@command.command("ls")
@click.option("--internal", is_flag=True, help="Include streams of dead letters and redrives.")
@json_option
@log_dir_option
@output_options
def ls(*, internal: bool, as_json: bool, log_dir: str) -> None:
    """List the streams.

    RECORDS counts sequence numbers. A crash of the machine skips some, up to about a million per
    shard: RECORDS is an upper bound then.
    """
    with open_log(log_dir) as log:
        names = sorted(log.core.streams(internal=internal))
        rows = [_summary(log.stream(name).info()) for name in names]
    if not as_json:
        rows = [{**row, "bytes": format_size(row["bytes"])} for row in rows]
    columns = {
        "name": "STREAM~", "shards": "SHARDS>", "records": "RECORDS>", "bytes": "SIZE>",
        "durability": "DURABILITY", "last_record": "LAST RECORD@",
    }  # fmt: skip
    none = "no streams yet (hint: `streamfn put STREAM FILE` creates one)"
    write_listing(rows, columns, as_json=as_json, none=none)


@command.command("info")
@click.argument("name", type=StreamName(internal=True))
@json_option
@log_dir_option
@output_options
def info(*, name: str, as_json: bool, log_dir: str) -> None:
    """Show the stream NAME and its shards."""
    with open_log(log_dir) as log:
        found = log.stream(name).info()
        replays = replays_from(log, name)
    if as_json:
        shards = [_shard(shard) for shard in found.shards]
        details = {"retention": found.retention, "replays": replays, "shards": shards}
        write_json({**_summary(found), **details})
        return
    summary = _summary(found)
    output.note(
        f"{name}: {format_count(found.records, 'record')} in {format_size(found.bytes)}, "
        f"durability {found.durability}, compression {found.compression}, "
        f"retention {RetentionLimits(**found.retention)}, "
        f"created {table_time(summary['created'])}"
    )
    if replays:
        output.note(f"unfinished replays: {', '.join(replays)}")
    rows = [{**_shard(shard), "bytes": format_size(shard.bytes)} for shard in found.shards]
    columns = {
        "shard_id": "SHARD", "trim_horizon": "FIRST>", "end": "END>", "bytes": "SIZE>",
        "segments": "SEGMENTS>", "is_open": "OPEN", "last_record": "LAST RECORD@",
    }  # fmt: skip
    write_listing(rows, columns, as_json=False, none="no shards")


@command.command("split")
@click.argument("name", metavar="STREAM", type=StreamName(internal=True))
@click.argument("shard")
@click.option(
    "--at",
    type=click.IntRange(0),
    metavar="HASHKEY",
    help="First hash key of the second new shard [default: the middle].",
)
@json_option
@log_dir_option
@output_options
def split(*, name: str, shard: str, at: int | None, as_json: bool, log_dir: str) -> None:
    """Split SHARD of STREAM into two. Producers and workers need not stop.

    The order per partition key is kept: readers finish the old shard before the new ones.
    """
    with open_log(log_dir) as log:
        children = log.stream(name).split(shard, at=at)
    output.note(f"split `{shard}` of `{name}` into {' and '.join(children)}")
    if as_json:
        write_json({"children": list(children)})


@command.command("merge")
@click.argument("name", metavar="STREAM", type=StreamName(internal=True))
@click.argument("a")
@click.argument("b")
@json_option
@log_dir_option
@output_options
def merge(*, name: str, a: str, b: str, as_json: bool, log_dir: str) -> None:
    """Merge the shards A and B of STREAM into one. Their hash-key ranges must be adjacent."""
    with open_log(log_dir) as log:
        child = log.stream(name).merge(a, b)
    output.note(f"merged `{a}` and `{b}` of `{name}` into {child}")
    if as_json:
        write_json({"children": [child]})


@command.command("rm")
@click.argument("name", metavar="STREAM", type=StreamName(internal=True))
@click.option(
    "--force",
    is_flag=True,
    help="Remove it even if functions have read it; their checkpoints in it are removed too.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@log_dir_option
@output_options
def rm(*, name: str, force: bool, yes: bool, as_json: bool, log_dir: str) -> None:
    """Remove STREAM with all its records.

    Dead letters of functions that have read it stay. Stop the workers that read it first.
    """
    with open_log(log_dir) as log:
        found = log.stream(name).info()
        confirm(f"Remove {name} with {format_count(found.records, 'record')}?", yes=yes)
        log.remove_stream(name, force=force)
    output.note(f"removed `{name}`, {format_size(found.bytes)}")
    if as_json:
        write_json({"removed": name, "bytes": found.bytes})


def _summary(stream: StreamInfo) -> dict[str, Any]:
    times = [shard.last_record for shard in stream.shards if shard.last_record is not None]
    return {
        "name": stream.name,
        "shards": len(stream.shards),
        "records": stream.records,
        "bytes": stream.bytes,
        "durability": stream.durability,
        "compression": stream.compression,
        "created": iso_time(stream.created),
        "last_record": iso_time(max(times)) if times else None,
    }


def _shard(shard: ShardInfo) -> dict[str, Any]:
    first, last = shard.hash_keys
    return {
        "shard_id": shard.shard_id,
        "is_open": shard.is_open,
        "parents": list(shard.parents),
        "trim_horizon": shard.trim_horizon,
        "end": shard.end,
        "bytes": shard.bytes,
        "segments": shard.segments,
        "last_record": iso_time(shard.last_record) if shard.last_record else None,
        # WHY as text, like Kinesis: many JSON readers would round 128-bit numbers.
        "hash_key_range": [str(first), str(last)],
    }
