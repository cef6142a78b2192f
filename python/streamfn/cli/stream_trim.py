"""`streamfn stream trim`: deletes old records; says before what goes, and after what was freed."""

from __future__ import annotations

import click

from streamfn.errors import ConfigError
from streamfn.units import format_count, format_size

from .console import output, write_json
from .params import (
    StreamName,
    confirm,
    dry_run_option,
    json_option,
    log_dir_option,
    open_log,
    output_options,
    yes_option,
)
from .positions import SEQ_HELP, TIME_HELP, PositionType, StreamPosition
from .removal_plan import RemovalPlan, removal_plan

TRIM_POSITION = PositionType("@TIME", "SEQ")


@click.command("trim")
@click.argument("name", metavar="STREAM", type=StreamName(internal=True))
@click.option(
    "--before",
    required=True,
    type=TRIM_POSITION,
    metavar=TRIM_POSITION.metavar,
    help=f"First record to keep: {TIME_HELP}; {SEQ_HELP}.",
)
@click.option("--shard", metavar="SHARD", help="Trim only this shard.")
@dry_run_option
@yes_option
@json_option
@log_dir_option
@output_options
def trim(
    *,
    name: str,
    before: StreamPosition,
    shard: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    log_dir: str,
) -> None:
    """Delete old records of STREAM permanently.

    Says first how many records go, and which functions have not processed them. Deleted records
    cannot be read any more. The disk has room again when a whole file of deleted records goes: one
    holds up to 256 MiB.
    """
    first_kept = before.start
    assert not isinstance(first_kept, str), "TRIM_POSITION has no words"
    with open_log(log_dir) as log:
        stream = log.stream(name)
        shards = [each.shard_id for each in stream.info().shards]
        if shard is not None and shard not in shards:
            reason = f"`{name}` has no shard `{shard}`, use one of {', '.join(shards)}"
            raise ConfigError("shard", reason)
        before.check_shards(len(shards) if shard is None else 1, name)
        core = stream.core
        plan = removal_plan(log, stream, lambda each: core.trimmable(each, first_kept), shard)
        if dry_run or not plan.records:
            freed, horizons = 0, {each.shard.shard_id: each.horizon for each in plan.shards}
            _tell_plan(plan, before, dry_run=dry_run)
        else:
            for line in plan.lines():
                output.note(line)
            confirm("Delete them?", yes=yes)
            freed = stream.trim(first_kept, shard=shard)
            horizons = {each.shard_id: each.trim_horizon for each in stream.info().shards}
            _tell_result(plan, freed)
    if as_json:
        details = {"freed": freed, "trim_horizons": horizons, "dry_run": dry_run}
        write_json({**plan.to_json(), "bytes": freed if not dry_run else plan.bytes, **details})


def _tell_plan(plan: RemovalPlan, before: StreamPosition, *, dry_run: bool) -> None:
    if not plan.records:
        kept = min((each.shard.trim_horizon for each in plan.shards), default=0)
        what = f"there is no record before {before}"
        output.note(f"nothing to delete in `{plan.stream}`: {what} (the oldest kept is {kept})")
        return
    assert dry_run
    for line in plan.lines():
        output.note(f"would delete {line}" if line == plan.lines()[0] else line)
    if reason := plan.why_nothing_is_freed():
        output.note(f"no disk space would be freed: {reason}")


def _tell_result(plan: RemovalPlan, freed: int) -> None:
    records = format_count(plan.records, "record")
    output.note(f"trimmed `{plan.stream}`: {records} deleted, {format_size(freed)} freed on disk")
    if not freed and (reason := plan.why_nothing_is_freed()):
        output.note(f"nothing was freed: {reason}")
