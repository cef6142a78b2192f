"""`streamfn replay`: calls a function again with a range of records of its stream."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from streamfn import _core
from streamfn.units import format_count

from .console import output, write_json, write_listing
from .functions import mapping_name
from .params import StreamName, json_option, log_dir_option, open_log, output_options
from .positions import TIME_HELP, PositionType, StreamPosition

FIRST = PositionType("beginning", "@TIME", "SEQ")
UNTIL = PositionType("end", "@TIME", "SEQ")


@click.command("replay")
@click.argument("stream", type=StreamName())
@click.option("--fn", "function", required=True, metavar="FN", help="The function to call.")
@click.option(
    "--from",
    "first",
    default="beginning",
    show_default=True,
    type=FIRST,
    metavar=FIRST.metavar,
    help=f"First record: {TIME_HELP}; SEQ is a sequence number.",
)
@click.option(
    "--to",
    "until",
    default="end",
    show_default=True,
    type=UNTIL,
    metavar=UNTIL.metavar,
    help="Stop before this record; end: after the newest record that exists now.",
)
@click.option("--shard", metavar="SHARD", help="Replay only this shard.")
@click.option("--dry-run", is_flag=True, help="Only print what would be replayed.")
@json_option
@log_dir_option
@output_options
def command(
    *,
    stream: str,
    function: str,
    first: StreamPosition,
    until: StreamPosition,
    shard: str | None,
    dry_run: bool,
    as_json: bool,
    log_dir: str,
) -> None:
    """Call FN again with a range of records of STREAM.

    FN also continues with new records meanwhile. The records of the replay come in order and with
    the settings of FN: filter, batches, windows, retries, dead letters. A running worker processes
    them, or the next one that you start. SEQ needs --shard, or a stream with one shard.
    """
    if first.is_after(until):
        raise click.UsageError(
            f"--from {first} is after --to {until}: --from must be the earlier position"
        )
    with open_log(log_dir) as log:
        name = mapping_name(log, function, "its callers call it again")
        mapping = _core.Mapping.open(log.core, name)
        assert mapping is not None, "its name was found"
        shards = 1
        if shard is None and any(isinstance(each.start, int) for each in (first, until)):
            shards = len(log.stream(stream).info().shards)
        for position in (first, until):
            position.check_shards(shards, stream)
        ranges = mapping.plan_replay(stream, first.start, until.start, shard_id=shard)
        records = sum(end - begin for begin, end in ranges.values())
        is_created = records > 0 and not dry_run
        replay = mapping.replay(stream, ranges).name if is_created else None
    output.note(_summary(replay, records, name))
    if dry_run and any(isinstance(each.start, datetime) for each in (first, until)):
        output.note(f"from {first} to {until}")
    rows = [
        {"shard_id": shard_id, "from": begin, "to": end, "records": end - begin}
        for shard_id, (begin, end) in ranges.items()
    ]
    if as_json:
        found: dict[str, Any] = {"replay": replay, "function": name, "stream": stream}
        write_json({**found, "records": records, "shards": rows})
        return
    columns = {"shard_id": "SHARD", "from": "FROM>", "to": "TO>", "records": "RECORDS>"}
    write_listing(rows, columns, as_json=False, none="")


def _summary(replay: str | None, records: int, name: str) -> str:
    count = format_count(records, "record")
    if replay is not None:
        return f"`{replay}`: {count}; a running worker processes them, or the next one you start"
    if records:
        return f"would replay {count} to `{name}`"
    return "no records in this range, nothing to replay"
