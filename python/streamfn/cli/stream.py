"""`streamfn stream`: what streams there are."""

from __future__ import annotations

from typing import Any, cast

import click

from streamfn.log import Log
from streamfn.model.stream import Durability, ShardInfo, StreamInfo
from streamfn.units import format_count, format_size

from .console import voice, write_json, write_listing
from .params import StreamName, json_option, log_dir_option, open_log, voice_options
from .times import moment


@click.group("stream")
def command() -> None:
    """List, add and look at streams."""


@command.command("ls")
@click.option("--internal", is_flag=True, help="Also streams of dead letters and redrives.")
@json_option
@log_dir_option
@voice_options
def ls(*, internal: bool, as_json: bool, log_dir: str) -> None:
    """List the streams."""
    with open_log(log_dir) as log:
        names = sorted(log.core.streams(internal=internal))
        rows = [_summary(log.stream(name).info()) for name in names]
    if not as_json:
        rows = [{**row, "bytes": format_size(row["bytes"])} for row in rows]
    columns = {
        "name": "STREAM", "shards": "SHARDS>", "records": "RECORDS>", "bytes": "SIZE>",
        "durability": "DURABILITY", "last_record": "LAST RECORD",
    }  # fmt: skip
    none = "no streams yet (hint: `streamfn put STREAM FILE` makes one)"
    write_listing(rows, columns, as_json=as_json, none=none)


@command.command("add")
@click.argument("name", type=StreamName())
@click.option(
    "--shards",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="How many; records of one key go to one shard.",
)
@click.option(
    "--durability",
    type=click.Choice(["group", "process"]),
    default="group",
    show_default=True,
    help="What is put survives power loss (group) or the kill of any process.",
)
@click.option(
    "--retention",
    multiple=True,
    metavar="7d|10GiB|consumed",
    help="How long records are kept; may be given more than once. Default: for ever.",
)
@click.option(
    "--compression",
    type=click.Choice(["zstd", "none"]),
    default="zstd",
    show_default=True,
    help="Of the data on disk.",
)
@click.option("--exist-ok", is_flag=True, help="Leave a stream that is there as it is.")
@log_dir_option
@voice_options
def add(
    *,
    name: str,
    shards: int,
    durability: str,
    retention: tuple[str, ...],
    compression: str,
    exist_ok: bool,
    log_dir: str,
) -> None:  # fmt: skip
    """Create the stream NAME."""
    with Log.open(log_dir) as log:
        made = log.create_stream(
            name,
            shards=shards,
            durability=cast("Durability", durability),
            retention=retention or None,
            compression=cast("Any", compression),
            exist_ok=exist_ok,
        ).info()
    count = format_count(len(made.shards), "shard")
    voice.note(f"stream `{name}`: {count}, durability {made.durability}")


@command.command("info")
@click.argument("name", type=StreamName(internal=True))
@json_option
@log_dir_option
@voice_options
def info(*, name: str, as_json: bool, log_dir: str) -> None:
    """Show the stream NAME and its shards."""
    with open_log(log_dir) as log:
        found = log.stream(name).info()
    if as_json:
        shards = [_shard(shard) for shard in found.shards]
        write_json({**_summary(found), "retention": found.retention, "shards": shards})
        return
    summary = _summary(found)
    voice.note(
        f"{name}: {format_count(found.records, 'record')} in {format_size(found.bytes)}, "
        f"durability {found.durability}, compression {found.compression}, "
        f"created {summary['created']}"
    )
    rows = [{**_shard(shard), "bytes": format_size(shard.bytes)} for shard in found.shards]
    columns = {
        "shard_id": "SHARD", "trim_horizon": "FIRST>", "end": "END>", "bytes": "SIZE>",
        "segments": "SEGMENTS>", "is_open": "OPEN", "last_record": "LAST RECORD",
    }  # fmt: skip
    write_listing(rows, columns, as_json=False, none="no shards")


def _summary(stream: StreamInfo) -> dict[str, Any]:
    times = [shard.last_record for shard in stream.shards if shard.last_record is not None]
    return {
        "name": stream.name,
        "shards": len(stream.shards),
        "records": stream.records,
        "bytes": stream.bytes,
        "durability": stream.durability,
        "compression": stream.compression,
        "created": moment(stream.created),
        "last_record": moment(max(times)) if times else None,
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
        "last_record": moment(shard.last_record) if shard.last_record else None,
        # WHY: 128-bit numbers go as text, as Kinesis sends them; JSON readers would round them.
        "hash_key_range": [str(first), str(last)],
    }
