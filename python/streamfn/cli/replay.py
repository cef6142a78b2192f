"""`streamfn replay`: a function is called again with a stretch of its stream."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from streamfn import _core
from streamfn.units import format_count

from .console import voice, write_json, write_listing
from .functions import mapping_name
from .params import StreamName, json_option, log_dir_option, open_log, voice_options
from .positions import Position, check_one_shard, parse_position
from .times import TIME_HELP, understood


@click.command("replay")
@click.argument("stream", type=StreamName())
@click.option("--fn", "function", required=True, metavar="FN", help="The function to call.")
@click.option(
    "--from",
    "first",
    default="beginning",
    show_default=True,
    metavar="beginning|@TIME|SEQ",
    help=f"The first record: {TIME_HELP}.",
)
@click.option(
    "--to",
    "until",
    default="end",
    show_default=True,
    metavar="end|@TIME|SEQ",
    help="Up to the record before this one; `end`: up to the newest now.",
)
@click.option("--shard", metavar="SHARD", help="Of this shard only.")
@click.option("--dry-run", is_flag=True, help="Only say what would be replayed.")
@json_option
@log_dir_option
@voice_options
def command(
    *,
    stream: str,
    function: str,
    first: str,
    until: str,
    shard: str | None,
    dry_run: bool,
    as_json: bool,
    log_dir: str,
) -> None:
    """Have FN called again with records of STREAM, while it goes on with new ones.

    The records come in order, by the rules of FN: filter, batches, windows, retries, dead letters.
    A running worker takes them, or the next one. SEQ needs --shard, or a stream of one shard.
    """
    begin = parse_position(first, words=["beginning"])
    places = begin, parse_position(until, words=["end"])
    _check_order(first, until, *places)
    with open_log(log_dir) as log:
        name = mapping_name(log, function)
        mapping = _core.Mapping.open(log.core, name)
        assert mapping is not None, "its name was found"
        shards = 1 if shard is not None else len(log.stream(stream).info().shards)
        for place in places:
            check_one_shard(place, stream, shards, fix="name a --shard, or a time")
        stretches = mapping.plan_replay(stream, *places, shard_id=shard)
        records = sum(behind - begin for begin, behind in stretches.values())
        is_begun = records > 0 and not dry_run
        replay = mapping.replay(stream, stretches).name if is_begun else None
    voice.note(_told(replay, records, name))
    if dry_run and any(isinstance(place, datetime) for place in places):
        begin, end = map(understood, (first, until), places)
        voice.note(f"from {begin} to {end}")
    rows = [
        {"shard_id": shard_id, "from": begin, "to": behind, "records": behind - begin}
        for shard_id, (begin, behind) in stretches.items()
    ]
    if as_json:
        found: dict[str, Any] = {"replay": replay, "function": name, "stream": stream}
        write_json({**found, "records": records, "shards": rows})
        return
    columns = {"shard_id": "SHARD", "from": "FROM>", "to": "TO>", "records": "RECORDS>"}
    write_listing(rows, columns, as_json=False, none="")


def _check_order(first: str, until: str, begin: Position, end: Position) -> None:
    is_reversed = (isinstance(begin, int) and isinstance(end, int) and begin > end) or (
        isinstance(begin, datetime) and isinstance(end, datetime) and begin > end
    )
    if is_reversed:
        places = f"--from {understood(first, begin)} lies behind --to {understood(until, end)}"
        raise click.UsageError(f"{places}: give the earlier one to --from")


def _told(replay: str | None, records: int, name: str) -> str:
    count = format_count(records, "record")
    if replay is not None:
        return f"`{replay}`: {count}; a running worker takes them, or the next one you start"
    if records:
        return f"would replay {count} to `{name}`"
    return "no records there, nothing to replay"
